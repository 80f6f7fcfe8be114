"""How fast are images read and prepared on this machine, and what is the limit? Drawn cells, no download.

    python benchmarks/prepare.py

Draws 300 corrupted cells of 360 px (PNG, as drawn) and saves them as JPEG, too. Each step is run as a user meets it:
in a process of its own, with what it imports and starts. The floor is Pillow's decoding alone, in as many threads as
there are cores; the user's loop is Pillow's open, convert, crop and resize, one image after another. Writes
benchmarks/prepare.md in about four minutes on two free cores.
"""

import argparse
import io
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
from machine import machine_in_words
from PIL import Image

import nonet
from nonet.data.manifest import Dataset
from nonet.data.preprocess.cache import prepare_images
from nonet.data.preprocess.crop import Crop
from nonet.recipe import load_recipe
from nonet.synthetic.dataset import draw_dataset
from nonet.workers import num_processors

HERE = Path(__file__).parent
SIZE_PX, INPUT_PX = 360, 96
WHOLE, CENTRES = (Crop(INPUT_PX),), tuple(Crop(INPUT_PX, centre) for centre in (0.45, 0.35, 0.6))
BUILD, LOOP, DECODE = "`data build`: read, check, hash", "user's loop: crop and resize", "floor: decode"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "prepare.md")
    parser.add_argument("--images", type=int, default=300, help="drawn cells (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="repeats of every step (default: %(default)s)")
    arguments = parser.parse_args()
    machine = machine_in_words()  # before this program makes it busy
    with tempfile.TemporaryDirectory() as folder:
        pages = {kind: measure(data, arguments.repeats) for kind, data in draw(Path(folder), arguments.images).items()}
    arguments.out.write_text(report(pages, machine, arguments), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def draw(folder: Path, num_images: int) -> dict[str, Path]:
    """Draw the cells, and save the same pixels as JPEG; return the folder of each kind."""
    drawn = draw_dataset(
        folder / "png", num_images=num_images, size_px=SIZE_PX, corrupt=True, num_workers=num_processors()
    )
    table = pd.read_csv(drawn / "images.csv")
    for name in table["path"]:
        copy = (folder / "jpeg" / name).with_suffix(".jpg")
        copy.parent.mkdir(parents=True, exist_ok=True)
        Image.open(drawn / name).save(copy, quality=95)
    table["path"] = [str(Path(name).with_suffix(".jpg")) for name in table["path"]]
    table.to_csv(folder / "jpeg" / "images.csv", index=False)
    return {"PNG": drawn, "JPEG": folder / "jpeg"}


def measure(data: Path, repeats: int) -> dict[str, tuple[float, float]]:
    """Return step → (seconds, seconds of all cores), medians over repeats; the steps take turns."""
    build(data, data / "dataset")
    steps = {
        DECODE: (decode, data),
        LOOP: (loop, data, CENTRES),
        BUILD: (build, data, data / "built"),
        "prepare: whole frame, denoised": (prepare, data, WHOLE, True),
        "prepare: three crops, denoised": (prepare, data, CENTRES, True),
        "prepare: three crops, as `recommended`": (prepare, data, CENTRES, False),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, (work, *given) in steps.items():
            found[name].append(in_new_process(work, *given))
    return {name: tuple(map(statistics.median, zip(*values))) for name, values in found.items()}


def in_new_process(work, *given) -> tuple[float, float]:
    """Run a step in a process that has this file's imports and nothing else, and return its times."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(timed, (work, *given))


def timed(work, *given) -> tuple[float, float]:
    cpu, started = time.process_time(), time.perf_counter()
    work(*given)
    return time.perf_counter() - started, time.process_time() - cpu


def files(data: Path) -> list[Path]:
    return [data / name for name in pd.read_csv(data / "images.csv")["path"]]


def decode(data: Path) -> None:
    def one(path: Path) -> None:
        Image.open(io.BytesIO(path.read_bytes())).load()

    with ThreadPoolExecutor(num_processors()) as pool:
        list(pool.map(one, files(data)))


def loop(data: Path, crops: tuple[Crop, ...]) -> None:
    for path in files(data):
        image = Image.open(path).convert("RGB")
        for crop in crops:
            side = round(crop.centre * min(image.size))
            left, top = (image.width - side) // 2, (image.height - side) // 2
            image.crop((left, top, left + side, top + side)).resize(crop.shape[:2], Image.Resampling.BICUBIC)


def build(data: Path, out: Path) -> None:
    nonet.build_dataset(f"csv:{data / 'images.csv'}", out)


def prepare(data: Path, crops: tuple[Crop, ...], denoised: bool) -> None:
    dataset = Dataset.open(data / "dataset")
    settings = load_recipe("recommended").denoise.model_copy(update={"enabled": denoised})
    cache = data / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    sha256s = dataset.manifest["sha256"].tolist()
    prepare_images(dataset.paths(), sha256s, crops=crops, denoise=settings, cache_dir=cache)


def report(pages: dict[str, dict[str, tuple[float, float]]], machine: str, arguments) -> str:
    n = arguments.images
    lines = [
        "# Reading and preparing images",
        "",
        f"Made by `benchmarks/prepare.py` on {machine}: {n} drawn cells of {SIZE_PX} × {SIZE_PX} px, three quarters "
        f"of them corrupted, to squares of {INPUT_PX} px; medians of {arguments.repeats} runs, each in a new process, "
        "with what a step imports and starts but without the start of Python itself.",
        "",
        "Share of the floor: the time in which Pillow decodes the images in as many threads as there are cores, "
        "divided by the step's. Over the loop: the time of plain Pillow code that opens, crops and resizes the images "
        "in one thread, divided by the step's.",
        "",
        "| files | step | images/s | ms per image, all cores | share of the floor | over the loop |",
        "|---|---|---|---|---|---|",
    ]
    for kind, steps in pages.items():
        floor, plain = steps[DECODE][0], steps[LOOP][0]
        for name, (seconds, cpu) in steps.items():
            lines.append(
                f"| {kind} | {name} | {n / seconds:,.0f} | {1000 * cpu / n:.1f} | {floor / seconds:.0%} | "
                f"{plain / seconds:.2f} |"
            )
    lines += ["", "A training prepares each image once; predictions prepare while the networks run.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
