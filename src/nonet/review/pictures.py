"""Cells as a browser may see them: read as everything else reads them, and encoded anew."""

import io
from functools import lru_cache
from pathlib import Path

from PIL import Image

from nonet.data.images.decode import load_rgb

THUMBNAIL_PX = 160
_QUALITY = 88


@lru_cache(maxsize=4096)
def thumbnail(path: str, sha256: str, side_px: int = THUMBNAIL_PX) -> bytes:
    """Return a cell as a JPEG of at most `side_px`, whatever the file's own format.

    Parameters
    ----------
    path : str
    sha256 : str
        Of the file's content, so that a changed file is read again.
    side_px : int
        Of the longer side.

    Returns
    -------
    bytes

    Raises
    ------
    DataError
        If the image cannot be read.
    """
    picture = Image.fromarray(load_rgb(Path(path)))
    picture.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    return _encode(picture)


def native(path: str) -> bytes:
    """Return a cell in its own size as a PNG; DataError if it cannot be read."""
    stream = io.BytesIO()
    Image.fromarray(load_rgb(Path(path))).save(stream, "PNG")
    return stream.getvalue()


def _encode(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()
