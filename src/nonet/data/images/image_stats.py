"""Image statistics that the dataset checks need: a small grey thumbnail and the colours of the border."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDE_PX = 32  # of the thumbnail: 1 KB per image, 60 MB for 60,000
BORDER_SHARE = 0.04  # of each side; a cell in the middle does not reach it
BACKGROUND_QUANTILE = 0.95  # of the border's pixels, by channel: empty glass even where red cells cross the border


@dataclass(frozen=True)
class ImageStats:
    """Statistics of one image, computed while it is read.

    Attributes
    ----------
    thumbnail : ndarray of uint8, shape (32, 32)
        Grey copy.
    border : tuple of float
        Mean colour of the border: red, green and blue in 0–255.
    background : tuple of float
        95th percentile of the border in each channel: the colour of the empty glass between cells.
    """

    thumbnail: np.ndarray
    border: tuple[float, float, float]
    background: tuple[float, float, float]


def compute_image_stats(image: np.ndarray) -> ImageStats:
    """Compute the thumbnail and the border colours of an image.

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
    # One histogram per channel gives both: counting costs little more than adding up, sorting much more.
    pixels = np.concatenate([strip.reshape(-1, 3) for strip in strips])
    counts = np.stack([np.bincount(pixels[:, channel], minlength=256) for channel in range(3)])
    red, green, blue = (float(value) for value in counts @ np.arange(256) / len(pixels))
    below = np.cumsum(counts, axis=1) < BACKGROUND_QUANTILE * len(pixels)
    background = (float(below[0].sum()), float(below[1].sum()), float(below[2].sum()))
    return ImageStats(np.asarray(thumbnail), (red, green, blue), background)
