"""Prediction sets: all classes that a cell may well be, so that the true one is among them as often as was asked for.

Split conformal prediction: the score of an image is 1 minus the probability of its true class ("LAC"), which of all
scores gives the smallest sets on average (Sadinle, Lei & Wasserman, Least ambiguous set-valued classifiers with
bounded error levels, JASA 2019). A class with enough images and patients has a threshold of its own (class-conditional
or Mondrian; Vovk 2012), so that it is covered as often as any other; rarer classes are pooled and share one, after
Ding, Angelopoulos, Bates, Jordan & Tibshirani, Class-conditional conformal prediction with many classes, NeurIPS 2023.

The guarantee is for exchangeable images, and cells of one patient are not exchangeable with those of the next. So
what counts is the coverage measured on patients that thresholds were not fitted on: `nonet.evaluation.calibration`.
"""

import numpy as np

#: With fewer images or patients than this, classes (or the pool of them) have no threshold of their own.
MIN_IMAGES_OF_CLASS, MIN_GROUPS_OF_CLASS = 50, 10


def lowest_probability(of_true: np.ndarray, coverage: float) -> float:
    """Return the threshold that a share of `coverage` of the true classes' probabilities reach; 0 from too few.

    Parameters
    ----------
    of_true : (n,), probability of the true class of each image that the threshold is fitted on.
    coverage : in (0, 1).

    Notes
    -----
    The ceil((n + 1) coverage)-th largest, so that one more image, exchangeable with these, reaches it with a
    probability of at least `coverage`; where that is beyond n, every probability does.
    """
    rank = int(np.ceil((len(of_true) + 1) * coverage - 1e-9))
    return 0.0 if rank > len(of_true) else float(np.sort(of_true)[len(of_true) - rank])


def fit_thresholds(proba: np.ndarray, true: np.ndarray, group: np.ndarray, *, coverage: float) -> np.ndarray:
    """Fit the probability from which on a class belongs to the set, one a class.

    Parameters
    ----------
    proba : (n, C), of images of known class that the networks never saw.
    true : int (n,). group : (n,), the patient of each image, or a name of its own where unknown.
    coverage : share of the images whose set is to hold the true class.

    Returns
    -------
    float64 (C,). Classes too small share the threshold of their pool, or of all images where that is too small, too.
    """
    of_true = proba[np.arange(len(true)), true]
    own = own_thresholds(true, group, proba.shape[1])
    pool = ~np.isin(true, own)
    if not _enough(group[pool]):
        pool = np.ones(len(true), dtype=bool)
    thresholds = np.full(proba.shape[1], lowest_probability(of_true[pool], coverage))
    for k in own:
        thresholds[k] = lowest_probability(of_true[true == k], coverage)
    return thresholds


def own_thresholds(true: np.ndarray, group: np.ndarray, num_classes: int) -> list[int]:
    """Return the numbers of the classes that have enough images and patients for a threshold of their own."""
    return [k for k in range(num_classes) if _enough(group[true == k])]


def _enough(group: np.ndarray) -> bool:
    return len(group) >= MIN_IMAGES_OF_CLASS and len(np.unique(group)) >= MIN_GROUPS_OF_CLASS


def prediction_sets(proba: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return which classes are in each image's set, bool (n, C). The most probable class always is: no set is empty."""
    inside = proba >= thresholds
    inside[np.arange(len(proba)), proba.argmax(1)] = True
    return inside
