"""One change at a time against the paper's method: what raises macro-F1 on the next patient?

    python benchmarks/experiments.py DATA ... --evaluated jhu --external pbc --work FOLDER [--only NAME ...]

DATA is one or more sources as for `nonet data build` (csv:ours.csv acevedo:PBC), or one CSV that holds all. Each
entry of EXPERIMENTS is recipe `cpu` with one EfficientNet-Lite0 per fold and some settings changed, trained on the same
folds by patient and scored out of fold; sources named by --external are only trained on. Finished trainings are reused.
Writes benchmarks/experiments.md: macro-F1 with its interval, and the difference, paired by patient, from the experiment
it starts from. About half an hour per experiment on two cores.
"""

import argparse
import logging
import os
from pathlib import Path

import hospitals
import numpy as np
from machine import training_minutes

import nonet
from nonet.artifacts.oof import read_oof
from nonet.evaluation.bootstrap import DEFAULT_BOOTSTRAP, confusions_by_group
from nonet.evaluation.metrics import balanced_accuracy_score, macro_f1_score

HERE = Path(__file__).parent

#: name → (experiment it starts from, changed settings).
EXPERIMENTS: dict[str, tuple[str | None, list[str]]] = {
    "paper": (None, []),
    "centre 0.6": ("paper", ["models.centre=0.6"]),
    "centre 0.45": ("paper", ["models.centre=0.45"]),
    "learning rate 1e-3": ("centre 0.45", ["optimiser.learning_rate_first=1e-3", "optimiser.warmup_epochs=0.5"]),
    "linear head": ("centre 0.45", ["models.head_widths=[]"]),
    "refitted head": ("centre 0.45", ["models.refit_head=true"]),
    "natural frequencies": ("refitted head", ['sampling.sampler="uniform"', 'loss.name="cross_entropy"']),
    "seed 1": ("natural frequencies", ["train.seed=1"]),
    "12 epochs": ("natural frequencies", ["train.epochs=12"]),
    "external 0.5": ("natural frequencies", ["sampling.external_weight=0.5"]),
    "stain": ("natural frequencies", ["augment.stain_probability=0.5"]),
    "Lite1": ("natural frequencies", ['models.architectures=["efficientnet_lite1"]']),
    "Lite2": ("natural frequencies", ['models.architectures=["efficientnet_lite2"]']),
    "Lite1, centre 0.35": ("Lite1", ["models.centre=0.35"]),
    "Lite2, centre 0.6": ("Lite2", ["models.centre=0.6"]),
}

#: Averages of experiments' logits: name → (experiment it starts from, experiments averaged).
AVERAGES = {
    "both seeds": ("natural frequencies", ["natural frequencies", "seed 1"]),
    "nine, one centre": ("natural frequencies", ["natural frequencies", "Lite1", "Lite2"]),
    "nine, three centres": ("nine, one centre", ["natural frequencies", "Lite1, centre 0.35", "Lite2, centre 0.6"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    hospitals.add_arguments(parser)
    parser.add_argument("--only", nargs="*", choices=EXPERIMENTS, help="train only these; all trained ones are shown")
    parser.add_argument("--out", type=Path, default=HERE / "experiments.md")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    dataset = hospitals.build(arguments)
    runs = {}
    for name in EXPERIMENTS:
        out = arguments.work / name.replace(" ", "-").replace(",", "")
        if arguments.only is None or name in arguments.only:
            settings = ['models.architectures=["efficientnet_lite0"]', *settings_of(name)]
            runs[name] = nonet.train("cpu", dataset, out=out, settings=settings)
            arguments.out.write_text(report(dataset, runs, arguments), encoding="utf-8")
        elif (out / "ensemble.json").exists():
            runs[name] = nonet.Run(out)
    arguments.out.write_text(report(dataset, runs, arguments), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def settings_of(name: str) -> list[str]:
    """Return the settings of an experiment, preceded by those of the experiments it starts from."""
    start, changes = EXPERIMENTS[name]
    return [*(settings_of(start) if start else []), *changes]


def report(dataset, runs: dict, arguments: argparse.Namespace) -> str:
    """Return the page, one row per experiment."""
    scored = dataset.manifest[dataset.manifest["evaluate"]]
    lines = [
        "# One change at a time",
        "",
        f"Made by `benchmarks/experiments.py` on {os.cpu_count()} CPU cores: {len(scored):,} images of "
        f"{scored['patient'].nunique()} patients ({arguments.evaluated}), out of fold by patient, "
        f"{len(dataset.manifest) - len(scored):,} more only trained on ({', '.join(arguments.external) or 'none'}). "
        "Recipe `cpu` with EfficientNet-Lite0 alone, three members, with the settings listed plus those of the "
        "experiment it starts from; eight views. In brackets, "
        "95 % intervals by bootstrap over patients; differences are paired. One training each.",
        "",
        "| experiment | settings | macro-F1 | balanced accuracy | starts from | difference | minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    true, groups, logits = _logits(runs)
    for name, (_, parts) in AVERAGES.items():
        if set(parts) <= set(runs):
            logits[name] = np.mean([logits[part] for part in parts], axis=0)
    num_classes = next(iter(logits.values())).shape[1]
    confusions = confusions_by_group(true, np.stack([one.argmax(1) for one in logits.values()]), groups, num_classes)
    total = confusions.total()
    f1, recall = macro_f1_score(total), balanced_accuracy_score(total)
    resampled = DEFAULT_BOOTSTRAP.scores(confusions, {"f1": macro_f1_score})["f1"]
    names = list(logits)
    for k, name in enumerate(names):
        if name in AVERAGES:
            start, parts = AVERAGES[name]
            what = f"mean logits of {', '.join(parts)}"
        else:
            start, parts = EXPERIMENTS[name][0], [name]
            what = ", ".join(f"`{change}`" for change in EXPERIMENTS[name][1])
        low, high = DEFAULT_BOOTSTRAP.interval(resampled[:, k])
        difference = ""
        if start in names:
            j = names.index(start)
            lower, upper = DEFAULT_BOOTSTRAP.interval(resampled[:, k] - resampled[:, j])
            difference = f"{f1[k] - f1[j]:+.3f} ({lower:+.3f} to {upper:+.3f})"
        lines.append(
            f"| {name} | {what} | {f1[k]:.3f} ({low:.3f}–{high:.3f}) | {recall[k]:.3f} | {start or ''} | {difference} "
            f"| {sum(training_minutes(runs[part]) for part in parts):.0f} |"
        )
    return "\n".join([*lines, ""])


def _logits(runs: dict) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return true classes and groups (n,), and each run's mean logits (n, classes) over members, with views."""
    logits, first = {}, None
    for name, run in runs.items():
        table = read_oof(run.oof)
        table = table[table["view_set"] == "dihedral"].sort_values("image_id").reset_index(drop=True)
        columns = [column for column in table.columns if column.startswith("logit_")]
        first = table if first is None else first
        if not table["image_id"].equals(first["image_id"]):
            raise SystemExit(f"{run.folder} was scored on other images than the runs before it.")
        logits[name] = table[columns].to_numpy()
    codes = [column.removeprefix("logit_") for column in columns]
    groups = first["patient"].where(first["patient"].notna(), first["image_id"]).to_numpy()
    return first["label"].map(codes.index).to_numpy(), groups, logits


if __name__ == "__main__":
    main()
