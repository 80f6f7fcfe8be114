"""A folder of this machine that is the copy of one in an object store.

What nonet does with a folder, it does with the copy; what was written is copied to the store every few seconds, oldest
first, as files of a folder rely on those that were written before them. So a machine that is lost costs what was not
copied yet, and the same command on another one continues from the store.
"""

import contextlib
import fnmatch
import hashlib
import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from nonet.artifacts.run import write_json
from nonet.artifacts.storage import (
    MARKER,
    TEMPORARY,
    FolderKind,
    exclusive_lock,
    read_json,
    waiting_lock,
    writing_to,
)
from nonet.artifacts.stores import Store
from nonet.errors import NonetError, StorageError

logger = logging.getLogger("nonet")

#: Between two looks for what was written.
SECONDS_BETWEEN_COPIES = 10.0
#: What stays on this machine: locks, and files that are not whole.
_OWN = ("*.lock", f"{TEMPORARY}*", f"*/{TEMPORARY}*")


class Mirror:
    """A copy of a folder in a store.

    Parameters
    ----------
    url : str
        From `as_url`.
    folder : Path
        On this machine.
    only : sequence of str
        Patterns of names that are copied; "*" also stands for slashes.
    without : sequence of str
        Patterns of names that are not.
    """

    def __init__(self, url: str, folder: Path, *, only: Sequence[str] = ("*",), without: Sequence[str] = ()):
        self.url, self.folder, self.only, self.without = url, folder, only, (*without, *_OWN)
        self._store = Store(url)
        self._index = folder.with_name(f"{folder.name}.json")
        self._turn = threading.Lock()
        #: name → state in the store, then size and time here, when both were last the same.
        self._known: dict[str, list] = read_json(self._index)

    def pull(self, *, only: Sequence[str] = ("*",)) -> None:
        """Copy what is new in the store to this machine. What only changed here stays, for `push`.

        Parameters
        ----------
        only : sequence of str
            Patterns, besides those of the mirror.

        Raises
        ------
        StorageError
            If the store cannot be reached, or the disk is full.
        """
        with self._turn:
            found = {name: state for name, state in self._store.files().items() if self._is_copied(name, only)}
            for name, state in found.items():
                file = self.folder / name
                if self._known.get(name, [None])[0] == state and file.exists():
                    continue
                with contextlib.suppress(FileNotFoundError):  # removed since it was listed
                    self._store.get(name, file)
                    self._known[name] = [state, *_local_state(file)]
            for name in [name for name in self._known if self._is_copied(name, only) and name not in found]:
                (self.folder / name).unlink(missing_ok=True)
                del self._known[name]
            self._write_index()

    def push(self) -> None:
        """Copy what was written here to the store, and remove there what was removed here.

        Raises
        ------
        StorageError
            If the store cannot be reached.
        """
        with self._turn:
            here = {file.relative_to(self.folder).as_posix(): file for file in self.folder.rglob("*") if file.is_file()}
            here = {name: file for name, file in here.items() if self._is_copied(name)}
            gone = [name for name in self._known if self._is_copied(name) and name not in here]
            if not here:  # the copy itself was removed, which is no reason to remove the original
                gone = []
            self._store.remove(gone)
            for name in gone:
                del self._known[name]
            changed = [
                (state, name, file)
                for name, file in here.items()
                if (state := _local_state(file)) and self._known.get(name, [None])[1:] != state
            ]
            for state, name, file in sorted(changed, key=lambda one: one[0][1]):
                with contextlib.suppress(FileNotFoundError):  # removed since; the next time it is removed there
                    self._store.put(file, name)
                    stored = self._store.state(name)
                    self._known[name] = [stored[1] if stored else "", *state]
            if gone or changed:
                self._write_index()

    @contextlib.contextmanager
    def pushed(self) -> Iterator[None]:
        """Copy to the store every few seconds while the block runs, and once more when it ends, however it ends."""
        ended = threading.Event()
        watcher = threading.Thread(target=self._push_until, args=[ended], daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()
            self.push()

    def _push_until(self, ended: threading.Event) -> None:
        warned = False
        while not ended.wait(SECONDS_BETWEEN_COPIES):
            try:
                self.push()
                warned = False
            except NonetError as error:  # the store may be back the next time; at the end it is raised
                if not warned:
                    logger.warning(f"{error} Copying is tried again; until then this machine has the only copy.")
                warned = True

    def _is_copied(self, name: str, only: Sequence[str] = ("*",)) -> bool:
        wanted = all(any(fnmatch.fnmatchcase(name, one) for one in patterns) for patterns in (self.only, only))
        return wanted and not any(fnmatch.fnmatchcase(name, one) for one in self.without)

    def _write_index(self) -> None:
        write_json(self._index, self._known)


def _local_state(file: Path) -> list[int]:
    """Return size and time of a file; [] if there is none."""
    try:
        about = file.stat()
    except OSError:
        return []
    return [about.st_size, about.st_mtime_ns]


def kept_folder(url: str, purpose: str) -> Path:
    """Return where the copy of a folder in a store is kept on this machine.

    Parameters
    ----------
    url : str
        From `as_url`.
    purpose : {"read", "written"}
        A copy that is written to is not one that others read.

    Returns
    -------
    Path
    """
    from platformdirs import user_cache_path

    name, digest = url.rpartition("/")[2], hashlib.sha256(url.encode()).hexdigest()[:16]
    folder = user_cache_path("nonet") / "stores" / f"{digest}-{purpose}" / name
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def fetch(url: str, *, only: Sequence[str] = ("*",)) -> Path:
    """Return a copy of a folder in a store, kept on this machine and brought up to date; for reading.

    Parameters
    ----------
    url : str
        From `as_url`.
    only : sequence of str
        Patterns of names that are copied.

    Returns
    -------
    Path

    Raises
    ------
    StorageError
        If the store cannot be reached, or the disk is full.
    """
    folder = kept_folder(url, "read")
    with waiting_lock(folder.with_name(f"{folder.name}.lock")):
        Mirror(url, folder, only=only).pull()
    return folder


@contextlib.contextmanager
def mirrored(url: str, kind: FolderKind, *, without: Sequence[str] = ()) -> Iterator[Mirror]:
    """Work in a copy of a folder in a store, as its only process on this machine, while the block runs.

    Parameters
    ----------
    url : str
        From `as_url`.
    kind : FolderKind
        What the folder is, if it is not empty.
    without : sequence of str
        Patterns of names that are not copied.

    Yields
    ------
    Mirror
        Up to date, and copied to the store while the block runs.

    Raises
    ------
    BusyError
        If another process of this machine works in it.
    StorageError
        If the folder is something else, the store cannot be reached, or the disk is full.
    """
    folder = kept_folder(url, "written")
    busy = f"Another process of this machine is writing to {url}.", "Wait for it, or give another address."
    with exclusive_lock(folder.with_name(f"{folder.name}.lock"), *busy):
        _require_usable(Store(url), kind)
        logger.warning(
            f"An object store has no locks, so nonet cannot know whether another machine writes to {url}. Make sure "
            "that none does."
        )
        mirror = Mirror(url, folder, without=without)
        mirror.pull()
        with mirror.pushed():
            yield mirror


def _require_usable(store: Store, kind: FolderKind) -> None:
    """Raise StorageError if a folder of a store is neither empty nor of a kind, before it is copied: it may be huge."""
    if not any(store.state(name) for name in (MARKER, kind.main)) and (names := store.first_names()):
        raise StorageError(
            f"{store} is not empty and is not a {kind.name} of nonet: it contains {', '.join(names)}. Nothing was "
            "changed.",
            hint=kind.hint,
        )
