"""What goes wrong between a cell and its picture: sensor noise, defocus, a moved stage, uneven light, compression.

The one place for the corruptions and their strengths: drawn cells, tests of robustness and the augmentation of training
(which works on whole batches on a device) take kernels and arithmetic from here.
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import correlate1d

from nonet.errors import DataError

SEVERITIES = (0, 1, 2, 3, 4)

#: Lengths are given for a frame of this side; a frame of half the side is blurred by half as many pixels.
FRAME_PX = 360

_CAST = 0.26  # how far the colour of uneven light is off, as a share of its fall-off


@dataclass(frozen=True)
class Corruption:
    """One way to spoil an image.

    `strengths` are those of severities 1 to 4, in `unit`; `apply` takes float32 values (h, w, 3) in 0–255, a strength
    and a generator, and returns new values, which need not be whole or in range.
    """

    about: str
    unit: str
    strengths: tuple[float, float, float, float]
    apply: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


def corrupt(image: np.ndarray, corruption: str, severity: int, *, seed: int) -> np.ndarray:
    """Degrade an image in a known way.

    Parameters
    ----------
    image : uint8 array (h, w, 3).
    corruption : one of `CORRUPTIONS`, which says what each does and how strongly.
    severity : 0–4; 0 returns the image as it is.
    seed : 0 or more; of the noise, and of the direction and colour of light and movement.

    Returns
    -------
    uint8 array (h, w, 3).

    Raises
    ------
    DataError, where corruption or severity is none of these or the image is no 8-bit RGB image.
    """
    if corruption not in CORRUPTIONS:
        raise DataError(f"There is no corruption {corruption!r}.", f"Choose from {', '.join(CORRUPTIONS)}.")
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
    """Return one normal curve a width, each summing to 1: (n,) → float64 (n, 2 radius_px + 1)."""
    offsets = np.arange(-radius_px, radius_px + 1)
    kernel = np.exp(-0.5 * (offsets / np.asarray(sigma_px, dtype=np.float64)[:, None]) ** 2)
    return kernel / kernel.sum(1, keepdims=True)


def line_kernel(angle_rad: np.ndarray, radius_px: int) -> np.ndarray:
    """Return lines one pixel wide through the middle, each summing to 1: (n,) → float64 (n, k, k), k = 2 radius_px + 1.

    An angle of 0 is a line along a row; it turns towards the rows below.
    """
    offsets = np.arange(-radius_px, radius_px + 1)
    y, x = offsets[None, :, None], offsets[None, None, :]
    angle = np.asarray(angle_rad, dtype=np.float64)[:, None, None]
    distance = np.abs(x * np.sin(angle) - y * np.cos(angle))
    kernel = np.maximum(1 - distance, 0) * (x**2 + y**2 <= radius_px**2 + 0.5)
    return kernel / kernel.sum((1, 2), keepdims=True)


def change_light(values, mean, *, gain, contrast):
    """Multiply by `gain`, and the distance from `mean` by `contrast`; arrays or tensors that broadcast."""
    return (values - mean) * (gain * contrast) + mean * gain


def blur(values: np.ndarray, sigma_px: float) -> np.ndarray:
    """Blur float values (h, w, 3) by a normal curve, cut off at three sigma and mirrored at the border."""
    kernel = gaussian_kernel(np.array([sigma_px]), max(1, math.ceil(3 * sigma_px)))[0]
    return correlate1d(correlate1d(values, kernel, axis=0, mode="mirror"), kernel, axis=1, mode="mirror")


def motion_blur(values: np.ndarray, angle_rad: float, radius_px: int) -> np.ndarray:
    """Blur float values (h, w, 3) along a line of 2 radius_px + 1 px, mirrored at the border."""
    kernel = line_kernel(np.array([angle_rad]), radius_px)[0].astype(values.dtype)
    height, width = values.shape[:2]
    padded = np.pad(values, ((radius_px, radius_px), (radius_px, radius_px), (0, 0)), mode="reflect")
    total = np.zeros_like(values)
    for y, x in zip(*np.nonzero(kernel)):  # few: a line's pixels, not the square's
        total += kernel[y, x] * padded[y : y + height, x : x + width]
    return total


def _noise(values: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    return values + np.float32(sigma) * rng.standard_normal(values.shape, dtype=np.float32)


def _shot_noise(values: np.ndarray, sigma_of_white: float, rng: np.random.Generator) -> np.ndarray:
    """As few photons as make white vary by sigma_of_white; the variance of a grey is in proportion to it."""
    grey_levels_per_photon = sigma_of_white**2 / 255
    return rng.poisson(values / grey_levels_per_photon).astype(np.float32) * np.float32(grey_levels_per_photon)


def _defocus(values: np.ndarray, sigma_px: float, rng: np.random.Generator) -> np.ndarray:
    return blur(values, sigma_px * max(values.shape[:2]) / FRAME_PX)


def _movement(values: np.ndarray, length_px: float, rng: np.random.Generator) -> np.ndarray:
    radius_px = max(1, round(length_px * max(values.shape[:2]) / FRAME_PX / 2))
    return motion_blur(values, rng.uniform(0, np.pi), radius_px)


def _uneven_light(values: np.ndarray, fall_off: float, rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in values.shape[:2])
    along = np.float32(np.cos(angle)) * x[None, :] + np.float32(np.sin(angle)) * y[:, None]
    dark = np.clip((along + 1.2) / 2.4, 0, 1) ** 1.5
    cast = 1 + _CAST * fall_off * rng.choice([-1.0, -0.5, 0.5], size=3, replace=False)
    return values * (1 - fall_off * dark)[:, :, None] * cast.astype(np.float32)


def _off_colour(values: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
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
    "noise": Corruption("Gaussian noise of the sensor", "sigma in 8-bit grey levels", (6.0, 12.0, 24.0, 48.0), _noise),
    "blur": Corruption(
        "defocus, as a Gaussian blur", "sigma in px of a 360-px frame", (3.25, 6.5, 11.5, 18.0), _defocus
    ),
    "illumination": Corruption(
        "light that falls off to one side and has a tint",
        "share of the light missing on the dark side; the tint is off by a quarter of it",
        (0.2, 0.4, 0.65, 0.85),
        _uneven_light,
    ),
    "shot_noise": Corruption(
        "noise of few photons, most where it is bright",
        "sigma of white in 8-bit grey levels",
        (6.0, 12.0, 24.0, 48.0),
        _shot_noise,
    ),
    "motion_blur": Corruption(
        "a stage or slide that moved", "length in px of a 360-px frame", (9.0, 17.0, 29.0, 45.0), _movement
    ),
    "colour": Corruption(
        "another balance of colours and less contrast",
        "share by which one channel is too dark, half of it by which another is too bright, and contrast that is lost",
        (0.08, 0.16, 0.28, 0.4),
        _off_colour,
    ),
    "jpeg": Corruption("lossy compression", "JPEG quality, 100 is best", (50.0, 25.0, 12.0, 6.0), _jpeg),
}
