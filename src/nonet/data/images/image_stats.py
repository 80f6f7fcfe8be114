"""What the checks remember of an image: a small grey copy, and the colour of its border. Taken while it is read."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDE_PX = 32  # of the small copy: 1 KB an image, 60 MB of 60,000
BORDER_SHARE = 0.04  # of each side; a cell in the middle does not reach it


@dataclass(frozen=True)
class Look:
    """A small copy, uint8 (32, 32), grey; and the mean colour of the border, RGB in 0–255."""

    small: np.ndarray
    border: tuple[float, float, float]


def look_at(image: np.ndarray) -> Look:
    """Return the look of an image, uint8 (height, width, 3)."""
    height, width = image.shape[:2]
    small = Image.fromarray(image).convert("L").resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX)
    y, x = max(1, round(BORDER_SHARE * height)), max(1, round(BORDER_SHARE * width))
    strips = (image[:y], image[-y:], image[y:-y, :x], image[y:-y, -x:])
    total = sum(strip.sum(axis=(0, 1), dtype=np.int64) for strip in strips)
    num_pixels = sum(strip.shape[0] * strip.shape[1] for strip in strips)
    return Look(np.asarray(small), tuple(float(value) for value in total / num_pixels))
