"""Folders and disks: which folders nonet may write to, locks, and readable messages for operating system errors."""

import contextlib
import errno
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nonet.artifacts.system_files import is_leftover
from nonet.artifacts.urls import require_path
from nonet.errors import BusyError, StorageError

logger = logging.getLogger("nonet")

#: Written first to each folder of nonet's, which marks it even if the command is interrupted.
MARKER = ".nonet.json"
TEMPORARY = ".nonet-tmp."  # prefix of files that are being written
_AGAIN = "then run the same command again; finished work is kept."
_WORDS = {
    errno.ENOSPC: ("The disk that holds {place} is full.", f"Free some space there, {_AGAIN}"),
    errno.EDQUOT: ("Your disk quota for {place} is used up.", f"Free some space there, {_AGAIN}"),
    errno.EFBIG: ("{place} would be larger than its file system allows.", "Give a folder on another file system."),
    errno.EROFS: ("{place} cannot be written: its file system is read-only.", "Give another folder."),
    errno.EACCES: ("{place}: permission denied.", "Change its permissions or those of its folder, or give another."),
    errno.EPERM: ("{place}: not permitted.", "Change its permissions or those of its folder, or give another."),
    errno.ENAMETOOLONG: ("This path is too long for its file system: {place}", "Give a shorter one."),
    errno.ENOENT: ("{place} does not exist.", "Check the path."),
    errno.ENOTDIR: ("{place}: a part of this path is a file, not a folder.", "Check the path."),
    errno.EISDIR: ("{place} is a folder; a file was expected.", "Check the path."),
    errno.EEXIST: ("{place} is in the way.", "Move it, or give another folder."),
    errno.ELOOP: ("{place} is a link that leads back to itself.", "Check the path."),
    errno.EMFILE: ("{place}: too many files are open.", f'Raise the limit ("ulimit -n 4096"), {_AGAIN}'),
    errno.ENFILE: ("{place}: too many files are open on this machine.", f"Close other programs, {_AGAIN}"),
    errno.EIO: ("{place}: the disk reports an input/output error.", f"Check the disk, {_AGAIN}"),
    errno.ESTALE: ("{place}: the network drive was lost.", f"Connect it again, {_AGAIN}"),
    errno.ENOMEM: ("{place}: memory ran out.", f"Close other programs, {_AGAIN}"),
}
#: Errors of a disk that is full or read-only, as opposed to a connection.
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG}
#: Errors of file systems without locks, such as some network drives.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


def storage_error(error: OSError, place: object = None) -> StorageError:
    """Return an error that says what the operating system refused, where, and how to continue.

    Parameters
    ----------
    error : OSError
    place : object, optional
        The file or folder. Default: the one that the error names.

    Returns
    -------
    StorageError
    """
    place = error.filename if place is None else place
    where = "the file" if place is None else str(place)
    message, hint = _WORDS.get(error.errno or 0, ("", ""))
    if not message:
        message, hint = "{place}: " + str(error.strerror or error) + ".", "Check the path and the disk, and try again."
    message = message.replace("{place}", where)
    return StorageError(message if place is not None else message[0].upper() + message[1:], hint)


@dataclass(frozen=True)
class FolderKind:
    """How folders of one kind are recognised.

    Attributes
    ----------
    name : str
        What the folder contains, such as "dataset".
    main : str
        Name of the kind's main file, which is JSON.
    keys : set of str
        Keys that the main file has.
    hint : str
        What to do if a folder is refused.
    """

    name: str
    main: str
    keys: set[str]
    hint: str = "Give a new or an empty folder."


@contextlib.contextmanager
def writing_to(place: object) -> Iterator[None]:
    """Turn an OSError within the block, for example of a full disk, into a StorageError.

    Parameters
    ----------
    place : object
        The file or folder to name, as errors of writing do not name it.
    """
    try:
        yield
    except OSError as error:
        named = error.filename is not None and TEMPORARY not in str(error.filename)
        raise storage_error(error, error.filename if named else place) from error


@contextlib.contextmanager
def exclusive_lock(lock: Path, message: str, hint: str) -> Iterator[None]:
    """Hold a lock within the block, or fail; the lock is released when the process ends.

    On network drives without locks, a warning is logged and the block runs without one.

    Parameters
    ----------
    lock : Path
        The lock file.
    message, hint : str
        Of the error.

    Raises
    ------
    BusyError
        If another process holds the lock.
    """
    from filelock import Timeout  # here, as every command imports this module, and few lock anything

    with contextlib.ExitStack() as held:
        try:
            held.enter_context(_lock(lock, timeout=0))
        except Timeout as error:
            raise BusyError(message, hint=hint) from error
        yield


def waiting_lock(lock: Path) -> contextlib.AbstractContextManager:
    """Return a context manager that waits for a lock and holds it; on drives without locks, as `exclusive_lock`."""
    return _lock(lock, timeout=-1)


@contextlib.contextmanager
def _lock(path: Path, *, timeout: float) -> Iterator[None]:
    from filelock import FileLock, Timeout

    with contextlib.ExitStack() as held:
        try:
            # A mark in place of a lock would outlive a process that is killed, and keep out the next one.
            held.enter_context(FileLock(path, timeout=timeout, fallback_to_soft=False))
        except Timeout:
            raise
        except (OSError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                raise storage_error(error, path) from error
            logger.warning(
                f"The file system of {path.parent} has no locks, so nonet cannot know whether another process writes "
                "there. Make sure that none does."
            )
        yield


def prepare_folder(folder: Path, kind: FolderKind) -> None:
    """Mark a folder as nonet's before anything is written to it; refuse one that is not.

    A folder may be used if it is new or empty, if it was marked as this kind earlier, or if its main file is of this
    kind (the marker is a hidden file, and may be lost in copying).

    Parameters
    ----------
    folder : Path
    kind : FolderKind

    Raises
    ------
    StorageError
        If the folder contains something else. Nothing is touched.
    """
    require_usable_folder(folder, kind)
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        mark = {"written_by": "nonet", "kind": kind.name}
        if read_json(folder / MARKER) != mark:
            (folder / MARKER).write_text(json.dumps(mark) + "\n", encoding="utf-8")


def require_usable_folder(folder: Path, kind: FolderKind) -> None:
    """Raise StorageError if a folder is neither new nor empty nor of this kind; see `prepare_folder`."""
    require_path(folder, "folder", StorageError)
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir():
        raise StorageError(f"{folder} is not a folder.", hint=kind.hint)
    with writing_to(folder):
        names = sorted(p.name for p in folder.iterdir() if not is_leftover(p.name))  # these are never touched
    names = [name for name in names if not name.startswith(".nonet")]  # of an interrupted start
    if not names:
        return
    marked = read_json(folder / MARKER)
    if marked.get("written_by") == "nonet" and marked.get("kind") == kind.name:
        return
    if kind.keys <= read_json(folder / kind.main).keys():
        return
    if marked.get("written_by") == "nonet":
        raise StorageError(f"{folder} is a {marked.get('kind')} of nonet, not a {kind.name}.", hint=kind.hint)
    first = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
    raise StorageError(
        f"{folder} is not empty and is not a {kind.name} of nonet: it contains {first}. Nothing was changed.",
        hint=kind.hint,
    )


def read_json(file: Path) -> dict:
    """Return the object in a JSON file; {} if there is no such file or it contains something else."""
    try:
        data = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
