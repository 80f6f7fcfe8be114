"""A folder of this machine that is the copy of one in an object store.

What nonet does with a folder, it does with the copy; what was written is copied to the store every few seconds, oldest
first, as files of a folder rely on those that were written before them. So a machine that is lost costs what was not
copied yet, and the same command on another one continues from the store.
"""

import contextlib
import fnmatch
import hashlib
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from nonet.artifacts.run import write_json
from nonet.artifacts.storage import (
    MARKER,
    TEMPORARY,
    FolderKind,
    exclusive_lock,
    prepare_folder,
    read_json,
    waiting_lock,
    writing_to,
)
from nonet.artifacts.stores import Store, local_copy, naming
from nonet.errors import NonetError, StorageError

logger = logging.getLogger("nonet")

#: Between two looks for what was written.
SECONDS_BETWEEN_COPIES = 10.0
#: How long is waited before each new attempt, at the end, to copy what a store did not take.
SECONDS_BEFORE_ATTEMPTS = (1.0, 5.0, 20.0, 60.0, 120.0)


class Mirror:
    """A copy of a folder in a store.

    Parameters
    ----------
    url : str
        From `as_url`.
    folder : Path
        On this machine.
    only, without : sequence of str
        Patterns of names that are copied, and of those that are not. They are matched part by part; "**" at the end
        stands for everything below.
    """

    def __init__(self, url: str, folder: Path, *, only: Sequence[str] = ("**",), without: Sequence[str] = ()):
        self.url, self.folder, self.only, self.without = url, folder, only, without
        self._store = Store(url)
        self._index = folder.with_name(f"{folder.name}.json")
        self._turn = threading.Lock()
        #: name → state in the store, then size and time here, when both were last the same.
        self._known: dict[str, list] = read_json(self._index)

    def pull(self, *, only: Sequence[str] = ("**",), again: bool = False) -> None:
        """Copy what is new in the store to this machine. What only changed here stays, for `push`.

        Parameters
        ----------
        only : sequence of str
            Patterns, besides those of the mirror.
        again : bool
            Also copy what changed here, for a copy that nothing of nonet writes to.

        Raises
        ------
        StorageError
            If the store cannot be reached, or has nothing where it had something, or the disk is full.
        """
        with self._turn, self._index_written():
            everything = self._store.files()
            if not everything and self._known:
                raise StorageError(
                    f"{self.url} is empty, and was not when it was last used from this machine.",
                    hint=f"Check the address, the endpoint and the credentials. If it was emptied on purpose, delete "
                    f"{self.folder.parent}.",
                )
            found = {name: state for name, state in everything.items() if self._is_copied(name, only)}
            for name, state in found.items():
                file = self.folder / name
                known = self._known.get(name, [None])
                if known[0] == state and (known[1:] == _local_state(file) if again else file.exists()):
                    continue
                with contextlib.suppress(FileNotFoundError):  # removed since it was listed
                    self._store.get(name, file)
                    self._known[name] = [state, *_local_state(file)]
            for name in [name for name in self._known if self._is_copied(name, only) and name not in found]:
                (self.folder / name).unlink(missing_ok=True)
                del self._known[name]

    def push(self) -> None:
        """Copy what was written here to the store, and then remove there what was removed here.

        Raises
        ------
        StorageError
            If the store cannot be reached.
        """
        with self._turn, self._index_written():
            here = {name: file for name, file in _files(self.folder).items() if self._is_copied(name)}
            changed = [
                (state, name, file)
                for name, file in here.items()
                if (state := _local_state(file)) and self._known.get(name, [None])[1:] != state
            ]
            for state, name, file in sorted(changed, key=lambda one: one[0][1]):
                try:
                    self._store.put(file, name)
                except FileNotFoundError:
                    if file.exists():
                        raise
                    continue  # removed since; the next time it is removed there
                stored = self._store.state(name)
                self._known[name] = [stored[1] if stored else "", *state]
            if here:  # else the copy itself was removed, which is no reason to remove the original
                for name in [name for name in self._known if self._is_copied(name) and name not in here]:
                    self._store.remove([name])
                    del self._known[name]

    @contextlib.contextmanager
    def pushed(self) -> Iterator[None]:
        """Copy to the store every few seconds while the block runs, and once more when it ends, however it ends."""
        ended = threading.Event()
        watcher = threading.Thread(target=self._push_until, args=[ended], daemon=True)
        watcher.start()
        try:
            yield
        except BaseException:
            ended.set()
            watcher.join()
            try:
                self.push()
            except (NonetError, OSError) as error:  # which must not hide why the block ended
                logger.warning(f"Not everything was copied to {self.url}: {error} It is in {self.folder}.")
            raise
        ended.set()
        watcher.join()
        self._push_at_last()

    def _push_until(self, ended: threading.Event) -> None:
        warned = False
        while not ended.wait(SECONDS_BETWEEN_COPIES):
            try:
                self.push()
                warned = False
            except (NonetError, OSError) as error:  # the store may be back the next time; at the end it is raised
                if not warned:
                    logger.warning(f"{error} Copying is tried again; until then this machine has the only copy.")
                warned = True

    def _push_at_last(self) -> None:
        for seconds in SECONDS_BEFORE_ATTEMPTS:
            try:
                return self.push()
            except (NonetError, OSError) as error:
                logger.warning(f"{error} Copying is tried again in {seconds:g} s.")
                time.sleep(seconds)
        self.push()

    def _is_copied(self, name: str, only: Sequence[str] = ("**",)) -> bool:
        """Whether a file is copied; locks and files that are not whole are not."""
        base = name.rpartition("/")[2]
        if base.endswith(".lock") or base.startswith(TEMPORARY) or f"/{TEMPORARY}" in f"/{name}":
            return False
        wanted = all(any(matches(name, one) for one in patterns) for patterns in (self.only, only))
        return wanted and not any(matches(name, one) for one in self.without)

    @contextlib.contextmanager
    def _index_written(self) -> Iterator[None]:
        """Write what is known at the end of the block, also after an error: what was copied stays known."""
        before = dict(self._known)
        try:
            yield
        finally:
            if self._known != before:
                write_json(self._index, self._known)


