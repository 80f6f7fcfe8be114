"""Unpacking zip archives from elsewhere, without trusting what they say about themselves."""

import errno
import lzma
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from nonet.errors import DataError
from nonet.progress import progress

#: Largest ratio of content to archive. Images hardly shrink, tables tenfold, zip bombs a thousandfold and more.
MAX_RATIO = 200
MAX_FILES = 5_000_000
RESERVE = 256 << 20  # bytes to leave free on the disk
_DOWNLOAD_AGAIN = "Download the archive again, from its publishers' address."


def unzip(archive: Path, folder: Path) -> None:
    """Unpack a zip file by file, skipping those that already exist with the right size.

    Hidden files and the files that macOS adds are left out. Links are refused.

    Parameters
    ----------
    archive : Path
    folder : Path
        Folder to unpack into.

    Raises
    ------
    DataError
        When it is not a zip or is damaged, needs a password, contains a link or a path that leaves the folder, or is
        too large for its size or for the disk. Nothing is written then, unless it is damaged.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            places = {_place(archive, member): member for member in opened.infolist() if not member.is_dir()}
            places = {place: member for place, member in places.items() if not _is_clutter(place)}
            _require_reasonable_size(archive, list(places.values()), folder)
            for place, member in progress(places.items(), total=len(places), description="unpacking", unit="files"):
                _unpack(opened, member, folder / place)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, NotImplementedError) as error:
        raise _damaged(archive, error) from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise DataError(
            f"{archive} cannot be unpacked into {folder}: a file and a folder have the same name, {error.filename}.",
            hint="Give a new folder as `out`.",
        ) from error
    except OSError as error:
        if error.errno in (None, errno.EINVAL):  # no bzip2, or a member that starts outside the archive
            raise _damaged(archive, error) from error
        raise


def _damaged(archive: Path, error: Exception) -> DataError:
    archive.unlink(missing_ok=True)
    return DataError(
        f"{archive} is not a zip archive, or is damaged: {error}. It was deleted.",
        hint="Run the same command again; the server may have sent an error page instead of the file.",
    )


def _place(archive: Path, member: zipfile.ZipInfo) -> PurePosixPath:
    """Return where a member goes, relative to the folder."""
    place = PurePosixPath(member.filename.replace("\\", "/"))
    if not place.parts:
        raise DataError(f'{archive} has a file without a name: "{member.filename}".', hint=_DOWNLOAD_AGAIN)
    if place.is_absolute() or ".." in place.parts or any(":" in part for part in place.parts):
        raise DataError(f"{archive} has a path that leaves its folder: {member.filename}.", hint=_DOWNLOAD_AGAIN)
    if stat.S_ISLNK(member.external_attr >> 16):
        raise DataError(
            f"{archive} has a link, which may lead outside its folder: {member.filename}.", hint=_DOWNLOAD_AGAIN
        )
    if member.flag_bits & 1:
        raise DataError(f"{archive} needs a password.", hint="Unpack it by hand.")
    return place


def _is_clutter(place: PurePosixPath) -> bool:
    return any(part == "__MACOSX" or part.startswith(".") for part in place.parts)


def _require_reasonable_size(archive: Path, members: list[zipfile.ZipInfo], folder: Path) -> None:
    """Raise DataError where an archive claims implausibly much content, or more than fits on the disk."""
    total, size = sum(member.file_size for member in members), archive.stat().st_size
    if len(members) > MAX_FILES or total > MAX_RATIO * size:
        raise DataError(
            f"{archive} is not unpacked: it has {size:,} bytes, and claims to contain {len(members):,} files of "
            f"{total:,} bytes in all.",
            hint="Images do not compress that well. If it is correct, unpack it by hand.",
        )
    existing = folder
    while not existing.exists():
        existing = existing.parent
    needed = sum(m.file_size for m in members if not _is_unpacked(folder / _place(archive, m), m))
    free = shutil.disk_usage(existing).free
    if needed > free - RESERVE:
        raise DataError(
            f"{archive} is not unpacked: it needs {needed:,} bytes, and the disk of {folder} has {free:,} free.",
            hint="Free some space, or give an `out` on another disk; then run the same command again.",
        )


def _is_unpacked(place: Path, member: zipfile.ZipInfo) -> bool:
    return place.exists() and place.stat().st_size == member.file_size


def _unpack(opened: zipfile.ZipFile, member: zipfile.ZipInfo, place: Path) -> None:
    if _is_unpacked(place, member):
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{place.name}.part")
    with opened.open(member) as packed, temporary.open("wb") as file:
        shutil.copyfileobj(packed, file)
    temporary.replace(place)
