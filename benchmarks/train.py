"""How fast does a member train? Compared with the loop that timm's users write, on the same images.

    python benchmarks/train.py

Draws 600 cells, and trains recipe `recommended` on them for a few epochs, all on the CPU; beside it, a plain loop with
the same networks, images, batch and optimiser: timm's own transforms in PyTorch's DataLoader with a worker per core,
cross-entropy, no average of weights. Both score the held-out images after each epoch. Writes benchmarks/train.md.
About seven minutes on two free cores.
"""

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import timm.data
import torch
from machine import machine_in_words, peak_gflops
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

import nonet
from nonet.data.preprocess.cache import prepare_images
from nonet.models.backbones import get_backbone, get_crop
from nonet.recipe import load_recipe
from nonet.synthetic.dataset import draw_dataset

HERE = Path(__file__).parent


class Pictures(Dataset):
    """Prepared images as a user of timm has them: pictures, transformed one by one."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray, transform):
        self.pixels, self.labels, self.transform = pixels, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int):
        return self.transform(Image.fromarray(self.pixels[index])), int(self.labels[index])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=600, help="drawn cells (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=4, help="epochs, the first not counted (default: %(default)s)")
    parser.add_argument("--architectures", nargs="+", default=[f"efficientnet_lite{n}" for n in (0, 1, 2)])
    parser.add_argument("--out", type=Path, default=HERE / "train.md")
    arguments = parser.parse_args()
    machine = machine_in_words()
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(Path(folder), name, arguments) for name in arguments.architectures]
    arguments.out.write_text(page(rows, machine, arguments), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def measure(work: Path, architecture: str, arguments: argparse.Namespace) -> dict:
    """Return seconds of an epoch by nonet and by the plain loop, and the work of training on an image."""
    centre = load_recipe("recommended").models.centre[architecture]
    settings = [
        f'models.architectures=["{architecture}"]',
        f"models.centre={{{architecture}={centre}}}",
        f"train.epochs={arguments.epochs}",
    ]
    dataset = make_dataset(work, arguments.images)
    run = nonet.train("recommended", dataset, out=work / architecture, settings=settings, accelerator="cpu")
    folds = pd.read_csv(run.folds).merge(dataset.manifest, on="image_id")
    histories = [
        [json.loads(line)["seconds"] for line in file.read_text(encoding="utf-8").splitlines()]
        for file in sorted(run.folder.glob("members/*/fold-*/history.jsonl"))
    ]
    ours = [after - before for clock in histories for before, after in itertools.pairwise(clock)]
    recipe = load_recipe(run.recipe)
    crop = get_crop(architecture, recipe.models)
    paths, sums = [dataset.image_path(i) for i in folds["image_id"]], folds["sha256"].tolist()
    cache = dataset.folder / "cache"
    pixels = prepare_images(paths, sums, crops=[crop], denoise=recipe.denoise, cache_dir=cache)[crop][:]
    theirs, num_trained = plain_loop(architecture, pixels, folds, recipe, arguments.epochs)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network = timm.create_model(get_backbone(architecture).timm_name, num_classes=13).eval()
        network(torch.zeros(1, 3, *crop.shape[:2]))
    return {
        "architecture": architecture,
        "ours": num_trained / statistics.median(ours),
        "theirs": num_trained / statistics.median(theirs),
        # Backwards is twice the work of forwards; of the images held out, half as many, only forwards.
        "work": (3 + 0.5) * counter.get_total_flops() / 1e9,
    }


def make_dataset(work: Path, num_images: int) -> nonet.Dataset:
    if not (work / "dataset").exists():
        drawn = draw_dataset(work / "drawn", num_images=num_images, size_px=200, num_workers=os.cpu_count())
        nonet.build_dataset(f"csv:{drawn / 'images.csv'}", work / "dataset")
    return nonet.Dataset.open(work / "dataset")


def plain_loop(architecture: str, pixels: np.ndarray, folds: pd.DataFrame, recipe, epochs: int) -> tuple[list, int]:
    """Train on all folds but the first; return the seconds of each epoch but the first, and the images of an epoch."""
    entry, labels = get_backbone(architecture), folds["label"].astype("category").cat.codes.to_numpy()
    options = {"input_size": (3, *pixels.shape[1:3]), "mean": entry.mean, "std": entry.std}
    parts = {
        name: Pictures(pixels[rows], labels[rows], timm.data.create_transform(**options, is_training=name == "train"))
        for name, rows in (("train", folds["fold"] != 0), ("held out", folds["fold"] == 0))
    }
    loading = {"num_workers": os.cpu_count(), "persistent_workers": True, "batch_size": recipe.train.batch_size}
    train, held_out = DataLoader(parts["train"], shuffle=True, **loading), DataLoader(parts["held out"], **loading)
    network = timm.create_model(entry.timm_name, num_classes=13)
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.optimiser.learning_rate_first)
    seconds = []
    for _ in range(epochs):
        started = time.perf_counter()
        network.train()
        for images, truth in train:
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(network(images), truth).backward()
            optimiser.step()
        network.eval()
        with torch.inference_mode():
            for images, _ in held_out:
                network(images)
        seconds.append(time.perf_counter() - started)
    return seconds[1:], len(parts["train"])


def page(rows: list[dict], machine: str, arguments: argparse.Namespace) -> str:
    floor = peak_gflops()
    lines = [
        "# Training",
        "",
        f"Made by `benchmarks/train.py` on {machine}: recipe `recommended` on {arguments.images} drawn cells, two "
        f"thirds of which train a member; medians of {arguments.epochs - 1} epochs, held-out score included, for nonet "
        "of three members. "
        f"In products of large matrices these processors make {floor:.0f} billion operations a second.",
        "",
        "| network | nonet, images/s | share of the best | timm's loop, images/s | times timm's loop |",
        "|---|---|---|---|---|",
        *[
            f"| {row['architecture']} | {row['ours']:.0f} | {row['ours'] * row['work'] / floor:.0%} | "
            f"{row['theirs']:.0f} | {row['ours'] / row['theirs']:.2f} |"
            for row in rows
        ],
        "",
        f"All together: {sum(1 / row['theirs'] for row in rows) / sum(1 / row['ours'] for row in rows):.2f} times.",
        "",
        "A training of `recommended` shows each member two thirds of the images "
        f"{load_recipe('recommended').train.epochs} times.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
