"""How fast is `nonet predict`, from files to predictions.csv, start included? Compared with the user's loop.

    python benchmarks/predict.py                                  # drawn cells and a run trained for a moment
    python benchmarks/predict.py --run RUN --images TABLE.csv     # a run of yours; columns path and, if known, label

Runs `nonet predict` with each backend and effort, and benchmarks/users_loop.py, each as a process of its own, one
after another, several times over. Each row has the time, the share of what the processors could do at best (measured
here, by products of large matrices in single precision), the ratio to the user's loop, how far logits and classes are
from the user's loop, and how many labels, doubt and rejection included, are those of OpenVINO in single precision; with
labels, macro-F1 as well. What OpenVINO needs once is made before. Writes benchmarks/predict.md. A round of all ways
takes 15 minutes with 1,000 images on two free cores.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from machine import machine_in_words, peak_gflops
from sklearn.metrics import f1_score
from torch.utils.flop_counter import FlopCounterMode

import nonet
from nonet.artifacts.run import Run
from nonet.models.backbones import get_crop
from nonet.models.network import make_classifier
from nonet.recipe import load_recipe
from nonet.synthetic.dataset import draw_dataset

HERE = Path(__file__).parent
USERS_LOOP = "the user's loop"
SINGLE = "`openvino`"  # whose labels the others are compared with
#: Rows: name → options of `nonet predict`.
WAYS = {
    "`torch`": ["--backend", "torch"],
    "`openvino`": ["--backend", "openvino"],
    "`openvino-int8`": ["--backend", "openvino-int8"],
    "`openvino`, effort `auto`": ["--backend", "openvino", "--effort", "auto"],
    "`openvino-int8`, effort `auto`": ["--backend", "openvino-int8", "--effort", "auto"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a trained run; by default one of recipe recommended, for a moment")
    parser.add_argument("--images", type=Path, help="CSV table of images with a column path and perhaps label")
    parser.add_argument("--about", default="", help="a sentence on the run and the images, for the page")
    parser.add_argument("--num-images", type=int, default=1000, help="drawn cells (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each way (default: %(default)s)")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), help="rows to measure (default: all)")
    parser.add_argument("--out", type=Path, default=HERE / "predict.md")
    arguments = parser.parse_args()
    if (arguments.run is None) != (arguments.images is None):
        parser.error("give --run and --images together")
    machine = machine_in_words()  # before this program makes it busy
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        run, images = (arguments.run, arguments.images) if arguments.run else make_run(work, arguments.num_images)
        table = pd.read_csv(images)
        ways = {name: WAYS[name] for name in arguments.ways}
        ways = prepare(run, images, ways, work)
        seconds = measure(run, images, ways, work, arguments.repeats)
        rows = [row(name, seconds, run, table, work) for name in seconds]
        arguments.out.write_text(page(rows, run, table, machine, arguments), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def make_run(work: Path, num_images: int) -> tuple[Path, Path]:
    """Train recipe `recommended` for one epoch on a few drawn cells, and draw others to predict."""
    learn = draw_dataset(work / "learn", num_images=240, size_px=200, num_workers=os.cpu_count())
    dataset = nonet.build_dataset(f"csv:{learn / 'images.csv'}", work / "dataset")
    nonet.train("recommended", dataset, out=work / "run", settings=["train.epochs=1"], accelerator="cpu")
    drawn = draw_dataset(work / "cells", num_images=num_images, size_px=360, seed=1, num_workers=os.cpu_count())
    return work / "run", drawn / "images.csv"


def command(name: str, run: Path, images: Path, out: Path, ways: dict[str, list[str]]) -> list[str]:
    if name == USERS_LOOP:
        return [sys.executable, str(HERE / "users_loop.py"), str(run), str(images), "--out", str(out)]
    return [sys.executable, "-m", "nonet", "predict", str(run), str(images), "--out", str(out), *ways[name]]


def folder(work: Path, name: str, repeat: int) -> Path:
    return work / f"{name.translate(str.maketrans('', '', '`, '))}-{repeat}"


def prepare(run: Path, images: Path, ways: dict[str, list[str]], work: Path) -> dict[str, list[str]]:
    """Predict one image in each way, so that what is made once is there; return the ways that work for this run."""
    first = work / "first.csv"
    table = pd.read_csv(images).head(1)
    table.assign(path=[str((images.parent / path).absolute()) for path in table["path"]]).to_csv(first, index=False)
    works = {}
    for name, options in ways.items():
        ended = subprocess.run(command(name, run, first, folder(work, name, -1), ways))
        if not ended.returncode:
            works[name] = options
        elif "int8" not in name:  # which is refused for a run that is unsure of most images
            raise SystemExit(f"{name} failed, see above.")
    return works


def measure(run: Path, images: Path, ways: dict, work: Path, repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each way, one after another and from the start again, so that a busy time is shared."""
    seconds: dict[str, list[float]] = {name: [] for name in (USERS_LOOP, *ways)}
    for repeat in range(repeats):
        for name, times in seconds.items():
            started = time.perf_counter()
            subprocess.run(command(name, run, images, folder(work, name, repeat), ways), check=True)
            times.append(time.perf_counter() - started)
    return seconds


