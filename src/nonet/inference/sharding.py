"""`shard_images`: many small images in, a few large files out, which file systems, networks and clusters take better.

A hundred million images are as many inodes and as many requests; a shard is one of each.
"""

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from nonet.artifacts.run import written_whole
from nonet.data.images.files import read_file
from nonet.data.shards.folder import ShardFolder, add_up
from nonet.data.shards.formats import FORMATS
from nonet.data.shards.shard_image import ShardImage
from nonet.data.sources.paths import valid_unicode
from nonet.errors import DataError, UnreadableNowError, choose_from, counted
from nonet.inference.folder import file_state
from nonet.inference.inputs import CaseFrom, Input, find_inputs
from nonet.progress import progress
from nonet.workers import map_in_threads, worker_count

if TYPE_CHECKING:
    from tqdm import tqdm

logger = logging.getLogger("nonet")

FormatName = Literal["parquet", "webdataset"]
assert get_args(FormatName) == tuple(FORMATS)
#: 128 chunks of a prediction: a quarter of a gigabyte of cells, and minutes of work.
IMAGES_PER_SHARD = 8192


@dataclass(frozen=True)
class Shards:
    """The result of `nonet.shard_images`.

    Attributes
    ----------
    folder : Path
        With the shards and shards.json.
    num_shards : int
    num_images : int
        Rows of all shards together, one an image.
    num_unreadable : int
        Rows with an error in place of an image.
    num_to_retry : int
        Those that may be readable later; the same call reads them again.
    """

    folder: Path
    num_shards: int
    num_images: int
    num_unreadable: int
    num_to_retry: int

    def __str__(self) -> str:
        shards = counted(self.num_shards, "shard", "shards")
        unreadable = f", {self.num_unreadable:,} of them unreadable" if self.num_unreadable else ""
        text = f"{self.num_images:,} images{unreadable} in {shards}: {self.folder}"
        if self.num_to_retry:
            text += (
                f"\n{self.num_to_retry:,} of the unreadable could not be read now. When they can be, run the same "
                "command again: it writes only their shards again."
            )
        return text


def shard_images(
    images: str | Path | Iterable[str | Path],
    *,
    out: str | Path,
    format: FormatName = "parquet",
    images_per_shard: int = IMAGES_PER_SHARD,
    split: str | None = None,
    case: str | None = None,
    case_from: CaseFrom = "column",
    num_workers: int | None = None,
) -> Shards:
    """Pack images into shards, large files that `nonet.predict_shards` predicts on one machine or many.

    Files are stored as they are, never encoded anew. One that cannot be read is a row with its error. The list of
    images is in memory: about 1 kB each, so give an archive of a hundred million in several calls.

    Parameters
    ----------
    images : path or iterable of paths
        As for `nonet.predict`: files, folders, globs, a CSV with a column "path", or a dataset folder.
    out : path
        Folder for the shards: new, empty, or that of earlier shards, which are replaced. If interrupted, the same call
        resumes; once finished, it writes only shards whose images changed or could not be read for a transient reason.
    format : {"parquet", "webdataset"}
        Parquet files with the columns image, path, case, data and error, or tar archives with KEY.jpg and KEY.json.
    images_per_shard : int
        What one task predicts, and what is lost of it if its machine dies. If it is a multiple of 64, results are those
        of `nonet.predict` to the last bit; else images are predicted with other neighbours, which may change the last
        digits.
    split : str, optional
        Only this split of a dataset, for example "test".
    case : str, optional
        Name of the case that all these images belong to, for `nonet.count`.
    case_from : {"column", "folder"}
        Where cases are named, if `case` is not given: in the column "case", or else "patient", of a CSV file or
        dataset; or by folder, one per case: the first below each folder given, or the one that an image lies in.
    num_workers : int, optional
        Number of threads that read files. Default: one per core.

    Returns
    -------
    Shards
        Where they are, and how many images they have.

    Raises
    ------
    StorageError
        If `out` contains something that nonet did not write, or the disk is full.
    RunError
        If another process is writing shards to it.
    DataError
        If there is no image, or an option is wrong.
    """
    if format not in FORMATS:
        raise DataError(f'Unknown `format` "{format}".', hint=choose_from(format, FORMATS))
    if images_per_shard < 1:
        raise DataError(f"`images_per_shard` is {images_per_shard}.", hint="Give 1 or more.")
    folder = ShardFolder(out, FORMATS[format].suffix)
    folder.require_usable()
    given = [images] if isinstance(images, (str, Path)) else images
    inputs = find_inputs(given, split=split, case=case, case_from=case_from)
    with folder.lock():
        entries = _write_shards(folder, format, inputs, images_per_shard, worker_count(num_workers))
        folder.finish(entries)
    return Shards(folder.path, len(entries), **add_up(entries))


def _write_shards(folder: ShardFolder, format: str, inputs: list[Input], size: int, num_threads: int) -> list[dict]:
    """Write the shards that are not there yet, and return what each contains."""
    entries = []
    with progress(total=len(inputs), description="sharding", unit="images") as bar:
        for number, start in enumerate(range(0, len(inputs), size)):
            some = inputs[start : start + size]
            digest = _digest(format, some, num_threads)
            entry = folder.entry(number, digest)
            if entry is None:
                folder.open_again()
                counts = _write_shard(folder, number, format, some, num_threads, bar)
                entry = folder.record(number, {"inputs": digest, **counts})
            else:
                bar.update(len(some))
            entries.append(entry)
    return entries


def _digest(format: str, inputs: Sequence[Input], num_threads: int) -> str:
    """Return what a shard is made of, as a SHA-256: format, names, cases, and paths, sizes and times of the files."""
    digest = hashlib.sha256(format.encode())
    with closing(map_in_threads(lambda one: file_state(one.path), inputs, num_threads)) as states:
        for one, state in zip(inputs, states):
            path = os.fsencode(one.path.absolute()).hex()
            digest.update(f"{one.name}\0{one.case}\0{path}\0{state}\0".encode())
    return digest.hexdigest()


def _write_shard(
    folder: ShardFolder, number: int, format: str, inputs: Sequence[Input], num_threads: int, bar: "tqdm"
) -> dict[str, int]:
    """Write a shard, and return how many images it has of each kind."""
    counts = {"num_images": len(inputs), "num_unreadable": 0, "num_to_retry": 0}

    def rows() -> Iterator[ShardImage]:
        with closing(map_in_threads(_read, inputs, num_threads)) as read:
            for one, found in zip(inputs, read):
                path = valid_unicode(str(one.path))
                if isinstance(found, DataError):
                    counts["num_unreadable"] += 1
                    counts["num_to_retry"] += isinstance(found, UnreadableNowError)
                    yield ShardImage(one.name, path, one.case, b"", valid_unicode(found.message))
                else:
                    yield ShardImage(one.name, path, one.case, found)
                bar.update()

    with written_whole(folder.shard(number)) as temporary:
        FORMATS[format].write(temporary, rows())
    return counts


def _read(one: Input) -> bytes | DataError:
    try:
        return read_file(one.path)
    except DataError as error:
        return error
