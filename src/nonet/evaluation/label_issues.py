"""Labels that are probably wrong: confident learning on out-of-fold probabilities, by its authors' library cleanlab.

Northcutt, Jiang & Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels, JAIR 70, 2021. The input is
checked here first: cleanlab accepts NaN and rows that are no probabilities (docs/decisions/0011).
"""

import threading
import warnings

import numpy as np
import numpy.typing as npt
from cleanlab.filter import find_label_issues as cleanlab_find_label_issues
from cleanlab.rank import get_label_quality_scores

from nonet.errors import DataError, choose_from

#: The rules by which a label is an issue; see `find_label_issues`.
FILTERS = ("prune_by_noise_rate", "prune_by_class", "both", "confident_learning", "predicted_neq_given")
#: The measures of label quality by which issues are ranked; see `label_quality`.
QUALITIES = ("normalized_margin", "self_confidence")

_MAX_SUM_ERROR = 1e-3  # of a row of probabilities; the error of half precision
_MAX_EXCESS = 1e-6  # of one probability over 1; cleanlab refuses more
_LOCK = threading.Lock()  # cleanlab keeps the arrays of a call in module globals, so threads overwrite each other's


def find_label_issues(
    labels: npt.ArrayLike,
    proba: npt.ArrayLike,
    *,
    filter_by: str = "prune_by_noise_rate",
    rank_by: str = "normalized_margin",
) -> npt.NDArray[np.int64]:
    """Return the images whose label is probably wrong, worst first.

    Parameters
    ----------
    labels : array-like of int, shape (num_images,)
        The given class number of each image.
    proba : array-like of float, shape (num_images, num_classes)
        Class probabilities by models that never saw the image; each row sums to 1.
    filter_by : {"prune_by_noise_rate", "prune_by_class", "both", "confident_learning", "predicted_neq_given"}
        Which images are issues. The calibrated confident joint estimates how many images of each given class truly
        belong to each other class. "prune_by_noise_rate" removes that many for each pair of classes, those with the
        largest margin of the suggested class over the given one; "prune_by_class" removes as many of each given class
        in total, those with the lowest probability of it; "both" keeps what these two agree on. "confident_learning"
        takes the images counted off the diagonal of the confident joint; "predicted_neq_given" takes all whose most
        probable class is another one.
    rank_by : {"normalized_margin", "self_confidence"}
        The measure of quality that orders the issues; see `label_quality`.

    Returns
    -------
    ndarray of int64, shape (num_issues,)
        Indices of the issues. An image whose given class is the most probable one is never an issue, and there are
        none where all labels are of one class.

    Raises
    ------
    DataError
        If the shapes do not match, a label is not a class number, a row of `proba` is not a probability distribution,
        or `filter_by` or `rank_by` is unknown.

    References
    ----------
    Northcutt, Jiang & Chuang, JAIR 70, 2021: thresholds by equation 2, the pruning rules in section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> proba = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.1, 0.9]])
    >>> find_label_issues([0, 0, 1, 1, 0], proba)
    array([4])
    """
    classes, checked = _checked(labels, proba)
    _require_known("filter_by", filter_by, FILTERS)
    _require_known("rank_by", rank_by, QUALITIES)
    if (classes == classes[0]).all():  # cleanlab refuses a single class, unless it is class 0
        return np.zeros(0, dtype=np.int64)
    with _LOCK, warnings.catch_warnings():
        # One warning for each class with fewer than two images; rare and absent classes are normal here.
        warnings.filterwarnings("ignore", message="May not flag all label issues in class", category=UserWarning)
        return cleanlab_find_label_issues(
            classes, checked, filter_by=filter_by, return_indices_ranked_by=rank_by, n_jobs=1
        )


def label_quality(
    labels: npt.ArrayLike, proba: npt.ArrayLike, *, method: str = "normalized_margin"
) -> npt.NDArray[np.float64]:
    """Return how credible each label is.

    Parameters
    ----------
    labels : array-like of int, shape (num_images,)
        The given class number of each image.
    proba : array-like of float, shape (num_images, num_classes)
        Class probabilities; each row sums to 1.
    method : {"normalized_margin", "self_confidence"}
        "self_confidence" is the probability of the given class. "normalized_margin" compares it with the most probable
        other class: (p_given - p_other + 1) / 2, below 0.5 where another class is more probable.

    Returns
    -------
    ndarray of float64, shape (num_images,)
        From 0 to 1; lower is worse.

    Raises
    ------
    DataError
        As `find_label_issues` does.
    """
    classes, checked = _checked(labels, proba)
    _require_known("method", method, QUALITIES)
    return get_label_quality_scores(classes, checked, method=method)


def _checked(labels: npt.ArrayLike, proba: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return the labels as int64 and the probabilities as float64."""
    labels, proba = np.asarray(labels), np.asarray(proba)
    if proba.ndim != 2 or labels.ndim != 1 or len(labels) != len(proba) or len(labels) == 0 or proba.shape[1] < 2:
        raise DataError(
            f"Labels of shape {labels.shape} and probabilities of shape {proba.shape} do not match.",
            hint="Labels are (num_images,), probabilities (num_images, num_classes): at least one image, two classes.",
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"Labels must be class numbers; the first is {labels[0]!r}, of type {labels.dtype}.",
            hint="Number the classes in the order of the columns of the probabilities.",
        )
    if not np.issubdtype(proba.dtype, np.floating) and not np.issubdtype(proba.dtype, np.integer):
        raise DataError(f"Probabilities must be numbers; these are of type {proba.dtype}.")
    unknown = (labels < 0) | (labels >= proba.shape[1])
    if unknown.any():
        row = int(unknown.argmax())
        raise DataError(
            f"{unknown.sum()} labels are not class numbers; the first is that of image {row}: {labels[row]}.",
            hint=f"The probabilities have {proba.shape[1]} columns, so labels range from 0 to {proba.shape[1] - 1}.",
        )
    proba = proba.astype(np.float64)
    with np.errstate(invalid="ignore"):  # NaN and infinity fail every comparison, as they should
        is_distribution = ((proba >= 0) & (proba <= 1 + _MAX_EXCESS)).all(axis=1)
        is_distribution &= np.abs(proba.sum(axis=1) - 1) <= _MAX_SUM_ERROR
    if not is_distribution.all():
        row = int((~is_distribution).argmax())
        raise DataError(
            f"{(~is_distribution).sum()} rows are not probability distributions; the first is that of image {row}: "
            f"{proba[row].tolist()}, which sums to {proba[row].sum():g}.",
            hint="Each row holds a number from 0 to 1 per class and sums to 1. For logits, apply the softmax first.",
        )
    return labels.astype(np.int64), proba


def _require_known(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise DataError(f'Unknown {name}: "{value}".', hint=choose_from(value, known))
