"""Folders and disks: whose a folder is, who writes into it, and what the operating system's refusals mean in words."""

import contextlib
import errno
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

from filelock import FileLock, Timeout

from nonet.artifacts.system_files import is_leftover
from nonet.errors import RunError, StorageError

logger = logging.getLogger("nonet")

#: Written first into each folder that nonet fills, so that it is known as nonet's also where a command was cut short.
MARKER = ".nonet.json"
TEMPORARY = ".nonet-tmp."  # how the names of files begin that are being written
_AGAIN = "then run the same command again; what is finished is kept."
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
#: Of a disk that has no room or may not be written; not of a connection.
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG}
#: A file system that has no locks, as some network drives.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


def storage_error(error: OSError, place: object = None) -> StorageError:
    """Say what the operating system refused, where, and how to continue.

    Parameters
    ----------
    place : the file or folder; by default the one that the error names.
    """
    place = error.filename if place is None else place
    where = "the file" if place is None else str(place)
    message, hint = _WORDS.get(error.errno, (None, None))
    if message is None:
        message, hint = "{place}: " + str(error.strerror or error) + ".", "Check the path and the disk, and try again."
    message = message.replace("{place}", where)
    return StorageError(message if place is not None else message[0].upper() + message[1:], hint)


class FolderKind(TypedDict):
    """How folders of one kind are recognised: the arguments of `claim` and `require_ours`."""

    kind: str
    main: str
    keys: set[str]
    hint: str


@contextlib.contextmanager
def writing_to(place: object) -> Iterator[None]:
    """Turn what the operating system refuses within the block, say because the disk is full, into a StorageError.

    The system's errors of writing do not name the file, so `place` does; a file under its temporary name is `place`.
    """
    try:
        yield
    except OSError as error:
        named = error.filename is not None and TEMPORARY not in str(error.filename)
        raise storage_error(error, error.filename if named else place) from error


@contextlib.contextmanager
def alone(lock: Path, message: str, hint: str) -> Iterator[None]:
    """Refuse to do the block's work twice at the same time; the lock goes with the process that holds it.

    Network drives without locks are told of, and worked on without.

    Raises
    ------
    RunError, of the message and hint given, where another process holds the lock.
    """
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(_lock(lock, timeout=0))
        except Timeout as error:
            raise RunError(message, hint=hint) from error
        yield


def waiting_for(lock: Path) -> contextlib.AbstractContextManager:
    """Wait until no other process holds the lock, then hold it; without locks, as `alone`."""
    return _lock(lock, timeout=-1)


@contextlib.contextmanager
def _lock(path: Path, *, timeout: float) -> Iterator[None]:
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(FileLock(path, timeout=timeout))
        except Timeout:
            raise
        except (OSError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                raise storage_error(error, path) from error
            logger.warning(
                f"The file system of {path.parent} has no locks. Make sure that no other nonet writes there meanwhile."
            )
        yield


def claim(folder: Path, kind: str, *, main: str, keys: set[str], hint: str = "Give a new or an empty folder.") -> None:
    """Make a folder nonet's own before anything is written to it; refuse one that is someone else's.

    Nonet's is a folder that is new or empty, one that it marked as this kind at an earlier start, and one whose main
    file is of this kind: a marker is hidden, and may be lost in copying.

    Parameters
    ----------
    kind : in words, like "dataset".
    main, keys : name of the kind's main file, which is JSON, and keys that it has.
    hint : what to do where it is refused.

    Raises
    ------
    StorageError where the folder is another's; nothing was touched.
    """
    require_ours(folder, kind, main=main, keys=keys, hint=hint)
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        mark = {"written_by": "nonet", "kind": kind}
        if read_json(folder / MARKER) != mark:
            (folder / MARKER).write_text(json.dumps(mark) + "\n", encoding="utf-8")


def require_ours(folder: Path, kind: str, *, main: str, keys: set[str], hint: str) -> None:
    """Raise StorageError where a folder is neither new nor empty nor a folder of this kind; see `claim`."""
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir():
        raise StorageError(f"{folder} is not a folder.", hint=hint)
    with writing_to(folder):
        held = sorted(p.name for p in folder.iterdir() if not is_leftover(p.name))  # those are never touched
    held = [name for name in held if not name.startswith(".nonet")]  # of a start that was cut short
    if not held:
        return
    marked = read_json(folder / MARKER)
    if marked.get("written_by") == "nonet" and marked.get("kind") == kind:
        return
    if keys <= read_json(folder / main).keys():
        return
    if marked.get("written_by") == "nonet":
        raise StorageError(f"{folder} is a {marked.get('kind')} of nonet, not a {kind}.", hint=hint)
    first = ", ".join(held[:3]) + (" …" if len(held) > 3 else "")
    raise StorageError(
        f"{folder} is not empty and is not a {kind} of nonet: it holds {first}. Nothing was changed.", hint=hint
    )


def read_json(file: Path) -> dict:
    """Return a JSON file's object; an empty one where there is no such file, or it holds something else."""
    try:
        data = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
