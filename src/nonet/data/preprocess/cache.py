"""A cache of prepared crops on disk, so that each image is prepared once."""

import hashlib
import json
import logging
import math
import os
import zlib
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing import current_process
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nonet.artifacts.storage import waiting_lock, writing_to
from nonet.data.images.files import read_file
from nonet.data.preprocess.crop import Crop
from nonet.data.preprocess.crops import VERSION, prepare_crops
from nonet.data.preprocess.denoise import warm_up
from nonet.errors import DataError, UnreadableNowError
from nonet.progress import progress, progress_if_slow
from nonet.settings import Denoise
from nonet.workers import GUARD, Workers, map_in_threads, worker_count

logger = logging.getLogger("nonet")

CHUNK_SIZE = 64
MIN_IMAGES_FOR_WORKERS = 256  # a worker process takes seconds to start
CHECK = 'Run "nonet data check DATASET".'
AGAIN = 'Once it can be read, run the same command again; "nonet data check DATASET" lists all such images.'
CHECKSUM = np.dtype("<u8")


def image_checksums(images: np.ndarray) -> np.ndarray:
    """Compute a checksum of each image: the sum of its bytes in words of eight, modulo 2**64.

    A changed bit, zeros in place of pixels and the pixels of another image change it. It takes a fifteenth of the time
    of a CRC, which matters because it is computed for every image that training reads.

    Parameters
    ----------
    images : ndarray of uint8, shape (n, ...)

    Returns
    -------
    ndarray of uint64, shape (n,)
    """
    flat = images.reshape(len(images), -1)
    whole = flat.shape[1] // 8 * 8
    words = np.ascontiguousarray(flat[:, :whole]).view(CHECKSUM)
    return words.sum(axis=1, dtype=CHECKSUM) + flat[:, whole:].sum(axis=1, dtype=CHECKSUM)


