"""Image corruptions: sensor noise, defocus, motion, uneven illumination, colour shifts, compression.

The one place for corruptions and their strengths. Drawn cells and robustness tests use them directly, and the
augmentation of training (which works on whole batches on a device) uses their kernels and arithmetic.
"""

import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from nonet.errors import DataError, choose_from

SEVERITIES = (0, 1, 2, 3, 4)
#: Name of images that are not corrupted, at severity 0.
CLEAN = "none"

#: Lengths are given for a frame of this side; a frame of half the size is blurred by half as many pixels.
FRAME_PX = 360

_CAST = 0.26  # strength of the colour cast of uneven illumination, as a share of its fall-off


@dataclass(frozen=True)
class Corruption:
    """One kind of corruption.

    Attributes
    ----------
    about : str
        What it imitates.
    unit : str
        Unit of the strengths.
    strengths : tuple of float
        Of severities 1 to 4.
    apply : callable
        Function of float32 values of shape (h, w, 3) in 0–255, a strength and a random generator. Returns new values,
        which need not be whole or in range.
    """

    about: str
    unit: str
    strengths: tuple[float, float, float, float]
    apply: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


def corrupt(image: np.ndarray, corruption: str, severity: int, *, seed: int) -> np.ndarray:
    """Corrupt an image.

    Parameters
    ----------
    image : ndarray of uint8, shape (h, w, 3)
    corruption : str
        One of `CORRUPTIONS`.
    severity : int
        0 to 4; 0 returns the image unchanged.
    seed : int
        0 or more. Determines the noise, and the direction and colour of light and motion.

    Returns
    -------
    ndarray of uint8, shape (h, w, 3)

    Raises
    ------
    DataError
        When there is no such corruption or severity, or the image is not 8-bit RGB.
    """
    if corruption not in CORRUPTIONS:
        raise DataError(f'Unknown corruption "{corruption}".', choose_from(corruption, CORRUPTIONS))
    if severity not in SEVERITIES:
        raise DataError(f"severity is {severity}.", "Choose from 0 (none), 1, 2, 3 and 4.")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise DataError(f"The image is {image.dtype} {image.shape}.", "Give an 8-bit RGB image, (h, w, 3).")
    if severity == 0:
        return image
    rng = np.random.default_rng([seed, list(CORRUPTIONS).index(corruption), severity])
    chosen = CORRUPTIONS[corruption]
    values = chosen.apply(image.astype(np.float32), chosen.strengths[severity - 1], rng)
    return _as_pixels(values)


def gaussian_kernel(sigma_px: np.ndarray, radius_px: int) -> np.ndarray:
    """Return normalised Gaussian kernels.

    Parameters
    ----------
    sigma_px : ndarray of float, shape (n,)
    radius_px : int

    Returns
    -------
    ndarray of float64, shape (n, 2 radius_px + 1)
        Each row sums to 1.
    """
    offsets = np.arange(-radius_px, radius_px + 1)
    kernel = np.exp(-0.5 * (offsets / np.asarray(sigma_px, dtype=np.float64)[:, None]) ** 2)
    return kernel / kernel.sum(1, keepdims=True)


def line_kernel(angle_rad: np.ndarray, radius_px: int) -> np.ndarray:
    """Return normalised kernels of lines one pixel wide through the centre.

    Parameters
    ----------
    angle_rad : ndarray of float, shape (n,)
        0 is a line along a row; larger angles turn towards the rows below.
    radius_px : int

    Returns
    -------
    ndarray of float64, shape (n, k, k) with k = 2 radius_px + 1
        Each kernel sums to 1.
    """
    offsets = np.arange(-radius_px, radius_px + 1)
    y, x = offsets[None, :, None], offsets[None, None, :]
    angle = np.asarray(angle_rad, dtype=np.float64)[:, None, None]
    distance = np.abs(x * np.sin(angle) - y * np.cos(angle))
    kernel = np.maximum(1 - distance, 0) * (x**2 + y**2 <= radius_px**2 + 0.5)
    return kernel / kernel.sum((1, 2), keepdims=True)


def change_light(values, mean, *, gain, contrast):
    """Change brightness and contrast.

    Parameters
    ----------
    values, mean : ndarray or Tensor
        Grey levels and the level that contrast refers to; they broadcast.
    gain : float, ndarray or Tensor
        Factor of the brightness.
    contrast : float, ndarray or Tensor
        Factor of the distance from `mean`.

    Returns
    -------
    ndarray or Tensor
    """
    return (values - mean) * (gain * contrast) + mean * gain


def blur(values: np.ndarray, sigma_px: float) -> np.ndarray:
    """Blur an image by a Gaussian, truncated at three sigma, with mirrored borders.

    Parameters
    ----------
    values : ndarray of float, shape (h, w, 3)
    sigma_px : float

    Returns
    -------
    ndarray of float, shape (h, w, 3)
    """
    kernel = gaussian_kernel(np.array([sigma_px]), max(1, math.ceil(3 * sigma_px)))[0]
    from scipy.ndimage import correlate1d  # here, as names of corruptions are checked before anything heavy is imported

    return correlate1d(correlate1d(values, kernel, axis=0, mode="mirror"), kernel, axis=1, mode="mirror")


