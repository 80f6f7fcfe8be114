"""Whether an image shows anything that could be a nucleus, in NumPy and SciPy, half a millisecond per image.

White cells have a nucleus, and its stain absorbs green and red and less blue, whereas haemoglobin absorbs green and
blue. So a nucleus is a dark or violet area with an edge, next to something lighter. Images without one are empty
fields, blank frames, even gradients or red cells alone; a network would name even those. The limits are wide on
purpose: whatever may be a nucleus counts as one, however pale, blurred or noisy.
docs/decisions/0021-images-without-a-nucleus.md has the measurements.
"""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from PIL import Image

SIDE_PX = 32  # size that images are reduced to; detail within the nucleus does not matter
SMOOTHING_PX = 0.8
DARK_LEVEL = 16  # grey levels added before taking logarithms, so that noise in dark areas is not taken as contrast
#: Absorbance is measured against the level that this share of the frame exceeds: LIGHT is the background of any frame,
#: MOST its typical level, for frames with a white margin or overexposed spots.
LIGHT, MOST = 0.05, 0.5
PLAIN = 6  # largest range of grey levels within a row or column of a margin
MARGIN_PX = 2  # also removed next to a margin, as smoothing has mixed the two
CENTRE = 0.4  # radius, in sides of the frame, within which darkness alone counts; illumination falls off further out
AREA = 0.01  # smallest share of the frame that a nucleus fills: an erythroblast's does in a whole frame
#: Smallest absorbance of this area, in natural logarithms.
VIOLET = 0.15  # of red plus a tenth of green, minus blue; red cells have 0.12 or less, most nuclei 0.6
GREEN = 0.4  # of green, where it is violet
DARK = 0.7  # of red, whatever the colour; red cells have 0.35
GREY = 0.28  # of red where colours hardly differ: grey images, and those taken through a filter
SAME_COLOUR = 0.1  # largest difference between channels of an image that counts as grey
#: A nucleus that fills the frame has nothing lighter beside it. FILLED is how much more blue than green is transmitted
#: by half of the frame, in natural logarithms; CHROMATIN is how much absorbance varies within chromatin.
FILLED, CHROMATIN = 0.25, 0.2
#: The steepest gradient, in units of an even slope from the darkest to the lightest value across the frame.
EDGE = 2.5


def shows_nucleus(pixels: np.ndarray) -> bool:
    """Tell whether anything in an image could be a nucleus.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width, 3)

    Returns
    -------
    bool
    """
    from scipy.ndimage import gaussian_filter  # here, as worker processes that import this are ready sooner without

    small = Image.fromarray(pixels).resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX)
    smooth = gaussian_filter(np.asarray(small, dtype=np.float32), (SMOOTHING_PX, SMOOTHING_PX, 0))
    levels = _without_margins(smooth)
    return levels is not None and _is_stained(levels + DARK_LEVEL) and _has_edge(levels)


def any_nucleus(crops: Iterable[np.ndarray]) -> bool:
    """Tell whether any of an image's crops shows something that could be a nucleus.

    Parameters
    ----------
    crops : iterable of ndarray of uint8, each of shape (size, size, 3)

    Returns
    -------
    bool
    """
    return any(shows_nucleus(pixels) for pixels in crops)


def _without_margins(levels: np.ndarray) -> np.ndarray | None:
    """Remove rows and columns of a plain colour at the edges: padding, black bars, missing parts of a frame.

    Returns None where nothing is left, as for a blank frame.
    """
    for axis in (0, 1):
        plain = (np.ptp(levels, axis=1 - axis) <= PLAIN).all(axis=-1)
        if plain.all():
            return None
        first, last = int(plain.argmin()), int(plain[::-1].argmin())
        first, last = (width + MARGIN_PX if width else 0 for width in (first, last))
        if len(plain) - first - last < 4:
            return None
        levels = levels[first : len(plain) - last] if axis == 0 else levels[:, first : len(plain) - last]
    return levels


def _is_stained(levels: np.ndarray) -> bool:
    """Tell whether levels (height, width, 3) have an area as dark or as violet as a nucleus."""
    logarithms = np.log(levels)
    red, green, blue = _absorbances(logarithms, LIGHT)
    dark = _quantile(red[_is_central(*red.shape)], 1 - AREA)
    return bool(
        dark >= DARK
        or _is_violet(red, green, blue)
        or _is_violet(*_absorbances(logarithms, MOST))
        or (dark >= GREY and _quantile(_spread(red, green, blue), 1 - AREA) < SAME_COLOUR)
        or (
            _quantile(green, 1 - AREA) >= CHROMATIN
            and _quantile(logarithms[..., 2] - logarithms[..., 1], 0.5) >= FILLED
        )
    )


def _absorbances(logarithms: np.ndarray, light: float) -> list[np.ndarray]:
    """Return the absorbance of red, green and blue relative to the level that a share of the frame exceeds."""
    return [_quantile(logarithms[..., k], 1 - light) - logarithms[..., k] for k in range(3)]


def _spread(red: np.ndarray, green: np.ndarray, blue: np.ndarray) -> np.ndarray:
    return np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)


def _is_violet(red: np.ndarray, green: np.ndarray, blue: np.ndarray) -> bool:
    return _quantile(green, 1 - AREA) >= GREEN and _quantile(red + green / 10 - blue, 1 - AREA) >= VIOLET


@lru_cache
def _is_central(height: int, width: int) -> np.ndarray:
    y, x = np.ogrid[:height, :width]
    return np.hypot((y + 0.5) / height - 0.5, (x + 0.5) / width - 0.5) <= CENTRE


def _has_edge(levels: np.ndarray) -> bool:
    """Tell whether levels (height, width, 3) change faster anywhere than an even slope across the frame would."""
    ranges = np.ptp(levels, axis=(0, 1))
    channel = int(ranges.argmax())
    down, across = np.gradient(levels[..., channel])
    return bool(_quantile(np.hypot(down, across), 1 - AREA) * max(levels.shape[:2]) >= EDGE * ranges[channel])


def _quantile(values: np.ndarray, share: float) -> float:
    """Return the value that this share of the values does not exceed."""
    rank = round(share * (values.size - 1))
    return float(np.partition(values, rank, axis=None)[rank])
