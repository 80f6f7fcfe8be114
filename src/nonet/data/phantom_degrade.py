"""What goes wrong between a cell and its picture: sensor noise, defocus, uneven light; each at severities 0 to 3."""

import numpy as np
from scipy.ndimage import gaussian_filter

from nonet.errors import DataError

DEGRADATIONS = ("noise", "blur", "illumination")
SEVERITIES = (0, 1, 2, 3)

_NOISE_SIGMA = (0.0, 6.0, 12.0, 24.0)  # 8-bit grey levels
_BLUR_SHARE = (0.0, 0.009, 0.018, 0.032)  # standard deviation as a share of the image's side
_FALL_OFF = (0.0, 0.2, 0.4, 0.65)  # how much darker the dark side is
_CAST = (0.0, 0.05, 0.1, 0.17)  # how far the colour balance is off


def degrade(image: np.ndarray, kind: str, severity: int, *, seed: int) -> np.ndarray:
    """Degrade an image in a known way.

    Parameters
    ----------
    image : uint8 array (h, w, 3).
    kind : "noise" adds Gaussian sensor noise of sigma 6, 12 or 24; "blur" defocuses by 0.9, 1.8 or 3.2 % of the side;
        "illumination" darkens one side by 20, 40 or 65 % and casts a colour.
    severity : 0–3; 0 returns the image as it is.
    seed : of the noise, and of the direction and colour of the light.

    Returns
    -------
    uint8 array (h, w, 3).

    Raises
    ------
    DataError, where kind or severity is none of these or the image is no 8-bit RGB image.
    """
    if kind not in DEGRADATIONS:
        raise DataError(f"There is no degradation {kind!r}.", f"Choose from {' '.join(DEGRADATIONS)}.")
    if severity not in SEVERITIES:
        raise DataError(f"severity is {severity}.", "Choose from 0 (none), 1, 2 and 3.")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise DataError(f"The image is {image.dtype} {image.shape}.", "Give an 8-bit RGB image, (h, w, 3).")
    if severity == 0:
        return image
    rng = np.random.default_rng([seed, DEGRADATIONS.index(kind), severity])
    values = image.astype(np.float32)
    if kind == "noise":
        values += _NOISE_SIGMA[severity] * rng.standard_normal(image.shape, dtype=np.float32)
    elif kind == "blur":
        sigma_px = _BLUR_SHARE[severity] * max(image.shape[:2])
        values = gaussian_filter(values, (sigma_px, sigma_px, 0))
    else:
        values = values * _uneven_light(image.shape[:2], severity, rng)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _uneven_light(shape: tuple[int, int], severity: int, rng: np.random.Generator) -> np.ndarray:
    """Return the light that reaches each pixel and channel: float32 (h, w, 3), at most about 1."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    along = np.float32(np.cos(angle)) * x[None, :] + np.float32(np.sin(angle)) * y[:, None]
    dark = np.clip((along + 1.2) / 2.4, 0, 1) ** 1.5
    cast = 1 + _CAST[severity] * rng.choice([-1.0, -0.5, 0.5], size=3, replace=False)
    return (1 - _FALL_OFF[severity] * dark)[:, :, None] * cast.astype(np.float32)
