"""From image files to what the networks see: denoised, square, uint8; cached, so that it is done once."""

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import current_process
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image

from nonet.data.denoise import denoise, estimate_sigma, warm_up
from nonet.data.images import load_rgb
from nonet.data.stain import normalise_colours
from nonet.data.workers import GUARD, map_in_order, spawned_pool
from nonet.errors import DataError
from nonet.progress import progress

CHUNK_SIZE = 64
WORKERS_PAY_FROM = 256  # images; a worker process takes seconds to start
CHECK = 'Run "nonet data check DATASET".'
VERSION = 3  # of what is done to pixels: a change makes old caches stale


def prepare_sizes(image: np.ndarray | str | Path | bytes, sizes_px: Sequence[int], settings) -> dict[int, np.ndarray]:
    """Load an image, cut its centre out, denoise that at full size, bring its colours to the reference, squash it.

    Centre and colours only where the settings ask for them. Frames of single cells are nearly square (360 x 363 px and
    the like), so the squash moves no edge by a percent.

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


def _prepare(image, sizes_px: Sequence[int], settings) -> tuple[dict[int, np.ndarray], float]:
    """Return size → pixels, and the sigma that was estimated; NaN where denoising is off."""
    pixels = cut_centre(image if isinstance(image, np.ndarray) else load_rgb(image), settings.centre)
    sigma = estimate_sigma(pixels) if settings.enabled else float("nan")
    pixels = denoise(pixels, settings, sigma=sigma)
    clean = Image.fromarray(normalise_colours(pixels) if settings.colours == "reinhard" else pixels)
    return {size: np.asarray(clean.resize((size, size), Image.Resampling.BICUBIC)) for size in sizes_px}, sigma


def cut_centre(image: np.ndarray, part: float) -> np.ndarray:
    """Return the central square of an image (height, width, 3), `part` times its shorter side wide; whole where 1.

    Frames of single cells have the cell in their middle, on a third of the area or less: of its surroundings a
    network of few pixels sees more than it needs.
    """
    if part == 1:
        return image
    height, width = image.shape[:2]
    side = max(1, round(part * min(height, width)))
    top, left = (height - side) // 2, (width - side) // 2
    return np.ascontiguousarray(image[top : top + side, left : left + side])


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
    sizes_px: Sequence[int],
    denoise,
    cache_dir: str | Path,
    num_workers: int | None = None,
    description: str = "preparing",
) -> dict[int, PreparedImages]:
    """Prepare many images once, over all cores, in all sizes in one pass; what the caches have is not done again.

    Each size has a cache of its own, found by content and settings, not by path: images added to a dataset, or a size
    added to a recipe, are all that is done. Killed half way, the same call goes on behind the last finished chunk.
    However many images there are, memory holds a few chunks.

    Parameters
    ----------
    paths, sha256s : of the images, in the same order.
    sizes_px : sides of the squares.
    denoise : the recipe's [denoise] section.
    cache_dir : where the caches lie.
    num_workers : processes; by default one a core where there are enough images.

    Returns
    -------
    size → its images, in the order of `paths`.

    Raises
    ------
    DataError where an image cannot be read, or is not the one that `sha256s` says.
    """
    # A spawned process runs its parent's script again up to `if __name__`; without one it would come by here and wait
    # forever for the lock that its parent holds.
    if getattr(current_process(), "_inheriting", False):
        raise DataError("A script calls nonet outside of `if __name__ == '__main__':`.", hint=GUARD)
    name = _settings_name(denoise)
    caches = [Cache(Path(cache_dir) / f"{size}px-{name}", size) for size in sorted(set(sizes_px))]
    with ExitStack() as locks:
        # A lock goes with the process that holds it, so a killed one leaves nothing behind. Always the smallest size
        # first: two calls that share sizes never wait for each other's locks.
        for cache in caches:
            locks.enter_context(FileLock(cache.folder / "lock"))
            cache.read_index()
        todo = {}
        for path, sha in zip(paths, sha256s, strict=True):
            if lacking := [cache.size_px for cache in caches if sha not in cache.rows]:
                todo[sha] = (path, sha, lacking)
        if todo:
            _fill(caches, list(todo.values()), denoise, num_workers, over=(len(set(sha256s)), description))
    return {
        cache.size_px: PreparedImages(cache.pixels, cache.size_px, np.array([cache.rows[sha] for sha in sha256s], int))
        for cache in caches
    }


def _settings_name(settings) -> str:
    names = type(settings).model_fields if settings.enabled else ("centre", "colours")  # the others have no effect
    facts = {name: getattr(settings, name) for name in names}
    what = "denoised" if settings.enabled else settings.colours
    return f"{what}-v{VERSION}-{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]}"


class Cache:
    """The files of one size: pixels, sigmas and the images' SHA-256, row by row. To be used under the folder's lock.

    Attributes
    ----------
    rows : SHA-256 of an image's file → its row.
    """

    def __init__(self, folder: Path, size_px: int):
        self.folder, self.size_px = folder, size_px
        self.pixels, self.sigmas, self.index = (folder / name for name in ("pixels.u8", "sigma.f32", "sha256.txt"))
        self.rows: dict[str, int] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def read_index(self) -> None:
        """Find out what is whole, and cut off what a killed call left half written."""
        bytes_per_image = {self.index: 65, self.sigmas: 4, self.pixels: self.size_px * self.size_px * 3}
        for file in bytes_per_image:
            file.touch()
        stored = min(file.stat().st_size // size for file, size in bytes_per_image.items())
        for file, size in bytes_per_image.items():
            if file.stat().st_size != stored * size:
                os.truncate(file, stored * size)
        self.rows = {sha: row for row, sha in enumerate(self.index.read_text(encoding="ascii").split())}

    def append(self, prepared: "list[Prepared]") -> None:
        """Add the images that have this size: pixels first, their names last."""
        new = [image for image in prepared if self.size_px in image.pixels]
        with self.pixels.open("ab") as file:
            file.writelines(image.pixels[self.size_px].tobytes() for image in new)
        with self.sigmas.open("ab") as file:
            file.write(np.array([image.sigma for image in new], dtype=np.float32).tobytes())
        with self.index.open("a", encoding="ascii") as file:
            file.write("".join(f"{image.sha256}\n" for image in new))
        self.rows |= {image.sha256: row for row, image in enumerate(new, start=len(self.rows))}


@dataclass(frozen=True)
class Prepared:
    """One image in the sizes that the caches lacked: size → uint8 (size, size, 3)."""

    sha256: str
    pixels: dict[int, np.ndarray]
    sigma: float


def _fill(
    caches: list[Cache],
    todo: list[tuple[Path, str, list[int]]],
    settings,
    num_workers: int | None,
    *,
    over: tuple[int, str],
) -> None:
    """Prepare images chunk by chunk, each in the sizes that lack it: (path, SHA-256, sizes)."""
    chunks = [todo[start : start + CHUNK_SIZE] for start in range(0, len(todo), CHUNK_SIZE)]
    tasks = ((chunk, settings) for chunk in chunks)
    count = (os.cpu_count() or 1) if num_workers is None else num_workers
    num_processes = min(count, len(chunks)) if len(todo) >= WORKERS_PAY_FROM else 1
    total, description = over
    with progress(total=total, initial=total - len(todo), description=description, unit="images") as bar:
        for prepared in map_in_order(_prepare_chunk, tasks, num_processes, make_pool=worker_pool):
            for cache in caches:
                cache.append(prepared)
            bar.update(len(prepared))


def _prepare_chunk(task: tuple[list[tuple[Path, str, list[int]]], object]) -> list[Prepared]:
    files, settings = task
    chunk = []
    for path, sha256, sizes_px in files:
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}.", hint=CHECK) from error
        # The cache is found by content, so pixels of a file that changed would be kept under a wrong name.
        if hashlib.sha256(data).hexdigest() != sha256:
            raise DataError(f"{path} is not the file it was when the dataset was built.", hint=CHECK)
        chunk.append(Prepared(sha256, *_prepare(data, sizes_px, settings)))
    return chunk


def worker_pool(num_workers: int) -> ProcessPoolExecutor:
    """Return processes that prepare images; the loops of denoising are compiled here, once, and not by each of them."""
    warm_up()
    return spawned_pool(num_workers)
