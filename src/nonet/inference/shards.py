"""The shards that are to be predicted: a folder of them, or files of nonet's or of others."""

import glob
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nonet.artifacts.integrity import read_sealed, require_whole
from nonet.data.shards import parquet, webdataset
from nonet.data.shards.folder import AGAIN, INDEX, read_index
from nonet.data.shards.shard_image import ShardError
from nonet.data.sources.paths import absolute_path
from nonet.errors import DamagedError, DataError
from nonet.inference.folder import file_state


@dataclass(frozen=True)
class Shard:
    """A file with many images.

    Attributes
    ----------
    path : Path
        Absolute.
    num_images : int or None
        As its record says; None for shards of others.
    file : dict or None
        Its size and checksum, as its record says.
    """

    path: Path
    num_images: int | None = None
    file: dict | None = None

    @property
    def identity(self) -> str:
        """What changes when its content does."""
        return self.file["sha256"] if self.file is not None else str(file_state(self.path))

    def require_whole(self) -> None:
        """Raise ShardError if the file is missing, or is not what was written."""
        if self.file is None:
            return  # the reader notices what it can
        try:
            require_whole(self.path, self.file, hint=AGAIN)
        except DamagedError as error:
            raise ShardError(error.message, hint=error.hint) from error


def open_shard(path: str | Path) -> Shard:
    """Return a shard with what its record, the file shard-000012.json beside it, says about it."""
    path = Path(path).absolute()
    try:
        record = read_sealed(path.with_suffix(".json"), hint="")
        if record["name"] == path.name:
            return Shard(path, int(record["num_images"]), dict(record["file"]))
    except (DamagedError, KeyError, TypeError, ValueError):
        pass
    return Shard(path)


def find_shards(items: Iterable[str | Path]) -> list[Shard] | None:
    """List the shards among what was given to predict, each once, in the order given.

    Parameters
    ----------
    items : iterable of paths
        Folders of shards, shards, and globs.

    Returns
    -------
    list of Shard or None
        None if none of the items is a shard.

    Raises
    ------
    DataError
        If some are and others are not.
    RunError
        If a folder of shards is unfinished.
    """
    given = [str(item) for item in items]
    found = {item: _expand(item) for item in given}
    others = [item for item, shards in found.items() if not shards]
    if len(others) == len(found):
        return None
    if others:
        first = next(item for item in given if found[item])
        raise DataError(
            f"{first} is a shard, or holds shards, and {others[0]} does not.", hint="Predict them separately."
        )
    return list({shard.path: shard for shards in found.values() for shard in shards}.values())


def _expand(item: str) -> list[Shard]:
    """Return the shards that a path or pattern stands for; [] if it stands for something else."""
    path = absolute_path(item) if item.startswith("~") else Path(item)
    if (path / INDEX).exists():
        entries = read_index(path)["shards"]
        folder = path.absolute()
        return [Shard(folder / Path(one["name"]).name, one["num_images"], one["file"]) for one in entries]
    if path.is_file():
        return [open_shard(path)] if _is_shard(path) else []
    if glob.has_magic(item):
        matches = [Path(match) for match in sorted(glob.glob(str(path))) if Path(match).suffix != ".json"]
        shards = [open_shard(match) for match in matches if match.is_file() and _is_shard(match)]
        return shards if len(shards) == len(matches) else []
    return []


def _is_shard(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix == webdataset.SUFFIX:
        return True
    return suffix == parquet.SUFFIX and path.name != "manifest.parquet" and parquet.has_images(path)
