"""What a file is according to its first bytes rather than its name: an image, an archive, a workbook, a web page …

Images that nonet reads come first, so that recognising one takes no time.
"""

import re
import stat
from pathlib import Path
from typing import NamedTuple

#: Groups of kinds: images that nonet reads, images that could be converted, archives, tables other than CSV, text in a
#: known format, anything else.
READ, PICTURE, ARCHIVE, WORKBOOK, TEXT, OTHER = "read", "picture", "archive", "workbook", "text", "other"

HEAD_BYTES = 1024  # first bytes of a file that tell what it is


class Kind(NamedTuple):
    """What a file is.

    Attributes
    ----------
    words : str
        With an article, such as "a PNG image".
    group : str
        One of READ, PICTURE, ARCHIVE, WORKBOOK, TEXT and OTHER.
    """

    words: str
    group: str


RAW = Kind("a camera's raw file", PICTURE)
JPEG = Kind("a JPEG image", READ)
TIFF = Kind("a TIFF image", READ)

# Patterns of the first bytes. Those made of letters must be long enough that no CSV file starts like that.
_PATTERNS = (
    (rb"\xff\xd8\xff", *JPEG),
    (rb"\x89PNG", "a PNG image", READ),
    (rb"(II[*+]\0|MM\0[*+]).{4}CR\x02", *RAW),  # Canon's: a TIFF whose first page is a small preview
    (rb"II[*+]\0|MM\0[*+]", *TIFF),
    (rb"GIF8[79]a", "a GIF image", READ),
    (rb"RIFF.{4}WEBP", "a WebP image", READ),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 image", READ),
    (rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0", "a BMP image", READ),
    (rb"\0\0\0\x0cJXL |\xff\x0a", "a JPEG XL image", PICTURE),
    (rb".{128}DICM|[\x02\x08]\0[\0\x05\x08]\0(UL|CS|[\x02-\x20]\0\0\0)", "a DICOM file", PICTURE),
    (rb".{344}n[+i]1\0|.{4}n[+i]2\0", "a NIfTI volume", PICTURE),
    (rb"8BPS\0", "a Photoshop file", PICTURE),
    (rb"gimp xcf", "a GIMP file", PICTURE),
    (rb"FUJIFILMCCD-RAW|IIR[OS]|IIU\0|FOVb", *RAW),
    (rb"ZISRAWFILE", "a Zeiss CZI file", PICTURE),
    (rb"\xda\xce\xbe\x0a", "a Nikon ND2 file", PICTURE),
    (rb"\x70\0\0\0.{4}\x2a", "a Leica LIF file", PICTURE),
    (rb"%PDF-", "a PDF file", PICTURE),
    (rb"%!PS", "a PostScript file", PICTURE),
    (rb"\xc5\xd0\xd3\xc6", "an EPS file", PICTURE),
    (rb"SIMPLE  =", "a FITS file", PICTURE),
    (rb"\x76\x2f\x31\x01", "an OpenEXR image", PICTURE),
    (rb"#\?RADIANCE", "a Radiance image", PICTURE),
    (rb"II\xbc", "a JPEG XR image", PICTURE),
    (rb"P[1-6]\s+(#[^\n]*\n\s*)*\d+\s+\d+\s|P7\s+WIDTH|P[fF]\s+\d+\s+\d+\s", "a PNM image", PICTURE),
    (rb"\x0a[\0-\x05][\0\x01][\x01\x02\x04\x08]", "a PCX image", PICTURE),
    (rb"\x01\xda[\0\x01][\x01\x02]", "an SGI image", PICTURE),
    (rb"\xd7\xcd\xc6\x9a|\x01\0\0\0.{36} EMF", "a Windows metafile", PICTURE),
    (rb"\0\0\x01\0|icns", "an icon", PICTURE),
    (rb"qoif\0", "a QOI image", PICTURE),
    (rb"FLIF\d", "a FLIF image", PICTURE),
    (rb"BPG\xfb", "a BPG image", PICTURE),
    (rb"DDS \x7c", "a DDS image", PICTURE),
    (rb"AT&TFORM", "a DjVu file", PICTURE),
    (rb"PK(\x03\x04|\x05\x06)", "a zip archive", ARCHIVE),
    (rb"7z\xbc\xaf", "a 7-Zip archive", ARCHIVE),
    (rb"Rar!\x1a\x07", "a RAR archive", ARCHIVE),
    (rb".{257}ustar", "a tar archive", ARCHIVE),
    (rb"\x1f\x8b", "a gzip archive", ARCHIVE),
    (rb"\xfd7zXZ\0", "an xz archive", ARCHIVE),
    (rb"BZh[1-9](1AY&SY|\x17\x72\x45)", "a bzip2 archive", ARCHIVE),
    (rb"\x28\xb5\x2f\xfd", "a zstd archive", ARCHIVE),
    (rb"\xd0\xcf\x11\xe0", "an OLE file, such as an old Excel workbook, Zeiss ZVI or Thumbs.db", WORKBOOK),
    (rb"PAR1[\0-\x08\x0e-\x1f]", "a Parquet file", OTHER),
    (rb"\x89HDF", "an HDF5 file", OTHER),
    (rb"\x93NUMPY", "a NumPy array", OTHER),
    (rb"MATLAB \d", "a MATLAB file", OTHER),
    (rb"SQLite format 3\0", "an SQLite database", OTHER),
    (rb"\0\x05\x16\x07", "a macOS resource file", OTHER),
    (rb"bplist0", "a macOS property list", OTHER),
    (rb"L\0\0\0\x01\x14\x02\0", "a Windows shortcut", OTHER),
    (rb"Salted__", "an encrypted file", OTHER),
    (rb"\x1a\x45\xdf\xa3|RIFF.{4}AVI ", "a video", OTHER),
    (rb"OggS\0", "a sound or video", OTHER),
    (rb"RIFF.{4}WAVE|ID3[\x02-\x04]\0", "a sound", OTHER),
    (rb"\x80[\x02-\x05]", "a Python pickle", OTHER),
    (rb"\x7fELF|MZ[\0-\x08\x80-\xff]", "a program", OTHER),
    (rb"version https://git-lfs", "a Git LFS pointer, whose file was not downloaded", OTHER),
    (rb"/annex/objects/", "a git-annex pointer, whose file was not downloaded", OTHER),
)
_KINDS = tuple((re.compile(pattern, re.DOTALL), Kind(words, group)) for pattern, words, group in _PATTERNS)
#: ISO base media files start alike and differ by the brands that they list.
_BRANDS = (
    ({b"crx "}, RAW),
    ({b"avif", b"avis"}, Kind("an AVIF image", READ)),
    (
        {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"avci", b"avcs", b"mif1", b"mif2", b"msf1"},
        Kind("a HEIC image", PICTURE),
    ),
)
_TEXTS = (
    (r"<!doctype html|<html", Kind("a web page (an error message of a server?)", TEXT)),
    (r"<\?xml|<!DOCTYPE", Kind("an XML file", TEXT)),
    (r'[{\[]\s*["{\[\]}\d-]', Kind("JSON", TEXT)),
    (r"\{\\rtf", Kind("an RTF document", TEXT)),
)
_UNPACK = {
    "a zip archive": "unzip {file} -d FOLDER",
    "a 7-Zip archive": "7z x {file} -oFOLDER",
    "a RAR archive": "unrar x {file} FOLDER/",
    "a tar archive": "tar -xf {file} -C FOLDER",
    "a gzip archive": "tar -xf {file} -C FOLDER (or gunzip, where it is a single file)",
    "an xz archive": "tar -xf {file} -C FOLDER (or unxz, where it is a single file)",
    "a bzip2 archive": "tar -xf {file} -C FOLDER (or bunzip2, where it is a single file)",
    "a zstd archive": "tar -xf {file} -C FOLDER (or unzstd, where it is a single file)",
}
_WORKBOOKS = (".xlsx", ".xlsm", ".xlsb", ".ods")


def detect_kind(data: bytes, suffix: str = "") -> Kind | None:
    """Tell what a file is by its first bytes.

    Parameters
    ----------
    data : bytes
        At least the first `HEAD_BYTES` of the file, or all of it.
    suffix : str
        The file's extension in lower case, if it matters: workbooks are zip archives.

    Returns
    -------
    Kind or None
        None where the file may be plain text or is not recognised.
    """
    head = data[:HEAD_BYTES]
    for pattern, kind in _KINDS:
        if pattern.match(head):
            return _zip_kind(head, suffix) if kind.words == "a zip archive" else kind
    if head[4:8] == b"ftyp":
        size = min(int.from_bytes(head[:4], "big"), len(head))
        brands = {head[at : at + 4] for at in (8, *range(16, size - 3, 4))}
        return next((kind for known, kind in _BRANDS if brands & known), Kind("a video", OTHER))
    if head and not head.strip(b"\0"):
        return Kind("filled with zero bytes (was the download complete?)", OTHER)
    text = as_text(head)
    return _text_kind(text) if text else None


def detect_file_kind(path: Path) -> Kind | None:
    """Tell what a file is by its first bytes.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Kind or None
        None where it may be plain text, is not recognised, is not a regular file, or cannot be read.
    """
    return detect_kind(read_head(path), path.suffix.lower())


def read_head(path: Path) -> bytes:
    """Return the first bytes of a regular file.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bytes
        At most `HEAD_BYTES`; empty where the path is not a regular file or cannot be read.
    """
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode) or not facts.st_size:  # /proc/kmsg has size 0, and reading it never ends
            return b""
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except (OSError, ValueError):
        return b""


