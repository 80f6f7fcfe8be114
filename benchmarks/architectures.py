"""How fast does each network run on this machine's processors: eager PyTorch as users write it, OpenVINO, int8?

    python benchmarks/architectures.py

Random weights, which are as fast as trained ones; images of random pixels, eight views of each. The three ways take
turns. `eager` is the inner loop of benchmarks/users_loop.py: timm's network, batch 32, one view after another; the
others are nonet's OpenVINO in single precision and in int8. Writes benchmarks/architectures.md. About ten minutes on
two free cores.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from machine import machine_in_words, peak_gflops
from torch.utils.flop_counter import FlopCounterMode

from nonet.inference.backends.conversion import to_int8, to_openvino
from nonet.inference.backends.openvino_cpu import OpenVinoBackend, OpenVinoNetwork
from nonet.inference.backends.openvino_library import openvino
from nonet.models.backbones import get_crop
from nonet.models.network import Classifier, make_classifier
from nonet.models.views import batches, dihedral_views
from nonet.recipe import load_recipe
from nonet.workers import num_processors

HERE = Path(__file__).parent
NUM_CLASSES = 13
VIEWS = dihedral_views()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=["paper", "recommended"], help="whose networks to measure")
    parser.add_argument("--images", type=int, default=16, help="of each, in eight views (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each way (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=HERE / "architectures.md")
    arguments = parser.parse_args()
    machine = machine_in_words()
    rows = []
    for name in arguments.recipes:
        recipe = load_recipe(name)
        for architecture in recipe.models.architectures:
            rows.append(measure(architecture, recipe, arguments))
            print(rows[-1])
    arguments.out.write_text(page(rows, machine, arguments), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def measure(architecture: str, recipe, arguments: argparse.Namespace) -> dict:
    """Return passes per second of each way, and the ratios to the eager loop: medians over turns side by side."""
    torch.manual_seed(0)
    network = make_classifier(architecture, recipe.models, NUM_CLASSES, trained=True)[0].eval()
    size_px = get_crop(architecture, recipe.models).size_px
    images = np.random.default_rng(0).integers(0, 256, (arguments.images, size_px, size_px, 3), dtype=np.uint8)
    single = to_openvino(network, size_px)
    ways = {
        "eager": lambda: eager(network, images),
        "openvino": in_threads(single, images, "openvino"),
        "int8": in_threads(to_int8(single, images[:16]), images, "openvino-int8"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    floor = 0.0
    for repeat in range(arguments.repeats + 1):
        floor = max(floor, peak_gflops())  # among the others, as other work on the machine slows all of them
        for name, run in ways.items():
            started = time.perf_counter()
            run()
            if repeat:  # the first one sets things up
                seconds[name].append(time.perf_counter() - started)
    difference = np.abs(ways["openvino"]() - ways["eager"]()).max()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, 3, size_px, size_px))
    passes = len(images) * len(VIEWS)
    return {
        "architecture": f"{architecture}, {size_px} px",
        "work": counter.get_total_flops() / 1e9,
        "rate": {name: passes / statistics.median(times) for name, times in seconds.items()},
        "ratio": {
            name: statistics.median(e / t for e, t in zip(seconds["eager"], times, strict=True))
            for name, times in seconds.items()
        },
        "difference": float(difference),
        "floor": floor,
    }


@torch.inference_mode()
def eager(network: Classifier, images: np.ndarray) -> np.ndarray:
    logits = []
    for batch in batches(torch.from_numpy(images).permute(0, 3, 1, 2).float(), 32):
        views = [torch.rot90(batch, turns, (2, 3)) for turns in range(4)]
        views += [view.flip(3) for view in views]
        logits.append((sum(network(view) for view in views) / len(views)).numpy())
    return np.concatenate(logits)


def in_threads(model: openvino.Model, images: np.ndarray, form: str) -> Callable[[], np.ndarray]:
    """Return what runs a model as nonet's backend does: blocks of images, a thread per processor."""
    num_threads = num_processors()
    network = OpenVinoNetwork(openvino.Core(), model, num_threads, form)
    network.run(images[:1], VIEWS)  # in one thread; see OpenVinoBackend.load
    pool = ThreadPoolExecutor(num_threads)
    blocks = list(batches(images, OpenVinoBackend.block_size))
    return lambda: np.concatenate(list(pool.map(lambda block: network.run(block, VIEWS)[0], blocks)))


def page(rows: list[dict], machine: str, arguments: argparse.Namespace) -> str:
    floor = max(row["floor"] for row in rows)
    lines = [
        "# Networks on a CPU",
        "",
        f"Made by `benchmarks/architectures.py` on {machine}: {arguments.images} images in eight views, random "
        f"weights; medians of {arguments.repeats} alternating runs. In products of large matrices these processors "
        f"make {floor:.0f} billion operations a second in single precision.",
        "",
        "| network | billion operations a pass | eager, passes/s | OpenVINO, passes/s | share of the best "
        "| times eager | largest difference of logits | int8, passes/s | times eager |",
        "|---|---|---|---|---|---|---|---|---|",
        *[line(row, floor) for row in rows],
        "",
    ]
    return "\n".join(lines)


def line(row: dict, floor: float) -> str:
    rate, ratio = row["rate"], row["ratio"]
    cells = [row["architecture"], f"{row['work']:.2f}", f"{rate['eager']:.1f}", f"{rate['openvino']:.1f}"]
    cells += [f"{rate['openvino'] * row['work'] / floor:.0%}", f"{ratio['openvino']:.2f}", f"{row['difference']:.0e}"]
    return "| " + " | ".join([*cells, f"{rate['int8']:.1f}", f"{ratio['int8']:.2f}"]) + " |"


if __name__ == "__main__":
    main()
