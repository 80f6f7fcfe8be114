"""Reading a whole file, if it is one: no pipe or device that never ends, none larger than memory."""

import errno
import stat
from pathlib import Path

from nonet.errors import DataError, UnreadableNowError

MAX_BYTES = 2**29  # 64 million px of 16-bit RGBA fit, uncompressed

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
#: Errors that another try does not mend: a link in a circle, a name that is too long, a file where a folder should be.
FINAL = {errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EINVAL}


def read_file(path: str | Path, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the bytes of a regular file, links followed; none of a file whose size is 0, which is not opened.

    Parameters
    ----------
    path : of the file.
    max_bytes : a larger file is refused before it is read.

    Raises
    ------
    UnreadableNowError where the file is missing or cannot be read at present (permission, network drive, too many open
        files, memory): trying again may help.
    DataError where it is a folder, pipe, socket or device, is too large, or its path cannot be a file's.
    """
    path = Path(path)
    try:
        facts = path.stat()
        if stat.S_ISDIR(facts.st_mode):
            next(path.iterdir(), None)  # of a folder that may not be listed, that is what is wrong
        if not stat.S_ISREG(facts.st_mode):
            kind = _KINDS.get(stat.S_IFMT(facts.st_mode), "no regular file")
            raise DataError(f"{path} is {kind}, not a file.")
        if facts.st_size > max_bytes:
            raise DataError(f"{path} has {facts.st_size:,} bytes, more than the {max_bytes:,} allowed.")
        if not facts.st_size:  # also what the system only calls a file, such as /proc/kmsg, which may never end
            return b""
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)  # bounded: it may grow
    except FileNotFoundError as error:
        raise UnreadableNowError(f"{path} is missing.") from error
    except MemoryError as error:
        raise UnreadableNowError(f"{path} could not be read now: memory is short.") from error
    except ValueError as error:  # a path with NUL, or with letters that the file system cannot hold
        raise DataError(f"{path!r} cannot be the path of a file: {error}.") from error
    except OSError as error:
        if error.errno in FINAL:
            raise DataError(f"{path} cannot be read: {error.strerror}.") from error
        raise UnreadableNowError(f"{path} could not be read now: {error.strerror or error}.") from error
    if len(data) > max_bytes:
        raise DataError(f"{path} has more than the {max_bytes:,} bytes allowed.")
    return data
