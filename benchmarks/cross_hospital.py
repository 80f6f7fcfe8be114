"""How well does a network trained at one hospital work at another, and what do stain settings change?

    python benchmarks/cross_hospital.py MANIFEST.csv --hospitals jhu pbc --work FOLDER

MANIFEST.csv has path,label,source,patient. Uses the classes that both hospitals have. Fold 0 is the first hospital,
fold 1 the second, so the member that holds one out was trained on the other alone. Recipe `cpu`, EfficientNet-Lite0;
one run per entry of CONDITIONS and seed; scores are averaged over seeds. Run it again to resume. Writes
benchmarks/cross_hospital.md after each seed.
"""

import argparse
import logging
import os
from pathlib import Path

import numpy as np
import pandas as pd

import nonet
from nonet.artifacts.oof import read_oof
from nonet.cells import CLASSES
from nonet.evaluation.bootstrap import DEFAULT_BOOTSTRAP, confusions_by_group
from nonet.evaluation.metrics import macro_f1_score

HERE = Path(__file__).parent
CONDITIONS = {
    "baseline": [],
    "stain augmentation": ["augment.stain_probability=0.5"],
    "Reinhard colour normalisation": ['denoise.colours="reinhard"'],
    "both": ["augment.stain_probability=0.5", 'denoise.colours="reinhard"'],
    "refitted heads": ["models.refit_head=true"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--hospitals", nargs=2, required=True, metavar=("FIRST", "SECOND"))
    parser.add_argument("--work", type=Path, required=True, help="folder for the dataset and the runs")
    parser.add_argument("--seeds", type=int, default=2, help="trainings per condition")
    parser.add_argument("--set", action="append", default=[], dest="settings", help="a setting, such as train.epochs=3")
    parser.add_argument("--out", type=Path, default=HERE / "cross_hospital.md")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    dataset = shared_dataset(arguments.manifest, arguments.hospitals, arguments.work / "dataset")
    common = ['models.architectures=["efficientnet_lite0"]', "folds.num_folds=2", *arguments.settings]
    runs: dict[str, list] = {name: [] for name in CONDITIONS}
    for seed in range(arguments.seeds):
        for number, (name, settings) in enumerate(CONDITIONS.items()):
            out = arguments.work / f"run-{number}-{seed}"
            settings = [*common, *settings, f"train.seed={seed}"]
            runs[name].append(nonet.train("cpu", dataset, out=out, settings=settings))
        arguments.out.write_text(report(dataset, runs, arguments.hospitals), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def shared_dataset(manifest: Path, hospitals: list[str], out: Path):
    """Build a dataset of the classes that both hospitals have, with one fold per hospital."""
    table = pd.read_csv(manifest, dtype=str)
    known = set(CLASSES)
    first, second = (set(table.loc[table["source"] == name, "label"]) & known for name in hospitals)
    dataset = nonet.build_dataset([f"csv:{manifest}"], out, classes=sorted(first & second))
    folds = dataset.manifest.loc[dataset.manifest["source"].isin(hospitals), ["image_id", "source"]]
    folds = folds.assign(fold=[hospitals.index(source) for source in folds["source"]])
    folds[["image_id", "fold"]].to_csv(out / "folds.csv", index=False)
    return dataset


def report(dataset, runs: dict, hospitals: list[str]) -> str:
    """Return the page: for each direction, macro-F1 of each condition and its difference from the baseline."""
    images = dataset.manifest["source"].value_counts()
    seeds = len(next(iter(runs.values())))
    trainings = "one training each" if seeds == 1 else f"the mean of {seeds} trainings of different seeds"
    lines = [
        "# From one hospital to another",
        "",
        f"Made by `benchmarks/cross_hospital.py` on {os.cpu_count()} CPU cores: {len(dataset.classes)} classes present "
        f"at both hospitals ({', '.join(dataset.classes)}); {hospitals[0]}: {images[hospitals[0]]:,} images, "
        f"{hospitals[1]}: {images[hospitals[1]]:,}. EfficientNet-Lite0 at 96 px, six epochs, last epoch. Macro-F1 over "
        f"eight views, {trainings}, with 95 % intervals by bootstrap over patients (over images "
        "if patients are unknown).",
        "",
    ]
    for fold, tested in enumerate(hospitals):
        lines += [f"## Trained on {hospitals[1 - fold]}, tested on {tested}", ""]
        lines += ["| condition | macro-F1 | each training | difference from baseline |", "|---|---|---|---|"]
        lines += [*_rows(runs, fold), ""]
    return "\n".join(lines)


def _rows(runs: dict, fold: int) -> list[str]:
    predicted, true, groups = [], None, None
    for run in (run for seeds in runs.values() for run in seeds):
        table = read_oof(run.oof)
        table = table[(table["fold"] == fold) & (table["view_set"] == "dihedral")].sort_values("image_id")
        columns = [name for name in table.columns if name.startswith("logit_")]
        codes = [name.removeprefix("logit_") for name in columns]
        true = table["label"].map(codes.index).to_numpy()
        groups = table["patient"].where(table["patient"].notna(), table["image_id"]).to_numpy()
        predicted.append(table[columns].to_numpy().argmax(1))
    confusions = confusions_by_group(true, np.stack(predicted), groups, len(codes))
    scores = macro_f1_score(confusions.total()).reshape(len(runs), -1)
    resampled = (
        DEFAULT_BOOTSTRAP.scores(confusions, {"f1": macro_f1_score})["f1"].reshape(-1, *scores.shape).mean(axis=2)
    )
    rows = []
    for k, name in enumerate(runs):
        low, high = DEFAULT_BOOTSTRAP.interval(resampled[:, k])
        each = ", ".join(f"{score:.3f}" for score in scores[k])
        against = "" if k == 0 else _difference(scores.mean(axis=1), resampled, k)
        rows.append(f"| {name} | {scores[k].mean():.3f} ({low:.3f}–{high:.3f}) | {each} | {against} |")
    return rows


def _difference(scores, resampled, k: int) -> str:
    low, high = DEFAULT_BOOTSTRAP.interval(resampled[:, k] - resampled[:, 0])
    return f"{scores[k] - scores[0]:+.3f} ({low:+.3f} to {high:+.3f})".replace("-", "−")


if __name__ == "__main__":
    main()
