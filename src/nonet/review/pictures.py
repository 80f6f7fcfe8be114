"""Cells as a browser may see them: read as everything else reads them, and encoded anew."""

import hashlib
import io
import logging
from functools import lru_cache
from pathlib import Path

import numpy as np
from fastapi import Response
from PIL import Image

from nonet.data.images.decode import load_rgb
from nonet.data.images.files import read_file
from nonet.errors import DataError
from nonet.review.records import ChangedImageError, MissingImageError

logger = logging.getLogger("nonet")

THUMBNAIL_PX = 160
_QUALITY = 88
_LARGE_PX, _LARGE_QUALITY = 512, 93
_CACHED = 4096  # thumbnails of some 5 kB each


@lru_cache(maxsize=_CACHED)
def thumbnail(path: str, sha256: str) -> bytes:
    """Return a cell as a JPEG of at most 160 px, whatever the file's own format.

    Parameters
    ----------
    path : str
    sha256 : str
        Of the file when the case was added.

    Returns
    -------
    bytes

    Raises
    ------
    DataError
        If the image cannot be read, or is not the one that was predicted.
    """
    picture = Image.fromarray(pixels_of(path, sha256))
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    return _encode(picture, "JPEG", quality=_QUALITY)


def enlarged(path: str, sha256: str) -> bytes:
    """Return a cell as a JPEG of at most 512 px, to look at closely; parameters and errors are those of `thumbnail`."""
    picture = Image.fromarray(pixels_of(path, sha256))
    picture.thumbnail((_LARGE_PX, _LARGE_PX), Image.Resampling.LANCZOS)
    return _encode(picture, "JPEG", quality=_LARGE_QUALITY)


def native(path: str, sha256: str) -> bytes:
    """Return a cell in its own size as a PNG; parameters and errors are those of `thumbnail`."""
    return _encode(Image.fromarray(pixels_of(path, sha256)), "PNG")


def pixels_of(path: str, sha256: str) -> np.ndarray:
    """Return the pixels of a cell, uint8 (height, width, 3); parameters and errors are those of `thumbnail`."""
    try:
        data = read_file(Path(path))
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ChangedImageError
        return load_rgb(data)
    except ChangedImageError:
        raise
    except DataError as error:  # its words name a path of this machine
        logger.warning(f"A cell cannot be shown: {error.message}")
        raise MissingImageError from error


def as_answer(picture: bytes, media_type: str) -> Response:
    """Return a picture as the answer to a request; its address contains a checksum, so a browser may keep it a day."""
    return Response(picture, media_type=media_type, headers={"Cache-Control": "private, max-age=86400"})


def _encode(picture: Image.Image, kind: str, **options: int) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()
