"""Small pictures of cells within a page, so that it stays one file."""

import base64
import io

import numpy as np
from PIL import Image

_QUALITY = 84


def embedded(image: np.ndarray, side_px: int) -> str:
    """Return an image as the address of a small WebP, for the `src` of an HTML image.

    Parameters
    ----------
    image : ndarray of uint8, shape (height, width, 3)
        RGB.
    side_px : int
        At most, of the longer side; a smaller image keeps its size.

    Returns
    -------
    str
        A data URI; of a cell at 128 px, 2 to 5 kB.
    """
    picture, stream = Image.fromarray(image), io.BytesIO()
    picture.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    picture.save(stream, "WEBP", quality=_QUALITY, method=6)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
