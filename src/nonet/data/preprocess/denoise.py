"""Denoising as in the paper: estimate the noise of an image, then apply non-local means of a matching strength."""

from typing import Literal

import numpy as np

from nonet.data.preprocess.denoise_kernels import SMALLEST_H2, diagonal_details, values_near_median
from nonet.data.preprocess.denoise_kernels import non_local_means as compiled_non_local_means
from nonet.recipe import Denoise

# The median of |x| where x is normal with a standard deviation of 1.
MEDIAN_OF_NOISE = 0.6744897501960817


def estimate_sigma(image: np.ndarray) -> float:
    """Estimate the standard deviation of an image's noise, averaged over the channels.

    Same as scikit-image's `estimate_sigma` of the image as float64, to the last bits.

    Parameters
    ----------
    image : ndarray of uint8, shape (height, width, 3)

    Returns
    -------
    float
        In 8-bit grey levels; NaN where a channel has no non-zero coefficient.

    References
    ----------
    Donoho and Johnstone, Biometrika 1994: from the median of the finest diagonal wavelet coefficients, here of those
    that are not zero.
    """
    details = diagonal_details(_planes(image, 3, "symmetric", np.uint8))
    return float(np.mean([_nonzero_median(channel) / MEDIAN_OF_NOISE for channel in details]))


def _nonzero_median(values: np.ndarray) -> float:
    """Return the median of non-negative values without the zeros; NaN where nothing is left."""
    near, low, high = values_near_median(values)
    if near.size == 0:
        return float("nan")
    near.partition((low, high))
    return (near[low] + near[high]) / 2


def patch_distance_px(sigma: float) -> int:
    """Return how far non-local means searches for similar patches: the square root of sigma, rounded, at least 1.

    Parameters
    ----------
    sigma : float
        In 8-bit grey levels.

    Returns
    -------
    int
        In px.
    """
    return max(1, round(sigma**0.5))


def non_local_means(
    image: np.ndarray, *, patch_size_px: int, patch_distance_px: int, h: float, sigma: float = 0.0
) -> np.ndarray:
    """Average each pixel with others whose surroundings are similar: fast non-local means.

    Same as scikit-image's `denoise_nl_means(fast_mode=True)` to 1e-5 of the range, including its details: patches of n
    pixels a side, n odd, are compared over n - 1 rows and columns, and their distance is divided by n**2; weights come
    from an approximate exponential; the border is mirrored.

    Parameters
    ----------
    image : ndarray of uint8, shape (height, width, 3)
        Of any memory layout.
    patch_size_px : int
        Side of the compared patches, at least 2; an even number counts as the next odd one.
    patch_distance_px : int
        How far away patches are searched, at least 1.
    h : float
        Cut-off in grey levels. With 0, only identical patches are averaged.
    sigma : float
        Of the noise in grey levels; its contribution is subtracted from patch distances.

    Returns
    -------
    ndarray of float32, shape (height, width, 3)
        Grey levels.

    References
    ----------
    Darbon et al., IEEE ISBI 2008.
    """
    half = patch_size_px // 2
    unit = 3 * (2 * half + 1) ** 2 * max(h**2, SMALLEST_H2)
    noise = 3 * (2 * half) ** 2 * 2 * sigma**2
    margin = 2 * patch_distance_px + half
    planes = _planes(image, margin, "reflect", np.float32)
    return compiled_non_local_means(planes, half, patch_distance_px, noise, 1 / unit, margin)


def denoise(image: np.ndarray, settings: Denoise, *, sigma: float | None = None) -> np.ndarray:
    """Denoise an image as the settings say.

    Parameters
    ----------
    image : ndarray of uint8, shape (height, width, 3)
    settings : Denoise
        The recipe's [denoise] section.
    sigma : float, optional
        Of the noise in grey levels if known; else it is estimated.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        The same array where the image is clean or denoising is off.
    """
    if not settings.enabled:
        return image
    sigma = estimate_sigma(image) if sigma is None else sigma
    # A frame too small for wavelets gives NaN, which compares false, and stays unchanged too.
    if not sigma >= settings.clean_below_sigma:
        return image
    smooth = non_local_means(
        image,
        patch_size_px=settings.patch_size_px,
        patch_distance_px=patch_distance_px(sigma),
        h=settings.strength * sigma,
        sigma=sigma if settings.provide_sigma else 0.0,
    )
    # Averages of grey levels stay in range, so there is nothing to clip.
    return np.rint(smooth, out=smooth).astype(np.uint8)


def warm_up() -> None:
    """Compile the loops once per machine; worker processes started later find them on disk."""
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    estimate_sigma(image)
    non_local_means(image, patch_size_px=3, patch_distance_px=1, h=1.0)


def _planes(
    image: np.ndarray, margin: int, mode: Literal["symmetric", "reflect"], dtype: type[np.generic]
) -> np.ndarray:
    """Return the channels as planes, with borders: (3, height + 2 margin, width + 2 margin)."""
    padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode=mode)
    return np.ascontiguousarray(np.moveaxis(padded, -1, 0), dtype=dtype)
