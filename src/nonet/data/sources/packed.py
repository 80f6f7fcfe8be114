"""Images inside tables and arrays: Parquet files with an image column, and MedMNIST's npz. Read as a stream."""

import hashlib
import io
import json
import math
import re
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from PIL import Image

from nonet.artifacts.integrity import UNPARSABLE
from nonet.data.images.formats import IMAGE_SUFFIXES
from nonet.data.sources.walk import walk_files
from nonet.errors import DataError

if TYPE_CHECKING:
    import numpy as np

BATCH_SIZE = 64  # images in memory; a crop of 368 x 368 px takes about 30 kB as JPEG


def files_fingerprint(files: Collection[Path]) -> str:
    """Return a text that changes when one of the files is added, removed, resized or rewritten.

    Parameters
    ----------
    files : collection of Path

    Returns
    -------
    str
        12 hexadecimal digits.
    """
    facts = sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]


def as_png(pixels: "np.ndarray") -> bytes:
    """Encode pixels as a PNG file, which is lossless.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width) or (height, width, 3)

    Returns
    -------
    bytes
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()


def safe_name(text: str) -> str:
    """Return a text as a file name that works anywhere: characters other than letters, digits, "." "_" "-" become "_".

    Parameters
    ----------
    text : str

    Returns
    -------
    str
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._") or "_"


@dataclass(frozen=True)
class PackedImages:
    """Images inside Parquet files or arrays; see `Packed`.

    Attributes
    ----------
    places : dict
        Path of an image → (file, column or array, row).
    read : callable
        `read_cells` or `read_arrays`: function of file, column or array, and row → path, that yields (path, image).
    """

    places: dict[str, tuple[Path, str, int]]
    read: Callable[[Path, str, dict[int, str]], Iterator[tuple[str, bytes | DataError]]]

    def fingerprint(self) -> str:
        """Return a short text that changes with the files."""
        return files_fingerprint({file for file, _, _ in self.places.values()})

    def images(self, paths: Collection[str]) -> Iterator[tuple[str, bytes | DataError]]:
        """Yield the images of some paths, file by file. See `Packed.images`."""
        wanted: dict[tuple[Path, str], dict[int, str]] = {}
        for path in paths:
            file, part, row = self.places[path]
            wanted.setdefault((file, part), {})[row] = path
        for (file, part), rows in wanted.items():
            yield from _with_errors(self.read(file, part, rows), rows, file)


def read_cells(file: Path, column: str, rows: dict[int, str]) -> Iterator[tuple[str, bytes | DataError]]:
    """Yield (path, an image's own bytes) from a struct column (bytes, path), as the Hugging Face hub writes them.

    Parameters
    ----------
    file : Path
    column : str
        Of the images.
    rows : dict
        Row → path.

    Yields
    ------
    path : str
    data : bytes or DataError
    """
    import pyarrow.parquet as parquet

    first = 0
    with parquet.ParquetFile(file) as opened:
        for batch in opened.iter_batches(BATCH_SIZE, columns=[column]):
            here = [row for row in range(first, first + batch.num_rows) if row in rows]
            cells = batch.column(0).to_pylist() if here else []
            for row in here:
                data = (cells[row - first] or {}).get("bytes")
                yield rows[row], data or DataError(f"row {row} of {file} contains no image.")
            first += batch.num_rows


def _with_errors(
    images: Iterable[tuple[str, bytes | DataError]], rows: dict[int, str], file: Path
) -> Iterator[tuple[str, bytes | DataError]]:
    """Yield the images; where the file turns out to be damaged, an error for each of the remaining ones."""
    remaining = set(rows.values())
    error: Exception | str = "it has fewer rows"
    try:
        for path, data in images:
            remaining.discard(path)
            yield path, data
    except (OSError, AttributeError, *UNPARSABLE) as caught:
        error = caught
    for path in sorted(remaining):
        yield path, DataError(f"{file} is damaged: {error}.")


