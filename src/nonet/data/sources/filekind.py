"""What a file is by its first bytes, where a folder or a table was expected: an archive, a workbook, a web page."""

from pathlib import Path

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
_MAGIC = (
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "a zip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook"),
    (b"PAR1", "a Parquet file"),
    (b"%PDF", "a PDF"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"II*\x00", "an image"),
    (b"MM\x00*", "an image"),
)
_HTML = (b"<!doctype html", b"<html")
_POINTER = b"version https://git-lfs"  # what Git leaves of a large file until "git lfs pull"


def kind_of(path: Path) -> str | None:
    """Return what a file is, in words with an article, or None where it may be text, is unknown or cannot be read."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            start = file.read(512)
    except (OSError, ValueError):
        return None
    for magic, kind in _MAGIC:
        if start.startswith(magic):
            is_workbook = kind == "a zip archive" and (
                path.suffix.lower() in _WORKBOOKS or b"[Content_Types].xml" in start or b"xl/" in start
            )
            return "an Excel workbook" if is_workbook else kind
    if start[257:262] == b"ustar":
        return "a tar archive"
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(_HTML):
        return "a web page"
    return "a Git LFS pointer, not the file itself" if text.startswith(_POINTER) else None


def unpack_hint(path: Path, spec: str) -> str | None:
    """Return how to unpack a file and what to write then, or None where it is not an archive."""
    kind = kind_of(path)
    if kind not in _UNPACK:
        return None
    return f"Unpack it first: {_UNPACK[kind].format(file=path)}; then give {spec}."
