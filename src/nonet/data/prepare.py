"""From image files to what the networks see: denoised, square, uint8; cached, so that it is done once."""

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import current_process, get_context, parent_process
from pathlib import Path
from threading import Thread

import numpy as np
from filelock import FileLock
from PIL import Image

from nonet.data.denoise import denoise, estimate_sigma, warm_up
from nonet.data.images import load_rgb
from nonet.data.stain import normalise_colours
from nonet.errors import DataError
from nonet.progress import progress

CHUNK_SIZE = 64
WORKERS_PAY_FROM = 256  # images; a worker process takes seconds to start
CHECK = 'Run "nonet data check DATASET".'
GUARD = "In a script, put the calls under `if __name__ == '__main__':`."
VERSION = 2  # of what is done to pixels: a change makes old caches stale


def prepare_sizes(image: np.ndarray | str | Path | bytes, sizes_px: Sequence[int], settings) -> dict[int, np.ndarray]:
    """Load an image, denoise it at full size, bring its colours to the reference if asked, and squash it to squares.

    Frames of single cells are nearly square (360 x 363 px and the like), so the squash moves no edge by a percent.

    Parameters
    ----------
    image : a path, a file's bytes, or uint8 (height, width, 3).
    sizes_px : sides of the squares.
    settings : the recipe's [denoise] section.

    Returns
    -------
    size → uint8 (size, size, 3).
    """
    return _prepare(image, sizes_px, settings)[0]


def load_prepared(image: np.ndarray | str | Path | bytes, size_px: int, settings) -> np.ndarray:
    """Return what `prepare_sizes` does for one size: uint8 (size_px, size_px, 3)."""
    return prepare_sizes(image, [size_px], settings)[size_px]


def _prepare(image, sizes_px: Sequence[int], settings) -> tuple[dict[int, np.ndarray], float]:
    """Return size → pixels, and the sigma that was estimated; NaN where denoising is off."""
    pixels = image if isinstance(image, np.ndarray) else load_rgb(image)
    sigma = estimate_sigma(pixels) if settings.enabled else float("nan")
    pixels = denoise(pixels, settings, sigma=sigma)
    clean = Image.fromarray(normalise_colours(pixels) if settings.colours == "reinhard" else pixels)
    return {size: np.asarray(clean.resize((size, size), Image.Resampling.BICUBIC)) for size in sizes_px}, sigma


class PreparedImages:
    """Images as the networks see them, by row: uint8 (n, size, size, 3), read from disk as they are asked for.

    `file` holds each content once; `rows` says where the i-th image lies in it. Indexing takes what NumPy takes for a
    first axis, and copies.
    """

    def __init__(self, file: Path, size_px: int, rows: np.ndarray):
        self.file, self.size_px, self.rows = file, size_px, rows
        stored = file.stat().st_size // (size_px * size_px * 3)
        self._store = np.memmap(file, dtype=np.uint8, mode="r", shape=(stored, size_px, size_px, 3))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.rows), self.size_px, self.size_px, 3

    @property
    def sigmas(self) -> np.ndarray:
        """Estimated noise before denoising: float32 (n,), grey levels; NaN where denoising is off."""
        return np.fromfile(self.file.with_name("sigma.f32"), dtype=np.float32)[self.rows]

    def __getitem__(self, index) -> np.ndarray:
        return self._store[self.rows[index]]

    def __reduce__(self):
        # Sent to another process as a place on disk, not as gigabytes.
        return PreparedImages, (self.file, self.size_px, self.rows)


def prepare_images(
    paths: Sequence[Path],
    sha256s: Sequence[str],
    *,
    size_px: int,
    denoise,
    cache_dir: str | Path,
    num_workers: int | None = None,
    description: str = "preparing",
) -> PreparedImages:
    """Prepare many images once, over all cores; what the cache has is not done again.

    The cache is found by content and settings, not by path: images added to a dataset are the only ones read. Killed
    half way, the same call goes on behind the last finished chunk. However many there are, memory holds a few chunks.

    Parameters
    ----------
    paths, sha256s : of the images, in the same order.
    size_px : side of the squares.
    denoise : the recipe's [denoise] section.
    cache_dir : where the cache lies.
    num_workers : processes; by default one a core where there are enough images.
    """
    # A spawned process runs its parent's script again up to `if __name__`; without one it would come by here and wait
    # forever for the lock that its parent holds.
    if getattr(current_process(), "_inheriting", False):
        raise DataError("A script calls nonet outside of `if __name__ == '__main__':`.", hint=GUARD)
    cache = Path(cache_dir) / f"{size_px}px-{_settings_name(denoise)}"
    cache.mkdir(parents=True, exist_ok=True)
    # The lock goes with the process that holds it, so a killed one leaves nothing behind.
    with FileLock(cache / "lock"):
        known = _read_index(cache, size_px)
        todo = {sha: path for path, sha in zip(paths, sha256s, strict=True) if sha not in known}
        if todo:
            _append(cache, todo, size_px, denoise, num_workers, progress_over=(len(set(sha256s)), description))
            known = _read_index(cache, size_px)
    rows = np.array([known[sha] for sha in sha256s], dtype=np.int64)
    return PreparedImages(cache / "pixels.u8", size_px, rows)


