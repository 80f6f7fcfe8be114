"""How fast is denoising, and does it match scikit-image? Drawn cells with noise of known sigma; no download.

    python benchmarks/denoise.py              # or: make bench

Draws cells of 368 px, adds Gaussian noise, and denoises them with a plain scikit-image loop, with nonet on one core,
and with nonet's worker processes on all cores. The implementations alternate image by image (the workers batch by
batch), so that other work on the machine slows all of them alike. Writes benchmarks/denoise.md. Takes a few minutes;
Linux only, because peak memory is read from /proc.
"""

import argparse
import hashlib
import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from threading import Event, Thread

import numpy as np
import psutil
from machine import machine_in_words
from PIL import Image
from skimage.restoration import denoise_nl_means
from skimage.restoration import estimate_sigma as scikit_image_sigma

from nonet.cells import CLASSES
from nonet.data.preprocess.cache import prepare_images, worker_pool
from nonet.data.preprocess.crop import Crop
from nonet.data.preprocess.denoise import denoise, estimate_sigma, non_local_means, patch_distance_px, warm_up
from nonet.recipe import Denoise
from nonet.synthetic.dataset import draw_cell

HERE = Path(__file__).parent
SIZE_PX, SIGMAS = 368, (0, 5, 10, 20, 40)
SETTINGS = Denoise()
MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "denoise.md")
    parser.add_argument("--images", type=int, default=14, help="images per sigma (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=8, help="times each image is denoised (default: %(default)s)")
    parser.add_argument("--stream", type=int, default=512, help="images of the smaller stream (default: %(default)s)")
    arguments = parser.parse_args()
    machine, rows = machine_in_words(), []  # before this program makes it busy
    with worker_pool(os.cpu_count() or 1) as pool:
        for sigma in SIGMAS:
            images = noisy_cells(sigma, arguments.images)
            rows.append(largest_differences(images) | timed(images, pool, sigma, arguments.rounds) | {"added": sigma})
            print(rows[-1], flush=True)
    memory = {name: peak_mib(name) for name in IMPLEMENTATIONS}
    streams = [streamed(num_images) for num_images in (arguments.stream, 4 * arguments.stream)]
    arguments.out.write_text(report(rows, memory, streams, machine, arguments), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def noisy_cells(sigma: float, num_images: int) -> list[np.ndarray]:
    rng = np.random.default_rng(sigma)
    cells = [draw_cell(CLASSES[i % len(CLASSES)], seed=i, size_px=SIZE_PX) for i in range(num_images)]
    return [np.clip(np.rint(cell + rng.normal(0, sigma, cell.shape)), 0, 255).astype(np.uint8) for cell in cells]


def with_scikit_image(image: np.ndarray) -> np.ndarray:
    """The code a user would write: estimate sigma, leave clean images unchanged, denoise in float32."""
    sigma = scikit_image_sigma(image.astype(np.float64), channel_axis=-1, average_sigmas=True)
    if not sigma >= SETTINGS.clean_below_sigma:
        return image
    smooth = scikit_image_nl_means(image.astype(np.float32) / 255, sigma, unit=255)
    return np.clip(np.rint(smooth * 255), 0, 255).astype(np.uint8)


def scikit_image_nl_means(image: np.ndarray, sigma: float, *, unit: float = 1.0) -> np.ndarray:
    """Non-local means of a float image in which a grey level is 1 / unit, for noise of sigma grey levels."""
    return denoise_nl_means(
        image,
        patch_size=SETTINGS.patch_size_px,
        patch_distance=patch_distance_px(sigma),
        h=SETTINGS.strength * sigma / unit,
        sigma=sigma / unit,
        fast_mode=True,
        preserve_range=True,
        channel_axis=-1,
    )


def nonet_nl_means(image: np.ndarray, sigma: float) -> np.ndarray:
    return non_local_means(
        image,
        patch_size_px=SETTINGS.patch_size_px,
        patch_distance_px=patch_distance_px(sigma),
        h=SETTINGS.strength * sigma,
        sigma=sigma,
    )


def with_nonet(image: np.ndarray) -> np.ndarray:
    return denoise(image, SETTINGS)


IMPLEMENTATIONS = {"scikit-image": with_scikit_image, "nonet": with_nonet}


def largest_differences(images: list[np.ndarray]) -> dict:
    """Return the largest differences from scikit-image in float64, and how many values round to another grey level."""
    largest, of_sigma, num_off, num_values = 0.0, 0.0, 0, 0
    for image in images:
        sigma = estimate_sigma(image)
        expected = scikit_image_sigma(image.astype(np.float64), channel_axis=-1, average_sigmas=True)
        of_sigma = max(of_sigma, abs(sigma - expected))
        if sigma < SETTINGS.clean_below_sigma:
            continue
        means = scikit_image_nl_means(image.astype(np.float64), sigma)
        largest = max(largest, float(np.abs(nonet_nl_means(image, sigma) - means).max()) / 255)
        off = np.abs(with_nonet(image).astype(int) - np.rint(means).astype(int))
        assert off.max() <= 1
        num_off, num_values = num_off + np.count_nonzero(off), num_values + off.size
    return {"largest": largest, "of_sigma": of_sigma, "off": num_off, "values": num_values}


def timed(images: list[np.ndarray], pool: ProcessPoolExecutor, sigma: float, num_rounds: int) -> dict:
    """Return ms per image: the median of each step on one core, and the fastest round of workers and plain loop."""
    steps = {
        "theirs": with_scikit_image,
        "ours": with_nonet,
        "their_sigma": lambda i: scikit_image_sigma(i.astype(np.float64), channel_axis=-1, average_sigmas=True),
        "our_sigma": estimate_sigma,
    }
    milliseconds = {name: [] for name in (*steps, "their_means", "our_means")}
    pool_rounds, processor_ms = [], []
    for _ in range(3):  # until each worker has drawn the images
        by_workers(pool, sigma, len(images))
    for _ in range(num_rounds):
        for i, image in enumerate(images):
            found = estimate_sigma(image)
            for name, step in steps.items():
                milliseconds[name].append(_ms(step, image))
            if found >= SETTINGS.clean_below_sigma:
                scaled = image.astype(np.float32) / 255
                milliseconds["their_means"].append(_ms(lambda s=found, i=scaled: scikit_image_nl_means(i, s, unit=255)))
                milliseconds["our_means"].append(_ms(nonet_nl_means, image, found))
            if i % 2 == 0:
                started = time.perf_counter()
                processor_ms.append(by_workers(pool, sigma, len(images)))
                pool_rounds.append((time.perf_counter() - started) * 1e3 / len(images))
    medians = {name: statistics.median(values) if values else None for name, values in milliseconds.items()}
    of_images = [min(milliseconds["theirs"][i :: len(images)]) for i in range(len(images))]
    fastest = {
        "their_fastest": statistics.mean(of_images),
        "pool_fastest": min(pool_rounds),
        "pool_processor": min(processor_ms),
    }
    return medians | fastest


def _ms(work, *arguments) -> float:
    started = time.perf_counter()
    work(*arguments)
    return (time.perf_counter() - started) * 1e3


def by_workers(pool: ProcessPoolExecutor, sigma: float, num_images: int) -> float:
    """Denoise images that the workers have cached, as those of prepare_images do; return CPU ms per image."""
    num_workers = os.cpu_count() or 1
    tasks = [(sigma, num_images, range(start, num_images, num_workers)) for start in range(num_workers)]
    return sum(pool.map(_denoise_some, tasks)) / num_images * 1e3


def _denoise_some(task: tuple[float, int, range]) -> float:
    sigma, num_images, indices = task
    images = _cached_cells(sigma, num_images)
    started = time.process_time()
    for i in indices:
        with_nonet(images[i])
    return time.process_time() - started


@cache
def _cached_cells(sigma: float, num_images: int) -> list[np.ndarray]:
    return noisy_cells(sigma, num_images)


def peak_mib(name: str) -> float:
    """Return how far one image with the strongest noise raises the peak memory of a fresh process, in MiB."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak_mib, name, noisy_cells(SIGMAS[-1], 1)[0]).result()


def _peak_mib(name: str, image: np.ndarray) -> float:
    warm_up()
    IMPLEMENTATIONS[name](np.ascontiguousarray(image[:32, :32]))
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _status_mib("VmRSS")
    IMPLEMENTATIONS[name](image)
    return _status_mib("VmHWM") - before


def _status_mib(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def streamed(num_images: int) -> dict:
    """Prepare images from files by all workers; return images/s and the peak memory of all processes in MiB."""
    cells = [image for sigma in SIGMAS for image in noisy_cells(sigma, 4)]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i:05d}.jpg" for i in range(num_images)]
        for i, path in enumerate(paths):
            # Files must differ: images with the same content are not denoised twice.
            image = Image.fromarray(np.roll(cells[i % len(cells)], i // len(cells), axis=1))
            image.save(path, quality=95)
        names = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
        with Watch() as watch:
            started = time.perf_counter()
            prepare_images(paths, names, crops=[Crop(224)], denoise=SETTINGS, cache_dir=Path(folder) / "cache")
            seconds = time.perf_counter() - started
    return {"images": num_images, "rate": num_images / seconds, "peak_mib": watch.peak_mib}


class Watch:
    """Peak memory of this process and its children (unique, without shared pages) while the context is open."""

    def __enter__(self):
        self.peak_mib, self._end = 0.0, Event()
        self._thread = Thread(target=self._poll, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._end.set()
        self._thread.join()

    def _poll(self) -> None:
        this = psutil.Process()
        while not self._end.wait(0.1):
            total = 0
            for process in [this, *this.children(recursive=True)]:
                try:
                    total += process.memory_full_info().uss
                except psutil.Error:  # it has just ended
                    continue
            self.peak_mib = max(self.peak_mib, total / MIB)


def report(rows: list[dict], memory: dict, streams: list[dict], machine: str, arguments) -> str:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("scikit-image", "numba", "numpy"))
    cores = os.cpu_count() or 1
    small, large = streams
    lines = [
        "# Denoising",
        "",
        f"Made by `benchmarks/denoise.py` on {machine}, with {versions}: "
        f"{arguments.images} drawn cells of {SIZE_PX} × {SIZE_PX} px per sigma, {arguments.rounds} rounds; medians "
        "in ms per image; the implementations alternate.",
        "",
        "All that a data set needs: estimate sigma, leave clean images unchanged, apply non-local means to the others. "
        "*scikit-image* is a plain loop that does this on one core.",
        "",
        "| sigma | scikit-image | nonet, one core | ratio |",
        "|---|---|---|---|",
        *[f"| {row['added']} {_pair(row['theirs'], row['ours'])}" for row in rows],
        "",
        f"The same with worker processes on {cores} cores. Other work on the machine slows them down more than a "
        "single loop, so these are the fastest rounds: per image for scikit-image, over all images together for nonet. "
        "The last column is computed from the workers' CPU time and applies if all cores are free.",
        "",
        f"| sigma | scikit-image, one core | nonet, {cores} cores | ratio | workers' CPU time | ratio if free |",
        "|---|---|---|---|---|---|",
        *[_of_workers(row, cores) for row in rows],
        "",
        "The two steps by themselves, on one core:",
        "",
        "| sigma | non-local means: scikit-image | nonet | ratio | estimate of sigma: scikit-image | nonet | ratio |",
        "|---|---|---|---|---|---|---|",
        *[_steps(row) for row in rows],
        "",
        "Differences between the results, before and after rounding to grey levels; scikit-image in float64:",
        "",
        "| sigma | largest difference, of the range | values one grey level apart | largest difference in sigma |",
        "|---|---|---|---|",
        *[_difference(row) for row in rows],
        "",
        f"Peak memory for an image of sigma {SIGMAS[-1]}, beyond that of the process: "
        f"scikit-image {memory['scikit-image']:.0f} MiB, nonet {memory['nonet']:.0f} MiB.",
        "",
        f"`prepare_images` from JPEG files to 224 px, equal numbers of all five sigmas, all cores: {small['images']} "
        f"images at {small['rate']:.0f} images/s, process start-up included, with {small['peak_mib']:.0f} MiB over all "
        f"processes; {large['images']} images at {large['rate']:.0f} images/s with {large['peak_mib']:.0f} MiB.",
        "",
    ]
    return "\n".join(lines)


def _pair(theirs: float | None, ours: float | None) -> str:
    return "| – | – | – |" if ours is None else f"| {theirs:.1f} | {ours:.1f} | {theirs / ours:.1f} |"


def _of_workers(row: dict, cores: int) -> str:
    theirs, processor = row["their_fastest"], row["pool_processor"]
    return f"| {row['added']} {_pair(theirs, row['pool_fastest'])} {processor:.1f} | {theirs / processor * cores:.1f} |"


def _steps(row: dict) -> str:
    means, sigma = _pair(row["their_means"], row["our_means"]), _pair(row["their_sigma"], row["our_sigma"])
    return f"| {row['added']} {means.removesuffix('|')}{sigma}"


def _difference(row: dict) -> str:
    if not row["values"]:
        return f"| {row['added']} | unchanged | – | {row['of_sigma']:.0e} |"
    return f"| {row['added']} | {row['largest']:.0e} | {row['off']} of {row['values']:,} | {row['of_sigma']:.0e} |"


if __name__ == "__main__":
    main()
