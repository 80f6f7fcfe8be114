"""Exact intervals of counts. NumPy in, NumPy out."""

import numpy as np
from numpy.typing import ArrayLike


def clopper_pearson(count: ArrayLike, total: ArrayLike, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Return the exact interval of a share that was counted.

    It covers the true share with at least the requested confidence, and with more where few cells were counted.

    Parameters
    ----------
    count : array_like of int
        Cells of the class, from 0 to `total`.
    total : array_like of int
        Cells counted; the arrays are broadcast. With none counted, the interval is 0 to 1.
    confidence : float in (0, 1)

    Returns
    -------
    low, high : ndarray of float64
        Shares between 0 and 1.

    Raises
    ------
    ValueError
        If a count is negative or larger than its total, or the confidence is not between 0 and 1.

    References
    ----------
    Clopper and Pearson, Biometrika 1934. The bounds are quantiles of beta distributions: Brown, Cai and DasGupta,
    Statistical Science 2001, section 4.2.1.
    """
    # As `scipy.stats.beta.ppf`; but scipy.stats takes a second to import, and cannot be imported while another thread
    # of the review page imports PyTorch: it takes the half-imported module for the whole one.
    from scipy.special import betaincinv

    counts, totals = np.broadcast_arrays(np.asarray(count), np.asarray(total))
    if not 0 < confidence < 1:
        raise ValueError(f"`confidence` must be between 0 and 1, not {confidence:g}.")
    if (counts < 0).any() or (counts > totals).any():
        raise ValueError("Each count must be at least 0 and at most its total.")
    tail = (1 - confidence) / 2
    with np.errstate(invalid="ignore"):  # a parameter of 0: the bound is 0 or 1
        low = np.where(counts == 0, 0.0, betaincinv(counts, totals - counts + 1, tail))
        high = np.where(counts == totals, 1.0, betaincinv(counts + 1, totals - counts, 1 - tail))
    return low, high


def rate_interval(count: ArrayLike, total: ArrayLike, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Return the exact interval of a ratio of two counts, such as erythroblasts per white cell.

    Given their sum, the first of two Poisson counts is binomial, so the bounds are odds of Clopper and Pearson's.

    Parameters
    ----------
    count : array_like of int
        Cells counted beside the others, at least 0.
    total : array_like of int
        The others; they do not include `count`.
    confidence : float in (0, 1)

    Returns
    -------
    low, high : ndarray of float64
        Ratios, at least 0; `high` is infinite where `total` is 0.

    References
    ----------
    Przyborowski and Wilenski, Biometrika 1940.
    """
    counts, totals = np.broadcast_arrays(np.asarray(count), np.asarray(total))
    low, high = clopper_pearson(counts, counts + totals, confidence)
    with np.errstate(divide="ignore"):
        return low / (1 - low), high / (1 - high)
