"""Which files are images: by their names, and by their first bytes. What is none is called what it is."""

import warnings
from pathlib import Path

# Importing a plugin registers its format; Pillow's others stay closed (an EPS file would start Ghostscript).
from PIL import AvifImagePlugin, Jpeg2KImagePlugin, TiffImagePlugin, WebPImagePlugin  # noqa: F401

from nonet.data.images.file_kinds import HEAD_BYTES, PICTURE, READ, as_text, kind_of_bytes

#: What Pillow may open. PNG, JPEG (with MPO), BMP and GIF it registers by itself.
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000", "AVIF")

#: Endings of image files, the same for `build` and `predict`.
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".jpe", ".jfif", ".mpo", ".apng", ".dib"),
    *(".jp2", ".j2k", ".jpx", ".jpf", ".jpc", ".j2c", ".avif"),
)

FORMATS_IN_WORDS = "JPEG, PNG, TIFF, BMP, WebP, GIF, JPEG 2000 and AVIF"

# Its warnings name no file: of damaged EXIF data, which is passed over, and of sizes, which are checked here.
warnings.filterwarnings("ignore", module=r"PIL\.")


def is_named_as_image(path: str | Path) -> bool:
    """Say whether a file's ending is an image's."""
    return Path(path).suffix.lower() in IMAGE_SUFFIXES


def looks_like_picture(head: bytes) -> bool:
    """Say whether a file's first bytes are an image's, of a format that is read or not."""
    kind = kind_of_bytes(head)
    return kind is not None and kind.group in (READ, PICTURE)


def why_not_opened(data: bytes) -> str:
    """Return the rest of a sentence on a file that Pillow does not open, after "X is ": what it is, what to do."""
    kind = kind_of_bytes(data)
    if kind is None:
        is_text = data and as_text(data[:HEAD_BYTES]) is not None
        return "text, not an image" if is_text else f"not an image that nonet reads ({FORMATS_IN_WORDS})"
    if kind.group == PICTURE:
        return f"{kind.words}, which nonet does not read: convert it to PNG or JPEG"
    return (
        f"{kind.words} that is damaged, cut short or of a rare kind"
        if kind.group == READ
        else (f"{kind.words}, not an image")
    )
