"""Denoising as in the paper: how noisy is the image, and non-local means that fits."""

import numpy as np
from skimage.restoration import denoise_nl_means
from skimage.restoration import estimate_sigma as wavelet_sigma


def estimate_sigma(image: np.ndarray) -> float:
    """Estimate the noise's standard deviation in 8-bit grey levels, mean of the channels.

    From the median of the finest diagonal wavelet coefficients; Donoho and Johnstone, Biometrika 1994.

    Parameters
    ----------
    image : uint8 (height, width, 3).
    """
    return float(wavelet_sigma(image.astype(np.float64), channel_axis=-1, average_sigmas=True))


def patch_distance_px(sigma: float) -> int:
    """How far non-local means looks for similar patches: the square root of sigma, rounded, at least 1."""
    return max(1, round(sigma**0.5))


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
    smooth = denoise_nl_means(
        image.astype(np.float32) / 255,
        patch_size=settings.patch_size_px,
        patch_distance=patch_distance_px(sigma),
        h=settings.strength * sigma / 255,
        sigma=sigma / 255 if settings.provide_sigma else 0.0,
        fast_mode=True,
        channel_axis=-1,
    )
    return np.clip(np.rint(smooth * 255), 0, 255).astype(np.uint8)
