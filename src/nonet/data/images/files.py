"""Reading a whole regular file, never a pipe or device that does not end, and none larger than memory."""

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
#: Errors that trying again cannot fix: a circular link, a name that is too long, a file where a folder should be.
FINAL = {errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EINVAL}


def read_file(path: str | Path, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the bytes of a regular file, following links.

    A file whose size is 0 gives no bytes and is not opened.

    Parameters
    ----------
    path : str or Path
    max_bytes : int
        Larger files are refused before they are read.

    Returns
    -------
    bytes

    Raises
    ------
    UnreadableNowError
        When the file is missing or cannot be read at present (permissions, network drive, too many open files, memory),
        so that trying again may help.
    DataError
        When the path is a folder, pipe, socket or device, cannot be the path of a file, or the file is too large.
    """
    path = Path(path)
    try:
        facts = path.stat()
        if stat.S_ISDIR(facts.st_mode):
            next(path.iterdir(), None)  # a folder that may not be listed is reported as that
        if not stat.S_ISREG(facts.st_mode):
            kind = _KINDS.get(stat.S_IFMT(facts.st_mode), "a special file")
            raise DataError(f"{path} is {kind}, not a file.")
        if facts.st_size > max_bytes:
            raise DataError(f"{path} has {facts.st_size:,} bytes, more than the {max_bytes:,} allowed.")
        if not facts.st_size:  # also for pseudo-files such as /proc/kmsg, which may never end
            return b""
        with path.open("rb") as file:
            data = file.read(facts.st_size + 1)  # not max_bytes, as that much memory would be reserved
            if len(data) > facts.st_size:  # it has grown
                data += file.read(max_bytes + 1 - len(data))
    except FileNotFoundError as error:
        raise UnreadableNowError(f"{path} is missing.") from error
    except MemoryError as error:
        raise UnreadableNowError(f"{path} could not be read now: out of memory.") from error
    except ValueError as error:  # a path with NUL, or with characters that the file system does not support
        raise DataError(f"{path!r} cannot be the path of a file: {error}.") from error
    except OSError as error:
        if error.errno in FINAL:
            raise DataError(f"{path} cannot be read: {error.strerror}.") from error
        raise UnreadableNowError(f"{path} could not be read now: {error.strerror or error}.") from error
    if len(data) > max_bytes:
        raise DataError(f"{path} has more than the {max_bytes:,} bytes allowed.")
    return data
