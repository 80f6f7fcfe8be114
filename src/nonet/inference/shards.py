"""The shards that are to be predicted: a folder of them, or files of nonet's or of others."""

import contextlib
import glob
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nonet.artifacts.integrity import read_sealed, require_whole
from nonet.artifacts.mirror import matches
from nonet.artifacts.stores import Store, has_file, local_copy, split
from nonet.artifacts.urls import as_url
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
    place : str
        Absolute path, or address in an object store.
    num_images : int or None
        As its record says; None for shards of others.
    file : dict or None
        Its size and checksum, as its record says.
    """

    place: str
    num_images: int | None = None
    file: dict | None = None

    @property
    def identity(self) -> str:
        """What changes when its content does."""
        if self.file is not None:
            return self.file["sha256"]
        if (url := as_url(self.place)) is None:
            return str(file_state(Path(self.place)))
        store, name = split(url)
        return str(store.state(name))

    @contextlib.contextmanager
    def opened(self) -> Iterator[Path]:
        """Give the shard as a file of this machine while the block runs.

        Raises
        ------
        ShardError
            If the file is missing, or is not what was written.
        """
        with contextlib.ExitStack() as held:
            try:
                path = held.enter_context(local_copy(self.place))
                if self.file is not None:  # else the reader notices what it can
                    require_whole(path, self.file, hint=AGAIN)
            except DamagedError as error:
                raise ShardError(error.message.replace(str(path), self.place), hint=error.hint) from error
            except FileNotFoundError as error:
                raise ShardError(f"{self.place} is missing.", hint=AGAIN) from error
            yield path


def open_shard(path: str | Path) -> Shard:
    """Return a shard with what its record, the file shard-000012.json beside it, says about it."""
    url = as_url(path)
    place = url or str(Path(path).absolute())
    stem, name = place.rpartition(".")[0], place.rpartition("/")[2]
    try:
        with local_copy(f"{stem}.json") as file:
            record = read_sealed(file, hint="")
        if record["name"] == name:
            return Shard(place, int(record["num_images"]), dict(record["file"]))
    except (DamagedError, FileNotFoundError, KeyError, TypeError, ValueError):
        pass
    return Shard(place)


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
    return list({shard.place: shard for shards in found.values() for shard in shards}.values())


def _expand(item: str) -> list[Shard]:
    """Return the shards that a path or pattern stands for; [] if it stands for something else."""
    if url := as_url(item):
        return _expand_url(url)
    path = absolute_path(item) if item.startswith("~") else Path(item)
    if (path / INDEX).exists():
        return _listed(read_index(path), str(path.absolute()))
    if path.is_file():
        return [open_shard(path)] if _is_shard(path) else []
    if glob.has_magic(item):
        matches = [Path(match) for match in sorted(glob.glob(str(path))) if Path(match).suffix != ".json"]
        shards = [open_shard(match) for match in matches if match.is_file() and _is_shard(match)]
        return shards if len(shards) == len(matches) else []
    return []


def _listed(index: dict, folder: str) -> list[Shard]:
    """Return the shards of a folder's index."""
    return [Shard(f"{folder}/{Path(one['name']).name}", one["num_images"], one["file"]) for one in index["shards"]]


def _expand_url(url: str) -> list[Shard]:
    """Return the shards that an address or pattern in an object store stands for.

    Raises
    ------
    DataError
        If it stands for nothing.
    """
    with contextlib.suppress(FileNotFoundError), local_copy(f"{url}/{INDEX}") as file:
        return _listed(read_index(file.parent), url)
    found = [url] if _is_named_as_shard(url) and has_file(url) else []
    if not found and glob.has_magic(url):
        fixed = url[: re.search(r"[*?\[]", url).start()].rpartition("/")[0]  # type: ignore[union-attr]
        places = [f"{fixed}/{one}" for one in sorted(Store(fixed).files())]
        found = [place for place in places if matches(place, url) and _is_named_as_shard(place)]
    if not found:
        raise DataError(
            f"There is no shard at {url}.",
            hint='Give a folder that "nonet data shard" wrote and that was copied there, or files that end in .parquet '
            "or .tar. Single images are predicted from this machine only.",
        )
    return [open_shard(place) for place in found]


def _is_named_as_shard(place: str) -> bool:
    return place.lower().endswith((parquet.SUFFIX, webdataset.SUFFIX)) and not place.endswith("/manifest.parquet")


def _is_shard(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix == webdataset.SUFFIX:
        return True
    return suffix == parquet.SUFFIX and path.name != "manifest.parquet" and parquet.has_images(path)