class PreparedImages:
    """Images as the networks see them: like an array of uint8, shape (n, size, size, 3), read from disk on access.

    Indexing accepts whatever NumPy accepts for the first axis, and copies. Each image is compared with its checksum
    when it is read.

    Parameters
    ----------
    file : Path
        Pixels of a cache, which holds each content once.
    crop : Crop
    rows : ndarray of int, shape (n,)
        Row of each image in `file`.
    """

    def __init__(self, file: Path, crop: Crop, rows: np.ndarray):
        self.file, self.crop, self.rows = file, crop, rows
        stored = file.stat().st_size // math.prod(crop.shape)
        self._store = np.memmap(file, dtype=np.uint8, mode="r", shape=(stored, *crop.shape))
        self._checksums = np.fromfile(self.files[1], dtype=CHECKSUM)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the array: (n, size, size, 3)."""
        return len(self.rows), *self.crop.shape

    @property
    def files(self) -> tuple[Path, Path, Path]:
        """What is read of the cache: pixels, checksums and sigmas."""
        return self.file, self.file.with_name("sums.u64"), self.file.with_name("sigma.f32")

    @property
    def sigmas(self) -> np.ndarray:
        """Estimated noise before denoising, float32 of shape (n,), in 8-bit grey levels; NaN where it is off."""
        return np.fromfile(self.files[2], dtype=np.float32)[self.rows]

    def __getitem__(self, index: int | slice | np.ndarray) -> np.ndarray:
        rows = self.rows[index]
        images = np.asarray(self._store[rows]) if np.ndim(rows) else np.array(self._store[rows])
        sums = image_checksums(images.reshape(-1, *self.crop.shape))
        damaged = np.atleast_1d(rows)[sums != np.atleast_1d(self._checksums[rows])]
        if len(damaged):
            raise DataError(
                f"{self.file} is damaged: image {damaged[0]} is not what was written.",
                hint="Run the same command again: it prepares damaged images again.",
            )
        return images

    def __reduce__(self):
        # Sent to another process, which may be in another folder, as a path and not as gigabytes of pixels.
        return PreparedImages, (self.file.absolute(), self.crop, self.rows)


def prepare_images(
    paths: Sequence[Path],
    sha256s: Sequence[str],
    *,
    crops: Sequence[Crop],
    denoise: Denoise,
    cache_dir: str | Path,
    num_workers: int | None = None,
    description: str = "preparing",
) -> dict[Crop, PreparedImages]:
    """Prepare many images in parallel, all crops in one pass, skipping what the caches already have.

    Each crop has a cache of its own, looked up by content and settings rather than by path: only images added to a
    dataset, or crops added to a recipe, are prepared. After an interruption the same call continues after the last
    complete chunk. Memory holds a few chunks, however many images there are.

    Parameters
    ----------
    paths : sequence of Path
    sha256s : sequence of str
        Of the files, in the same order.
    crops : sequence of Crop
    denoise : Denoise
        The recipe's [denoise] section.
    cache_dir : str or Path
        Folder of the caches.
    num_workers : int, optional
        Threads; by default one per core.
    description : str
        Of the progress bar.

    Returns
    -------
    dict
        Crop → PreparedImages, in the order of `paths`.

    Raises
    ------
    DataError
        When an image cannot be read, or does not have its `sha256`.
    """
    # A spawned process runs its parent's script again up to `if __name__`; without that line it would arrive here and
    # wait forever for the lock that its parent holds.
    if getattr(current_process(), "_inheriting", False):
        raise DataError("A script calls nonet outside `if __name__ == '__main__':`.", hint=GUARD)
    name = _settings_name(denoise)
    caches = [Cache(Path(cache_dir), crop, name) for crop in sorted(set(crops))]
    with ExitStack() as locks:
        # A lock ends with its process, so a killed one leaves none behind. Locks are taken in the order of crops, so
        # that two calls that share some of them cannot deadlock.
        for cache in caches:
            locks.enter_context(waiting_lock(cache.folder / "lock"))
            cache.read_index()
            cache.drop_damaged(sha256s)
        jobs = {}
        for path, sha in zip(paths, sha256s, strict=True):
            if missing := [cache.crop for cache in caches if sha not in cache.rows]:
                jobs[sha] = _Job(path, sha, missing)
        if jobs:
            _fill(caches, list(jobs.values()), denoise, num_workers, total=len(set(sha256s)), description=description)
    return {
        cache.crop: PreparedImages(cache.pixels, cache.crop, np.array([cache.rows[sha] for sha in sha256s], int))
        for cache in caches
    }


def _settings_name(settings: Denoise) -> str:
    names = list(type(settings).model_fields) if settings.enabled else ["colours"]  # the others have no effect
    facts = {name: getattr(settings, name) for name in names}
    what = "denoised" if settings.enabled else settings.colours
    return f"{what}-v{VERSION}-{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]}"


class Cache:
    """The files of one crop: per row, pixels, sigma, the image's SHA-256 and checksums. Use it under its lock.

    There are two checksums per row, of the pixels and of the other two values, so that neither black rows nor images
    under a wrong SHA-256 are used. Damaged rows are ignored, and their images prepared again and appended.

    Parameters
    ----------
    cache_dir : Path
    crop : Crop
    settings_name : str
        Part of the folder's name that identifies the settings.

    Attributes
    ----------
    rows : dict
        SHA-256 of an image's file → its row.
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
        """Read which rows are intact, and truncate what an interrupted call left incomplete."""
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
        """Forget the images whose pixels do not match their checksum, so that they are prepared again.

        Parameters
        ----------
        sha256s : sequence of str
            Images to check.
        """
        wanted = {sha: self.rows[sha] for sha in dict.fromkeys(sha256s) if sha in self.rows}
        if not wanted:
            return
        images = PreparedImages(self.pixels, self.crop, np.array(list(wanted.values())))
        damaged = []
        for number, sha in enumerate(progress_if_slow(list(wanted), f"checking {self.crop}")):
            try:
                images[number]
            except DataError:
                damaged.append(sha)
        if damaged:
            logger.warning(
                f"{self.pixels} is damaged: {len(damaged):,} of {len(wanted):,} images are not what was written. They "
                "are prepared again."
            )
        for sha in damaged:
            del self.rows[sha]

    def append(self, prepared: "list[Prepared]") -> None:
        """Add the images that have this crop; their SHA-256 is written last, so that an interrupted row does not count.

        Parameters
        ----------
        prepared : list of Prepared
        """
        new = [image for image in prepared if self.crop in image.pixels]
        first = self.index.stat().st_size // 65
        checksums = [image_checksums(image.pixels[self.crop][None])[0] for image in new]
        facts = [_facts_checksum(image.sha256.encode("ascii"), image.sigma) for image in new]
        parts = {
            self.pixels: b"".join(image.pixels[self.crop].tobytes() for image in new),
            self.sigmas: np.array([image.sigma for image in new], dtype=np.float32).tobytes(),
            self.checksums: np.array(checksums, dtype=CHECKSUM).tobytes(),
            self.facts: np.array(facts, dtype=CHECKSUM).tobytes(),
            self.index: "".join(f"{image.sha256}\n" for image in new).encode("ascii"),  # last, as it says what is there
        }
        with writing_to(self.folder):
            for path, data in parts.items():
                with path.open("ab") as file:
                    file.write(data)
        self.rows |= {image.sha256: row for row, image in enumerate(new, start=first)}


