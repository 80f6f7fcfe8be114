"""Recipe `recommended` against the paper's method, plain fine-tuning and a linear probe, on cells of unseen patients.

    python benchmarks/recommended.py DATA ... --evaluated jhu --external pbc --work FOLDER [--probe W] [--steps]

DATA is one or more sources as for `nonet data build` (csv:ours.csv acevedo:PBC), or one CSV that holds all. The source
named by --evaluated is scored, out of fold and by patient; those named by --external are only trained on. Trains
recipes recommended, cpu (the paper's method with the same networks and epochs) and plain on the same folds; run it
again to resume. W is a weights file of a ViT-S/14 such as DinoBloom's, for a balanced logistic regression on its
frozen features. Writes benchmarks/recommended.md. About two hours on two free cores.
"""

import argparse
import logging
import os
from pathlib import Path

import hospitals
import numpy as np
import pandas as pd
from cache_key import digest
from machine import training_minutes
from probe import probe

import nonet
from nonet.artifacts.oof import logit_columns, read_oof
from nonet.cells import class_name, in_order_of_maturation
from nonet.evaluation.bootstrap import DEFAULT_BOOTSTRAP, confusions_by_group
from nonet.evaluation.metrics import balanced_accuracy_score, macro_f1_score, per_class_scores
from nonet.evaluation.not_measured import NotMeasured
from nonet.evaluation.oof import align_oof
from nonet.evaluation.results import measure
from nonet.evaluation.tables import format_table

