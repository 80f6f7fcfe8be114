"""From image files to what the networks see: denoised, square, uint8; cached, so that it is done once."""

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image

from nonet.data.denoise import denoise
from nonet.data.images import load_rgb
from nonet.progress import progress

CHUNK_SIZE = 64
WORKERS_PAY_FROM = 256  # images; a worker process takes seconds to start
VERSION = 1  # of what is done to pixels: a change makes old caches stale


def prepare_sizes(image: np.ndarray | str | Path | bytes, sizes_px: Sequence[int], settings) -> dict[int, np.ndarray]:
    """Load an image, denoise it at full size, and squash it to squares.

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
    pixels = image if isinstance(image, np.ndarray) else load_rgb(image)
    clean = Image.fromarray(denoise(pixels, settings))
    return {size: np.asarray(clean.resize((size, size), Image.Resampling.BICUBIC)) for size in sizes_px}


class PreparedImages:
    """Images as the networks see them, by row: uint8 (n, size, size, 3), read from disk as they are asked for.

    `file` holds each content once; `rows` says where the i-th image lies in it.
    """

    def __init__(self, file: Path, size_px: int, rows: np.ndarray):
        self.file, self.size_px, self.rows = file, size_px, rows
        stored = file.stat().st_size // (size_px * size_px * 3)
        self._store = np.memmap(file, dtype=np.uint8, mode="r", shape=(stored, size_px, size_px, 3))

    def __len__(self) -> int:
        return len(self.rows)

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
    half way, the same call goes on behind the last finished chunk.

    Parameters
    ----------
    paths, sha256s : of the images, in the same order.
    size_px : side of the squares.
    denoise : the recipe's [denoise] section.
    cache_dir : where the cache lies.
    num_workers : processes; by default one a core where there are enough images.
    """
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
    if not settings.enabled:
        return f"as-is-v{VERSION}"
    facts = {name: getattr(settings, name) for name in type(settings).model_fields}
    return f"denoised-v{VERSION}-{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]}"


def _read_index(cache: Path, size_px: int) -> dict[str, int]:
    """Return sha256 → row of what is whole in the cache, and cut off what a killed call left half written."""
    index, pixels, image_bytes = cache / "sha256.txt", cache / "pixels.u8", size_px * size_px * 3
    for file in (index, pixels):
        file.touch()
    stored = min(index.stat().st_size // 65, pixels.stat().st_size // image_bytes)
    os.truncate(index, stored * 65)
    os.truncate(pixels, stored * image_bytes)
    return {sha: row for row, sha in enumerate(index.read_text(encoding="ascii").split())}


def _append(
    cache: Path, todo: dict[str, Path], size_px: int, settings, num_workers: int | None, *, progress_over: tuple[int, str]
) -> None:
    """Prepare the images that the cache has not, chunk by chunk: pixels first, then their names."""
    shas = list(todo)
    chunks = [shas[start : start + CHUNK_SIZE] for start in range(0, len(shas), CHUNK_SIZE)]
    tasks = [([todo[sha] for sha in chunk], size_px, settings) for chunk in chunks]
    count = (os.cpu_count() or 1) if num_workers is None else num_workers
    total, description = progress_over
    with (
        (cache / "pixels.u8").open("ab") as pixels,
        (cache / "sha256.txt").open("a", encoding="ascii") as index,
        progress(total=total, initial=total - len(shas), description=description, unit="images") as bar,
    ):
        for chunk, images in zip(chunks, _map(_prepare_chunk, tasks, count if len(shas) >= WORKERS_PAY_FROM else 1)):
            pixels.write(images.tobytes())
            pixels.flush()
            index.write("".join(f"{sha}\n" for sha in chunk))
            index.flush()
            bar.update(len(chunk))


def _prepare_chunk(task: tuple[list[Path], int, object]) -> np.ndarray:
    paths, size_px, settings = task
    return np.stack([prepare_sizes(path, [size_px], settings)[size_px] for path in paths])


def _map(function, tasks: list, num_workers: int):
    """Yield results in order; in this process where there is one worker."""
    if num_workers <= 1:
        yield from map(function, tasks)
        return
    # Spawned, not forked: torch may be at work in this process.
    with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(function, tasks)