def row(name: str, seconds: dict[str, list[float]], run: Path, table: pd.DataFrame, work: Path) -> dict:
    """Return the figures of a way; ratios are medians over runs side by side."""
    classes = json.loads((run / "ensemble.json").read_text())["classes"]
    reference, logits = logits_of(USERS_LOOP, table, work), logits_of(name, table, work)
    best = logits.argmax(1)
    result = {
        "way": name,
        "seconds": statistics.median(seconds[name]),
        "ratio": statistics.median(u / s for u, s in zip(seconds[USERS_LOOP], seconds[name], strict=True)),
        "difference": float(np.abs(logits - reference).max()),
        "same": float((best == reference.argmax(1)).mean()),
    }
    if name != USERS_LOOP and (folder(work, SINGLE, 0) / "predictions.csv").exists():
        result["label"] = float((labels_of(name, work) == labels_of(SINGLE, work)).mean())
    if "label" in table and table["label"].isin(classes).all():
        truth = table["label"].map(classes.index).to_numpy()
        result["f1"] = f1_score(truth, best, labels=np.unique(truth), average="macro", zero_division=0)
    return result


def logits_of(name: str, table: pd.DataFrame, work: Path) -> np.ndarray:
    """Return calibrated logits in the order of the table."""
    if name == USERS_LOOP:
        logits, files = (np.load(folder(work, name, 0) / "logits.npz")[key] for key in ("logits", "images"))
        return pd.DataFrame(logits, index=[Path(file).name for file in files]).loc[_names(table)].to_numpy()
    stored = pd.read_parquet(folder(work, name, 0) / "logits.parquet")
    stored.index = [Path(image).name for image in stored["image"]]
    return stored.loc[_names(table)].filter(regex="^logit_").to_numpy(dtype=np.float64)


def labels_of(name: str, work: Path) -> pd.Series:
    """Return what each image was called, by its name."""
    return pd.read_csv(folder(work, name, 0) / "predictions.csv", index_col="image")["label"].sort_index()


def _names(table: pd.DataFrame) -> list[str]:
    return [Path(path).name for path in table["path"]]


def work_per_image(run: Path) -> float:
    """Return the floating point operations of all members and eight views of an image, in billions."""
    recipe, members = load_recipe(Run(run).recipe), json.loads((run / "ensemble.json").read_text())["members"]
    total = 0
    for member in members:
        network, _ = make_classifier(member["architecture"], recipe.models, 13, trained=True)
        size = get_crop(member["architecture"], recipe.models).size_px
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            network.eval()(torch.zeros(1, 3, size, size))
        total += counter.get_total_flops() * bool(member["weight"])
    return 8 * total / 1e9


def page(rows: list[dict], run: Path, table: pd.DataFrame, machine: str, arguments: argparse.Namespace) -> str:
    work, floor = work_per_image(run), peak_gflops()
    name = tomllib.loads((run / "recipe.toml").read_text())["name"]
    about = arguments.about or (
        f"The run, of recipe `{name}`, was trained for a moment on drawn cells, so that only times and differences of "
        "logits mean anything here."
    )
    runs = f"medians of {arguments.repeats} alternating runs" if arguments.repeats > 1 else "one run of each way"
    refused = [name for name in arguments.ways if name not in [row["way"] for row in rows]]
    if refused:
        about += f" int8 was refused for this run: {', '.join(refused)}."
    with_labels = any("f1" in row for row in rows) and bool(arguments.about)
    columns = ["way", "s", "images/s", "share of the best", "times the user's loop", "largest difference of logits"]
    columns += ["same class", "same label"] + ["macro-F1"] * with_labels
    lines = [
        "# Prediction",
        "",
        f"Made by `benchmarks/predict.py` on {machine}: {len(table):,} images, eight views, from files to "
        f"predictions.csv, each time a process of its own; {runs}. {about}",
        "",
        f"An image takes {work:.1f} billion operations in all views of all members. In products of large matrices "
        f"these processors make {floor:.0f} billion a second in single precision: {floor / work:.1f} images/s at best.",
        "",
        "| " + " | ".join(columns) + " |",
        "|---" * len(columns) + "|",
        *[_line(row, len(table), floor / work, with_labels) for row in rows],
        "",
        "The user's loop is `benchmarks/users_loop.py`: timm, Pillow and NumPy, nothing of nonet. *Same class*: the "
        "most probable class is that of the user's loop. *Same label*: the label in predictions.csv, doubt and "
        f"rejection included, is that of {SINGLE}. More than all of the best: in int8, or with views left out.",
        "",
    ]
    return "\n".join(lines)


def _line(row: dict, num_images: int, best_rate: float, with_labels: bool) -> str:
    rate = num_images / row["seconds"]
    cells = [row["way"], f"{row['seconds']:.1f}", f"{rate:.1f}", f"{rate / best_rate:.0%}", f"{row['ratio']:.2f}"]
    cells += [f"{row['difference']:.1g}", f"{row['same']:.2%}", f"{row['label']:.2%}" if "label" in row else ""]
    cells += [f"{row['f1']:.3f}"] if with_labels else []
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