HERE = Path(__file__).parent
RECIPES = {
    "recommended": "recipe `recommended`: nine members",
    "cpu": "recipe `cpu`, the paper's method: nine members, same networks and epochs",
    "plain": "recipe `plain`: plain fine-tuning, three members",
}
#: Steps between the paper's method and recommended: folder → (changed settings of recommended, title).
BALANCED = ['sampling.sampler="effective_number"', 'loss.name="focal_sigmoid"']
STEPS = {
    "crop": (
        [*BALANCED, "models.refit_head=false"],
        "`recommended` with sampling, loss and heads of `cpu`: crop only",
    ),
    "crop-refitted": (BALANCED, "`recommended` with sampling and loss of `cpu`: crop and refitted heads"),
}
SCORES = {"macro-F1": macro_f1_score, "balanced accuracy": balanced_accuracy_score}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    hospitals.add_arguments(parser)
    parser.add_argument("--probe", type=Path, help="weights of a ViT-S/14 for the probe")
    parser.add_argument("--probe-name", default="ViT-S/14", help="name of the weights in the table")
    parser.add_argument(
        "--probe-centres",
        type=float,
        nargs="+",
        default=[1.0],
        help="shares of the frame's side that the probe sees, one row each",
    )
    parser.add_argument("--steps", action="store_true", help="also train the steps in between; takes twice as long")
    parser.add_argument("--out", type=Path, default=HERE / "recommended.md")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    dataset = hospitals.build(arguments)
    runs = {}
    titles = dict(RECIPES)
    for recipe in RECIPES:
        runs[recipe] = nonet.train(recipe, dataset, out=arguments.work / recipe)
    for name, (settings, title) in STEPS.items() if arguments.steps else ():
        runs[name] = nonet.train("recommended", dataset, out=arguments.work / name, settings=settings)
        titles[name] = title
    tables = {name: nonet.evaluate(run) for name, run in runs.items()}
    methods = {titles[name]: _final(read_oof(run.oof)) for name, run in runs.items()}
    if arguments.probe:
        for centre in arguments.probe_centres:
            name = f"balanced logistic regression on frozen {arguments.probe_name}, 224 px" + (
                "" if centre == 1 else f", centre {centre:g}"
            )
            cache = arguments.work / f"probe-{digest(arguments.probe, dataset.fingerprint())}-{centre:g}.parquet"
            if not cache.exists():
                options = {"architecture": "dinobloom_small", "weights": arguments.probe, "size_px": 224}
                options |= {"centre": centre, "cache": cache.with_suffix(".npy")}
                probe(runs["cpu"], dataset, **options).to_parquet(cache, index=False)
            methods[name] = pd.read_parquet(cache)
    arguments.out.write_text(report(dataset, methods, runs, tables, arguments), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def _final(oof: pd.DataFrame) -> pd.DataFrame:
    """Return image_id, label, patient and the ensemble's logits with the views that predictions are made with."""
    aligned = align_oof(oof)
    about = oof.drop_duplicates("image_id").set_index("image_id").loc[aligned.image_id, ["label", "patient"]]
    logits = aligned.ensemble_logits[aligned.view_sets.index("dihedral")]
    columns = logit_columns(aligned.classes)
    return about.join(pd.DataFrame(logits, index=about.index, columns=columns)).reset_index()


def report(dataset, methods: dict[str, pd.DataFrame], runs: dict, tables: dict, arguments) -> str:
    """Return the page: scores with intervals and differences from the first method, classes, each Table 1, time."""
    scored = dataset.manifest[dataset.manifest["evaluate"]]
    true, groups, predicted, codes = _predictions(methods)
    confusions = confusions_by_group(true, predicted, groups, len(codes))
    lines = [
        "# Recipe `recommended` on real cells",
        "",
        f"Made by `benchmarks/recommended.py` on {os.cpu_count()} CPU cores, from {len(scored):,} evaluated images of "
        f"{scored['patient'].nunique()} patients ({arguments.evaluated}), grouped by patient, and "
        f"{len(dataset.manifest) - len(scored):,} external images ({', '.join(arguments.external) or 'none'}) that "
        "are in every training set and are not scored. The last epoch is kept, so no epoch was chosen on the scored "
        "images; eight views. In brackets, 95 % intervals by bootstrap over patients; differences are paired. "
        "**The settings of `recommended` were chosen on the patients of docs/log.md**; scores on these patients are "
        "optimistic.",
        "",
        *_scores(confusions, list(methods)),
        "",
        "## F1 of each class",
        "",
        *_per_class(scored, confusions, list(methods), codes),
        "",
        "## Calibration and prediction sets",
        "",
        "Cross-fitted, that is, on patients that calibration was not fitted on. Before calibration, probabilities are "
        "the soft-max of the logits. The requested coverage of prediction sets is 90 %.",
        "",
        *_calibration(runs),
        "",
        "## Table 1 of each run",
        "",
    ]
    for name, table in tables.items():
        lines += [f"`{name}`", "", "```", format_table(table), "```", ""]
        differences = pd.read_csv(runs[name].evaluation / "differences.csv")
        if len(differences):
            text = differences.to_string(index=False, float_format="%.3f")
            lines += ["Paired differences in macro-F1:", "", "```", text, "```", ""]
    lines += ["## Time", "", "Summed over members, also where they were trained side by side.", ""]
    lines += [
        f"- `{name}`: {training_minutes(run):.0f} minutes of training, including the held-out score of each epoch."
        for name, run in runs.items()
    ]
    return "\n".join([*lines, ""])


def _predictions(methods: dict[str, pd.DataFrame]) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Return true classes and groups (n,), predicted classes (methods, n), and the class codes."""
    predicted, first = [], None
    for table in methods.values():
        table = table.sort_values("image_id").reset_index(drop=True)
        codes = [name.removeprefix("logit_") for name in table.columns if name.startswith("logit_")]
        first = table if first is None else first
        if not (table["image_id"].equals(first["image_id"]) and codes):
            raise SystemExit("The methods were not scored on the same images.")
        predicted.append(table[[f"logit_{code}" for code in codes]].to_numpy().argmax(1))
    true = first["label"].map(codes.index).to_numpy()
    groups = first["patient"].where(first["patient"].notna(), first["image_id"]).to_numpy()
    return true, groups, np.stack(predicted), codes


def _scores(confusions, names: list[str]) -> list[str]:
    total = confusions.total()
    resampled = DEFAULT_BOOTSTRAP.scores(confusions, SCORES)
    heads = [f"{score} | recommended minus this" for score in SCORES]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (1 + 2 * len(SCORES)) + "|"]
    for k, name in enumerate(names):
        cells = [name]
        for score, function in SCORES.items():
            value, values = function(total), resampled[score]
            low, high = DEFAULT_BOOTSTRAP.interval(values[:, k])
            cells.append(f"{value[k]:.3f} ({low:.3f}–{high:.3f})")
            low, high = DEFAULT_BOOTSTRAP.interval(values[:, 0] - values[:, k])
            cells.append("" if k == 0 else f"{value[0] - value[k]:+.3f} ({low:+.3f} to {high:+.3f})")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _per_class(scored: pd.DataFrame, confusions, names: list[str], codes: list[str]) -> list[str]:
    f1 = per_class_scores(confusions.total())["f1"]
    lines = [f"| code | name | images | patients | {' | '.join(names)} |", "|---" * (4 + len(names)) + "|"]
    for code in in_order_of_maturation(codes):
        of_class = scored[scored["label"] == code]
        cells = [code, class_name(code), f"{len(of_class):,}", f"{of_class['patient'].nunique()}"]
        lines.append("| " + " | ".join([*cells, *[f"{value:.3f}" for value in f1[:, codes.index(code)]]]) + " |")
    return lines


def _calibration(runs: dict) -> list[str]:
    """Return the table of calibration, doubt and prediction sets of each run."""
    heads = ("recipe", "calibration error before", "after", "Brier before", "after", "identified")
    heads = [*heads, "accuracy of these", "coverage", "classes per set"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, run in runs.items():
        everything = measure(run)
        found = everything.calibration
        name = f"`{name}`" + (", no rejection" if isinstance(everything.rejection, NotMeasured) else "")
        if isinstance(found, NotMeasured):
            lines.append(f"| {name} | {found.reason} |" + " |" * (len(heads) - 2))
            continue
        measures, doubt, sets = found.measures.iloc[0], found.doubt, found.coverage.iloc[0]
        columns = [(measures, "ece_before"), (measures, "ece_after"), (measures, "brier_before")]
        columns += [(measures, "brier_after"), (doubt, "share_identified"), (doubt, "accuracy_identified")]
        columns += [(sets, "coverage"), (sets, "set_size")]
        cells = [f"{row[key]:.3f} ({row[f'{key}_low']:.3f}–{row[f'{key}_high']:.3f})" for row, key in columns]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return lines


if __name__ == "__main__":
    main()