def motion_blur(values: np.ndarray, angle_rad: float, radius_px: int) -> np.ndarray:
    """Blur an image along a line, with mirrored borders.

    Parameters
    ----------
    values : ndarray of float, shape (h, w, 3)
    angle_rad : float
        As for `line_kernel`.
    radius_px : int
        The line has 2 radius_px + 1 pixels.

    Returns
    -------
    ndarray of float, shape (h, w, 3)
    """
    kernel = line_kernel(np.array([angle_rad]), radius_px)[0].astype(values.dtype)
    height, width = values.shape[:2]
    padded = np.pad(values, ((radius_px, radius_px), (radius_px, radius_px), (0, 0)), mode="reflect")
    total = np.zeros_like(values)
    for y, x in zip(*np.nonzero(kernel)):  # few: the pixels of a line, not of the square
        total += kernel[y, x] * padded[y : y + height, x : x + width]
    return total


def _noise(values: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    return values + np.float32(sigma) * rng.standard_normal(values.shape, dtype=np.float32)


def _shot_noise(values: np.ndarray, white_sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Add Poisson noise with this sigma for white; the variance of a grey level is proportional to it."""
    grey_levels_per_photon = white_sigma**2 / 255
    return rng.poisson(values / grey_levels_per_photon).astype(np.float32) * np.float32(grey_levels_per_photon)


def _defocus(values: np.ndarray, sigma_px: float, rng: np.random.Generator) -> np.ndarray:
    return blur(values, sigma_px * max(values.shape[:2]) / FRAME_PX)


def _motion(values: np.ndarray, length_px: float, rng: np.random.Generator) -> np.ndarray:
    radius_px = max(1, round(length_px * max(values.shape[:2]) / FRAME_PX / 2))
    return motion_blur(values, rng.uniform(0, np.pi), radius_px)


def _uneven_light(values: np.ndarray, fall_off: float, rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in values.shape[:2])
    along = np.float32(np.cos(angle)) * x[None, :] + np.float32(np.sin(angle)) * y[:, None]
    dark = np.clip((along + 1.2) / 2.4, 0, 1) ** 1.5
    cast = 1 + _CAST * fall_off * rng.choice([-1.0, -0.5, 0.5], size=3, replace=False)
    return values * (1 - fall_off * dark)[:, :, None] * cast.astype(np.float32)


def _colour_shift(values: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    gain = 1 + share * rng.permutation([-1.0, -0.25, 0.5])
    return change_light(values, values.mean(), gain=gain.astype(np.float32), contrast=np.float32(1 - share))


def _jpeg(values: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(_as_pixels(values)).save(stream, format="JPEG", quality=round(quality))
    return np.asarray(Image.open(stream, formats=("JPEG",)), dtype=np.float32)


def _as_pixels(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


#: The order decides the generator's numbers: a new corruption goes to the end.
CORRUPTIONS = {
    "noise": Corruption("Gaussian sensor noise", "sigma in 8-bit grey levels", (6.0, 12.0, 24.0, 48.0), _noise),
    "blur": Corruption(
        "defocus, as a Gaussian blur", "sigma in px of a 360-px frame", (3.25, 6.5, 11.5, 18.0), _defocus
    ),
    "illumination": Corruption(
        "illumination that falls off to one side and has a colour cast",
        "share of the light missing on the dark side; the cast is a quarter of it",
        (0.2, 0.4, 0.65, 0.85),
        _uneven_light,
    ),
    "shot_noise": Corruption(
        "photon noise, strongest in bright areas",
        "sigma of white in 8-bit grey levels",
        (6.0, 12.0, 24.0, 48.0),
        _shot_noise,
    ),
    "motion_blur": Corruption(
        "a stage or slide that moved", "length in px of a 360-px frame", (9.0, 17.0, 29.0, 45.0), _motion
    ),
    "colour": Corruption(
        "a shifted colour balance and less contrast",
        "share by which one channel is darker and contrast is reduced; another channel is brighter by half of it",
        (0.08, 0.16, 0.28, 0.4),
        _colour_shift,
    ),
    "jpeg": Corruption("lossy compression", "JPEG quality, 100 is best", (50.0, 25.0, 12.0, 6.0), _jpeg),
}


def list_corruptions(
    corruptions: Sequence[str] | None = None, severities: Iterable[int] | None = None
) -> list[tuple[str, int]]:
    """Return the (corruption, severity) pairs to test, clean images first.

    Parameters
    ----------
    corruptions : sequence of str, optional
        Keys of `CORRUPTIONS`. Default: all.
    severities : iterable of int, optional
        1 to 4. Default: all.

    Returns
    -------
    list of tuple of (str, int)

    Raises
    ------
    DataError
        If a name or a severity is unknown, or none is given.
    """
    corruptions = list(CORRUPTIONS) if corruptions is None else list(dict.fromkeys(corruptions))
    severities = SEVERITIES[1:] if severities is None else sorted({int(severity) for severity in severities} - {0})
    for corruption in corruptions:
        if corruption not in CORRUPTIONS:
            raise DataError(f'Unknown corruption "{corruption}".', hint=choose_from(corruption, CORRUPTIONS))
    for severity in severities:
        if severity not in SEVERITIES:
            raise DataError(f"Unknown severity {severity}.", hint="Choose from 1, 2, 3 and 4.")
    if not corruptions or not severities:
        what = "corruption" if not corruptions else "severity above 0"
        raise DataError(
            f"No {what} was given: clean images alone say nothing about robustness.",
            hint=f"Choose from {', '.join(CORRUPTIONS)}, and severities 1 to 4; leave both out for all.",
        )
    return [(CLEAN, 0), *[(corruption, severity) for corruption in corruptions for severity in severities]]
