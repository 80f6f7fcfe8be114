"""Intraclass correlation: how much of a measurement's variance lies between groups rather than within them."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

_MIN_GROUPS = 5  # for an interval: it comes from leaving out one group at a time
_CONFIDENCE = 0.95
_NAN = float("nan")


@dataclass(frozen=True)
class IntraclassCorrelation:
    """An intraclass correlation, ICC(1).

    Attributes
    ----------
    value : float
        Share of the variance that lies between groups: 1 where each group has a value of its own, about 0 where groups
        do not differ, slightly negative by chance. NaN where `reason` says why.
    low, high : float
        95 % interval over groups; NaN for fewer than 5 groups, or where a group more or less decides.
    p_value : float
        Of the F test that no group differs, for the channel that differs most, times the number of channels.
    num_groups, num_values : int
    reason : str
        Why there is no value: "no group", "one group", "one value per group" or "constant". Otherwise empty.
    """

    value: float
    low: float
    high: float
    p_value: float
    num_groups: int
    num_values: int
    reason: str = ""


def intraclass_correlation(values: np.ndarray, groups: np.ndarray) -> IntraclassCorrelation:
    """Compute the one-way random intraclass correlation ICC(1) for groups of unequal size.

    Parameters
    ----------
    values : ndarray of float, shape (n, num_channels)
        Variance components of several channels are added up, so that a channel counts by its variance.
    groups : ndarray, shape (n,)
        The group of each value.

    Returns
    -------
    IntraclassCorrelation

    References
    ----------
    Donner, International Statistical Review 54, 1986: the analysis-of-variance estimator
    (MSB - MSW) / (MSB + (n0 - 1) MSW) with n0 = (N - sum(n_i²) / N) / (k - 1).
    Arvesen and Schmitz, Biometrics 26, 1970: the jackknife of log(MSB / MSW) over groups, for the interval.
    """
    values = np.asarray(values, dtype=np.float64)
    codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)[1:]
    num_values, num_groups = len(values), len(sizes)
    reason = ""
    if num_groups < 2:
        reason = "one group" if num_groups else "no group"
    elif num_values == num_groups:
        reason = "one value per group"
    elif (values == values[0]).all():
        reason = "constant"
    if reason:
        return IntraclassCorrelation(_NAN, _NAN, _NAN, _NAN, num_groups, num_values, reason)
    values = values - values.mean(axis=0)
    sums = np.stack([np.bincount(codes, channel) for channel in values.T], axis=1)
    between = sums**2 / sizes[:, None]  # of each group and channel; the overall mean is 0
    residuals = values - (sums / sizes[:, None])[codes]
    within = np.stack([np.bincount(codes, channel**2) for channel in residuals.T], axis=1)
    mean_between, mean_within = between.sum(axis=0) / (num_groups - 1), within.sum(axis=0) / (num_values - num_groups)
    mean_size = _mean_size(sizes)
    total_between, total_within = mean_between.sum(), mean_within.sum()
    value = (total_between - total_within) / (total_between + (mean_size - 1) * total_within)
    low, high = _interval(sizes, sums, within, np.array([total_between, total_within]))
    varies = mean_between + mean_within > 0
    with np.errstate(divide="ignore"):  # a channel that is constant within each group: F is infinite, p is 0
        ratio = mean_between[varies] / mean_within[varies]
    p_values = stats.f.sf(ratio, num_groups - 1, num_values - num_groups)
    p_value = min(1.0, float(p_values.min()) * len(p_values))
    return IntraclassCorrelation(float(value), low, high, p_value, num_groups, num_values)


def _mean_size(sizes: np.ndarray) -> float:
    """Return n0, the size of equal groups that would serve as well; it is a little below the mean."""
    return (sizes.sum() - (sizes**2).sum() / sizes.sum()) / (len(sizes) - 1)


def _interval(sizes: np.ndarray, sums: np.ndarray, within: np.ndarray, means: np.ndarray) -> tuple[float, float]:
    """Return the jackknife interval over groups, computed where variances are stabilised: log(MSB / MSW)."""
    num_groups, num_values = len(sizes), sizes.sum()
    if num_groups < _MIN_GROUPS or means.min() <= 0:
        return _NAN, _NAN
    rest = num_values - sizes
    squares = sums**2 / sizes[:, None]
    between = (squares.sum(axis=0) - squares - (sums.sum(axis=0) - sums) ** 2 / rest[:, None]).sum(axis=1)
    inside = (within.sum(axis=0) - within).sum(axis=1)
    freedom = rest - num_groups + 1
    if freedom.min() <= 0 or between.min() <= 0 or inside.min() <= 0:
        return _NAN, _NAN
    logs = np.log(between / (num_groups - 2)) - np.log(inside / freedom)
    log_ratio = np.log(means[0] / means[1])
    pseudo_values = num_groups * log_ratio - (num_groups - 1) * logs
    half = stats.t.ppf((1 + _CONFIDENCE) / 2, num_groups - 1) * pseudo_values.std(ddof=1) / np.sqrt(num_groups)
    ratios = np.exp([log_ratio - half, log_ratio + half])
    low, high = (ratios - 1) / (ratios + _mean_size(sizes) - 1)
    return float(low), float(high)