def _facts_checksum(sha256: bytes, sigma: float) -> int:
    return zlib.crc32(sha256 + np.float32(sigma).tobytes())


@dataclass(frozen=True)
class Prepared:
    """One image in the crops that the caches lacked.

    Attributes
    ----------
    sha256 : str
        Of its file.
    pixels : dict
        Crop → ndarray of uint8, shape (size, size, 3).
    sigma : float
        Estimated noise in 8-bit grey levels; NaN where denoising is off.
    """

    sha256: str
    pixels: dict[Crop, np.ndarray]
    sigma: float


class _Job(NamedTuple):
    """An image to prepare in some crops."""

    path: Path
    sha256: str
    crops: list[Crop]


def _fill(
    caches: list[Cache], jobs: list[_Job], settings: Denoise, num_workers: int | None, *, total: int, description: str
) -> None:
    """Prepare images and append them to the caches, chunk by chunk."""
    with (
        progress(total=total, initial=total - len(jobs), description=description, unit="images") as bar,
        closing(
            map_in_threads(
                partial(_prepare, settings), jobs, worker_count(num_workers), describe_task=lambda job: str(job.path)
            )
        ) as images,
    ):
        while chunk := list(islice(images, CHUNK_SIZE)):
            for cache in caches:
                cache.append(chunk)
            bar.update(len(chunk))


def _prepare(settings: Denoise, job: _Job) -> Prepared:
    path, sha256, crops = job
    try:
        data = read_file(path)
    except DataError as error:
        raise type(error)(error.message, hint=AGAIN if isinstance(error, UnreadableNowError) else CHECK) from error
    # The cache is looked up by content, so pixels of a changed file would be stored under a wrong SHA-256.
    if hashlib.sha256(data).hexdigest() != sha256:
        raise DataError(f"{path} has changed since the dataset was built.", hint=CHECK)
    prepared = prepare_crops(data, crops, settings, name=str(path))
    return Prepared(sha256, dict(prepared), prepared.sigma)


def worker_pool(num_workers: int, settings: Denoise | None = None) -> Workers:
    """Start processes that prepare images.

    Parameters
    ----------
    num_workers : int
    settings : Denoise, optional
        If it denoises, or is not given, the loops are compiled first, so that each process finds them on disk.

    Returns
    -------
    Workers
    """
    if settings is None or settings.enabled:
        warm_up()
    return Workers(num_workers)
