"""Precision and recall of label issues: planted errors in drawn cells.

    python benchmarks/label_issues.py --work FOLDER [--networks]

Draws cells (`nonet.draw_dataset`), gives some of them the label of a neighbouring class, and trains on these labels,
wrong ones included: errors planted after training would be too easy to find. Out-of-fold probabilities, by patient,
come from a logistic regression on simple colour features (seconds) or, with --networks, from recipe `demo` (nine small
networks, minutes per rate; run it again to resume). Writes benchmarks/label_issues.md.
"""

import argparse
import logging
import os
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import nonet
from nonet.artifacts.run import Run
from nonet.evaluation.issues import ensemble_proba
from nonet.evaluation.label_issues import FILTERS
from nonet.evaluation.run_data import read_run

HERE = Path(__file__).parent
SIZE_PX = 96


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for drawings, datasets and runs")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.03, 0.1], help="shares of wrong labels")
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--networks", action="store_true", help="train recipe demo as well")
    parser.add_argument("--set", action="append", default=[], dest="settings", help="a setting, such as train.epochs=3")
    parser.add_argument("--out", type=Path, default=HERE / "label_issues.md")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    learners = {"logistic regression": regression_proba} | (
        {"recipe demo": network_proba} if arguments.networks else {}
    )
    rows = []
    for rate in arguments.rates:
        drawn = draw(arguments, rate)
        for name, learner in learners.items():
            truth, proba, classes = learner(drawn, arguments)
            rows += scores(truth, proba, classes, {"learner": name, "rate": rate})
            arguments.out.write_text(report(pd.DataFrame(rows), arguments), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def draw(arguments, rate: float) -> Path:
    """Draw cells with this share of wrong labels, or reuse those of an earlier call."""
    folder = arguments.work / f"drawn-{arguments.images}-{arguments.seed}-{rate:g}"
    if not (folder / "truth.csv").exists():
        options = {"num_images": arguments.images, "size_px": SIZE_PX, "seed": arguments.seed}
        nonet.draw_dataset(folder, **options, label_error_rate=rate)
    return folder


def regression_proba(drawn: Path, arguments) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    """Return probabilities of a logistic regression on the colours of concentric rings, five folds by patient."""
    truth = pd.read_csv(drawn / "truth.csv")
    images = np.stack([np.asarray(Image.open(drawn / path)) for path in truth["path"]]) / 255.0
    radius = np.hypot(*(np.mgrid[:SIZE_PX, :SIZE_PX] - (SIZE_PX - 1) / 2))
    step = SIZE_PX // 16
    rings = [images[:, (radius >= inner) & (radius < inner + step)] for inner in range(0, SIZE_PX // 2 - step, step)]
    features = np.concatenate([part for ring in rings for part in (ring.mean(axis=1), ring.std(axis=1))], axis=1)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    options = {"groups": truth["patient"], "cv": GroupKFold(5), "method": "predict_proba"}
    proba = cross_val_predict(model, features, truth["given_label"], **options)
    return truth, proba, sorted(truth["given_label"].unique())


def network_proba(drawn: Path, arguments) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    """Return probabilities of recipe `demo`, as `nonet issues` uses them."""
    out = arguments.work / f"networks-{drawn.name}"
    dataset = nonet.build_dataset([f"drawn=csv:{drawn / 'images.csv'}"], out / "dataset")
    settings = [f"train.seed={arguments.seed}", *arguments.settings]
    data = read_run(Run(nonet.train("demo", dataset, out=out / "run", settings=settings)))
    truth = pd.read_csv(drawn / "truth.csv")
    paths = data.manifest.set_index("image_id").loc[data.oof.image_id, "path"]
    return truth.set_index("path").loc[paths].reset_index(), ensemble_proba(data), data.oof.classes


def scores(truth: pd.DataFrame, proba: np.ndarray, classes: list[str], about: dict) -> list[dict]:
    """Return precision and recall of each filter, and precision among its worst issues."""
    given = truth["given_label"].map(classes.index).to_numpy()
    is_wrong = truth["label_error"].to_numpy() == 1
    about = about | {"wrong": int(is_wrong.sum()), "as_given": (proba.argmax(axis=1) == given).mean()}
    about["as_true"] = (np.array(classes)[proba.argmax(axis=1)] == truth["true_label"]).mean()
    rows = []
    for name in FILTERS:
        issues = nonet.find_label_issues(given, proba, filter_by=name)
        hits = is_wrong[issues]
        rows.append(
            about
            | {
                "filter": name,
                "issues": len(issues),
                "precision": hits.mean() if len(issues) else np.nan,
                "recall": hits.sum() / is_wrong.sum(),
                "precision_first": hits[: is_wrong.sum() // 2].mean() if len(issues) else np.nan,
            }
        )
    return rows


def report(table: pd.DataFrame, arguments) -> str:
    """Return the page."""
    lines = [
        "# Finding planted label errors",
        "",
        f"Made by `benchmarks/label_issues.py` on {os.cpu_count()} CPU cores: {arguments.images:,} drawn cells of all "
        "thirteen classes and 24 patients, the given share of them labelled as a neighbouring class before training, "
        f"seed {arguments.seed}; out-of-fold probabilities, by patient. *Precision*: share of the issues that are "
        "wrong labels; picking at random would give the planted share. *Recall*: share of the wrong labels that are "
        "issues. *First half*: precision among the worst issues, half as many as there are wrong labels. Drawn cells "
        "are not photographs; only the comparison matters.",
        "",
    ]
    for (learner, rate), part in table.groupby(["learner", "rate"], sort=False):
        first = part.iloc[0]
        lines += [
            f"## {learner}, {rate:.0%} wrong",
            "",
            f"{first['wrong']} labels are wrong. The prediction matches the given label for {first['as_given']:.1%} of "
            f"all cells and the true class for {first['as_true']:.1%}.",
            "",
            "| filter | issues | precision | recall | first half |",
            "|---|---|---|---|---|",
        ]
        for row in part.to_dict("records"):
            figures = [f"{row[name]:.2f}" for name in ("precision", "recall", "precision_first")]
            lines.append(f"| `{row['filter']}` | {row['issues']} | {' | '.join(figures)} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
