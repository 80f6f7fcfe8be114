"""Run folders as training leaves them, without training: random logits that are right more often for common classes."""

import json

import numpy as np
import pandas as pd

from helpers.sealing import seal
from nonet.artifacts.ensemble_file import per_class
from nonet.cells import CLASSES
from nonet.settings import Sampling
from nonet.training.ensemble import trained_priors

ARCHITECTURES = ("convnextv2_tiny", "dinobloom_s", "swinv2_tiny")
NAMES = {"convnextv2_tiny": "ConvNeXtV2-Tiny", "dinobloom_s": "DinoBloom-S", "swinv2_tiny": "SwinV2-Tiny"}
#: Roughly the shares of WBCBench 2026, so that a rendered report looks as a real one does.
SHARES = dict(zip(CLASSES, (14, 70, 14, 30, 280, 12, 95, 15, 4, 2, 5, 450, 13)))


def make_run(folder, *, num_images=600, num_patients=40, num_external=80, classes=CLASSES, by="patient", seed=0):
    """Write a run folder with random logits that are right more often for common classes."""
    rng = np.random.default_rng(seed)
    classes = sorted(classes)
    share = np.array([SHARES.get(code, 20) for code in classes], dtype=float)
    num_all = num_images + num_external
    label = rng.choice(len(classes), size=num_all, p=share / share.sum())
    label[: 2 * len(classes)] = np.arange(2 * len(classes)) % len(classes)
    patient = rng.integers(num_patients, size=num_all)
    evaluate = np.arange(num_all) < num_images
    manifest = pd.DataFrame(
        {
            "image_id": [f"cell-{i:05d}" for i in range(num_all)],
            "path": [f"images/cell-{i:05d}.jpg" for i in range(num_all)],
            "label": np.array(classes, dtype=object)[label],
            "patient": [f"P{p:03d}" for p in patient],
            "patient_is_standin": False,
            "source": np.where(evaluate, "wbcbench", "acevedo"),
            "split": "train",
            "evaluate": evaluate,
            "width": 368,
            "height": 368,
            "mode": "RGB",
            "num_bytes": 20_000,
            "sha256": "0" * 64,
        }
    )
    folds = np.where(evaluate, patient % 3, np.nan)
    folder.mkdir(parents=True, exist_ok=True)
    manifest.to_parquet(folder / "manifest.parquet")
    table = pd.DataFrame({"image_id": manifest["image_id"], "fold": pd.array(folds, dtype="Int64")})
    table.to_csv(folder / "folds.csv", index=False)
    _oof(manifest[evaluate], label[evaluate], folds[evaluate], patient[evaluate], share, classes, rng).to_parquet(
        folder / "oof.parquet"
    )
    _histories(folder, rng)
    models = f"[models]\narchitectures = {json.dumps(ARCHITECTURES)}\n"
    (folder / "recipe.toml").write_text(f'name = "paper"\n\n[folds]\nby = "{by}"\nnum_folds = 3\n\n{models}')
    versions = {"python": "3.12.3", "versions": {"torch": "2.9.1", "timm": "1.0.22"}, "device": "1 × H100"}
    begun = {"classes": classes, "architectures": ARCHITECTURES, "num_folds": 3, "fingerprints": {}}
    (folder / "provenance.json").write_text(json.dumps(versions | begun))
    members = [{"architecture": a, "fold": k, "weight": 1.0} for k in range(3) for a in ARCHITECTURES]
    priors = per_class(classes, trained_priors(manifest, table, classes, Sampling()))
    about = {"format_version": 1, "classes": classes, "titles": NAMES, "members": members, "trained_priors": priors}
    (folder / "ensemble.json").write_text(json.dumps(about))
    sample_label = np.repeat(classes, 6)
    images = _cells(rng, len(sample_label))
    np.savez(folder / "samples.npz", image=images, label=sample_label, image_id=np.arange(len(images)).astype(str))
    seal(folder)
    return folder


def _oof(images, label, folds, patient, share, classes, rng):
    ability = 0.4 + 0.35 * (np.log(share) - np.log(share.min()))
    hardness = rng.normal(0, 0.6, size=patient.max() + 1)[patient]
    common = rng.normal(size=(len(images), len(classes)))
    parts = []
    for number, architecture in enumerate(ARCHITECTURES):
        own = common + rng.normal(0, 0.9, size=common.shape)
        for views, noise in (("none", 0.7), ("dihedral", 0.3)):
            logits = own + rng.normal(0, noise, size=common.shape)
            logits[np.arange(len(images)), label] += ability[label] + 0.6 + 0.15 * number - hardness
            part = images[["image_id", "label", "patient", "source"]].reset_index(drop=True)
            part = part.assign(fold=folds.astype(int), architecture=architecture, view_set=views)
            columns = [f"logit_{code}" for code in classes]
            parts.append(part.join(pd.DataFrame(logits.astype(np.float32), columns=columns)))
    return pd.concat(parts, ignore_index=True).sample(frac=1, random_state=0)


def _histories(folder, rng):
    for number, architecture in enumerate(ARCHITECTURES):
        for fold in range(3):
            epochs = np.arange(1, 25)
            f1 = (0.5 + 0.05 * number) * (1 - np.exp(-epochs / 5)) + rng.normal(0, 0.012, len(epochs))
            loss = 0.3 * np.exp(-epochs / 6)
            lines = [
                {
                    "epoch": int(epoch),
                    "train_loss": float(loss[i]),
                    "learning_rate": 5e-4,
                    "val_macro_f1": float(f1[i]),
                    "val_balanced_accuracy": float(f1[i]),
                    "val_loss": float(loss[i] * 0.8 + 0.04 + 0.002 * epoch),
                    "seconds": 61.0,
                    "best": bool(f1[i] == f1.max()),
                }
                for i, epoch in enumerate(epochs)
            ]
            path = folder / "members" / architecture / f"fold-{fold}" / "history.jsonl"
            path.parent.mkdir(parents=True)
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
            kept = {"kept_epoch": int(epochs[f1.argmax()]), "val_macro_f1": float(f1.max())}
            (path.parent / "DONE").write_text(json.dumps(kept))  # `seal` adds the rest


def _cells(rng, num_images, side=96):
    """Draw discs in the colours of a stained smear."""
    y, x = np.mgrid[:side, :side] - side / 2
    radius = np.hypot(x, y)
    images = np.empty((num_images, side, side, 3))
    for image in images:
        image[:] = (228, 205, 214)
        image[radius < rng.uniform(30, 40)] = (196, 178, 216)
        image[np.hypot(x - rng.uniform(-6, 6), y - rng.uniform(-6, 6)) < rng.uniform(14, 24)] = (92, 54, 132)
    return np.clip(images + rng.normal(0, 7, images.shape), 0, 255).astype(np.uint8)
