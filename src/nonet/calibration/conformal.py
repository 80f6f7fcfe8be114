"""Prediction sets: all classes that a cell may well be, with the true one among them at a chosen rate (coverage).

Split conformal prediction: the score of an image is 1 minus the probability of its true class ("LAC"), which of all
scores gives the smallest sets on average (Sadinle, Lei & Wasserman, Least ambiguous set-valued classifiers with
bounded error levels, JASA 2019). A class with enough images and patients has a threshold of its own (class-conditional
or Mondrian; Vovk 2012), so that it is covered as often as any other; rarer classes are pooled and share one, after
Ding, Angelopoulos, Bates, Jordan & Tibshirani, Class-conditional conformal prediction with many classes, NeurIPS 2023.

The guarantee is for exchangeable images, and cells of one patient are not exchangeable with those of the next. So
what counts is the coverage measured on patients that thresholds were not fitted on: `nonet.evaluation.calibration`.
Thresholds with a guarantee for a cell of the next patient cover too much (benchmarks/calibration.md).
"""

import numpy as np

#: With fewer images or patients than this, classes (or the pool of them) have no threshold of their own.
MIN_IMAGES_OF_CLASS, MIN_GROUPS_OF_CLASS = 50, 10


def lowest_probability(of_true: np.ndarray, coverage: float) -> float:
    """Return the threshold that a share `coverage` of the true classes' probabilities reach.

    Parameters
    ----------
    of_true : ndarray of float, shape (n,)
        Probability of the true class of each image.
    coverage : float in (0, 1)
        Share to be reached.

    Returns
    -------
    float
        0 if there are too few images.

    Notes
    -----
    The ceil((n + 1) coverage)-th largest, so that one more image, exchangeable with these, reaches it with a
    probability of at least `coverage`; where that is beyond n, every probability does.
    """
    rank = int(np.ceil((len(of_true) + 1) * coverage - 1e-9))
    return 0.0 if rank > len(of_true) else float(np.sort(of_true)[len(of_true) - rank])


def fit_thresholds(proba: np.ndarray, true: np.ndarray, group: np.ndarray, *, coverage: float) -> np.ndarray:
    """Fit the smallest probability at which a class belongs to the prediction set, for each class.

    Parameters
    ----------
    proba : ndarray of float, shape (n, classes)
        Of images of known class that the networks never saw.
    true : ndarray of int, shape (n,)
        Class numbers.
    group : ndarray, shape (n,)
        Patient of each image, or a name of its own if unknown.
    coverage : float in (0, 1)
        Share of images whose set should contain the true class.

    Returns
    -------
    ndarray of float64, shape (classes,)
        Classes too small share the threshold of their pool, or of all images if the pool is too small as well.
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
    """Return the classes with enough images and patients for a threshold of their own.

    Parameters
    ----------
    true : ndarray of int, shape (n,)
        Class numbers.
    group : ndarray, shape (n,)
        Patient of each image, or a name of its own if unknown.
    num_classes : int
        Number of classes.

    Returns
    -------
    list of int
        Class numbers.
    """
    return [k for k in range(num_classes) if _enough(group[true == k])]


def _enough(group: np.ndarray) -> bool:
    return len(group) >= MIN_IMAGES_OF_CLASS and len(np.unique(group)) >= MIN_GROUPS_OF_CLASS


def prediction_sets(proba: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return which classes are in each image's prediction set.

    Parameters
    ----------
    proba : ndarray of float, shape (n, classes)
        Calibrated probabilities.
    thresholds : ndarray of float, shape (classes,)
        As `fit_thresholds` returns them.

    Returns
    -------
    ndarray of bool, shape (n, classes)
        The most probable class is always in the set, so no set is empty.
    """
    inside = proba >= thresholds
    inside[np.arange(len(proba)), proba.argmax(1)] = True
    return inside
