"""Intervals by a percentile bootstrap over patients.

Cells of one patient resemble each other in stain, scanner and disease. To resample images one by one would treat
them as independent and give intervals that are too narrow for the next patient; so whole patients are drawn, with
replacement, and an image stands for itself only where its patient is unknown.

Every row of a table is computed on the same resamples. That makes differences between rows paired: what two rows
share, such as a hard patient, cancels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from nonet.errors import DataError
from nonet.evaluation.metrics import SCORES

_NUMBERS_PER_CHUNK = 4_000_000  # bounds the memory at some 200 MB, whatever the number of groups or classes
_EXACT_IN_FLOAT32 = 2**24


@dataclass(frozen=True)
class GroupSums:
    """Numbers summed over the images of each group (a patient, or an image of unknown patient).

    Whatever score is a function of such sums can be resampled by groups. `counts` is a sparse matrix (numbers, U);
    `shape` is what the numbers have where a score is computed.
    """

    counts: sparse.csr_array
    shape: tuple[int, ...]

    @property
    def num_groups(self) -> int:
        return self.counts.shape[1]

    def total(self) -> np.ndarray:
        """Return the sums of all groups together, array of `shape`."""
        return np.asarray(self.counts.sum(axis=1)).reshape(self.shape)


@dataclass(frozen=True)
class GroupConfusions(GroupSums):
    """The confusion counts of each group, for every row of a table: an image fills one cell a row, the rest is zero."""

    def total(self) -> np.ndarray:
        """Return the confusion counts of all groups together, int64 array (..., C, C)."""
        return super().total().astype(np.int64)


def sums_by_group(values, groups, shape: tuple[int, ...]) -> GroupSums:
    """Sum each image's numbers over the images of a group.

    Parameters
    ----------
    values : array or sparse matrix (n, K), K the product of `shape`.
    groups : array (n,), the patient of each image, or a name of its own where the patient is unknown.
    shape : what a score gets the K sums in.
    """
    names, group = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    member = sparse.csr_array((np.ones(len(group)), (np.arange(len(group)), group)), shape=(len(group), len(names)))
    return GroupSums(sparse.csr_array(sparse.csr_array(values).T @ member), shape)


def confusions_by_group(true, predicted, groups, num_classes: int) -> GroupConfusions:
    """Count, for each group and row, the true classes by predicted class.

    Parameters
    ----------
    true : int array (n,), class numbers.
    predicted : int array (num_rows, n) or (n,), class numbers: one row a classifier. -1 leaves an image out of a row.
    groups : array (n,), the patient of each image, or a name of its own where the patient is unknown.
    num_classes : C.

    Returns
    -------
    GroupConfusions of shape (num_rows, C, C), or (C, C) where `predicted` has one axis.
    """
    true, predicted = np.asarray(true, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    shape = (*predicted.shape[:-1], num_classes, num_classes)
    rows = np.atleast_2d(predicted)
    names, group = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    cell = (np.arange(len(rows))[:, None] * num_classes + true) * num_classes + rows
    judged = rows >= 0
    where = (cell[judged], np.broadcast_to(group, cell.shape)[judged])
    ones = np.ones(len(where[0]), dtype=np.float32 if len(true) < _EXACT_IN_FLOAT32 else np.float64)
    counts = sparse.coo_array((ones, where), shape=(len(rows) * num_classes**2, len(names)))
    return GroupConfusions(counts.tocsr(), shape)


def require_possible(*, num_resamples: int = 2000, confidence: float = 0.95) -> None:
    """Refuse what no interval can be made of; for callers that compute for long before they come to the intervals.

    Raises
    ------
    DataError where there are fewer resamples than 1, or `confidence` is not between 0 and 1.
    """
    if num_resamples < 1:
        raise DataError(
            f"The bootstrap's number of resamples is {num_resamples}; it must be at least 1.",
            hint="2000 give steady 95 % intervals.",
        )
    if not 0 < confidence < 1:
        raise DataError(
            f"The intervals' confidence is {confidence}; it must lie between 0 and 1.", hint="0.95 is usual."
        )


def bootstrap_scores(
    confusions, scores: Mapping[str, Callable] = SCORES, *, num_resamples: int = 2000, seed: int = 0
) -> dict[str, np.ndarray]:
    """Compute scores on resamples of the groups, the same resamples for every row.

    Parameters
    ----------
    confusions : GroupConfusions, or counts as an array (U, ..., C, C); or other GroupSums.
    scores : functions from confusion counts (..., C, C), or from arrays (..., *shape), to an array of scores.
    num_resamples : B, how often U groups are drawn with replacement.
    seed : the same seed gives the same resamples.

    Returns
    -------
    dict of float64 arrays (B, ...). NaN throughout where there are fewer than two groups: one patient says nothing
    about how patients differ.
    """
    confusions = _as_group_confusions(confusions)
    require_possible(num_resamples=num_resamples)
    rng = np.random.default_rng(seed)
    num_groups = confusions.num_groups
    chunk = max(1, _NUMBERS_PER_CHUNK // max(confusions.counts.shape))
    parts: dict[str, list] = {name: [] for name in scores}
    for start in range(0, num_resamples, chunk):
        num_rows = min(chunk, num_resamples - start)
        weights = _draw(rng, num_rows, num_groups).astype(confusions.counts.dtype)
        counts = (confusions.counts @ weights.T).T.astype(np.float64)
        resampled = counts.reshape(num_rows, *confusions.shape)
        for name, score in scores.items():
            parts[name].append(np.asarray(score(resampled), dtype=np.float64))
    values = {name: np.concatenate(part) for name, part in parts.items()}
    if num_groups < 2:
        values = {name: np.full_like(value, np.nan) for name, value in values.items()}
    return values


def percentile_interval(values, *, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Return the (low, high) quantiles along the first axis that enclose `confidence` of the values.

    NaN values, from resamples in which a class has no image, are left out; NaN where nothing is left.
    """
    require_possible(confidence=confidence)
    values = np.asarray(values, dtype=np.float64)
    flat = values.reshape(len(values), -1)
    tail = (1 - confidence) / 2
    limits = np.full((2, flat.shape[1]), np.nan)
    for column, numbers in enumerate(flat.T):
        numbers = numbers[~np.isnan(numbers)]
        if numbers.size:
            limits[:, column] = np.quantile(numbers, [tail, 1 - tail])
    low, high = limits.reshape(2, *values.shape[1:])
    return low, high


