"""A linear-probe baseline: balanced logistic regression on frozen features of a pretrained network.

    python benchmarks/probe.py RUN DATASET --architecture dinobloom_small [--weights FILE] [--centre 0.45] --out OOF

Uses the folds of RUN (trained on DATASET) and its external images, so its scores compare with that run's Table 1
image by image. DinoBloom's authors evaluate their network in this way (Koch et al., MICCAI 2024).
`benchmarks/recommended.py` calls it.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import nonet
from nonet.artifacts.run import written_whole
from nonet.data.preprocess.cache import prepare_images
from nonet.data.preprocess.crop import Crop
from nonet.evaluation.oof import align_oof
from nonet.evaluation.tables import format_table, table_1
from nonet.models.backbones import get_backbone, load_pretrained, make_backbone
from nonet.models.tensors import to_device
from nonet.models.views import batches
from nonet.progress import progress
from nonet.recipe import Denoise

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C, the inverse of the shrinkage, on standardised features


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--architecture", default="dinobloom_small")
    parser.add_argument("--weights", type=Path, help="weights file to use instead of the hub's")
    parser.add_argument("--size", type=int, help="image side in px; by default the architecture's own")
    parser.add_argument("--centre", type=float, default=1.0, help="share of the frame's side that it sees")
    parser.add_argument("--features", type=Path, help=".npy file that caches the features")
    parser.add_argument("--out", type=Path, required=True, help="out-of-fold table to write, .parquet")
    arguments = parser.parse_args()
    table = probe(
        nonet.Run(arguments.run),
        nonet.Dataset.open(arguments.dataset),
        architecture=arguments.architecture,
        weights=arguments.weights,
        size_px=arguments.size,
        centre=arguments.centre,
        cache=arguments.features,
    )
    table.to_parquet(arguments.out, index=False)
    print(format_table(table_1(align_oof(table))))


def probe(
    run,
    dataset,
    *,
    architecture: str,
    weights: Path | None,
    size_px: int | None,
    centre: float,
    cache: Path | None = None,
):
    """Return out-of-fold log-probabilities in the form of a run's logits, one row per evaluated image.

    The shrinkage of the regression is chosen for each fold on the other folds. Features are cached in the file `cache`.
    """
    folds = pd.read_csv(run.folds, dtype={"image_id": str})
    table = folds.merge(pd.read_parquet(run.manifest), on="image_id", validate="one_to_one")
    if cache is None or not cache.exists():
        features = frozen_features(dataset, table, architecture, weights, size_px, centre)
        if cache is not None:
            with written_whole(cache) as path:
                np.save(path, features)
    else:
        features = np.load(cache)
    classes = sorted(table["label"].unique())
    true, folds = table["label"].map(classes.index).to_numpy(), table["fold"].to_numpy()
    parts = []
    for fold in sorted(table["fold"].dropna().unique()):
        held_out = folds == fold
        strength = max(STRENGTHS, key=lambda c: _macro_f1_within(features, true, np.where(held_out, -1, folds), c))
        model = _fitted(features[~held_out], true[~held_out], strength)
        logits = np.full((held_out.sum(), len(classes)), np.log(1e-12))
        logits[:, model.classes_] = np.log(np.maximum(model.predict_proba(features[held_out]), 1e-12))
        part = table.loc[held_out, ["image_id", "label", "patient", "source", "fold"]].reset_index(drop=True)
        part = part.assign(architecture="probe", view_set="none")
        part[[f"logit_{code}" for code in classes]] = logits
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _fitted(features: np.ndarray, true: np.ndarray, strength: float):
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, class_weight="balanced", max_iter=500))
    return model.fit(features, true)


def _macro_f1_within(features: np.ndarray, true: np.ndarray, folds: np.ndarray, strength: float) -> float:
    """Macro-F1 over the folds, each predicted by a fit on the others; -1 is left out, NaN is only fitted on."""
    scored_folds = np.unique(folds[folds >= 0])
    predicted = np.full(len(true), -1)
    for fold in scored_folds:
        train = (folds != fold) & (folds != -1)
        predicted[folds == fold] = _fitted(features[train], true[train], strength).predict(features[folds == fold])
    scored = np.isin(folds, scored_folds)
    return f1_score(true[scored], predicted[scored], labels=np.unique(true[scored]), average="macro", zero_division=0)


def frozen_features(dataset, table, architecture, weights, size_px, centre) -> np.ndarray:
    """Return features of a frozen pretrained network, float32 (n, f), one row per row of the table."""
    entry = get_backbone(architecture)
    crop = Crop(size_px or entry.image_size_px, centre)
    images = prepare_images(
        [dataset.image_path(image_id) for image_id in table["image_id"]],
        table["sha256"].tolist(),
        crops=[crop],
        denoise=Denoise(enabled=False),
        cache_dir=dataset.folder / "cache",
    )[crop]
    network = make_backbone(architecture, crop.size_px)
    load_pretrained(network, architecture, weights)
    network.eval().to(memory_format=torch.channels_last)
    mean, std = (255 * torch.tensor(numbers).view(1, 3, 1, 1) for numbers in (entry.mean, entry.std))
    parts = []
    with torch.inference_mode(), progress(total=len(table), description=f"features, {crop}", unit="images") as bar:
        for rows in batches(np.arange(len(table)), 64):
            parts.append(network((to_device(images[rows], torch.device("cpu")) - mean) / std).numpy())
            bar.update(len(rows))
    return np.concatenate(parts)


if __name__ == "__main__":
    main()
