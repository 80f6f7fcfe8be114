"""Image statistics that the dataset checks need: a small grey thumbnail and the colour of the border."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDE_PX = 32  # of the thumbnail: 1 KB per image, 60 MB for 60,000
BORDER_SHARE = 0.04  # of each side; a cell in the middle does not reach it


@dataclass(frozen=True)
class ImageStats:
    """Statistics of one image, computed while it is read.

    Attributes
    ----------
    thumbnail : ndarray of uint8, shape (32, 32)
        Grey copy.
    border : tuple of float
        Mean colour of the border: red, green and blue in 0–255.
    """

    thumbnail: np.ndarray
    border: tuple[float, float, float]


def compute_image_stats(image: np.ndarray) -> ImageStats:
    """Compute the thumbnail and the border colour of an image.

    Parameters
    ----------
    image : ndarray of uint8, shape (height, width, 3)

    Returns
    -------
    ImageStats
    """
    height, width = image.shape[:2]
    thumbnail = Image.fromarray(image).convert("L").resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX)
    y, x = max(1, round(BORDER_SHARE * height)), max(1, round(BORDER_SHARE * width))
    strips = (image[:y], image[-y:], image[y:-y, :x], image[y:-y, -x:])
    # Row by row first, which NumPy does much faster than both axes at once.
    total = sum(strip.sum(axis=0, dtype=np.int64).sum(axis=0) for strip in strips)
    num_pixels = sum(strip.shape[0] * strip.shape[1] for strip in strips)
    red, green, blue = (float(value) for value in total / num_pixels)
    return ImageStats(np.asarray(thumbnail), (red, green, blue))