def _settings_name(settings) -> str:
    if not settings.enabled and settings.colours == "as_is":
        return f"as-is-v{VERSION}"
    facts = {name: getattr(settings, name) for name in type(settings).model_fields}
    what = "denoised" if settings.enabled else settings.colours
    return f"{what}-v{VERSION}-{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]}"


def _read_index(cache: Path, size_px: int) -> dict[str, int]:
    """Return sha256 → row of what is whole in the cache, and cut off what a killed call left half written."""
    bytes_per_image = {"sha256.txt": 65, "sigma.f32": 4, "pixels.u8": size_px * size_px * 3}
    for name in bytes_per_image:
        (cache / name).touch()
    stored = min((cache / name).stat().st_size // size for name, size in bytes_per_image.items())
    for name, size in bytes_per_image.items():
        if (cache / name).stat().st_size != stored * size:
            os.truncate(cache / name, stored * size)
    return {sha: row for row, sha in enumerate((cache / "sha256.txt").read_text(encoding="ascii").split())}


def _append(
    cache: Path,
    todo: dict[str, Path],
    size_px: int,
    settings,
    num_workers: int | None,
    *,
    progress_over: tuple[int, str],
) -> None:
    """Prepare the images that the cache has not, chunk by chunk: pixels first, their names last."""
    shas = list(todo)
    chunks = [shas[start : start + CHUNK_SIZE] for start in range(0, len(shas), CHUNK_SIZE)]
    tasks = (([(todo[sha], sha) for sha in chunk], size_px, settings) for chunk in chunks)
    count = (os.cpu_count() or 1) if num_workers is None else num_workers
    total, description = progress_over
    with (
        (cache / "pixels.u8").open("ab") as pixels,
        (cache / "sigma.f32").open("ab") as noise,
        (cache / "sha256.txt").open("a", encoding="ascii") as index,
        progress(total=total, initial=total - len(shas), description=description, unit="images") as bar,
    ):
        num_processes = min(count, len(chunks)) if len(shas) >= WORKERS_PAY_FROM else 1
        for chunk, (images, sigmas) in zip(chunks, map_in_order(_prepare_chunk, tasks, num_processes)):
            pixels.write(images.tobytes())
            pixels.flush()
            noise.write(sigmas.tobytes())
            noise.flush()
            index.write("".join(f"{sha}\n" for sha in chunk))
            index.flush()
            bar.update(len(chunk))


def _prepare_chunk(task: tuple[list[tuple[Path, str]], int, object]) -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 (n, size, size, 3) and the sigmas, float32 (n,)."""
    files, size_px, settings = task
    images, sigmas = [], []
    for path, sha256 in files:
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}.", hint=CHECK) from error
        # The cache is found by content, so pixels of a file that changed would be kept under a wrong name.
        if hashlib.sha256(data).hexdigest() != sha256:
            raise DataError(f"{path} is not the file it was when the dataset was built.", hint=CHECK)
        prepared, sigma = _prepare(data, [size_px], settings)
        images.append(prepared[size_px])
        sigmas.append(sigma)
    return np.stack(images), np.array(sigmas, dtype=np.float32)


def worker_pool(num_workers: int) -> ProcessPoolExecutor:
    """Return processes that prepare images; they end when this one does, also when it is killed.

    The loops of denoising are compiled first, once, and not by each of them.
    """
    warm_up()
    # Spawned, not forked: torch may be at work in this process.
    return ProcessPoolExecutor(num_workers, mp_context=get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """Without this, workers of a killed process would wait for tasks for ever."""

    def watch() -> None:
        parent_process().join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def map_in_order(function: Callable, tasks: Iterable, num_workers: int) -> Iterator:
    """Yield the function's results in the tasks' order; in this process where there is one worker.

    Tasks are handed out as results are taken, so that no more than a few wait in memory.
    """
    if num_workers <= 1:
        yield from map(function, tasks)
        return
    pool = worker_pool(num_workers)
    waiting = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(function, task))
            if len(waiting) > 2 * num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise DataError(
            "A process that prepares images died.",
            hint=f"{GUARD} Else, was memory short? What is done is kept; run it again.",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
