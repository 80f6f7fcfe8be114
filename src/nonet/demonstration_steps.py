"""The steps of `demo`, in the order of a real study."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.metrics import f1_score

from nonet.artifacts.csv_files import read_csv
from nonet.artifacts.run import Run, now, write_json
from nonet.artifacts.storage import read_json
from nonet.data.build import build_dataset
from nonet.data.folds import make_folds, write_folds
from nonet.data.images.decode import load_rgb
from nonet.data.manifest import Dataset
from nonet.data.preprocess.crop import Crop
from nonet.data.preprocess.crops import prepare_crops
from nonet.data.preprocess.denoise import estimate_sigma
from nonet.data.verify import check_dataset
from nonet.evaluation.tables import format_table
from nonet.inference.predict import predict
from nonet.recipe import Recipe
from nonet.report.evaluate import evaluate
from nonet.synthetic.dataset import draw_dataset
from nonet.training.launch import train

NUM_PATIENTS = 24
#: Share of the training images whose label is wrong: that of a neighbouring class.
LABEL_ERROR_RATE = 0.03


@dataclass(frozen=True)
class DemoResult:
    """Results of the demo.

    Attributes
    ----------
    table : DataFrame
        Table 1, out of fold.
    test_macro_f1 : float
        Macro-F1 on the corrupted test set.
    report : Path
        report.html.
    """

    table: pd.DataFrame
    test_macro_f1: float
    report: Path


def run_demo(out: Path, recipe: Recipe, requested: dict[str, int], say: Callable[[str], None]) -> DemoResult:
    """Draw, check, denoise, fold, train, evaluate and predict; see `nonet.demo`.

    Parameters
    ----------
    out : Path
        Folder of the demo.
    recipe : Recipe
    requested : dict of str to int
        "seed", "training images" and "test images"; stored in demo.json at the end.
    say : callable
        Called with a line of text at each step.

    Returns
    -------
    DemoResult
    """
    seed = requested["seed"]
    say(
        "1. Draw: thirteen classes; every patient has its own stain, illumination and focus. "
        f"{LABEL_ERROR_RATE:.0%} of the training labels are wrong."
    )
    drawn = {
        "training": _draw(
            out / "drawn" / "training", requested["training images"], seed=2 * seed, label_error_rate=LABEL_ERROR_RATE
        ),
        "test": _draw(out / "drawn" / "test", requested["test images"], seed=2 * seed + 1, corrupt=True),
    }
    say("2. Check: a manifest of every image; unreadable images are listed.")
    dataset = build_dataset([f"drawn=csv:{drawn['training'] / 'images.csv'}"], out / "dataset")
    say(dataset.summary())
    say(str(check_dataset(dataset)))
    say("3. Denoise: noise of the corrupted test set before and after non-local means.")
    say(_denoising(drawn["test"], recipe))
    say("4. Folds: three, by patient, in a file that you may edit.")
    say(_fold(dataset, recipe))
    say("5. Train: three architectures on three folds, nine members.")
    run = train(recipe, dataset, out=out / "run")
    say("6. Evaluate: each cell is scored by members that never saw its patient.")
    table = evaluate(run)
    say(format_table(table))
    say(_label_issues(run, drawn["training"]))
    say("7. Predict the corrupted test set, which has other patients, and compare with the true labels.")
    predictions = predict(run, drawn["test"] / "images.csv", out=out / "predictions")
    scores = _score(predictions.table(), pd.read_csv(drawn["test"] / "truth.csv"))
    say(str(predictions))
    say(scores.to_string(index=False, float_format="%.3f"))
    report = run.evaluation / "report.html"
    say(f"8. The report: {report}")
    say(f"9. Review and sign the differential of a patient: nonet serve {run} `cases={predictions.folder}`")
    write_json(out / "demo.json", requested | {"finished": now()})
    return DemoResult(table, float(scores["macro_f1"].iloc[0]), report)


def _draw(folder: Path, num_images: int, *, seed: int, corrupt: bool = False, label_error_rate: float = 0.0) -> Path:
    requested: dict[str, Any] = {"num_images": num_images, "num_patients": NUM_PATIENTS, "seed": seed}
    requested |= {"corrupt": corrupt, "label_error_rate": label_error_rate}
    marker = folder / "phantom.json"
    if (folder / "truth.csv").exists() and marker.exists():
        drawn = read_json(marker)
        if all(drawn.get(key) == value for key, value in requested.items()):
            return folder  # drawn by an earlier call
    return draw_dataset(folder, **requested, size_px=96)


def _denoising(drawn: Path, recipe: Recipe) -> str:
    truth = pd.read_csv(drawn / "truth.csv")
    noisy = truth[truth["corruption"] == "noise"].groupby("severity").head(8)
    rows = []
    for severity, group in noisy.groupby("severity"):
        images = [load_rgb(drawn / path) for path in group["path"]]
        whole = Crop(images[0].shape[0])
        after = [prepare_crops(image, [whole], recipe.denoise)[whole] for image in images]
        rows.append(
            {
                "severity": severity,
                "sigma before": pd.Series(map(estimate_sigma, images)).median(),
                "sigma after": pd.Series(map(estimate_sigma, after)).median(),
            }
        )
    if not rows:
        return "No image of the test set is noisy."
    return pd.DataFrame(rows).to_string(index=False, float_format="%.1f") + "  (8-bit grey levels, medians)"


def _fold(dataset: Dataset, recipe: Recipe) -> str:
    path = Path(dataset.folder) / "folds.csv"
    notes: list[str] = []
    if not path.exists():
        folds, notes = make_folds(
            dataset.manifest, num_folds=recipe.folds.num_folds, by=recipe.folds.by, seed=recipe.folds.seed
        )
        write_folds(path, folds)
    table = read_csv(path).merge(dataset.manifest, on="image_id")
    counts = table.groupby("fold").agg(images=("image_id", "size"), patients=("patient", "nunique")).reset_index()
    return "\n".join([f"{path}:", counts.to_string(index=False), *notes])


def _label_issues(run: Run, drawn: Path) -> str:
    """Say how many of the wrong labels that were drawn are among the label issues, and among the worst of these."""
    if not run.issues.is_file():
        return "Label issues: none are listed, as the networks are not shown to be better than chance."
    truth = pd.read_csv(drawn / "truth.csv").set_index("path")["label_error"].astype(bool)
    issues = read_csv(run.issues)
    is_wrong = truth.reindex(issues["path"].map(lambda path: f"images/{Path(path).name}")).to_numpy(dtype=bool)
    num_wrong = int(truth.sum())
    return (
        f"Label issues: {len(issues):,} of {len(truth):,} labels are doubted. {is_wrong.sum()} of the {num_wrong} "
        f"wrong labels are among them, {is_wrong[:num_wrong].sum()} among the worst {num_wrong}."
    )


def _score(predicted: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Return macro-F1 and accuracy of the most probable class on the test set, overall and by corruption."""
    predicted = predicted.assign(path=[f"images/{Path(name).name}" for name in predicted["image"]])
    both = truth.merge(predicted, on="path", validate="one_to_one")
    severity = both["corruption"].fillna("none") + " " + both["severity"].astype(str)
    rows = [("all", both), *both.groupby(severity)]
    return pd.DataFrame(
        {
            "test set": [name for name, _ in rows],
            "images": [len(part) for _, part in rows],
            "macro_f1": [
                f1_score(p["true_label"], p["best"], labels=sorted(p["true_label"].unique()), average="macro")
                for _, p in rows
            ],
            "accuracy": [(p["true_label"] == p["best"]).mean() for _, p in rows],
        }
    )
