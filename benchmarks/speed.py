"""How long will a study take? Images per second of each step on this machine, with drawn cells; no download.

    python benchmarks/speed.py              # or: make bench

Draws 300 corrupted cells of 360 px, trains recipe `cpu` on them for three epochs, predicts them with its nine members,
all on the CPU, and writes benchmarks/speed.md. About six minutes on two free cores; other work on the machine lowers
the numbers, so the page states the load.
"""

import argparse
import itertools
import json
import logging
import os
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import pandas as pd
import torch
from machine import machine_in_words

import nonet
from nonet.recipe import load_recipe
from nonet.synthetic.dataset import draw_dataset

HERE = Path(__file__).parent
SIZE_PX = 360


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "speed.md")
    parser.add_argument("--images", type=int, default=300, help="drawn cells (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=3, help="training epochs, at least 2 (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="repeats of every other step (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.epochs < 2:
        parser.error("--epochs: at least 2 are needed, because the first one warms up and is not counted.")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    machine = machine_in_words()  # before this program makes it busy
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), arguments)
    arguments.out.write_text(report(rows, machine, arguments), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def measure(folder: Path, arguments) -> list[tuple[str, float]]:
    """Return (step, images per second) pairs, each the median over repeats."""

    def rate(work) -> float:
        seconds = []
        for repeat in range(arguments.repeats):
            started = time.perf_counter()
            work(repeat)
            seconds.append(time.perf_counter() - started)
        return arguments.images / statistics.median(seconds)

    options = {"size_px": SIZE_PX, "corrupt": True, "num_workers": os.cpu_count()}
    drawn = draw_dataset(folder / "drawn", num_images=arguments.images, **options)
    dataset = nonet.build_dataset(f"csv:{drawn / 'images.csv'}", folder / "dataset")
    paths, rows = dataset.paths(), []
    settings = [f"train.epochs={arguments.epochs}"]
    run = nonet.train("cpu", dataset, out=folder / "run", settings=settings, accelerator="cpu")
    for architecture, images_per_second in _training_rates(run).items():
        rows.append((f"train {architecture}, one epoch with held-out score", images_per_second))
    for views in ("none", "dihedral"):

        def predict(repeat: int, views: str = views) -> None:
            nonet.predict(run, paths, out=folder / f"predicted-{views}-{repeat}", views=views, accelerator="cpu")

        rows.append((f"`predict`, nine members, views {views}, with loading and denoising", rate(predict)))
    return rows


def _training_rates(run) -> dict[str, float]:
    """Training images per second by architecture: the median over folds and all epochs except the first (warm-up)."""
    folds = pd.read_csv(run.folds)["fold"]
    rates = defaultdict(list)
    for history in sorted(run.folder.glob("members/*/fold-*/history.jsonl")):
        architecture, fold = history.parent.parent.name, int(history.parent.name.removeprefix("fold-"))
        clock = [json.loads(line)["seconds"] for line in history.read_text(encoding="utf-8").splitlines()]
        num_trained = int((folds != fold).sum())
        rates[architecture] += [num_trained / (after - before) for before, after in itertools.pairwise(clock)]
    return {architecture: statistics.median(values) for architecture, values in rates.items()}


def report(rows: list[tuple[str, float]], machine: str, arguments) -> str:
    lines = [
        "# Speed",
        "",
        f"Made by `benchmarks/speed.py` on {machine}, with torch {torch.__version__.split('+')[0]} in "
        f"{torch.get_num_threads()} threads: {arguments.images} drawn cells of {SIZE_PX} × {SIZE_PX} px, "
        f"three quarters of them corrupted; medians of {arguments.repeats} repeats, for training over folds and all "
        f"{arguments.epochs} epochs except the first.",
        "",
        "| step | images/s | time for 10,000 images |",
        "|---|---|---|",
        *[f"| {step} | {rate:.{1 if rate < 10 else 0}f} | {_duration(10_000 / rate)} |" for step, rate in rows],
        "",
        f"A training of recipe `cpu` sees two thirds of the images {load_recipe('cpu').train.epochs} times for each of "
        "nine members. Predicting a few images is slower than this, because the members are loaded first.",
        "",
    ]
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


if __name__ == "__main__":
    main()
