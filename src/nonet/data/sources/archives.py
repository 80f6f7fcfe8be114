"""Unpacking a zip that came from elsewhere: what it says of itself is not believed."""

import errno
import lzma
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from nonet.errors import DataError
from nonet.progress import progress

#: Of an archive's content to its size. Images hardly shrink; tables shrink tenfold; bombs a thousandfold and more.
MAX_RATIO = 200
MAX_FILES = 5_000_000
RESERVE = 256 << 20  # bytes that are left free on the disk
_TWICE = "Get the archive again, from the address that its publishers give."


def unzip(archive: Path, folder: Path) -> None:
    """Unpack a zip, file by file; those that are there with their size are passed over.

    Hidden files and what macOS puts beside files are left out. Links are not made.

    Raises
    ------
    DataError where it is no zip or is damaged, needs a password, holds a path that leaves the folder or a link, is too
    large for its size or the disk; before anything of it is written, unless it is damaged.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            places = {_place(archive, member): member for member in opened.infolist() if not member.is_dir()}
            places = {place: member for place, member in places.items() if not _is_clutter(place)}
            _require_bearable(archive, list(places.values()), folder)
            for place, member in progress(places.items(), total=len(places), description="unpacking", unit="files"):
                _unpack(opened, member, folder / place)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, NotImplementedError) as error:
        raise _damaged(archive, error) from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise DataError(
            f"{archive} has a file and a folder of one name, or {folder} has one where it has the other: "
            f"{error.filename}.",
            hint="Give a new folder as `out`.",
        ) from error
    except OSError as error:
        if error.errno in (None, errno.EINVAL):  # no bzip2; or a member that begins nowhere in the archive
            raise _damaged(archive, error) from error
        raise


def _damaged(archive: Path, error: Exception) -> DataError:
    archive.unlink(missing_ok=True)
    return DataError(
        f"{archive} is no archive, or a damaged one: {error}. It was not kept.",
        hint="Run the same command again; it may have been a page that says why there is no file.",
    )


def _place(archive: Path, member: zipfile.ZipInfo) -> PurePosixPath:
    """Return where a member goes, within the folder."""
    place = PurePosixPath(member.filename.replace("\\", "/"))
    if not place.parts:
        raise DataError(f'{archive} has a file without a name: "{member.filename}".', hint=_TWICE)
    if place.is_absolute() or ".." in place.parts or any(":" in part for part in place.parts):
        raise DataError(f"{archive} has a path that leaves its folder: {member.filename}.", hint=_TWICE)
    if stat.S_ISLNK(member.external_attr >> 16):
        raise DataError(f"{archive} has a link, which may lead out of its folder: {member.filename}.", hint=_TWICE)
    if member.flag_bits & 1:
        raise DataError(f"{archive} needs a password.", hint="Unpack it by hand.")
    return place


def _is_clutter(place: PurePosixPath) -> bool:
    return any(part == "__MACOSX" or part.startswith(".") for part in place.parts)


def _require_bearable(archive: Path, members: list[zipfile.ZipInfo], folder: Path) -> None:
    """Raise DataError where an archive says that it holds more than it can, or more than the disk has room for."""
    total, size = sum(member.file_size for member in members), archive.stat().st_size
    if len(members) > MAX_FILES or total > MAX_RATIO * size:
        raise DataError(
            f"{archive} is not unpacked: it has {size:,} bytes, and says that it holds {len(members):,} files of "
            f"{total:,} bytes in all.",
            hint="No set of images shrinks so much. If it is right, unpack it by hand.",
        )
    there = folder
    while not there.exists():
        there = there.parent
    lacking = sum(m.file_size for m in members if not _is_there(folder / _place(archive, m), m))
    free = shutil.disk_usage(there).free
    if lacking > free - RESERVE:
        raise DataError(
            f"{archive} is not unpacked: it needs {lacking:,} bytes, and the disk of {folder} has {free:,} free.",
            hint="Make room, or give an `out` on another disk; then the same command again.",
        )


def _is_there(place: Path, member: zipfile.ZipInfo) -> bool:
    return place.exists() and place.stat().st_size == member.file_size


def _unpack(opened: zipfile.ZipFile, member: zipfile.ZipInfo, place: Path) -> None:
    if _is_there(place, member):
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{place.name}.part")
    with opened.open(member) as packed, temporary.open("wb") as file:
        shutil.copyfileobj(packed, file)
    temporary.replace(place)
