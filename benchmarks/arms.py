"""Runs against each other on the images held out from them: does an arm of an experiment raise macro-F1?

    python benchmarks/arms.py "first arm=RUN" "second arm=RUN" ...

Each RUN was trained by `nonet train` and scored on the same images; the first is what the others are compared with, by
a bootstrap over patients, paired. All members of a run together, then each architecture alone: where the architectures
disagree on the sign, the difference is hardly more than that between two trainings. Writes benchmarks/arms.md.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from heads import SMALLEST_MOVE, rows

import nonet
from nonet.artifacts.oof import logit_classes, logit_columns, read_oof
from nonet.evaluation.bootstrap import confusions_by_group

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arms", nargs="+", metavar="NAME=RUN", help="a name and a complete run; the first is the base")
    parser.add_argument("--out", type=Path, default=HERE / "arms.md")
    arguments = parser.parse_args()
    runs = {name: nonet.Run(folder) for name, _, folder in (arm.partition("=") for arm in arguments.arms)}
    arguments.out.write_text(report(runs), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def report(runs: dict[str, nonet.Run]) -> str:
    """Return the page."""
    tables = {name: read_views(run) for name, run in runs.items()}
    first = next(iter(tables.values()))
    architectures = sorted(set.intersection(*(set(table["architecture"]) for table in tables.values())))
    num_patients = first["patient"].nunique()
    lines = [
        "# Arms against each other",
        "",
        f"Made by `benchmarks/arms.py`: {first['image_id'].nunique():,} held-out images of {num_patients} patients, "
        "eight views, logits averaged over the members. In brackets, 95 % intervals by bootstrap over patients; "
        "differences from the first row are paired. Classes are listed if their F1 moves by "
        f"{SMALLEST_MOVE:g} or more. Minutes are those that the members took to train, in all; other work on the "
        "machine lengthens them.",
    ]
    for title, chosen in {"All members": architectures, **{name: [name] for name in architectures}}.items():
        lines += ["", f"## {title}", "", "| arm | macro-F1 | difference | classes that gain | classes that lose |"]
        lines[-1] += " minutes |"
        lines += ["|---|---|---|---|---|---|"]
        minutes = [sum(minutes_of(run, name) for name in chosen) for run in runs.values()]
        scored = rows(*confusions_of(tables, chosen), logit_classes(first))
        lines += [f"{line} {number:.0f} |" for line, number in zip(scored, minutes, strict=True)]
    return "\n".join([*lines, ""])


def read_views(run: nonet.Run):
    """Return the rows of a run's oof.parquet over eight views, in the order of their images."""
    table = read_oof(run.oof)
    return table[table["view_set"] == "dihedral"].sort_values("image_id", kind="stable").reset_index(drop=True)


def confusions_of(tables: dict, architectures: list[str]) -> tuple:
    """Return the confusions of each run's mean logits over these architectures, by patient, and the runs' names."""
    predicted, base = [], None
    for name, table in tables.items():
        parts = [table[table["architecture"] == one].reset_index(drop=True) for one in architectures]
        base = parts[0] if base is None else base
        if any(not part["image_id"].equals(base["image_id"]) for part in parts):
            raise SystemExit(f"{name} was scored on other images than the run before it.")
        columns = logit_columns(logit_classes(table))
        predicted.append(np.mean([part[columns].to_numpy() for part in parts], axis=0).argmax(1))
    classes = logit_classes(base)
    groups = base["patient"].where(base["patient"].notna(), base["image_id"]).to_numpy()
    true = base["label"].map(classes.index).to_numpy()
    return confusions_by_group(true, np.stack(predicted), groups, len(classes)), list(tables)


def minutes_of(run: nonet.Run, architecture: str) -> float:
    """Return how long the members of an architecture trained."""
    return (
        sum(json.loads(done.read_text())["seconds"] for done in run.folder.glob(f"members/{architecture}/*/DONE")) / 60
    )


if __name__ == "__main__":
    main()
