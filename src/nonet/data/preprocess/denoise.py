"""Denoising as in the paper: how noisy is the image, and non-local means that fits."""

import numpy as np

from nonet.data.preprocess.denoise_kernels import SMALLEST_H2, diagonal_details, values_near_median
from nonet.data.preprocess.denoise_kernels import non_local_means as compiled_non_local_means

# The median of |x| where x is normal with a standard deviation of 1.
MEDIAN_OF_NOISE = 0.6744897501960817


def estimate_sigma(image: np.ndarray) -> float:
    """Estimate the noise's standard deviation in 8-bit grey levels, mean of the channels.

    From the median of the finest diagonal wavelet coefficients that are not zero; Donoho and Johnstone, Biometrika
    1994. The same as scikit-image's `estimate_sigma` of the image as float64, to the last bits.

    Parameters
    ----------
    image : uint8 (height, width, 3).

    Returns
    -------
    NaN where a channel has no such coefficient.
    """
    details = diagonal_details(_planes(image, 3, "symmetric", np.uint8))
    return float(np.mean([_median_but_zeros(channel) / MEDIAN_OF_NOISE for channel in details]))


def _median_but_zeros(values: np.ndarray) -> float:
    """The median of values, none negative, that leaves out zeros; NaN where nothing is left."""
    near, low, high = values_near_median(values)
    if near.size == 0:
        return float("nan")
    near.partition((low, high))
    return (near[low] + near[high]) / 2


def patch_distance_px(sigma: float) -> int:
    """How far non-local means looks for similar patches: the square root of sigma, rounded, at least 1."""
    return max(1, round(sigma**0.5))


def non_local_means(
    image: np.ndarray, *, patch_size_px: int, patch_distance_px: int, h: float, sigma: float = 0.0
) -> np.ndarray:
    """Average each pixel with others whose surroundings look alike: fast non-local means.

    Darbon et al., IEEE ISBI 2008. The same to 1e-5 of the range as scikit-image's
    `denoise_nl_means(fast_mode=True)`, and so with its habits: patches of n pixels a side, n odd, are compared over
    n - 1 rows and columns, whose distance is divided by n**2; weights come from a quick exponential; the border is
    mirrored.

    Parameters
    ----------
    image : uint8 (height, width, 3), of any memory layout.
    patch_size_px : side of the patches that are compared, at least 2; an even one counts as the next odd one.
    patch_distance_px : how far away they are sought, at least 1.
    h : the cut-off in grey levels. With 0, only patches that are the same are averaged.
    sigma : of the noise in grey levels; its share is subtracted from patch distances. 0 subtracts nothing.

    Returns
    -------
    float32 (height, width, 3), grey levels.
    """
    half = patch_size_px // 2
    unit = 3 * (2 * half + 1) ** 2 * max(h**2, SMALLEST_H2)
    noise = 3 * (2 * half) ** 2 * 2 * sigma**2
    margin = 2 * patch_distance_px + half
    planes = _planes(image, margin, "reflect", np.float32)
    return compiled_non_local_means(planes, half, patch_distance_px, noise, 1 / unit, margin)


def denoise(image: np.ndarray, settings, *, sigma: float | None = None) -> np.ndarray:
    """Return the image denoised, or the same array where it is clean.

    Parameters
    ----------
    image : uint8 (height, width, 3).
    settings : the recipe's [denoise] section.
    sigma : of the noise in grey levels, where it is known; else it is estimated.

    Returns
    -------
    uint8 (height, width, 3).
    """
    if not settings.enabled:
        return image
    sigma = estimate_sigma(image) if sigma is None else sigma
    # A frame too small for wavelets gives NaN, which compares false: it is left alone too.
    if not sigma >= settings.clean_below_sigma:
        return image
    smooth = non_local_means(
        image,
        patch_size_px=settings.patch_size_px,
        patch_distance_px=patch_distance_px(sigma),
        h=settings.strength * sigma,
        sigma=sigma if settings.provide_sigma else 0.0,
    )
    # An average of grey levels is one, so there is nothing to clip.
    return np.rint(smooth, out=smooth).astype(np.uint8)


def warm_up() -> None:
    """Compile the loops, once a machine: worker processes that start later find them on disk."""
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    estimate_sigma(image)
    non_local_means(image, patch_size_px=3, patch_distance_px=1, h=1.0)


def _planes(image: np.ndarray, margin: int, mode: str, dtype) -> np.ndarray:
    """Return the channels one after another, with borders: (3, height + 2 margin, width + 2 margin)."""
    padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode=mode)
    return np.ascontiguousarray(np.moveaxis(padded, -1, 0), dtype=dtype)
