"""`evaluate` on a synthetic run folder: files, who counts, errors, and a report that needs no network."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from sealing import seal

from nonet.cells import CLASSES
from nonet.errors import RunError
from nonet.evaluation.tables import format_table
from nonet.report.evaluate import evaluate

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
    (folder / "recipe.toml").write_text(f'name = "paper"\n\n[folds]\nby = "{by}"\nnum_folds = 3\n')
    versions = {"python": "3.12.3", "versions": {"torch": "2.9.1", "timm": "1.0.22"}, "device": "1 × H100"}
    begun = {"classes": classes, "architectures": ARCHITECTURES, "num_folds": 3, "fingerprints": {}}
    (folder / "provenance.json").write_text(json.dumps(versions | begun))
    members = [{"architecture": a, "fold": k, "weight": 1.0} for k in range(3) for a in ARCHITECTURES]
    about = {"format_version": 1, "classes": classes, "titles": NAMES, "members": members, "temperature": 1.0}
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


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("runs") / "paper")
    return run, evaluate(run, num_resamples=200)


class _Links(HTMLParser):
    """Collect the text and everything that a browser might fetch."""

    def __init__(self, html):
        super().__init__()
        self.links, self.tags, self.text = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [v for k, v in attributes if k in ("src", "href", "xlink:href", "srcset", "data", "action")]

    def handle_data(self, data):
        self.text.append(data)


def test_every_file_is_written_and_no_temporary_one_is_left(evaluated):
    run, _ = evaluated
    found = sorted(str(path.relative_to(run / "evaluation")) for path in (run / "evaluation").rglob("*.*"))
    drawings = ["class_counts", "confusion_by_row", "confusion_counts", "label_issues", "mistakes", "reliability"]
    drawings += ["samples", "training_curves"]
    issues = ["issues.csv", "issues_by_patient.csv", "issues_by_source.csv"]
    tables = ["calibration.csv", "coverage.csv", "confusion.csv", "differences.csv", *issues, "per_class.csv"]
    tables += ["datasheet.md", "mistakes.csv", "model_card.md", "report.html", "table.csv"]
    assert found == sorted([f"figures/{name}.svg" for name in drawings] + tables)


def test_table_on_disk_is_the_table_returned(evaluated):
    run, table = evaluated
    pd.testing.assert_frame_equal(pd.read_csv(run / "evaluation" / "table.csv", keep_default_na=False), table)
    assert len(table) == 8
    assert table["name"].tolist()[:4] == ["3 × ConvNeXtV2-Tiny", "3 × DinoBloom-S", "3 × SwinV2-Tiny", "ensemble"]


def test_confusion_on_disk_adds_up(evaluated):
    run, _ = evaluated
    confusion = pd.read_csv(run / "evaluation" / "confusion.csv", index_col="true")
    per_class = pd.read_csv(run / "evaluation" / "per_class.csv").set_index("code")
    assert list(confusion.index) == list(confusion.columns) == list(per_class.index)
    assert confusion.sum(axis=1).tolist() == per_class["images"].tolist()


def test_report_fetches_nothing(evaluated):
    html = (evaluated[0] / "evaluation" / "report.html").read_text()
    page = _Links(html)
    assert all(link.startswith(("data:", "#")) for link in page.links), page.links
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert not re.findall(r"url\(\s*['\"]?(?!#|data:)", html)
    assert "@import" not in html


def test_ids_of_the_figures_are_unique_in_the_page(evaluated):
    html = (evaluated[0] / "evaluation" / "report.html").read_text()
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', html) + re.findall(r"url\(#([^)]+)\)", html)) <= set(ids)


def test_report_holds_the_numbers_of_the_table(evaluated):
    run, table = evaluated
    text = " ".join(_Links((run / "evaluation" / "report.html").read_text()).text)
    for score in ("macro_f1", "balanced_accuracy", "macro_precision", "macro_specificity"):
        for suffix in ("", "_low", "_high"):
            for value in table[score + suffix]:
                assert f"{value:.3f}" in text
    assert "esearch use only" in text


def test_external_images_change_nothing_but_the_counts(evaluated, tmp_path):
    _, table = evaluated
    run = make_run(tmp_path / "paper")
    oof = pd.read_parquet(run / "oof.parquet")
    manifest = pd.read_parquet(run / "manifest.parquet")
    stray = manifest[~manifest["evaluate"]].iloc[:30]
    extra = oof.iloc[:30].assign(image_id=stray["image_id"].to_numpy(), label="SNE")
    pd.concat([oof, extra]).to_parquet(run / "oof.parquet")
    seal(run)
    pd.testing.assert_frame_equal(evaluate(run, num_resamples=200), table)


def test_labels_are_escaped_and_may_be_anything(tmp_path):
    labels = ["<b>bold</b>", 'a"b', "$\\frac{x$", "a very long label of some laboratory", "淋巴细胞"]
    run = make_run(tmp_path / "<i>run", classes=labels, num_images=120, num_external=0)
    evaluate(run, num_resamples=20)
    html = (run / "evaluation" / "report.html").read_text()
    assert "<b>bold" not in html and "&lt;b&gt;bold" in html and "<i>run" not in html
    assert "$\\frac{x$" in (run / "evaluation" / "figures" / "class_counts.svg").read_text()


@pytest.mark.parametrize("num_classes", [1, 2, 45])
def test_any_number_of_classes(tmp_path, num_classes):
    run = make_run(tmp_path / "run", classes=[f"class {i}" for i in range(num_classes)], num_images=200)
    assert np.isfinite(evaluate(run, num_resamples=20)["macro_f1"]).all()


def test_report_warns_where_folds_are_by_image_or_patients_are_stand_ins(tmp_path):
    run = make_run(tmp_path / "run", by="image")
    manifest = pd.read_parquet(run / "manifest.parquet")
    manifest.assign(patient_is_standin=True).to_parquet(run / "manifest.parquet")
    seal(run)
    evaluate(run, num_resamples=20)
    html = (run / "evaluation" / "report.html").read_text()
    assert "do worse than these scores say" in html
    assert "made by image" in html and "stand-in" in html


def test_report_says_where_epochs_were_chosen_on_the_images_scored_and_where_patients_are_few(tmp_path):
    run = make_run(tmp_path / "run", num_images=200, num_patients=7)
    with (run / "recipe.toml").open("a") as recipe:
        recipe.write('\n[train]\nkeep = "best"\n')
    seal(run)
    evaluate(run, num_resamples=20)
    html = (run / "evaluation" / "report.html").read_text()
    assert "flatters it a little" in html and "rest on 7 patients only" in html


def test_report_does_not_warn_where_patients_are_known(evaluated):
    assert "do worse than these scores say" not in (evaluated[0] / "evaluation" / "report.html").read_text()


def test_unknown_patients_become_units_of_their_own(tmp_path):
    run = make_run(tmp_path / "run", num_images=300)
    oof = pd.read_parquet(run / "oof.parquet")
    oof.assign(patient=None).to_parquet(run / "oof.parquet")
    seal(run)
    table = evaluate(run, num_resamples=20)
    assert (table["patients"] == 0).all() and (table["groups"] == 300).all()
    assert "patients unknown" in (run / "evaluation" / "report.html").read_text()


def test_without_history_and_samples_the_report_says_so(tmp_path):
    run = make_run(tmp_path / "run", num_images=200)
    evaluate(run, num_resamples=20)
    (run / "samples.npz").unlink()
    for path in run.glob("members/*/*/history.jsonl"):
        path.unlink()
    evaluate(run, num_resamples=20)
    html = (run / "evaluation" / "report.html").read_text()
    assert "no sample images" in html and "no training history" in html
    assert not (run / "evaluation" / "figures" / "samples.svg").exists()


def test_missing_oof_says_what_to_run(tmp_path):
    with pytest.raises(RunError, match="nonet train"):
        evaluate(tmp_path)


def test_missing_image_of_one_architecture_is_counted(tmp_path):
    run = make_run(tmp_path / "run", num_images=200)
    oof = pd.read_parquet(run / "oof.parquet")
    gone = oof["image_id"].isin(["cell-00003", "cell-00007"]) & (oof["architecture"] == "dinobloom_s")
    oof[~gone].to_parquet(run / "oof.parquet")
    seal(run)
    with pytest.raises(RunError, match=r"2 of 200 images have no out-of-fold logits by dinobloom_s.*cell-00003"):
        evaluate(run)


def test_image_missing_everywhere_is_counted(tmp_path):
    run = make_run(tmp_path / "run", num_images=200)
    oof = pd.read_parquet(run / "oof.parquet")
    oof[oof["image_id"] != "cell-00003"].to_parquet(run / "oof.parquet")
    seal(run)
    with pytest.raises(RunError, match=r"1 of 200 evaluated images .* cell-00003"):
        evaluate(run)


def test_logits_that_are_not_finite_name_the_image(tmp_path):
    run = make_run(tmp_path / "run", num_images=200)
    oof = pd.read_parquet(run / "oof.parquet")
    oof.loc[oof["image_id"] == "cell-00011", "logit_SNE"] = np.nan
    oof.to_parquet(run / "oof.parquet")
    seal(run)
    with pytest.raises(RunError, match="not finite, first image cell-00011"):
        evaluate(run)
    assert not (run / "evaluation").exists()


def test_broken_file_is_named(tmp_path):
    run = make_run(tmp_path / "run", num_images=200)
    (run / "provenance.json").write_text("{")
    with pytest.raises(RunError, match=r"provenance\.json is damaged"):
        evaluate(run)


def test_terminal_table_is_aligned(evaluated):
    lines = format_table(evaluated[1]).splitlines()
    assert len(lines) == 9 and "macro-F1" in lines[0]
    start = lines[0].index("macro-F1")
    assert all(re.match(r"0\.\d{3} \[0\.\d{3}, 0\.\d{3}\]", line[start:]) for line in lines[1:])


def test_evaluation_needs_no_torch():
    code = "import sys, nonet.report.evaluate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
