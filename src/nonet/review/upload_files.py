"""What people upload: what a file is, by its content alone, and what is kept of it.

Only decoded pixels are kept, as a new PNG: names of patients in metadata, data behind the picture, and files that are
a picture and something else at once do not get past this module. A zip archive is read as a stream whose real bytes
are counted, whatever its directory says.
"""

import io
import re
import stat
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from nonet.artifacts.system_files import is_leftover
from nonet.data.images.decode import load_rgb, read_image
from nonet.data.images.file_kinds import HEAD_BYTES, READ, detect_kind
from nonet.data.images.formats import why_not_opened
from nonet.errors import DataError, printable
from nonet.review.records import translatable

MAX_FILE_BYTES = 20_000_000
MAX_ZIP_BYTES = 500_000_000
#: Of one image, before it is decoded; a single cell has about 130,000.
MAX_PIXELS = 40_000_000
MAX_MEMBERS = 10_000
#: What the files of one archive may have in all, and how many times the archive's own size.
MAX_UNPACKED_BYTES = 5_000_000_000
MAX_RATIO = 100
#: Names and places of an archive's files, which zipfile reads at once.
_MAX_DIRECTORY_BYTES = 4_000_000
MAX_NAME = 200  # characters
_BLOCK_BYTES = 1 << 20

TOO_LARGE = translatable("The file is too large: an image may have 20 MB, a zip archive 500 MB.")
OUTSIDE = translatable("The name points outside the archive.")
ENCRYPTED = translatable("The file is encrypted.")
LINK = translatable("The file is a link or a device.")
NESTED = translatable("An archive within an archive is not opened.")
METHOD = translatable("The file is compressed by a method that is not supported; use an ordinary zip.")
DAMAGED = translatable("The file is damaged within the archive.")
BOMB = translatable("The archive unpacks to far more than its size; the rest of it was not read.")
NOT_READ = translatable("The archive is damaged.")
TOO_MANY = translatable("The archive has more than 10,000 files.")
OVERLAP = translatable("The files of the archive overlap, as in one made to exhaust a computer.")


class Picture(NamedTuple):
    """An image as it is kept.

    Attributes
    ----------
    png : bytes
        A PNG file of its pixels, and of nothing else.
    note : str
        What was unusual about the image as it came; usually empty.
    """

    png: bytes
    note: str


def is_zip(head: bytes) -> bool:
    """Return whether the first bytes of a file are those of a zip archive that may have images in it."""
    kind = detect_kind(head)
    return kind is not None and kind.words == "a zip archive"


def encode(data: bytes) -> Picture:
    """Decode an image and encode its pixels anew.

    Parameters
    ----------
    data : bytes
        A file.

    Returns
    -------
    Picture

    Raises
    ------
    DataError
        If it is not an image that nonet reads, is damaged, too large, or has several frames; says why.
    """
    kind = detect_kind(data)
    if data and (kind is None or kind.group != READ):
        raise DataError(f"The file is {why_not_opened(data)}.")
    read = read_image(data, max_pixels=MAX_PIXELS, name="The file")
    stream = io.BytesIO()
    Image.fromarray(read.pixels).save(stream, "PNG", compress_level=1)  # a fifth larger, five times as quick
    png = stream.getvalue()
    if not np.array_equal(load_rgb(png), read.pixels):
        raise DataError("The file cannot be stored with the pixels that it has.")
    return Picture(png, read.note)


