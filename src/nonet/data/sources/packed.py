"""Images inside tables and arrays: Parquet files with an image column, and MedMNIST's npz. Read as a stream."""

import hashlib
import io
import json
import math
import re
import zipfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from nonet.artifacts.integrity import UNPARSABLE
from nonet.data.images.formats import IMAGE_SUFFIXES
from nonet.data.sources.walk import walk_files
from nonet.errors import DataError

ROWS_AT_ONCE = 64  # images in memory; a stamp of 368 x 368 px takes about 30 kB as JPEG


def stamp_of(files: Collection[Path]) -> str:
    """Return a text that changes when a file is added, removed, resized or written again."""
    facts = sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]


def as_png(pixels: np.ndarray) -> bytes:
    """Return uint8 pixels (height, width[, 3]) as a PNG file: nothing is lost."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()


def safe_name(text: str) -> str:
    """Return text that can be a file's name anywhere: other characters than letters, digits, . _ - become _."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._") or "_"


class ParquetImages:
    """Images in the struct column (bytes, path) that the Hugging Face hub writes.

    Parameters
    ----------
    places : our path of an image → (Parquet file, row in it).
    column : of the image.
    """

    def __init__(self, places: dict[str, tuple[Path, int]], column: str = "image"):
        self.places, self.column = places, column

    def stamp(self) -> str:
        """Return a text that changes with the files."""
        return stamp_of({file for file, _ in self.places.values()})

    def images(self, paths: Collection[str]) -> Iterator[tuple[str, bytes | DataError]]:
        """Give each image's own bytes, file by file."""
        import pyarrow.parquet as parquet

        wanted: dict[Path, dict[int, str]] = {}
        for path in paths:
            file, row = self.places[path]
            wanted.setdefault(file, {})[row] = path
        for file, rows in wanted.items():
            yield from _or_error(_cells_of(parquet, file, self.column, rows), rows, file)


def _cells_of(parquet, file: Path, column: str, rows: dict[int, str]) -> Iterator[tuple[str, bytes | DataError]]:
    first = 0
    with parquet.ParquetFile(file) as opened:
        for batch in opened.iter_batches(ROWS_AT_ONCE, columns=[column]):
            here = [row for row in range(first, first + batch.num_rows) if row in rows]
            cells = batch.column(0).to_pylist() if here else []
            for row in here:
                data = (cells[row - first] or {}).get("bytes")
                yield rows[row], data or DataError(f"row {row} of {file} holds no image.")
            first += batch.num_rows


def _or_error(
    images: Iterator[tuple[str, bytes | DataError]], rows: dict[int, str], file: Path
) -> Iterator[tuple[str, bytes | DataError]]:
    """Give the images; and where the file is damaged, its error for each that is still to come."""
    left = set(rows.values())
    error: Exception | str = "it has fewer rows"
    try:
        for path, data in images:
            left.discard(path)
            yield path, data
    except (OSError, AttributeError, *UNPARSABLE) as caught:
        error = caught
    for path in sorted(left):
        yield path, DataError(f"{file} is damaged: {error}.")


def read_parquet(file: Path, columns: list[str]) -> tuple[dict[str, list], dict[str, list[str]]]:
    """Read columns of a Parquet file, without its images.

    Returns
    -------
    column → values, absent columns left out; column → names of its classes, where the hub recorded them.

    Raises
    ------
    DataError where the file cannot be read.
    """
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(file) as opened:
            have = {path.split(".")[0] for path in (opened.schema.column(i).path for i in range(len(opened.schema)))}
            leaves = {opened.schema.column(i).path for i in range(len(opened.schema))}
            wanted = [column for column in columns if column in have or column in leaves]
            table = opened.read(columns=wanted)
            metadata = opened.schema_arrow.metadata or {}
    except (OSError, MemoryError, *UNPARSABLE) as error:
        raise DataError(f"{file} cannot be read as Parquet: {error}.", hint="Download it again.") from error
    values = {}
    for column in wanted:
        top, _, inner = column.partition(".")
        cells = table.column(top).to_pylist()
        values[column] = [cell and cell.get(inner) for cell in cells] if inner else cells
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        names = {key: feature["names"] for key, feature in features.items() if feature.get("names")}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        names = {}
    return values, names


def parquet_files(path: Path) -> list[Path]:
    """Return the Parquet files below a folder, in order; hidden folders, like a download's cache, are passed over."""
    return walk_files(path, ".parquet")


def image_suffix(name: str | None) -> str:
    """Return the ending that an image's recorded name gives it, or .img: what it is, its bytes say."""
    suffix = Path(name or "").suffix.lower()
    return suffix if suffix in IMAGE_SUFFIXES else ".img"


@dataclass
class NpzImages:
    """Images in arrays NAME.npy (images, height, width[, 3]) of an npz file, in constant memory.

    Attributes
    ----------
    file : the npz.
    places : our path of an image → (array, index in it).
    """

    file: Path
    places: dict[str, tuple[str, int]]

    def stamp(self) -> str:
        """Return a text that changes with the file."""
        return stamp_of({self.file})

    def images(self, paths: Collection[str]) -> Iterator[tuple[str, bytes | DataError]]:
        """Give each image as a PNG."""
        wanted: dict[str, dict[int, str]] = {}
        for path in paths:
            array, index = self.places[path]
            wanted.setdefault(array, {})[index] = path
        for array, rows in wanted.items():
            yield from _or_error(_arrays_of(self.file, array, rows), rows, self.file)


def _arrays_of(file: Path, array: str, rows: dict[int, str]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(file) as archive, archive.open(f"{array}.npy") as stream:
        yield from _rows_of(stream, rows)


def _rows_of(stream, rows: dict[int, str]) -> Iterator[tuple[str, bytes]]:
    """Read an array from its start to the last row asked for, one row in memory at a time."""
    shape, _, dtype = _npy_header(stream)
    num_bytes = math.prod(shape[1:]) * dtype.itemsize
    for index in range(max(rows) + 1):
        data = stream.read(num_bytes)
        if len(data) < num_bytes:
            raise EOFError(f"it ends before image {index}")  # cut short; or its head promises more than is there
        if index in rows:
            yield rows[index], as_png(np.frombuffer(data, dtype=dtype).reshape(shape[1:]))


def _npy_header(stream) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read the head of an array: its shape, whether it lies column by column, and its type."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(stream)


def npz_arrays(file: Path, names: list[str]) -> dict[str, np.ndarray]:
    """Read small arrays of an npz: labels, not images.

    Raises
    ------
    DataError where the file is no npz, is cut short, or lacks one.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            missing = [name for name in names if name not in arrays.files]
            if missing:
                raise DataError(f"{file} has no array {missing[0]}; it has {', '.join(arrays.files)}.")
            return {name: arrays[name] for name in names}
    except (OSError, MemoryError, *UNPARSABLE) as error:
        raise DataError(f"{file} cannot be read as npz: {error}.", hint="Download it again.") from error


def npz_shape(file: Path, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Return shape and type of an array of an npz without reading it. DataError where it is not rows of uint8."""
    try:
        with zipfile.ZipFile(file) as archive, archive.open(f"{name}.npy") as stream:
            shape, fortran, dtype = _npy_header(stream)
    except (OSError, MemoryError, *UNPARSABLE) as error:
        raise DataError(f"{file} has no array of images {name}: {error}.", hint="Download it again.") from error
    if dtype != np.uint8 or fortran or len(shape) not in (3, 4):
        raise DataError(f"{file}: {name} is {dtype} {shape}, not uint8 (images, height, width[, 3]).")
    return shape, dtype
