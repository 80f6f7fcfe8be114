"""From an image to network inputs: denoised, its colours normalised, cropped and resized to squares of uint8."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from nonet.data.images.decode import read_image
from nonet.data.preprocess.crop import Crop
from nonet.data.preprocess.denoise import Part, denoise, estimate_sigma
from nonet.settings import Denoise

VERSION = 4  # of the pixel processing; increase it with every change, so that old caches are not used


class PreparedCrops(dict[Crop, np.ndarray]):
    """The crops of one image: a dict of Crop → ndarray of uint8, shape (size, size, 3).

    Attributes
    ----------
    note : str
        What is unusual about the image; see `read_image`.
    sigma : float
        Estimated noise before denoising, in 8-bit grey levels; NaN where denoising is off.
    """

    def __init__(self, crops: dict[Crop, np.ndarray], note: str, sigma: float):
        super().__init__(crops)
        self.note, self.sigma = note, sigma


def prepare_crops(
    image: np.ndarray | str | Path | bytes, crops: Sequence[Crop], settings: Denoise, *, name: str | None = None
) -> PreparedCrops:
    """Load an image, denoise it at full size, normalise its colours if the settings say so, and crop it.

    Frames of single cells are nearly square (360 x 363 px and the like), so resizing a whole frame to a square moves no
    edge by more than a percent.

    Parameters
    ----------
    image : ndarray of uint8, shape (height, width, 3), or str, Path or bytes
        Pixels, a path, or the bytes of a file.
    crops : sequence of Crop
    settings : Denoise
        The recipe's [denoise] section.
    name : str, optional
        The image's name in errors; by default its path.

    Returns
    -------
    PreparedCrops

    Raises
    ------
    DataError
        When the image cannot be read.
    """
    note = ""
    if isinstance(image, np.ndarray):
        pixels = image
    else:
        read = read_image(image, name=name)
        pixels, note = read.pixels, read.note
    sigma = estimate_sigma(pixels) if settings.enabled else float("nan")
    if settings.colours == "reinhard":  # by the whole frame's colours
        from nonet.data.preprocess.stain import normalise_colours

        clean = normalise_colours(denoise(pixels, settings, sigma=sigma))
    else:
        seen = centre_part(pixels, max((crop.centre for crop in crops), default=1.0))
        clean = denoise(pixels, settings, sigma=sigma, part=seen)
    return PreparedCrops({crop: _crop(clean, crop) for crop in crops}, note, sigma)


def _crop(image: np.ndarray, crop: Crop) -> np.ndarray:
    centre = Image.fromarray(crop_centre(image, crop.centre))
    return np.asarray(centre.resize(crop.shape[:2], Image.Resampling.BICUBIC))


def crop_centre(image: np.ndarray, share: float) -> np.ndarray:
    """Crop an image to its central square.

    Frames of single cells have the cell in their middle, on a third of the area or less, so a network of few pixels
    would otherwise spend more of them on the surroundings than it needs to.

    Parameters
    ----------
    image : ndarray of uint8, shape (height, width, 3)
    share : float in (0, 1]
        Side of the square as a share of the shorter side; 1 returns the whole image.

    Returns
    -------
    ndarray of uint8, shape (side, side, 3)
    """
    if share == 1:
        return image
    top, left, height, width = centre_part(image, share)
    return np.ascontiguousarray(image[top : top + height, left : left + width])


def centre_part(image: np.ndarray, share: float) -> Part:
    """Return which part of an image its central square is; that of a smaller share lies within that of a larger one.

    Parameters
    ----------
    image : ndarray of uint8, shape (height, width, 3)
    share : float in (0, 1]
        As in `crop_centre`.

    Returns
    -------
    Part
    """
    height, width = image.shape[:2]
    if share == 1:
        return Part(0, 0, height, width)
    side = max(1, round(share * min(height, width)))
    return Part((height - side) // 2, (width - side) // 2, side, side)