def unpack(file: Path) -> Iterator[tuple[str, bytes | str]]:
    """Read the files of a zip archive, one after another.

    Folders, and what systems leave (__MACOSX, ._ files, Thumbs.db), are passed over.

    Parameters
    ----------
    file : Path

    Yields
    ------
    name : str
        In the archive.
    content : bytes or str
        The file, or the reason why it is not read.

    Raises
    ------
    DataError
        If the archive as a whole cannot be used.
    """
    size = file.stat().st_size
    try:
        with _Guarded(file) as stream, zipfile.ZipFile(stream) as archive:
            infos = archive.infolist()
            if len(infos) > MAX_MEMBERS:
                raise DataError(TOO_MANY)
            _require_apart(infos, archive.start_dir)
            left = min(MAX_UNPACKED_BYTES, max(MAX_RATIO * size, 10 * MAX_FILE_BYTES))
            for info in infos:
                if info.is_dir() or any(is_leftover(part) for part in info.filename.split("/")):
                    continue
                content, num_read = _read(archive, info, left)
                yield info.filename, content
                left -= num_read
                if left <= 0:
                    raise DataError(BOMB)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise DataError(NOT_READ) from error


class _Guarded(io.FileIO):
    """A file of which not too much is read at once: a directory of gigabytes would fill the memory."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > _MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile("its directory is too large")
        return super().read(-1 if size is None else size) or b""


def _require_apart(infos: Sequence[zipfile.ZipInfo], end: int) -> None:
    """Refuse an archive in which the same bytes are several files: a few kB could be petabytes."""
    at = 0
    for info in sorted(infos, key=lambda each: each.header_offset):
        if info.header_offset < at:
            raise DataError(OVERLAP)
        at = info.header_offset + 30 + info.compress_size  # 30: the least that a file's own header has
    if at > end:
        raise DataError(OVERLAP)


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, left: int) -> tuple[bytes | str, int]:
    """Return a file or the reason why it is not read, and how many bytes were unpacked."""
    reason = _why_refused(info)
    if reason:
        return reason, 0
    data = bytearray()
    try:
        with archive.open(info) as stream:
            while block := stream.read(_BLOCK_BYTES):
                data += block
                if len(data) > min(MAX_FILE_BYTES, left):
                    return TOO_LARGE, len(data)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError):
        return DAMAGED, len(data)
    if is_zip(bytes(data[:HEAD_BYTES])):
        return NESTED, len(data)
    return bytes(data), len(data)


def _why_refused(info: zipfile.ZipInfo) -> str:
    name = info.orig_filename
    if re.match(r"[/\\]|[A-Za-z]:", name) or "\\" in name or "\0" in name or ".." in name.split("/"):
        return OUTSIDE
    if info.flag_bits & 0x2041:  # encrypted, by any of its methods
        return ENCRYPTED
    mode = info.external_attr >> 16 if info.create_system == 3 else 0
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return LINK
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others may ask for much memory
        return METHOD
    return ""


def clean_name(text: str) -> str:
    """Return the name of an uploaded file with its folders as it may be shown: printable, NFC, and not too long.

    It is shown, and never used as a path.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
    """
    parts = [" ".join(printable(unicodedata.normalize("NFC", part)).split()) for part in re.split(r"[/\\]", text)]
    return "/".join(_shortened(part) for part in parts if part not in ("", ".", "..")) or "image"


def _shortened(part: str) -> str:
    return part if len(part) <= MAX_NAME else f"{part[: MAX_NAME - 9]}…{part[-8:]}"


def display_names(names: Sequence[str]) -> list[str]:
    """Return a short name of each file, different ones for all: its own, with its folders where two are equal.

    Parameters
    ----------
    names : sequence of str
        From `clean_name`.

    Returns
    -------
    list of str
    """
    shown = [""] * len(names)
    left, taken = [*range(len(names))], set[str]()
    for depth in (1, 2, None):
        short = {place: "/".join(names[place].split("/")[-depth if depth else None :])[-MAX_NAME:] for place in left}
        counts = Counter(short.values())
        for place in left:
            if counts[short[place]] == 1 and short[place] not in taken:
                shown[place] = short[place]
                taken.add(short[place])
        left = [place for place in left if not shown[place]]
    for place in left:
        number = 2
        while (name := f"{names[place][-MAX_NAME + 9 :]} ({number})") in taken:
            number += 1
        shown[place] = name
        taken.add(name)
    return shown
