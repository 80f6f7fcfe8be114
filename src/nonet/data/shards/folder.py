"""A folder of shards: its files, its index, and which of its shards are whole.

Beside each shard, `shard-000012.json` says what it contains and has its checksum: by these an interrupted call
continues. `shards.json` comes last: a folder without it is unfinished.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from nonet.artifacts.integrity import file_facts, read_sealed, require_whole, write_sealed
from nonet.artifacts.run import remove_leftovers
from nonet.artifacts.storage import (
    TEMPORARY,
    FolderKind,
    exclusive_lock,
    prepare_folder,
    require_usable_folder,
    writing_to,
)
from nonet.errors import DamagedError, RunError

INDEX = "shards.json"
AGAIN = 'Run the same "nonet data shard" again.'
_FOLDER = FolderKind(
    "folder of shards",
    main=INDEX,
    keys={"shards", "num_images"},
    hint="Give a new or an empty folder as `out`, or that of earlier shards.",
)
_OWN = re.compile(r"shard-\d{6,}\.(parquet|tar|json)")


class ShardFolder:
    """The files of a folder of shards; nothing is written before `lock`.

    Parameters
    ----------
    path : Path
    suffix : str
        Of the shards.
    """

    def __init__(self, path: str | Path, suffix: str):
        self.path = Path(path).expanduser()
        self.suffix, self.index = suffix, self.path / INDEX

    def __str__(self) -> str:
        return str(self.path)

    def require_usable(self) -> None:
        """Raise StorageError if the folder is not nonet's; nothing is changed."""
        require_usable_folder(self.path, _FOLDER)

    def lock(self) -> AbstractContextManager[None]:
        """Return a context manager that locks the folder against other calls, and marks it as nonet's."""
        prepare_folder(self.path, _FOLDER)
        return exclusive_lock(
            self.path / ".nonet.lock",
            f"Another process is writing shards to {self}.",
            "Wait for it, or give another `out`.",
        )

    def shard(self, number: int) -> Path:
        """Return the path of a shard."""
        return self.path / f"shard-{number:06d}{self.suffix}"

    def entry(self, number: int, inputs: str) -> dict | None:
        """Return what is known of a shard if it is whole, of these inputs, and has no image to read again; else None.

        Parameters
        ----------
        number : int
        inputs : str
            Digest of the images that it is made of.
        """
        shard = self.shard(number)
        try:
            entry = read_sealed(self._record(number), hint="")
            if entry["inputs"] != inputs or entry["name"] != shard.name or entry["num_to_retry"]:
                return None
            require_whole(shard, entry["file"], hint="")
        except (DamagedError, KeyError):
            return None
        return entry

    def record(self, number: int, facts: Mapping[str, object]) -> dict:
        """Store what a shard that was just written contains, and return it."""
        shard = self.shard(number)
        write_sealed(self._record(number), {"name": shard.name, **facts, "file": file_facts(shard)})
        return read_sealed(self._record(number), hint=AGAIN)

    def open_again(self) -> None:
        """Remove the index, so that nobody takes the folder for finished while shards are written."""
        with writing_to(self.index):
            self.index.unlink(missing_ok=True)

    def finish(self, entries: Sequence[dict]) -> None:
        """Remove shards of earlier calls and what is left of interrupted ones, and write the index if it changed."""
        remove_leftovers(self.index)
        keep = {Path(entry["name"]).stem for entry in entries}
        for file in self.path.iterdir():
            name = file.name.removeprefix(TEMPORARY)
            is_leftover = name != file.name and _OWN.match(name)
            other_format = Path(name).suffix not in (self.suffix, ".json")
            if is_leftover or (_OWN.fullmatch(name) and (Path(name).stem not in keep or other_format)):
                file.unlink(missing_ok=True)
        shards = [{key: value for key, value in entry.items() if key != "format_version"} for entry in entries]
        facts = add_up(shards) | {"shards": shards}
        try:
            stored = read_sealed(self.index, hint="")
        except DamagedError:
            stored = {}
        if any(stored.get(key) != value for key, value in facts.items()):
            write_sealed(self.index, facts)

    def _record(self, number: int) -> Path:
        return self.shard(number).with_suffix(".json")


def add_up(entries: Sequence[dict]) -> dict[str, int]:
    """Return how many images shards have together, of each kind."""
    return {key: sum(entry[key] for entry in entries) for key in ("num_images", "num_unreadable", "num_to_retry")}


def read_index(folder: Path) -> dict:
    """Return the content of a folder's shards.json.

    Raises
    ------
    RunError
        If the folder is unfinished.
    DamagedError
        If the index is damaged.
    """
    index = folder / INDEX
    if not index.exists():
        raise RunError(f"{folder} has no {INDEX}: its shards are not finished.", hint=AGAIN)
    data = read_sealed(index, hint=AGAIN)
    if not isinstance(data.get("shards"), list):
        raise DamagedError(f"{index} is damaged: it lacks shards.", hint=AGAIN)
    return data