def unpack_hint(path: Path, spec: str) -> str | None:
    """Return a hint on how to unpack an archive.

    Parameters
    ----------
    path : Path
    spec : str
        What the user should give once it is unpacked.

    Returns
    -------
    str or None
        None where the file is not an archive.
    """
    kind = detect_file_kind(path)
    if kind is None or kind.group != ARCHIVE:
        return None
    return f"Unpack it first: {_UNPACK[kind.words].format(file=path)}; then give {spec}."


def as_text(head: bytes) -> str | None:
    """Decode a file's first bytes as UTF-8, or as UTF-16 with a byte-order mark.

    Parameters
    ----------
    head : bytes
        At most `HEAD_BYTES`.

    Returns
    -------
    str or None
        None where they are not text.
    """
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return head.decode("utf-16", "replace")
    try:
        text = head.decode("utf-8") if len(head) < HEAD_BYTES else head[:-4].decode("utf-8", "ignore")
    except UnicodeDecodeError:
        return None
    return text if all(letter.isprintable() or letter in "\t\r\n\f\ufeff" for letter in text) else None


def _zip_kind(head: bytes, suffix: str) -> Kind:
    marks = (b"[Content_Types].xml", b"xl/", b"opendocument.spreadsheet")
    is_workbook = suffix in _WORKBOOKS or any(mark in head for mark in marks)
    return (
        Kind("an Excel workbook or another Office document", WORKBOOK)
        if is_workbook
        else Kind("a zip archive", ARCHIVE)
    )


def _text_kind(text: str) -> Kind | None:
    start = text.lstrip("\ufeff \t\r\n")
    if re.match("<", start) and re.search("<svg", start, re.IGNORECASE):
        return Kind("an SVG drawing", PICTURE)
    return next((kind for pattern, kind in _TEXTS if re.match(pattern, start, re.IGNORECASE)), None)
