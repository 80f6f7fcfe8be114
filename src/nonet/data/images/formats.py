"""Which files are images, by their names and by their first bytes, and what a file is that is not an image."""

import warnings
from pathlib import PurePath

# Importing a plugin registers its format; Pillow's others stay closed (an EPS file would start Ghostscript).
from PIL import AvifImagePlugin, Jpeg2KImagePlugin, TiffImagePlugin, WebPImagePlugin  # noqa: F401

from nonet.data.images.file_kinds import HEAD_BYTES, PICTURE, READ, as_text, detect_kind

#: What Pillow may open. PNG, JPEG (with MPO), BMP and GIF it registers by itself.
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000", "AVIF")

#: Endings of image files, the same for `build` and `predict`.
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".jpe", ".jfif", ".mpo", ".apng", ".dib"),
    *(".jp2", ".j2k", ".jpx", ".jpf", ".jpc", ".j2c", ".avif"),
)

FORMATS_IN_WORDS = "JPEG, PNG, TIFF, BMP, WebP, GIF, JPEG 2000 and AVIF"

# Pillow's warnings name no file. They are about damaged EXIF data, which is ignored, and sizes, which are checked here.
warnings.filterwarnings("ignore", module=r"PIL\.")


def is_named_as_image(path: str | PurePath) -> bool:
    """Tell whether a file's extension is that of an image.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    bool
    """
    return PurePath(path).suffix.lower() in IMAGE_SUFFIXES


def looks_like_picture(head: bytes) -> bool:
    """Tell whether a file's first bytes are those of an image, in a format that nonet reads or not.

    Parameters
    ----------
    head : bytes
        The first `HEAD_BYTES` of the file.

    Returns
    -------
    bool
    """
    kind = detect_kind(head)
    return kind is not None and kind.group in (READ, PICTURE)


def why_not_opened(data: bytes) -> str:
    """Explain what a file is that Pillow does not open, and what to do about it.

    Parameters
    ----------
    data : bytes
        The file.

    Returns
    -------
    str
        The rest of a sentence that begins with "X is".
    """
    kind = detect_kind(data)
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
