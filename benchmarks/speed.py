"""How long will it take? Images a second of each step of a study on this machine, on drawn cells; no download.

    python benchmarks/speed.py              # or: make bench

Draws 480 degraded cells of 360 px, trains recipe `cpu` on them for three epochs, predicts them with its nine members,
and writes benchmarks/speed.md. A few minutes on two free cores; other work on the machine makes the figures worse.
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

import nonet
from nonet.data.phantom import draw_dataset
from nonet.data.prepare import prepare_images
from nonet.recipe import load_recipe

HERE = Path(__file__).parent
NUM_IMAGES, NUM_EPOCHS, NUM_REPEATS = 480, 3, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "speed.md")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder))
    arguments.out.write_text(report(rows), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def measure(folder: Path) -> list[tuple[str, float]]:
    """Return (step, images a second), each a median of repeats."""
    drawn = draw_dataset(folder / "drawn", num_images=NUM_IMAGES, size_px=360, degrade=True)
    rows = [("`data build`: read, check, hash", _rate(lambda i: _build(drawn, folder / f"dataset-{i}")))]
    dataset = _build(drawn, folder / "dataset")
    paths = [dataset.path_of(image_id) for image_id in dataset.manifest["image_id"]]
    rows.append(("denoise and shrink to 96 px, first time", _rate(lambda i: _prepare(dataset, paths, folder / str(i)))))
    run = nonet.train("cpu", dataset, out=folder / "run", settings=[f"train.epochs={NUM_EPOCHS}"])
    for architecture, rate in _training_rates(run).items():
        rows.append((f"train {architecture}, an epoch with its held-out score", rate))
    for views in ("none", "dihedral"):
        rate = _rate(lambda i, v=views: nonet.predict(run, paths, out=folder / f"predicted-{v}-{i}", views=v))
        rows.append((f"`predict`, nine members, views {views}, denoising included", rate))
    return rows


def _rate(work) -> float:
    """Images a second of work(repeat) on all images: the median of the repeats."""
    seconds = []
    for repeat in range(NUM_REPEATS):
        started = time.perf_counter()
        work(repeat)
        seconds.append(time.perf_counter() - started)
    return NUM_IMAGES / statistics.median(seconds)


def _build(drawn: Path, out: Path):
    return nonet.build_dataset(f"csv:{drawn / 'images.csv'}", out)


def _prepare(dataset, paths: list[Path], cache: Path) -> None:
    settings = load_recipe("cpu").denoise
    prepare_images(paths, dataset.manifest["sha256"].tolist(), sizes_px=[96], denoise=settings, cache_dir=cache)


def _training_rates(run) -> dict[str, float]:
    """Training images a second by architecture: the median over folds and epochs but the first, which warms up."""
    folds = pd.read_csv(run.folds)["fold"]
    rates = defaultdict(list)
    for history in sorted(run.folder.glob("members/*/fold-*/history.jsonl")):
        architecture, fold = history.parent.parent.name, int(history.parent.name.removeprefix("fold-"))
        clock = [json.loads(line)["seconds"] for line in history.read_text(encoding="utf-8").splitlines()]
        num_trained = int((folds != fold).sum())
        rates[architecture] += [num_trained / (after - before) for before, after in itertools.pairwise(clock)]
    return {architecture: statistics.median(values) for architecture, values in rates.items()}


def report(rows: list[tuple[str, float]]) -> str:
    lines = [
        "# Speed",
        "",
        f"Made by `benchmarks/speed.py` on {os.cpu_count()} CPU cores with torch {torch.__version__.split('+')[0]}: "
        f"{NUM_IMAGES} drawn cells of 360 × 360 px, three quarters of them degraded; medians of {NUM_REPEATS}.",
        "",
        "| step | images/s | 10,000 images take |",
        "|---|---|---|",
        *[f"| {step} | {rate:.0f} | {_duration(10_000 / rate)} |" for step, rate in rows],
        "",
        "A training of recipe `cpu` sees two thirds of the images six times for each of nine members.",
        "",
    ]
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


if __name__ == "__main__":
    main()
