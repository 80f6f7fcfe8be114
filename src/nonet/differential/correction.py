"""Correct the shares of a count for the ensemble's known confusions, with intervals. NumPy in, NumPy out.

What is counted in a case, n[outcome], mixes its true shares p through the confusion of the ensemble:

    E[n] / sum(n) = p @ M,    M[class, outcome] = P(outcome | class)

M is estimated from out-of-fold predictions, and p is the share vector under which the counts are most likely. Patients
differ in how their cells are confused, so an interval that only resamples the pooled M is far too narrow: each resample
draws a confusion for the case, too.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

NUM_RESAMPLES = 400
#: Cells with the mean outcome that are added to each row of M: a few cells alone say little about a class.
PRIOR_CELLS = 1.0
#: Cells added to each class before counts are resampled (Jeffreys): a class without a cell still gets an upper bound.
_PSEUDO_CELLS = 0.5
_MAX_STEPS = 300
_TOLERANCE = 1e-6


class CorrectedShares(NamedTuple):
    """Shares of the true classes.

    Attributes
    ----------
    shares : ndarray of float64, shape (C,)
        Most likely shares; they sum to 1.
    resamples : ndarray of float64, shape (num_resamples, C)
        Shares estimated from resampled counts.
    """

    shares: np.ndarray
    resamples: np.ndarray

    def sums(self, columns: Sequence[int], confidence: float = 0.95) -> tuple[float, float, float]:
        """Return the share of some classes together, and its interval.

        Parameters
        ----------
        columns : sequence of int
            Class numbers.
        confidence : float in (0, 1)

        Returns
        -------
        share, low, high : float
        """
        share, tail = float(self.shares[columns].sum()), (1 - confidence) / 2
        low, high = np.quantile(self.resamples[:, columns].sum(1), [tail, 1 - tail])
        return share, min(float(low), share), max(float(high), share)


def correct_shares(
    counts: np.ndarray,
    confusions: np.ndarray,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> CorrectedShares:
    """Estimate the true shares of the classes in a case from what its cells were called.

    Parameters
    ----------
    counts : ndarray of int, shape (num_outcomes,)
        Cells of the case by outcome: the C classes and what else there may be, such as "unidentified".
    confusions : ndarray of int, shape (num_groups, C, num_outcomes)
        Out-of-fold images of each patient by true class and outcome.
    num_resamples : int
        Of the parametric bootstrap.
    seed : int

    Returns
    -------
    CorrectedShares

    Raises
    ------
    ValueError
        If nothing was counted, or the shapes do not fit.

    References
    ----------
    Maximum likelihood by expectation and maximisation: Saerens et al., Neural Computation 2002, with counts of outcomes
    in place of probabilities. Dispersion between patients: Dirichlet-multinomial, by moments (Mosimann, Biometrika
    1962).
    """
    counts, confusions = np.asarray(counts, dtype=np.float64), np.asarray(confusions, dtype=np.float64)
    if counts.ndim != 1 or confusions.ndim != 3 or confusions.shape[2] != len(counts):
        raise ValueError(f"{counts.shape} counts do not fit confusions of shape {confusions.shape}.")
    if counts.sum() == 0:
        raise ValueError("Nothing was counted, so there is nothing to correct.")
    rng = np.random.default_rng(seed)
    shares = most_likely(counts[None], confusion_rates(confusions.sum(0))[None])[0]
    own_rates = draw_case_rates(resample_groups(confusions, num_resamples, rng), concentration(confusions), rng)
    total = counts.sum()
    assumed = (total * shares + _PSEUDO_CELLS) / (total + len(shares) * _PSEUDO_CELLS)
    expected = np.einsum("c,bco->bo", assumed, own_rates)
    drawn = rng.multinomial(int(total), expected / expected.sum(1, keepdims=True))
    known_rates = resample_groups(confusions, num_resamples, rng)
    return CorrectedShares(shares, most_likely(drawn.astype(np.float64), known_rates))


def concentration(confusions: np.ndarray) -> float:
    """Estimate how alike patients are in their confusions: the precision of a Dirichlet distribution around the mean.

    Parameters
    ----------
    confusions : ndarray of int, shape (num_groups, C, num_outcomes)

    Returns
    -------
    float
        Between 0.1 for patients that have nothing in common, and 1,000 for patients that differ by chance only; 1,000
        where no class has two patients with two images.
    """
    total = confusions.sum(0)
    excess, possible = 0.0, 0.0
    for of_class, rates in zip(np.moveaxis(confusions, 1, 0), total / np.maximum(total.sum(1, keepdims=True), 1)):
        num = of_class.sum(1)
        groups = num >= 2
        if groups.sum() < 2:
            continue
        num = num[groups]
        squares = ((of_class[groups] / num[:, None] - rates) ** 2).sum(1) * len(num) / (len(num) - 1)
        by_chance = (rates * (1 - rates)).sum()
        excess += (squares * num - by_chance).sum()
        possible += (by_chance * (num - 1)).sum()
    if possible == 0:
        return 1000.0
    correlation = np.clip(excess / possible, 1 / 1001, 10 / 11)
    return float(1 / correlation - 1)


def confusion_rates(total: np.ndarray) -> np.ndarray:
    """Estimate how each class is called; rows of few cells lean towards the mean outcome.

    Parameters
    ----------
    total : ndarray, shape (..., C, num_outcomes)
        Images by true class and outcome.

    Returns
    -------
    ndarray of float64, shape (..., C, num_outcomes)
        P(outcome | class).
    """
    mean = total.sum(axis=-2, keepdims=True) / total.sum(axis=(-2, -1), keepdims=True)
    return (total + PRIOR_CELLS * mean) / (total.sum(axis=-1, keepdims=True) + PRIOR_CELLS)


def resample_groups(confusions: np.ndarray, num: int, rng: np.random.Generator) -> np.ndarray:
    """Estimate rates from patients drawn with replacement.

    Parameters
    ----------
    confusions : ndarray, shape (num_groups, C, num_outcomes)
    num : int
        Resamples.
    rng : Generator

    Returns
    -------
    ndarray of float64, shape (num, C, num_outcomes)
    """
    groups = len(confusions)
    times = rng.multinomial(groups, np.full(groups, 1 / groups), size=num)
    return confusion_rates(np.einsum("bg,gco->bco", times, confusions))


def draw_case_rates(rates: np.ndarray, precision: float, rng: np.random.Generator) -> np.ndarray:
    """Draw the rates of one patient each around mean rates, from Dirichlet distributions.

    Parameters
    ----------
    rates : ndarray, shape (num, C, num_outcomes)
        Mean rates.
    precision : float
        From `concentration`.
    rng : Generator

    Returns
    -------
    ndarray of float64, shape (num, C, num_outcomes)
    """
    gammas = rng.gamma(precision * rates) + 1e-12
    return gammas / gammas.sum(axis=-1, keepdims=True)


def most_likely(counts: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Find the shares of the classes under which counts are most likely.

    Parameters
    ----------
    counts : ndarray, shape (num, num_outcomes)
    rates : ndarray, shape (num or 1, C, num_outcomes)

    Returns
    -------
    ndarray of float64, shape (num, C)
    """
    num_classes = rates.shape[1]
    shares = np.full((len(counts), num_classes), 1 / num_classes)
    relative = counts / counts.sum(1, keepdims=True)
    for _ in range(_MAX_STEPS):
        expected = np.einsum("bc,bco->bo", shares, rates)
        updated = shares * np.einsum("bco,bo->bc", rates, relative / np.maximum(expected, 1e-12))
        change = np.abs(updated - shares).max()
        shares = updated / updated.sum(1, keepdims=True)
        if change < _TOLERANCE:
            break
    shares[shares < _TOLERANCE] = 0  # it only ever approaches 0
    return shares / shares.sum(1, keepdims=True)
