"""Runs against each other on the images held out from them: does an arm of an experiment raise macro-F1?

    python benchmarks/arms.py "first arm=RUN" "second arm=RUN" ...

Each RUN is complete and was scored on the same images; the others are compared with the first, paired, by a bootstrap
over patients. First all members of each run, then each architecture that all runs have. The intervals are about
patients, not about trainings: where architectures disagree on the sign, a difference may be luck of the trainings.
Writes benchmarks/arms.md.
"""

import argparse
from pathlib import Path

import numpy as np
from heads import SMALLEST_MOVE, rows
from machine import training_minutes

import nonet
from nonet.artifacts.oof import read_oof
from nonet.evaluation.bootstrap import GroupConfusions, confusions_by_group
from nonet.evaluation.oof import ENSEMBLE, OutOfFold, align_oof

HERE = Path(__file__).parent
VIEWS = "dihedral"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arms", nargs="+", metavar="NAME=RUN", type=arm, help="the first is what others start from")
    parser.add_argument("--out", type=Path, default=HERE / "arms.md")
    arguments = parser.parse_args()
    arguments.out.write_text(report(dict(arguments.arms)), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def arm(text: str) -> tuple[str, nonet.Run]:
    """Read an argument, such as "250 cells=run"."""
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise argparse.ArgumentTypeError(f'"{text}" is not a name and a run, as in "250 cells=run"')
    run = nonet.Run(folder)
    if not run.oof.is_file():
        raise argparse.ArgumentTypeError(f"{folder} is not a run that is trained to its end: it has no {run.oof.name}")
    return name, run


def report(runs: dict[str, nonet.Run]) -> str:
    """Return the page."""
    held_out = [align_oof(read_oof(run.oof)) for run in runs.values()]
    first = held_out[0]
    for name, each in zip(runs, held_out, strict=True):
        if not np.array_equal(each.image_id, first.image_id) or not np.array_equal(each.true, first.true):
            raise SystemExit(f"{name} was scored on other images, or other labels of them, than {next(iter(runs))}.")
    common = [one for one in first.architectures if all(one in each.architectures for each in held_out)]
    lines = [
        "# Arms against each other",
        "",
        f"Made by `benchmarks/arms.py`: {len(first.true):,} held-out images of {first.num_patients} patients, eight "
        "views, logits averaged over the members. In brackets, 95 % intervals by bootstrap over patients; differences "
        "from the first row are paired. Classes are listed if their F1 moves by "
        f"{SMALLEST_MOVE:g} or more. Minutes are those that the members took to train, in all; other work on the "
        "machine lengthens them.",
    ]
    for architecture in (ENSEMBLE, *common):
        lines += ["", f"## {'All members' if architecture == ENSEMBLE else architecture}", ""]
        lines += ["| arm | macro-F1 | difference | classes that gain | classes that lose | minutes |"]
        lines += ["|---|---|---|---|---|---|"]
        whose = "*" if architecture == ENSEMBLE else architecture
        minutes = [training_minutes(run, whose) for run in runs.values()]
        scored = rows(confusions_of(held_out, architecture), list(runs), first.classes)
        lines += [f"{line} {number:.0f} |" for line, number in zip(scored, minutes, strict=True)]
    return "\n".join([*lines, ""])


def confusions_of(held_out: list[OutOfFold], architecture: str) -> GroupConfusions:
    """Return the confusions of each run by patient, (runs, C, C)."""
    first = held_out[0]
    predicted = np.stack([each.predicted[each.rows().index((VIEWS, architecture))] for each in held_out])
    return confusions_by_group(first.true, predicted, first.group, len(first.classes))


if __name__ == "__main__":
    main()
