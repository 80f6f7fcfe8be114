"""From image files to what the networks see: denoised, square, uint8; cached, so that it is done once."""

import hashlib
import json
import logging
import math
import os
import zlib
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from multiprocessing import current_process
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from nonet.artifacts.storage import waiting_for, writing_to
from nonet.data.images.decode import read_image
from nonet.data.images.files import read_file
from nonet.data.preprocess.denoise import denoise, estimate_sigma, warm_up
from nonet.data.preprocess.stain import normalise_colours
from nonet.errors import DataError, UnreadableNowError
from nonet.progress import progress, slowly
from nonet.workers import GUARD, Workers, map_in_order, spawned_pool, worker_count

logger = logging.getLogger("nonet")

CHUNK_SIZE = 64
WORKERS_PAY_FROM = 256  # images; a worker process takes seconds to start
CHECK = 'Run "nonet data check DATASET".'
AGAIN = 'When it can be read, run the same command again; "nonet data check DATASET" lists all images like it.'
CHECKSUM = np.dtype("<u8")
VERSION = 4  # of what is done to pixels: a change makes old caches stale


class Crop(NamedTuple):
    """What a network sees of an image: its central part, squashed to a square.

    `size_px` is the square's side; `centre` the part's side as a share of the frame's shorter one, the whole frame
    where 1. Crops are ordered by size.
    """

    size_px: int
    centre: float = 1.0

    def __str__(self) -> str:
        return f"{self.size_px} px" + (f" of the central {self.centre:g}" if self.centre < 1 else "")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the pixels."""
        return self.size_px, self.size_px, 3


class PreparedCrops(dict[Crop, np.ndarray]):
    """Crop → uint8 (size, size, 3), and `note`: what was not ordinary about the image; see `read_image`."""

    def __init__(self, crops: dict[Crop, np.ndarray], note: str):
        super().__init__(crops)
        self.note = note


def prepare_crops(image: np.ndarray | str | Path | bytes, crops: Sequence[Crop], settings) -> PreparedCrops:
    """Load an image, denoise it at full size, bring its colours to the reference if asked, and cut crops out of it.

    Frames of single cells are nearly square (360 x 363 px and the like), so squashing a whole one moves no edge by a
    percent.

    Parameters
    ----------
    image : a path, a file's bytes, or uint8 (height, width, 3).
    crops : what is wanted of it.
    settings : the recipe's [denoise] section.

    Returns
    -------
    crop → uint8 (size, size, 3), with a note on the image where it is not ordinary.
    """
    return _prepare(image, crops, settings)[0]


def _prepare(image, crops: Sequence[Crop], settings, *, name: str | None = None) -> tuple[PreparedCrops, float]:
    """Return crop → pixels, and the sigma that was estimated; NaN where denoising is off."""
    pixels, note = image, ""
    if not isinstance(image, np.ndarray):
        read = read_image(image, name=name)
        pixels, note = read.pixels, read.note
    sigma = estimate_sigma(pixels) if settings.enabled else float("nan")
    pixels = denoise(pixels, settings, sigma=sigma)
    clean = normalise_colours(pixels) if settings.colours == "reinhard" else pixels
    return PreparedCrops({crop: _cut(clean, crop) for crop in crops}, note), sigma


def _cut(image: np.ndarray, crop: Crop) -> np.ndarray:
    centre = Image.fromarray(cut_centre(image, crop.centre))
    return np.asarray(centre.resize(crop.shape[:2], Image.Resampling.BICUBIC))


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


def sums_of(images: np.ndarray) -> np.ndarray:
    """Return the sum of each image's bytes in words of eight, uint64 (n,), of uint8 (n, …).

    A changed bit, zeros in place of pixels and another image's pixels change it. Against a CRC it takes a fifteenth of
    the time, which counts, as it is taken of each image that a training reads.
    """
    flat = images.reshape(len(images), -1)
    whole = flat.shape[1] // 8 * 8
    words = np.ascontiguousarray(flat[:, :whole]).view(CHECKSUM)
    return words.sum(axis=1, dtype=CHECKSUM) + flat[:, whole:].sum(axis=1, dtype=CHECKSUM)


class PreparedImages:
    """Images as the networks see them, by row: uint8 (n, size, size, 3), read from disk as they are asked for.

    `file` holds each content once; `rows` says where the i-th image lies in it. Indexing takes what NumPy takes for a
    first axis, and copies. Each image is compared with its checksum as it is read.
    """

    def __init__(self, file: Path, crop: Crop, rows: np.ndarray):
        self.file, self.crop, self.rows = file, crop, rows
        stored = file.stat().st_size // math.prod(crop.shape)
        self._store = np.memmap(file, dtype=np.uint8, mode="r", shape=(stored, *crop.shape))
        self._checksums = np.fromfile(file.with_name("sums.u64"), dtype=CHECKSUM)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.rows), *self.crop.shape

    @property
    def sigmas(self) -> np.ndarray:
        """Estimated noise before denoising: float32 (n,), grey levels; NaN where denoising is off."""
        return np.fromfile(self.file.with_name("sigma.f32"), dtype=np.float32)[self.rows]

    def __getitem__(self, index) -> np.ndarray:
        rows = self.rows[index]
        images = np.asarray(self._store[rows]) if np.ndim(rows) else np.array(self._store[rows])
        sums = sums_of(images.reshape(-1, *self.crop.shape))
        damaged = np.atleast_1d(rows)[sums != np.atleast_1d(self._checksums[rows])]
        if len(damaged):
            raise DataError(
                f"{self.file} is damaged: image {damaged[0]} is not what was written.",
                hint="Run the same command again: it prepares such images anew.",
            )
        return images

    def __reduce__(self):
        # Sent to another process as a place on disk, not as gigabytes.
        return PreparedImages, (self.file, self.crop, self.rows)


def prepare_images(
    paths: Sequence[Path],
    sha256s: Sequence[str],
    *,
    crops: Sequence[Crop],
    denoise,
    cache_dir: str | Path,
    num_workers: int | None = None,
    description: str = "preparing",
) -> dict[Crop, PreparedImages]:
    """Prepare many images once, over all cores, all crops in one pass; what the caches have is not done again.

    Each crop has a cache of its own, found by content and settings, not by path: images added to a dataset, or a crop
    added to a recipe, are all that is done. Killed half way, the same call goes on behind the last finished chunk.
    However many images there are, memory holds a few chunks.

    Parameters
    ----------
    paths, sha256s : of the images, in the same order.
    crops : what is wanted of each.
    denoise : the recipe's [denoise] section.
    cache_dir : where the caches lie.
    num_workers : processes; by default one a core where there are enough images.

    Returns
    -------
    crop → its images, in the order of `paths`.

    Raises
    ------
    DataError where an image cannot be read, or is not the one that `sha256s` says.
    """
    # A spawned process runs its parent's script again up to `if __name__`; without one it would come by here and wait
    # forever for the lock that its parent holds.
    if getattr(current_process(), "_inheriting", False):
        raise DataError("A script calls nonet outside of `if __name__ == '__main__':`.", hint=GUARD)
    name = _settings_name(denoise)
    caches = [Cache(Path(cache_dir), crop, name) for crop in sorted(set(crops))]
    with ExitStack() as locks:
        # A lock goes with the process that holds it, so a killed one leaves nothing behind. Always in the order
        # of crops: two calls that share some never wait for each other's locks.
        for cache in caches:
            locks.enter_context(waiting_for(cache.folder / "lock"))
            cache.read_index()
            cache.drop_damaged(sha256s)
        todo = {}
        for path, sha in zip(paths, sha256s, strict=True):
            if lacking := [cache.crop for cache in caches if sha not in cache.rows]:
                todo[sha] = (path, sha, lacking)
        if todo:
            _fill(caches, list(todo.values()), denoise, num_workers, over=(len(set(sha256s)), description))
    return {
        cache.crop: PreparedImages(cache.pixels, cache.crop, np.array([cache.rows[sha] for sha in sha256s], int))
        for cache in caches
    }


def _settings_name(settings) -> str:
    names = type(settings).model_fields if settings.enabled else ["colours"]  # the others have no effect
    facts = {name: getattr(settings, name) for name in names}
    what = "denoised" if settings.enabled else settings.colours
    return f"{what}-v{VERSION}-{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]}"


class Cache:
    """The files of one crop, row by row: pixels, sigmas, the images' SHA-256, and checksums. Use it under its lock.

    There are two checksums a row: of the pixels, and of the other two facts, so that neither black rows nor images
    under a wrong name are used. A damaged row is forgotten, and its image prepared anew behind the last one.

    Attributes
    ----------
    rows : SHA-256 of an image's file → its row.
    """

    def __init__(self, cache_dir: Path, crop: Crop, settings_name: str):
        part = f"-centre-{crop.centre:g}" if crop.centre < 1 else ""
        self.crop, self.folder = crop, cache_dir / f"{crop.size_px}px{part}-{settings_name}"
        names = ("pixels.u8", "sigma.f32", "sha256.txt", "sums.u64", "facts.u64")
        self.pixels, self.sigmas, self.index, self.checksums, self.facts = (self.folder / name for name in names)
        self.rows: dict[str, int] = {}
        with writing_to(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    def read_index(self) -> None:
        """Find out what is whole, and cut off what a killed call left half written."""
        bytes_per_image = {self.index: 65, self.sigmas: 4, self.checksums: 8, self.facts: 8}
        bytes_per_image[self.pixels] = math.prod(self.crop.shape)
        for file in bytes_per_image:
            file.touch()
        stored = min(file.stat().st_size // size for file, size in bytes_per_image.items())
        for file, size in bytes_per_image.items():
            if file.stat().st_size != stored * size:
                os.truncate(file, stored * size)
        sigmas = np.fromfile(self.sigmas, dtype=np.float32)
        facts = np.fromfile(self.facts, dtype=CHECKSUM)
        lines = self.index.read_bytes()
        for row in range(stored):
            sha = lines[65 * row : 65 * row + 64]
            if _facts_checksum(sha, sigmas[row]) == facts[row]:
                self.rows[sha.decode("ascii")] = row

    def drop_damaged(self, sha256s: Sequence[str]) -> None:
        """Forget those of these images whose pixels are not what was written, so that they are prepared anew."""
        wanted = {sha: self.rows[sha] for sha in dict.fromkeys(sha256s) if sha in self.rows}
        if not wanted:
            return
        images = PreparedImages(self.pixels, self.crop, np.array(list(wanted.values())))
        damaged = []
        for number, sha in enumerate(slowly(list(wanted), f"checking {self.crop}")):
            try:
                images[number]
            except DataError:
                damaged.append(sha)
        if damaged:
            logger.warning(
                f"{self.pixels} is damaged: {len(damaged):,} of {len(wanted):,} images are not what was written. They "
                "are prepared anew."
            )
        for sha in damaged:
            del self.rows[sha]

    def append(self, prepared: "list[Prepared]") -> None:
        """Add the images that have this crop: pixels first, their names last."""
        new = [image for image in prepared if self.crop in image.pixels]
        first = self.index.stat().st_size // 65
        checksums = [sums_of(image.pixels[self.crop][None])[0] for image in new]
        facts = [_facts_checksum(image.sha256.encode("ascii"), image.sigma) for image in new]
        with writing_to(self.folder):
            with self.pixels.open("ab") as file:
                file.writelines(image.pixels[self.crop].tobytes() for image in new)
            with self.sigmas.open("ab") as file:
                file.write(np.array([image.sigma for image in new], dtype=np.float32).tobytes())
            for path, numbers in ((self.checksums, checksums), (self.facts, facts)):
                with path.open("ab") as file:
                    file.write(np.array(numbers, dtype=CHECKSUM).tobytes())
            with self.index.open("a", encoding="ascii") as file:
                file.write("".join(f"{image.sha256}\n" for image in new))
        self.rows |= {image.sha256: row for row, image in enumerate(new, start=first)}


def _facts_checksum(sha256: bytes, sigma: float) -> int:
    return zlib.crc32(sha256 + np.float32(sigma).tobytes())


@dataclass(frozen=True)
class Prepared:
    """One image in the crops that the caches lacked: crop → uint8 (size, size, 3)."""

    sha256: str
    pixels: dict[Crop, np.ndarray]
    sigma: float


def _fill(
    caches: list[Cache],
    todo: list[tuple[Path, str, list[Crop]]],
    settings,
    num_workers: int | None,
    *,
    over: tuple[int, str],
) -> None:
    """Prepare images chunk by chunk, each in the crops that lack it: (path, SHA-256, crops)."""
    chunks = [todo[start : start + CHUNK_SIZE] for start in range(0, len(todo), CHUNK_SIZE)]
    tasks = ((chunk, settings) for chunk in chunks)
    num_processes = min(worker_count(num_workers), len(chunks)) if len(todo) >= WORKERS_PAY_FROM else 1
    total, description = over
    with (
        progress(total=total, initial=total - len(todo), description=description, unit="images") as bar,
        closing(
            map_in_order(_prepare_chunk, tasks, num_processes, make_pool=worker_pool, name_of=_first_and_last)
        ) as chunks_done,
    ):
        for prepared in chunks_done:
            for cache in caches:
                cache.append(prepared)
            bar.update(len(prepared))


def _first_and_last(task: tuple[list[tuple[Path, str, list[Crop]]], object]) -> str:
    files, _ = task
    return f"{files[0][0]} to {files[-1][0]}"


def _prepare_chunk(task: tuple[list[tuple[Path, str, list[Crop]]], object]) -> list[Prepared]:
    files, settings = task
    chunk = []
    for path, sha256, crops in files:
        try:
            data = read_file(path)
        except DataError as error:
            raise type(error)(error.message, hint=AGAIN if isinstance(error, UnreadableNowError) else CHECK) from error
        # The cache is found by content, so pixels of a file that changed would be kept under a wrong name.
        if hashlib.sha256(data).hexdigest() != sha256:
            raise DataError(f"{path} is not the file it was when the dataset was built.", hint=CHECK)
        chunk.append(Prepared(sha256, *_prepare(data, crops, settings, name=str(path))))
    return chunk


def worker_pool(num_workers: int) -> Workers:
    """Return processes that prepare images; the loops of denoising are compiled here, once, and not by each of them."""
    warm_up()
    return spawned_pool(num_workers)
