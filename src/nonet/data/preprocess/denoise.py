"""Denoising as in the paper: estimate the noise of an image, then apply non-local means of a matching strength.

The compiled loops are imported by the functions that need them, as numba takes half a second that nobody should wait
for who does not denoise.
"""

from typing import Literal, NamedTuple

import numpy as np

from nonet.settings import Denoise

# The median of |x| where x is normal with a standard deviation of 1.
MEDIAN_OF_NOISE = 0.6744897501960817


#: Largest patch whose distances float32 holds exactly, as they are sums of whole numbers. Those of larger patches
#: depend in the last bits on where the sum starts, so a part of an image would not come out as in the whole.
EXACT_PATCH_PX = 9


class Part(NamedTuple):
    """A rectangle of an image, in px."""

    top: int
    left: int
    height: int
    width: int


def whole_frame(image: np.ndarray) -> Part:
    """Return the part that is all of an image."""
    return Part(0, 0, *image.shape[:2])


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
    from nonet.data.preprocess.denoise_kernels import diagonal_details

    details = diagonal_details(_planes(image, whole_frame(image), 3, "symmetric"))
    return float(np.mean([_nonzero_median(channel) / MEDIAN_OF_NOISE for channel in details]))


def _nonzero_median(values: np.ndarray) -> float:
    """Return the median of non-negative values without the zeros; NaN where nothing is left."""
    from nonet.data.preprocess.denoise_kernels import values_near_median

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
    image: np.ndarray,
    *,
    patch_size_px: int,
    patch_distance_px: int,
    h: float,
    sigma: float = 0.0,
    part: Part | None = None,
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
    part : Part, optional
        Which part of the image to compute; by default all of it.

    Returns
    -------
    ndarray of float32, shape (height, width, 3)
        Grey levels of that part.

    References
    ----------
    Darbon et al., IEEE ISBI 2008.
    """
    from nonet.data.preprocess.denoise_kernels import SMALLEST_H2
    from nonet.data.preprocess.denoise_kernels import non_local_means as compiled_non_local_means

    half = patch_size_px // 2
    unit = 3 * (2 * half + 1) ** 2 * max(h**2, SMALLEST_H2)
    noise = 3 * (2 * half) ** 2 * 2 * sigma**2
    margin = 2 * patch_distance_px + half
    planes = _planes(image, part or whole_frame(image), margin, "reflect").astype(np.float32)
    return compiled_non_local_means(planes, half, patch_distance_px, noise, 1 / unit, margin)


def denoise(
    image: np.ndarray, settings: Denoise, *, sigma: float | None = None, part: Part | None = None
) -> np.ndarray:
    """Denoise an image as the settings say.

    Parameters
    ----------
    image : ndarray of uint8, shape (height, width, 3)
    settings : Denoise
        The recipe's [denoise] section.
    sigma : float, optional
        Of the noise in grey levels if known; else it is estimated, from the whole image.
    part : Part, optional
        Which part of the image is needed; the rest stays as it is. By default all of it.

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
    if part is None or settings.patch_size_px > EXACT_PATCH_PX:
        part = whole_frame(image)
    smooth = non_local_means(
        image,
        patch_size_px=settings.patch_size_px,
        patch_distance_px=patch_distance_px(sigma),
        h=settings.strength * sigma,
        sigma=sigma if settings.provide_sigma else 0.0,
        part=part,
    )
    result = np.empty_like(image) if part == whole_frame(image) else image.copy()
    # Averages of grey levels stay in range, so there is nothing to clip.
    result[part.top : part.top + part.height, part.left : part.left + part.width] = np.rint(smooth, out=smooth)
    return result


def warm_up() -> None:
    """Compile the loops once per machine; worker processes started later find them on disk."""
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    estimate_sigma(image)
    non_local_means(image, patch_size_px=3, patch_distance_px=1, h=1.0)


def _planes(image: np.ndarray, part: Part, margin: int, mode: Literal["symmetric", "reflect"]) -> np.ndarray:
    """Return the channels of a part as planes with a margin, mirrored beyond the border of the image.

    Returns uint8 of shape (3, height + 2 margin, width + 2 margin).
    """
    from nonet.data.preprocess.denoise_kernels import copy_planes

    height, width = image.shape[:2]
    rows = np.pad(np.arange(height), margin, mode)[part.top : part.top + part.height + 2 * margin]
    columns = np.pad(np.arange(width), margin, mode)[part.left : part.left + part.width + 2 * margin]
    return copy_planes(np.require(image, np.uint8, ["C", "W"]), rows, columns, part.left - margin)
