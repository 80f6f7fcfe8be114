"""Scores of a classifier, each computed from a confusion matrix.

A score that is a function of the confusion matrix alone can be computed for thousands of bootstrap resamples at
once; so every function takes an array (..., C, C) whose rows are the true classes, and keeps the leading axes.

Macro means run over the classes that have at least one image. A class without one cannot be judged; to predict it
is still an error of the image's own class. Ratios without a denominator are 0, as scikit-learn's `zero_division=0`.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from nonet.errors import DataError


def confusion_matrix(true: npt.ArrayLike, predicted: npt.ArrayLike, num_classes: int) -> npt.NDArray[np.int64]:
    """Count the images of each true class (row) by predicted class (column).

    Parameters
    ----------
    true, predicted : array-like of int, shape (num_images,)
        Class numbers from 0 to num_classes - 1.
    num_classes : int
        C, at least 1.

    Returns
    -------
    ndarray of int64, shape (C, C)
        Counts; rows are the true classes.

    Raises
    ------
    DataError
        If the lengths differ or a class number is out of range.
    """
    true, predicted = np.asarray(true), np.asarray(predicted)
    if true.shape != predicted.shape or true.ndim != 1:
        raise DataError(f"True and predicted classes differ in shape: {true.shape} and {predicted.shape}.")
    for what, values in (("true", true), ("predicted", predicted)):
        if values.size and not (values.min() >= 0 and values.max() < num_classes):
            raise DataError(
                f"A {what} class number lies outside 0 to {num_classes - 1}: "
                f"they range from {values.min()} to {values.max()}."
            )
    flat = true.astype(np.int64) * num_classes + predicted.astype(np.int64)
    return np.bincount(flat, minlength=num_classes**2).reshape(num_classes, num_classes)


def per_class_scores(confusion: npt.ArrayLike) -> dict[str, np.ndarray]:
    """Judge each class against all others.

    Parameters
    ----------
    confusion : array-like of int, shape (..., C, C)
        Counts; rows are the true classes.

    Returns
    -------
    dict of str to ndarray, shape (..., C)
        `precision`, `recall`, `f1` and `specificity` (the share of the other classes' images that are not predicted as
        this one), float64 from 0 to 1; and `support`, the number of images.
    """
    confusion = np.asarray(confusion)
    support = confusion.sum(axis=-1)
    called = confusion.sum(axis=-2)
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    others = support.sum(axis=-1, keepdims=True) - support
    return {
        "precision": _ratio(hits, called),
        "recall": _ratio(hits, support),
        "f1": _ratio(2 * hits, support + called),
        "specificity": _ratio(others - (called - hits), others),
        "support": support,
    }


def macro_f1_score(confusion: npt.ArrayLike) -> np.ndarray:
    """Return the mean F1 over the classes that have images.

    Parameters
    ----------
    confusion : array-like of int, shape (..., C, C)
        Counts; rows are the true classes.

    Returns
    -------
    ndarray of float64, shape (...)
        From 0 to 1; NaN without any image.
    """
    return _macro(confusion, "f1")


def balanced_accuracy_score(confusion: npt.ArrayLike) -> np.ndarray:
    """Return the mean recall over the classes that have images.

    Parameters
    ----------
    confusion : array-like of int, shape (..., C, C)
        Counts; rows are the true classes.

    Returns
    -------
    ndarray of float64, shape (...)
        From 0 to 1; NaN without any image.
    """
    return _macro(confusion, "recall")


def macro_precision_score(confusion: npt.ArrayLike) -> np.ndarray:
    """Return the mean precision over the classes that have images.

    Parameters
    ----------
    confusion : array-like of int, shape (..., C, C)
        Counts; rows are the true classes.

    Returns
    -------
    ndarray of float64, shape (...)
        From 0 to 1; NaN without any image.
    """
    return _macro(confusion, "precision")


def macro_specificity_score(confusion: npt.ArrayLike) -> np.ndarray:
    """Return the mean specificity over the classes that have images.

    It is close to 1 for any classifier of many classes, since most images of the other classes are easy to tell
    apart. The last column of the paper's Table 1 is headed sensitivity and holds this.

    Parameters
    ----------
    confusion : array-like of int, shape (..., C, C)
        Counts; rows are the true classes.

    Returns
    -------
    ndarray of float64, shape (...)
        From 0 to 1; NaN without any image.
    """
    return _macro(confusion, "specificity")


def accuracy_score(confusion: npt.ArrayLike) -> np.ndarray:
    """Return the share of all images whose predicted class is right.

    Parameters
    ----------
    confusion : array-like of int, shape (..., C, C)
        Counts; rows are the true classes.

    Returns
    -------
    ndarray of float64, shape (...)
        From 0 to 1.
    """
    confusion = np.asarray(confusion, dtype=np.float64)
    return np.trace(confusion, axis1=-2, axis2=-1) / confusion.sum(axis=(-2, -1))


#: The scores of Table 1, in the order in which WBCBench 2026 ranks by them.
SCORES: dict[str, Callable[[npt.ArrayLike], np.ndarray]] = {
    "macro_f1": macro_f1_score,
    "balanced_accuracy": balanced_accuracy_score,
    "macro_precision": macro_precision_score,
    "macro_specificity": macro_specificity_score,
}


def _macro(confusion: npt.ArrayLike, name: str) -> np.ndarray:
    scores = per_class_scores(confusion)
    has_images = scores["support"] > 0
    num_classes = has_images.sum(axis=-1)
    total = np.where(has_images, scores[name], 0.0).sum(axis=-1)
    return np.where(num_classes > 0, total / np.maximum(num_classes, 1), np.nan)


def _ratio(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> np.ndarray:
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    return np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=denominator > 0)
