"""Whether an image shows anything that could be a nucleus. NumPy and SciPy, half a millisecond an image.

White cells have one, and its stain takes light from green and red and less from blue, where haemoglobin takes it from
green and blue. So a nucleus is a dark or violet area with an edge, next to what is lighter. What has none is an empty
field, a blank image or one that runs evenly from one colour to another, or red cells alone, and a network would name
even those. The limits are wide on purpose: whatever may be a nucleus counts as one, however pale, blurred or noisy.
docs/decisions/0021-images-without-a-nucleus.md has what was measured.
"""

from collections.abc import Iterable

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

SIDE_PX = 32  # looked at; what a nucleus is made of is too fine to matter
SMOOTHING_PX = 0.8
DARK_LEVEL = 16  # grey levels added before logarithms, so that noise in the dark is no contrast
#: Shares of the frame that are lighter than the level which absorbance is measured against: by the first, what is light
#: in any frame; by the second, what most of it is like, where a white margin or overexposed spots are lighter still.
LIGHT, MOST = 0.05, 0.5
PLAIN = 6  # grey levels by which a row or column of a margin differs within itself at most
MARGIN_PX = 2  # cut off beside a margin: smoothing has mixed them
CENTRE = 0.4  # radius, in sides of the frame, where what is only dark counts; light falls off further out
AREA = 0.01  # share of the frame that a nucleus fills at least: an erythroblast's does in a whole frame
#: Absorbance, in natural logarithms, that this area has at least.
VIOLET = 0.15  # of red, and a tenth of green's, beyond blue; red cells have 0.12 and less, most nuclei 0.6
GREEN = 0.4  # of green, where it is violet
DARK = 0.7  # of red, whatever the colour; red cells have 0.35
GREY = 0.28  # of red where colours hardly differ: grey images, and those through a filter
SAME_COLOUR = 0.1  # largest difference between channels of an image that counts as grey
#: A nucleus that fills the frame has nothing lighter beside it. How much more blue than green comes through half of the
#: frame, in natural logarithms, and how much absorbance varies within chromatin.
FILLED, CHROMATIN = 0.25, 0.2
#: The steepest part of the picture, in units of an even slope from its darkest to its lightest from side to side.
EDGE = 2.5


def shows_nucleus(pixels: np.ndarray) -> bool:
    """Say whether anything in an image, uint8 (height, width, 3), could be a nucleus."""
    small = Image.fromarray(pixels).resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX)
    smooth = gaussian_filter(np.asarray(small, dtype=np.float32), (SMOOTHING_PX, SMOOTHING_PX, 0))
    levels = _without_margins(smooth)
    return levels is not None and _is_stained(levels + DARK_LEVEL) and _has_edge(levels)


def any_nucleus(crops: Iterable[np.ndarray]) -> bool:
    """Say whether any of an image's crops, uint8 (size, size, 3), shows what could be a nucleus."""
    return any(shows_nucleus(pixels) for pixels in crops)


def _without_margins(levels: np.ndarray) -> np.ndarray | None:
    """Cut off rows and columns of a plain colour at the edges: padding, black bars, what was not read of a frame.

    None where nothing is left, as of a blank frame.
    """
    for axis in (0, 1):
        plain = (np.ptp(levels, axis=1 - axis) <= PLAIN).all(axis=-1)
        if plain.all():
            return None
        first, last = int(plain.argmin()), int(plain[::-1].argmin())
        first, last = (width + MARGIN_PX if width else 0 for width in (first, last))
        if len(plain) - first - last < 4:
            return None
        levels = np.take(levels, range(first, len(plain) - last), axis=axis)
    return levels


def _is_stained(levels: np.ndarray) -> bool:
    """Say whether levels (height, width, 3) have an area as dark or as violet as nuclei are."""
    logarithms = np.log(levels)
    red, green, blue = _absorbances(logarithms, LIGHT)
    differ = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    dark = _level(red[_is_central(*red.shape)], 1 - AREA)
    return bool(
        dark >= DARK
        or _is_violet(red, green, blue)
        or _is_violet(*_absorbances(logarithms, MOST))
        or (dark >= GREY and _level(differ, 1 - AREA) < SAME_COLOUR)
        or (_level(green, 1 - AREA) >= CHROMATIN and _level(logarithms[..., 2] - logarithms[..., 1], 0.5) >= FILLED)
    )


def _absorbances(logarithms: np.ndarray, light: float) -> list[np.ndarray]:
    """Return the absorbance of red, green and blue against the level that a share of the frame exceeds."""
    return [_level(logarithms[..., k], 1 - light) - logarithms[..., k] for k in range(3)]


def _is_violet(red: np.ndarray, green: np.ndarray, blue: np.ndarray) -> bool:
    return _level(green, 1 - AREA) >= GREEN and _level(red + green / 10 - blue, 1 - AREA) >= VIOLET


def _is_central(height: int, width: int) -> np.ndarray:
    y, x = np.ogrid[:height, :width]
    return np.hypot((y + 0.5) / height - 0.5, (x + 0.5) / width - 0.5) <= CENTRE


def _has_edge(levels: np.ndarray) -> bool:
    """Say whether levels (height, width, 3) change faster somewhere than an even slope across the frame would."""
    ranges = np.ptp(levels, axis=(0, 1))
    channel = int(ranges.argmax())
    down, across = np.gradient(levels[..., channel])
    return bool(_level(np.hypot(down, across), 1 - AREA) * max(levels.shape[:2]) >= EDGE * ranges[channel])


def _level(values: np.ndarray, share: float) -> float:
    """Return the value that this share of all values does not exceed."""
    rank = round(share * (values.size - 1))
    return float(np.partition(values, rank, axis=None)[rank])