def read_parquet(file: Path, columns: list[str]) -> tuple[dict[str, list], dict[str, list[str]]]:
    """Read columns of a Parquet file other than images.

    Parameters
    ----------
    file : Path
    columns : list of str
        A field of a struct is written "column.field".

    Returns
    -------
    values : dict
        Column → list of values, without absent columns.
    names : dict
        Column → names of its classes, where the hub stored them.

    Raises
    ------
    DataError
        When the file cannot be read.
    """
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(file) as opened:
            leaves = {opened.schema.column(i).path for i in range(len(opened.schema))}
            present = leaves | {path.split(".")[0] for path in leaves}
            wanted = [column for column in columns if column in present]
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
    """Return the Parquet files below a folder in order, without hidden folders such as a download's cache.

    Parameters
    ----------
    path : Path

    Returns
    -------
    list of Path
    """
    return walk_files(path, ".parquet")


def image_suffix(name: str | None) -> str:
    """Return the extension of an image's recorded name, or ".img": its bytes tell what it is.

    Parameters
    ----------
    name : str or None

    Returns
    -------
    str
    """
    suffix = Path(name or "").suffix.lower()
    return suffix if suffix in IMAGE_SUFFIXES else ".img"


def read_arrays(file: Path, array: str, rows: dict[int, str]) -> Iterator[tuple[str, bytes | DataError]]:
    """Yield (path, a PNG file) from an array NAME.npy of shape (images, height, width[, 3]) in an npz file.

    The array is read from its start to the last requested row, one row in memory at a time.

    Parameters
    ----------
    file : Path
    array : str
        NAME.
    rows : dict
        Row → path.

    Yields
    ------
    path : str
    data : bytes
    """
    import numpy as np

    with zipfile.ZipFile(file) as archive, archive.open(f"{array}.npy") as stream:
        shape, _, dtype = _npy_header(stream)
        num_bytes = math.prod(shape[1:]) * dtype.itemsize
        for index in range(max(rows) + 1):
            data = stream.read(num_bytes)
            if len(data) < num_bytes:
                raise EOFError(f"it ends before image {index}")  # cut short, or its header is wrong
            if index in rows:
                yield rows[index], as_png(np.frombuffer(data, dtype=dtype).reshape(shape[1:]))


def _npy_header(stream: IO[bytes]) -> "tuple[tuple[int, ...], bool, np.dtype]":
    """Read the header of an array: its shape, whether it is in Fortran order, and its type."""
    import numpy as np

    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(stream)


def npz_arrays(file: Path, names: list[str]) -> "dict[str, np.ndarray]":
    """Read small arrays of an npz: labels, not images.

    Parameters
    ----------
    file : Path
    names : list of str

    Returns
    -------
    dict
        Name → ndarray.

    Raises
    ------
    DataError
        When the file is not an npz, is cut short, or lacks one of the arrays.
    """
    import numpy as np

    try:
        with np.load(file, allow_pickle=False) as arrays:
            missing = [name for name in names if name not in arrays.files]
            if missing:
                raise DataError(f"{file} has no array {missing[0]}; it has {', '.join(arrays.files)}.")
            return {name: arrays[name] for name in names}
    except (OSError, MemoryError, *UNPARSABLE) as error:
        raise DataError(f"{file} cannot be read as npz: {error}.", hint="Download it again.") from error


def npz_shape(file: Path, name: str) -> "tuple[tuple[int, ...], np.dtype]":
    """Return shape and type of an array of images in an npz without reading it.

    Parameters
    ----------
    file : Path
    name : str

    Returns
    -------
    shape : tuple of int
    dtype : numpy.dtype

    Raises
    ------
    DataError
        When the array is missing, or does not have rows of uint8.
    """
    import numpy as np

    try:
        with zipfile.ZipFile(file) as archive, archive.open(f"{name}.npy") as stream:
            shape, fortran, dtype = _npy_header(stream)
    except (OSError, MemoryError, *UNPARSABLE) as error:
        raise DataError(f"{file} has no array of images {name}: {error}.", hint="Download it again.") from error
    if dtype != np.uint8 or fortran or len(shape) not in (3, 4):
        raise DataError(f"{file}: {name} is {dtype} {shape}, not uint8 (images, height, width[, 3]).")
    return shape, dtype
