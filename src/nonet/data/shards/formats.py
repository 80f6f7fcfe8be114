"""The formats of shards. A format is one entry."""

from collections.abc import Iterator
from pathlib import Path

from nonet.data.shards import parquet, webdataset
from nonet.data.shards.shard_image import ShardError, ShardFormat, ShardImage

FORMATS = {
    "parquet": ShardFormat(parquet.SUFFIX, parquet.write, parquet.read),
    "webdataset": ShardFormat(webdataset.SUFFIX, webdataset.write, webdataset.read),
}


def read_shard(path: Path) -> Iterator[ShardImage]:
    """Yield the images of a shard in their order, a few of which are in memory at a time.

    Parameters
    ----------
    path : Path
        Its suffix says which format it has.

    Yields
    ------
    ShardImage

    Raises
    ------
    ShardError
        If it is missing, damaged, or of no such format.
    """
    for entry in FORMATS.values():
        if path.suffix.lower() == entry.suffix:
            return entry.read(path)
    suffixes = " or ".join(entry.suffix for entry in FORMATS.values())
    raise ShardError(f"{path} is not a shard.", hint=f"Give files that end in {suffixes}.")
