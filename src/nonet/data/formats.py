"""Which files are images: by their names, and by their first bytes. What is none is called what it is."""

import re
from pathlib import Path

# Importing a plugin registers its format; Pillow's others stay closed (an EPS file would start Ghostscript).
from PIL import AvifImagePlugin, Jpeg2KImagePlugin, TiffImagePlugin, WebPImagePlugin  # noqa: F401

#: What Pillow may open. PNG, JPEG (with MPO), BMP and GIF it registers by itself.
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000", "AVIF")

#: Endings of image files, the same for `build` and `predict`.
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".jpe", ".jfif", ".mpo", ".apng", ".dib"),
    *(".jp2", ".j2k", ".jpx", ".jpf", ".jpc", ".j2c", ".avif"),
)

READ = "JPEG, PNG, TIFF, BMP, WebP, GIF, JPEG 2000 and AVIF"

_OURS = (  # the formats that are read: a file that begins so and cannot be opened is damaged, or of a rare kind
    (0, b"\xff\xd8\xff", "a JPEG"),
    (0, b"\x89PNG", "a PNG"),
    (0, b"II*\0", "a TIFF"),
    (0, b"MM\0*", "a TIFF"),
    (0, b"II+\0", "a TIFF"),
    (0, b"MM\0+", "a TIFF"),
    (0, b"GIF8", "a GIF"),
    (8, b"WEBP", "a WebP"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000"),
    (4, b"ftypavif", "an AVIF"),
    (4, b"ftypavis", "an AVIF"),
    (0, b"BM", "a BMP"),
)
_PICTURES = (  # that nonet does not read
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (128, b"DICM", "a DICOM file"),
    (0, b"\x08\0\x05\0", "a DICOM file"),
    (0, b"\x08\0\0\0\x04\0\0\0", "a DICOM file"),
    (344, b"n+1\0", "a NIfTI volume"),
    (4, b"n+2\0", "a NIfTI volume"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"gimp xcf", "a GIMP file"),
    (8, b"CR\x02", "a camera's raw file"),
    (4, b"ftypcrx ", "a camera's raw file"),
    (0, b"FUJIFILMCCD-RAW", "a camera's raw file"),
    (0, b"IIRO", "a camera's raw file"),
    (0, b"IIRS", "a camera's raw file"),
    (0, b"IIU\0", "a camera's raw file"),
    (0, b"FOVb", "a camera's raw file"),
    (0, b"ZISRAWFILE", "a Zeiss CZI file"),
    (0, b"\xda\xce\xbe\x0a", "a Nikon ND2 file"),
    (0, b"%PDF", "a PDF file"),
    (0, b"%!PS", "a PostScript file"),
    (0, b"\xc5\xd0\xd3\xc6", "an EPS file"),
    (0, b"SIMPLE  =", "a FITS file"),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR image"),
    (0, b"#?RADIANCE", "a Radiance image"),
    (0, b"II\xbc", "a JPEG XR image"),
    (0, b"\0\0\x01\0", "an icon"),
    (0, b"icns", "an icon"),
    (0, b"qoif", "a QOI image"),
    (0, b"FLIF", "a FLIF image"),
    (0, b"BPG\xfb", "a BPG image"),
    (0, b"DDS ", "a DDS image"),
    (0, b"AT&TFORM", "a DjVu file"),
)
_OTHERS = (
    (0, b"PK\x03\x04", "a ZIP archive or an Office document"),
    (0, b"\x1f\x8b", "a gzip file"),
    (0, b"BZh", "a bzip2 file"),
    (0, b"\xfd7zXZ", "an xz file"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd file"),
    (0, b"7z\xbc\xaf", "a 7-Zip archive"),
    (0, b"Rar!", "a RAR archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"MATLAB", "a MATLAB file"),
    (0, b"PAR1", "a Parquet file"),
    (0, b"SQLite format 3", "an SQLite database"),
    (0, b"\xd0\xcf\x11\xe0", "an OLE file (old Office document, Zeiss ZVI, Thumbs.db)"),
    (0, b"\0\x05\x16\x07", "a macOS resource file"),
    (0, b"\x1a\x45\xdf\xa3", "a video"),
    (8, b"AVI ", "a video"),
    (0, b"OggS", "a sound or video"),
    (8, b"WAVE", "a sound"),
    (0, b"ID3", "a sound"),
    (0, b"\x80\x02", "a Python pickle"),
    (0, b"\x80\x03", "a Python pickle"),
    (0, b"\x80\x04", "a Python pickle"),
    (0, b"\x80\x05", "a Python pickle"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a program"),
    (0, b"version https://git-lfs", "a Git LFS pointer, whose image was not downloaded"),
    (0, b"/annex/objects/", "a git-annex pointer, whose image was not downloaded"),
)
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1", b"mif2")
HEAD_BYTES = 1024  # of a file say what it is


def is_named_as_image(path: str | Path) -> bool:
    """Say whether a file's ending is an image's."""
    return Path(path).suffix.lower() in IMAGE_SUFFIXES


def looks_like_picture(head: bytes) -> bool:
    """Say whether a file's first bytes are an image's, of a format that is read or not."""
    return _match(head, _OURS) is not None or _match(head, _PICTURES) is not None or _in_words(head) in _DRAWN


def why_not_opened(data: bytes) -> str:
    """Return the rest of a sentence on a file that Pillow does not open, after "X is ": what it is, what to do."""
    if what := _match(data, _PICTURES):
        return f"{what}, which nonet does not read: convert it to PNG or JPEG"
    if what := _match(data, _OURS):
        return f"{what} image that is damaged, cut short or of a rare kind"
    what = _match(data, _OTHERS) or _in_words(data)
    if what in _DRAWN:
        return f"{what}, which nonet does not read: convert it to PNG or JPEG"
    return f"{what}, not an image" if what else f"not an image that nonet reads ({READ})"


_DRAWN = {"a HEIC image", "an SVG drawing", "a PNM image"}


def _match(data: bytes, magics: tuple) -> str | None:
    return next((what for offset, magic, what in magics if data[offset : offset + len(magic)] == magic), None)


def _in_words(data: bytes) -> str | None:
    """Name what has no fixed first bytes."""
    head = data[:HEAD_BYTES]
    if data[4:8] == b"ftyp":
        return "a HEIC image" if data[8:12] in _HEIF_BRANDS else "a video"
    if re.match(rb"P[1-7fF]\s", head):
        return "a PNM image"
    if not head.strip(b"\0"):
        return "filled with zero bytes (was it downloaded whole?)"
    text = _as_text(head)
    if text is None:
        return None
    start = text.lstrip("\ufeff \t\r\n").lower()
    if "<svg" in start:
        return "an SVG drawing"
    if start.startswith(("<!doctype html", "<html")) or "<html" in start:
        return "an HTML page (an error message of a server?)"
    if start.startswith("<?xml"):
        return "an XML file"
    return "JSON" if start.startswith(("{", "[")) else "text"


def _as_text(head: bytes) -> str | None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return head.decode("utf-16", "replace")
    try:
        text = head.decode("utf-8") if len(head) < HEAD_BYTES else head[:-4].decode("utf-8", "ignore")
    except UnicodeDecodeError:
        return None
    return text if all(letter.isprintable() or letter in "\t\r\n\f\ufeff" for letter in text) else None