def bootstrap_intervals(
    confusions,
    scores: Mapping[str, Callable] = SCORES,
    *,
    num_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return {score: (low, high)}, arrays (...), by a percentile bootstrap over groups.

    Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13. A class without an image in a resample
    drops out of that resample's macro means. Parameters as in `bootstrap_scores`.
    """
    values = bootstrap_scores(confusions, scores, num_resamples=num_resamples, seed=seed)
    return {name: percentile_interval(value, confidence=confidence) for name, value in values.items()}


def bootstrap_difference(
    confusions,
    first: int,
    second: int,
    score: Callable = SCORES["macro_f1"],
    *,
    num_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return (difference, low, high) of `score` between row `first` and row `second`, paired by resample.

    Parameters
    ----------
    confusions : GroupConfusions of shape (num_rows, C, C), or counts (U, num_rows, C, C).
    first, second : row numbers. The difference is first minus second: above 0 where `first` scores higher.
    """
    confusions = _as_group_confusions(confusions)
    total = score(confusions.total())
    values = bootstrap_scores(confusions, {"score": score}, num_resamples=num_resamples, seed=seed)["score"]
    low, high = percentile_interval(values[:, first] - values[:, second], confidence=confidence)
    return float(total[first] - total[second]), float(low), float(high)


def _as_group_confusions(confusions) -> GroupSums:
    if isinstance(confusions, GroupSums):
        return confusions
    counts = np.asarray(confusions, dtype=np.float64)
    if counts.ndim < 3 or counts.shape[-1] != counts.shape[-2]:
        raise DataError(f"Confusion counts by group have the shape (U, ..., C, C); {counts.shape} was given.")
    return GroupConfusions(sparse.csr_array(counts.reshape(len(counts), -1).T), counts.shape[1:])


def _draw(rng, num_resamples: int, num_groups: int) -> np.ndarray:
    """Draw `num_groups` groups with replacement, and return how often each came, (num_resamples, num_groups)."""
    drawn = rng.integers(num_groups, size=(num_resamples, num_groups), dtype=np.int64)
    drawn += np.arange(num_resamples)[:, None] * num_groups
    return np.bincount(drawn.ravel(), minlength=num_resamples * num_groups).reshape(num_resamples, num_groups)
