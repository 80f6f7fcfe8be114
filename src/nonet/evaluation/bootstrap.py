"""Intervals by a percentile bootstrap over patients.

Cells of one patient resemble each other in stain, scanner and disease. To resample images one by one would treat
them as independent and give intervals that are too narrow for the next patient; so whole patients are drawn, with
replacement, and an image stands for itself only where its patient is unknown.

Every row of a table is computed on the same resamples. That makes differences between rows paired: what two rows
share, such as a hard patient, cancels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

from nonet.errors import DataError
from nonet.evaluation.interval_options import require_interval_options
from nonet.evaluation.metrics import SCORES

_NUMBERS_PER_CHUNK = 4_000_000  # bounds the memory at some 200 MB, whatever the number of groups or classes
_EXACT_IN_FLOAT32 = 2**24

#: A function from confusion counts (..., C, C), or other sums, to scores (...).
Score: TypeAlias = Callable[[np.ndarray], np.ndarray]
Scores: TypeAlias = Mapping[str, Score]


@dataclass(frozen=True)
class GroupSums:
    """Numbers summed over the images of each group (a patient, or an image of unknown patient).

    Any score that is a function of such sums can be resampled by groups.

    Attributes
    ----------
    counts : sparse array, shape (num_numbers, num_groups)
        The sums of each group.
    shape : tuple of int
        The shape that a score gets the numbers in.
    """

    counts: sparse.csr_array
    shape: tuple[int, ...]

    @property
    def num_groups(self) -> int:
        """The number of groups."""
        return self.counts.shape[1]

    def total(self) -> np.ndarray:
        """Return the sums over all groups, an array of shape `shape`."""
        return np.asarray(self.counts.sum(axis=1)).reshape(self.shape)


@dataclass(frozen=True)
class GroupConfusions(GroupSums):
    """The confusion counts of each group, for every row of a table; an image fills one cell per row."""

    def total(self) -> np.ndarray:
        """Return the confusion counts over all groups, ndarray of int64, shape (..., C, C)."""
        return super().total().astype(np.int64)


def sums_by_group(values: np.ndarray | sparse.csr_array, groups: npt.ArrayLike, shape: tuple[int, ...]) -> GroupSums:
    """Sum each image's numbers over the images of a group.

    Parameters
    ----------
    values : ndarray or sparse array, shape (num_images, num_numbers)
        The product of `shape` is num_numbers.
    groups : array-like, shape (num_images,)
        The patient of each image, or a name of its own where the patient is unknown.
    shape : tuple of int
        The shape that a score gets the sums in.

    Returns
    -------
    GroupSums
        The sums of each group, groups in alphabetical order.
    """
    names, group = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    member = sparse.csr_array((np.ones(len(group)), (np.arange(len(group)), group)), shape=(len(group), len(names)))
    return GroupSums(sparse.csr_array(sparse.csr_array(values).T @ member), shape)


def confusions_by_group(
    true: npt.ArrayLike, predicted: npt.ArrayLike, groups: npt.ArrayLike, num_classes: int
) -> GroupConfusions:
    """Count, for each group and row, the true classes by predicted class.

    Parameters
    ----------
    true : array-like of int, shape (num_images,)
        Class numbers.
    predicted : array-like of int, shape (num_images,) or (num_rows, num_images)
        Class numbers, one row for each classifier; -1 leaves an image out of a row.
    groups : array-like, shape (num_images,)
        The patient of each image, or a name of its own where the patient is unknown.
    num_classes : int
        C.

    Returns
    -------
    GroupConfusions
        Of shape (num_rows, C, C), or (C, C) where `predicted` has one axis.
    """
    true, predicted = np.asarray(true, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    shape = (*predicted.shape[:-1], num_classes, num_classes)
    rows = np.atleast_2d(predicted)
    names, group = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    cell = (np.arange(len(rows))[:, None] * num_classes + true) * num_classes + rows
    judged = rows >= 0
    where = (cell[judged], np.broadcast_to(group, cell.shape)[judged])
    dtype: type[np.float32 | np.float64] = np.float32 if len(true) < _EXACT_IN_FLOAT32 else np.float64
    ones: npt.NDArray[Any] = np.ones(len(where[0]), dtype=dtype)
    counts = sparse.coo_array((ones, where), shape=(len(rows) * num_classes**2, len(names)))
    return GroupConfusions(counts.tocsr(), shape)


@dataclass(frozen=True)
class Bootstrap:
    """A percentile bootstrap over groups; every score computed by one `Bootstrap` uses the same resamples.

    Parameters
    ----------
    num_resamples : int
        How often as many groups as there are get drawn with replacement; at least 1.
    confidence : float in (0, 1)
        The share of resampled values that an interval encloses.
    seed : int
        The same seed gives the same resamples.

    Raises
    ------
    DataError
        If `num_resamples` or `confidence` is out of range.

    References
    ----------
    Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """

    num_resamples: int = 2000
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        require_interval_options(self.num_resamples, self.confidence)

    def scores(self, confusions: GroupSums | npt.ArrayLike, scores: Scores = SCORES) -> dict[str, np.ndarray]:
        """Compute scores on resamples of the groups, the same resamples for every row.

        Parameters
        ----------
        confusions : GroupSums or array-like, shape (num_groups, ..., C, C)
            Usually `GroupConfusions`; an array holds each group's confusion counts.
        scores : mapping of str to callable
            Functions from confusion counts (..., C, C), or from sums (..., *shape), to an array of scores.

        Returns
        -------
        dict of str to ndarray of float64, shape (num_resamples, ...)
            NaN throughout where there are fewer than two groups: one patient says nothing about how patients differ.
            A class without an image in a resample drops out of that resample's macro means.
        """
        sums = _as_group_sums(confusions)
        rng = np.random.default_rng(self.seed)
        chunk = max(1, _NUMBERS_PER_CHUNK // max(sums.counts.shape))
        parts: dict[str, list[np.ndarray]] = {name: [] for name in scores}
        for start in range(0, self.num_resamples, chunk):
            num_rows = min(chunk, self.num_resamples - start)
            weights = _draw(rng, num_rows, sums.num_groups).astype(sums.counts.dtype)
            counts = (sums.counts @ weights.T).T.astype(np.float64)
            resampled = counts.reshape(num_rows, *sums.shape)
            for name, score in scores.items():
                parts[name].append(np.asarray(score(resampled), dtype=np.float64))
        values = {name: np.concatenate(part) for name, part in parts.items()}
        if sums.num_groups < 2:
            values = {name: np.full_like(value, np.nan) for name, value in values.items()}
        return values

    def interval(self, values: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Return the quantiles along the first axis that enclose `confidence` of the values.

        Parameters
        ----------
        values : array-like of float, shape (num_resamples, ...)
            NaN, from resamples in which a class has no image, is left out.

        Returns
        -------
        low, high : ndarray of float64, shape (...)
            NaN where nothing is left.
        """
        values = np.asarray(values, dtype=np.float64)
        flat = values.reshape(len(values), -1)
        tail = (1 - self.confidence) / 2
        limits = np.full((2, flat.shape[1]), np.nan)
        for column, numbers in enumerate(flat.T):
            numbers = numbers[~np.isnan(numbers)]
            if numbers.size:
                limits[:, column] = np.quantile(numbers, [tail, 1 - tail])
        low, high = limits.reshape(2, *values.shape[1:])
        return low, high

    def intervals(
        self, confusions: GroupSums | npt.ArrayLike, scores: Scores = SCORES
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return the interval of each score.

        Parameters
        ----------
        confusions, scores : as in `scores`
            What to resample, and what to compute.

        Returns
        -------
        dict of str to (low, high)
            Arrays of float64, shape (...).
        """
        return {name: self.interval(values) for name, values in self.scores(confusions, scores).items()}

    def differences(
        self, confusions: GroupSums | npt.ArrayLike, pairs: Sequence[tuple[int, int]], score: Score = SCORES["macro_f1"]
    ) -> list[tuple[float, float, float]]:
        """Compare pairs of rows, paired by resample.

        Parameters
        ----------
        confusions : GroupSums of shape (num_rows, C, C), or array-like, shape (num_groups, num_rows, C, C)
            Confusion counts of each row.
        pairs : sequence of (int, int)
            Numbers of the first and the second row.
        score : callable
            The score that is compared.

        Returns
        -------
        list of (difference, low, high)
            Score of the first row minus that of the second: above 0 where the first scores higher.
        """
        sums = _as_group_sums(confusions)
        total, values = score(sums.total()), self.scores(sums, {"score": score})["score"]
        limits = [self.interval(values[:, first] - values[:, second]) for first, second in pairs]
        return [
            (float(total[first] - total[second]), float(low), float(high))
            for (first, second), (low, high) in zip(pairs, limits)
        ]


#: 2,000 resamples, 95 % intervals, seed 0.
DEFAULT_BOOTSTRAP = Bootstrap()


def _as_group_sums(confusions: GroupSums | npt.ArrayLike) -> GroupSums:
    if isinstance(confusions, GroupSums):
        return confusions
    counts = np.asarray(confusions, dtype=np.float64)
    if counts.ndim < 3 or counts.shape[-1] != counts.shape[-2]:
        raise DataError(
            f"Confusion counts by group have the shape (num_groups, ..., C, C); this array has {counts.shape}."
        )
    return GroupConfusions(sparse.csr_array(counts.reshape(len(counts), -1).T), counts.shape[1:])


def _draw(rng: np.random.Generator, num_resamples: int, num_groups: int) -> np.ndarray:
    """Draw `num_groups` groups with replacement, and return how often each came, (num_resamples, num_groups)."""
    drawn = rng.integers(num_groups, size=(num_resamples, num_groups), dtype=np.int64)
    drawn += np.arange(num_resamples)[:, None] * num_groups
    return np.bincount(drawn.ravel(), minlength=num_resamples * num_groups).reshape(num_resamples, num_groups)