def matches(name: str, pattern: str) -> bool:
    """Whether a name fits a pattern part by part, as in a file system; "**" as the last part stands for all below."""
    parts, wanted = name.split("/"), pattern.split("/")
    if wanted[-1] == "**":
        wanted, parts = wanted[:-1], parts[: len(wanted) - 1]
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


def _files(folder: Path) -> dict[str, Path]:
    """Return the files of a folder, whatever vanishes meanwhile."""
    return {
        (path := Path(root, name)).relative_to(folder).as_posix(): path
        for root, _, names in os.walk(folder)
        for name in names
    }


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

    Raises
    ------
    StorageError
        If the folder cannot be made.
    """
    from platformdirs import user_cache_path

    name, digest = url.rpartition("/")[2], hashlib.sha256(url.encode()).hexdigest()[:16]
    folder = user_cache_path("nonet") / "stores" / f"{digest}-{purpose}" / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{folder} cannot be made, where the copy of {url} is to be kept: {error.strerror or error}.",
            hint="Let XDG_CACHE_HOME name a folder that can be written to.",
        ) from error
    return folder


@contextlib.contextmanager
def fetched(url: str, *, only: Sequence[str] = ("**",)) -> Iterator[Path]:
    """Give a copy of a folder in a store, kept on this machine and brought up to date, for reading.

    Parameters
    ----------
    url : str
        From `as_url`.
    only : sequence of str
        Patterns of names that are copied, as of `Mirror`.

    Yields
    ------
    Path
        It stays where it is after the block, within which errors of nonet name the address.

    Raises
    ------
    StorageError
        If the store cannot be reached, or the disk is full.
    """
    folder = kept_folder(url, "read")
    with waiting_lock(folder.with_name(f"{folder.name}.lock")):
        Mirror(url, folder, only=only).pull(again=True)
    with naming(url, folder):
        yield folder


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
        Patterns of names that are not copied, as of `Mirror`.

    Yields
    ------
    Mirror
        Up to date, and copied to the store while the block runs.

    Raises
    ------
    BusyError
        If another process of this machine works in it.
    StorageError
        If the folder is something else, the store cannot be reached or written to, or the disk is full.
    """
    folder = kept_folder(url, "written")
    busy = f"Another process of this machine is writing to {url}.", "Wait for it, or give another address."
    with exclusive_lock(folder.with_name(f"{folder.name}.lock"), *busy), naming(url, folder):
        _require_usable(Store(url), kind)
        logger.warning(
            f"An object store has no locks, so nonet cannot know whether another machine writes to {url}. Make sure "
            "that none does."
        )
        mirror = Mirror(url, folder, without=without)
        mirror.pull()
        prepare_folder(folder, kind)
        mirror.push()  # a store that cannot be written to is noticed before hours of work
        with mirror.pushed():
            yield mirror


def _require_usable(store: Store, kind: FolderKind) -> None:
    """Raise StorageError if a folder of a store is neither empty nor of a kind, before it is copied: it may be huge."""
    names = store.first_names()
    if not names:
        return
    with tempfile.TemporaryDirectory(prefix="nonet-") as folder, naming(store.url, Path(folder)):
        for name in (MARKER, kind.main):
            with contextlib.suppress(FileNotFoundError), local_copy(f"{store}/{name}") as file:
                shutil.copyfile(file, Path(folder) / name)
        (Path(folder) / names[0]).touch()
        prepare_folder(Path(folder), kind)


@contextlib.contextmanager
def working_copy(url: str, *, only: Sequence[str]) -> Iterator[Path]:
    """Work in a temporary copy of a part of a folder in a store, which is copied to it while the block runs.

    Parameters
    ----------
    url : str
        From `as_url`.
    only : sequence of str
        Patterns of names that are copied, as of `Mirror`.

    Yields
    ------
    Path

    Raises
    ------
    StorageError
        If the store cannot be reached; names the folder if it holds the only copy.
    """
    parent = Path(tempfile.mkdtemp(prefix="nonet-"))
    mirror = Mirror(url, parent / "folder", only=only)
    with naming(url, mirror.folder):
        mirror.pull()
        with writing_to(mirror.folder):
            mirror.folder.mkdir(exist_ok=True)
    try:
        with mirror.pushed(), naming(url, mirror.folder):
            yield mirror.folder
    except StorageError as error:
        raise StorageError(f"{error.message} What was not copied is in {mirror.folder}.", hint=error.hint) from error
    except BaseException:
        with contextlib.suppress(NonetError, OSError):  # where copying fails, the folder stays: it has the only copy
            mirror.push()
            shutil.rmtree(parent, ignore_errors=True)
        raise
    shutil.rmtree(parent, ignore_errors=True)
