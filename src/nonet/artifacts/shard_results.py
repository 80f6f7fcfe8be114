"""The results of a prediction of shards: a Parquet file a shard, and an index. The only module that knows them.

A Parquet file has the columns of predictions.csv, path, and a logit of each class. Beside it, a record says which shard
and which model it is of, how many images of each kind it has, and its checksum; so it can be told whether it may stay.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nonet.artifacts.integrity import file_facts, read_sealed, reading, require_whole, write_sealed
from nonet.artifacts.storage import writing_to
from nonet.artifacts.stores import local_copy, split
from nonet.artifacts.urls import as_url
from nonet.errors import DamagedError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow.parquet as pq

INDEX = "predictions.json"
FOLDER = "results"
AGAIN = 'Run the same "nonet predict" again: it makes what is damaged or missing again.'
#: Files beside the results that counting needs.
TO_COUNT = (INDEX, "plan.json", "confusions.csv")
#: What a record counts.
COUNTS = ("num_images", "num_unreadable", "num_unidentified", "num_to_retry")
#: Rows that are written, and read, at a time.
ROWS = 4096


class Kind(NamedTuple):
    """What is counted of a row of predictions.

    Attributes
    ----------
    case : str
    label : str
        A class, "unidentified", or "" for an image that could not be read.
    reason : str
        Why it has no class; else "".
    """

    case: str
    label: str
    reason: str


class ResultWriter:
    """Writes the result of a shard, as a context manager.

    Parameters
    ----------
    path : Path
        A temporary path, as the file is not whole before the end.
    """

    def __init__(self, path: Path):
        self._path = path
        self._tables: list[pd.DataFrame] = []
        self._num_waiting = 0
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> "ResultWriter":
        return self

    def __exit__(self, kind: type | None, *about: object) -> None:
        if kind is None:
            self._write()
        if self._writer is not None:
            self._writer.close()

    def add(self, rows: "pd.DataFrame") -> None:
        """Add rows; columns whose type is not a number are text."""
        self._tables.append(rows)
        self._num_waiting += len(rows)
        if self._num_waiting >= ROWS:
            self._write()

    def _write(self) -> None:
        import pandas as pd
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self._tables:
            return
        table = pd.concat(self._tables, ignore_index=True)
        fields = [
            (name, pa.from_numpy_dtype(kind) if pd.api.types.is_numeric_dtype(kind) else pa.string())
            for name, kind in table.dtypes.items()
        ]
        schema = pa.schema(fields)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, schema, compression="zstd")
        rows = pa.Table.from_pandas(table, schema, preserve_index=False)
        self._writer.write_table(rows.replace_schema_metadata(None))
        self._tables, self._num_waiting = [], 0


def write_record(result: Path, facts: Mapping[str, object]) -> None:
    """Write the record of a result that was just written."""
    write_sealed(result.with_suffix(".json"), {**facts, "file": file_facts(result)})


def read_record(place: str) -> dict:
    """Return the record of a result, which is whole.

    Parameters
    ----------
    place : str
        Path or address of the result. In an object store a file is whole if it is there, so only its size is compared.

    Raises
    ------
    DamagedError
        If one of them is missing, damaged, or was edited.
    """
    path = record_of(place)
    try:
        with local_copy(path) as file:
            record = read_sealed(file, hint=AGAIN)
    except FileNotFoundError as error:
        raise DamagedError(f"{path} is missing.", hint=AGAIN) from error
    with reading(Path(path), hint=AGAIN):
        [record[key] for key in ("shard", "model", "labels", *COUNTS)]
    if url := as_url(place):
        store, name = split(url)
        state = store.state(name)
        if state is None or state[0] != record["file"]["bytes"]:
            raise DamagedError(f"{url} is missing or not whole.", hint=AGAIN)
    else:
        require_whole(Path(place), record.get("file"), hint=AGAIN)
    return record


def record_of(place: str) -> str:
    """Return the path or address of a result's record."""
    return f"{place.rpartition('.')[0]}.json"


def remove_result(place: str) -> None:
    """Remove a result, so that it is made again."""
    if url := as_url(place):
        store, name = split(url)
        store.remove([name])
        return
    with writing_to(place):
        Path(place).unlink()


def count_rows(path: Path) -> Counter[Kind]:
    """Return how many rows of each kind a result has; a few thousand rows are in memory at a time."""
    import pyarrow.parquet as pq

    counts: Counter[Kind] = Counter()
    with reading(path, hint=AGAIN), pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS, columns=list(Kind._fields)):
            counts.update(map(Kind, *(batch[name].to_pylist() for name in Kind._fields)))
    return counts


def is_of_shards(folder: Path) -> bool:
    """Whether a folder holds a finished prediction of shards."""
    return (folder / INDEX).exists()


def read_results(folder: Path) -> dict:
    """Return the index of a prediction of shards.

    Returns
    -------
    dict
        num_images, num_unreadable, num_unidentified, num_to_retry, labels, classes, shards, set_aside.

    Raises
    ------
    DamagedError
        If it is missing or damaged.
    """
    index = read_sealed(folder / INDEX, hint=AGAIN)
    with reading(folder / INDEX, hint=AGAIN):
        index["shards"], index["classes"], index["set_aside"]
    return index


def read_counts(folder: str, index: dict) -> Iterator[Counter[Kind]]:
    """Yield what `count_rows` returns of each result of a folder, in the order of the shards.

    Parameters
    ----------
    folder : str
        Path, or address in an object store.
    index : dict
        From `read_results`.

    Raises
    ------
    DamagedError
        If a result is missing, damaged, or was edited.
    """
    for entry in index["shards"]:
        place = f"{folder}/{FOLDER}/{Path(entry['name']).name}"
        try:
            with local_copy(place) as path:
                require_whole(path, entry["file"], hint=AGAIN)
                yield count_rows(path)
        except FileNotFoundError as error:
            raise DamagedError(f"{place} is missing.", hint=AGAIN) from error
