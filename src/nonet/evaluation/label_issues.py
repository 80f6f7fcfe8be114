"""Which labels are probably wrong: confident learning on out-of-fold probabilities, in NumPy alone.

Northcutt, Jiang & Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels, JAIR 70, 2021. Where the paper
leaves room, and where cleanlab, its authors' library, differs from it, this does as cleanlab does: the same images come
out of both (docs/decisions/0011). An image's given label is its row in every (C, C) array, its presumed one the column.
"""

from collections.abc import Callable

import numpy as np

from nonet.errors import DataError

_TOLERANCE = 1e-6  # below which probabilities count as equal
_NEVER = 2.0  # a threshold that no probability reaches: that of a class without an image
_MAX_SUM_ERROR = 1e-3  # of a row of probabilities; half precision errs so much


def find_label_issues(
    labels, proba, *, filter_by: str = "prune_by_noise_rate", rank_by: str = "normalized_margin"
) -> np.ndarray:
    """Return the images whose label is probably wrong, worst first.

    Parameters
    ----------
    labels : int (n,), the given class number of each image.
    proba : float (n, C), probabilities of the classes by models that never saw the image: rows sum to 1.
    filter_by : which images are issues. For each pair of classes the calibrated confident joint says how many images
        are wrong; "prune_by_noise_rate" takes that many of the given class, those with the largest margin of the
        presumed class over it; "prune_by_class" as many of each given class in all, those of the lowest probability
        of it; "both", what these two agree on. "confident_learning" takes the images counted off the joint's
        diagonal; "predicted_neq_given", all that are predicted another class.
    rank_by : "normalized_margin" or "self_confidence", as `label_quality` has them. Ties, here and in every filter,
        fall as NumPy's default sort leaves them, which is cleanlab's order on the same machine.

    Returns
    -------
    int64 (k,), indices of the issues. An image whose given class is the most probable one is never an issue.

    Raises
    ------
    DataError, where the arrays do not fit each other, a label is no class number, or a row is no probabilities.

    Examples
    --------
    >>> import numpy as np
    >>> proba = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.1, 0.9]])
    >>> find_label_issues([0, 0, 1, 1, 0], proba)
    array([4])
    """
    labels, proba = _checked(labels, proba)
    _require_known("filter_by", filter_by, FILTERS)
    _require_known("rank_by", rank_by, QUALITIES)
    found = FILTERS[filter_by](labels, proba) & ~_is_predicted_as_given(labels, proba)
    issues = np.flatnonzero(found)
    return issues[np.argsort(QUALITIES[rank_by](labels, proba)[issues])]


def label_quality(labels, proba, *, method: str = "normalized_margin") -> np.ndarray:
    """Return how far each label is to be believed, float64 (n,), 0 to 1, lower is worse.

    "self_confidence" is the probability of the given class. "normalized_margin" sets it against the most probable other
    class: (p_given − p_other + 1) / 2, below 0.5 where another class is more probable. Other arguments as of
    `find_label_issues`.
    """
    labels, proba = _checked(labels, proba)
    _require_known("method", method, QUALITIES)
    return QUALITIES[method](labels, proba)


def class_thresholds(labels, proba) -> np.ndarray:
    """Return float64 (C,): the mean probability of a class among the images given it; 2 for a class without any.

    From it on a probability is confident (the paper's t_j, equation 2): a class of which models are rarely sure asks
    for less.
    """
    return _thresholds(*_checked(labels, proba))


def confident_joint(labels, proba, *, calibrate: bool = False) -> np.ndarray:
    """Count the images by given class and the class that they confidently are, int64 (C, C).

    An image is confidently of the class whose threshold its probability reaches, of the most probable class where
    several do, and not counted where none does. The diagonal is at least 1.

    Parameters
    ----------
    calibrate : scale each row to the number of images given that class, rounded so that rows keep their sums.
    """
    labels, proba = _checked(labels, proba)
    counts = _count_confident(labels, proba)
    return _calibrated(counts, labels) if calibrate else counts


def estimate_joint(labels, proba) -> np.ndarray:
    """Return float64 (C, C) that sums to 1: the share of the images of each given and true class, estimated.

    The calibrated confident joint over its sum; what is off its diagonal is the estimated share of wrong labels.
    """
    counts = confident_joint(labels, proba, calibrate=True)
    return counts / counts.sum()


def _checked(labels, proba) -> tuple[np.ndarray, np.ndarray]:
    labels, proba = np.asarray(labels), np.asarray(proba)
    if proba.ndim != 2 or labels.ndim != 1 or len(labels) != len(proba) or len(labels) == 0 or proba.shape[1] < 2:
        raise DataError(
            f"Label issues were asked for with labels of shape {labels.shape} and probabilities of {proba.shape}.",
            hint="Labels are (n,), probabilities (n, classes): one row an image, at least one image, two classes.",
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"Labels are class numbers; the first given is {labels[0]!r}, of type {labels.dtype}.",
            hint="Number the classes in the order of the columns of the probabilities.",
        )
    if not np.issubdtype(proba.dtype, np.floating) and not np.issubdtype(proba.dtype, np.integer):
        raise DataError(f"Probabilities are numbers; theirs are of type {proba.dtype}.")
    strange = (labels < 0) | (labels >= proba.shape[1])
    if strange.any():
        row = int(strange.argmax())
        raise DataError(
            f"{strange.sum()} labels are no class number, first that of image {row}: {labels[row]}.",
            hint=f"The probabilities have {proba.shape[1]} columns, so labels go from 0 to {proba.shape[1] - 1}.",
        )
    proba = proba.astype(np.float64)
    with np.errstate(invalid="ignore"):  # what is not finite fails each comparison, which is what is asked
        good = (proba >= 0).all(axis=1) & (np.abs(proba.sum(axis=1) - 1) <= _MAX_SUM_ERROR)
    if not good.all():
        row = int((~good).argmax())
        raise DataError(
            f"{(~good).sum()} rows are no probabilities, first that of image {row}: {proba[row].tolist()}, "
            f"which sums to {proba[row].sum():g}.",
            hint="Each row has a number of at least 0 for every class, and sums to 1. Of logits, take the soft-max.",
        )
    return labels.astype(np.int64), proba


def _require_known(name: str, value: str, known: dict) -> None:
    if value not in known:
        raise DataError(f'{name} is "{value}".', hint=f"Choose from {', '.join(known)}.")


def _self_confidence(labels: np.ndarray, proba: np.ndarray) -> np.ndarray:
    return np.take_along_axis(proba, labels[:, None], axis=1)[:, 0]


def _normalized_margin(labels: np.ndarray, proba: np.ndarray) -> np.ndarray:
    others = proba.copy()
    np.put_along_axis(others, labels[:, None], -np.inf, axis=1)
    return (_self_confidence(labels, proba) - others.max(axis=1) + 1) / 2


#: What issues may be ranked by: functions of (labels, proba) to (n,), lower is worse.
QUALITIES: dict[str, Callable] = {"normalized_margin": _normalized_margin, "self_confidence": _self_confidence}


def _is_predicted_as_given(labels: np.ndarray, proba: np.ndarray) -> np.ndarray:
    """Bool (n,): the given class is the most probable one, or short of it by less than the tolerance."""
    favoured = proba.copy()
    favoured[np.arange(len(labels)), labels] += _TOLERANCE
    return favoured.argmax(axis=1) == labels


def _thresholds(labels: np.ndarray, proba: np.ndarray) -> np.ndarray:
    # Class by class: NumPy's mean adds pairwise, which is closer than a running sum by class.
    means = [proba[labels == k, k].mean() if (labels == k).any() else _NEVER for k in range(proba.shape[1])]
    return np.maximum(means, 2 * _TOLERANCE)


def _confident_class(labels: np.ndarray, proba: np.ndarray) -> np.ndarray:
    """Int64 (n,): the class that an image confidently is, -1 where none.

    Among several confident classes the paper takes the most probable of these; cleanlab, and so we, the most probable
    of all, which is another one where that class's threshold is higher still.
    """
    is_confident = proba >= _thresholds(labels, proba) - _TOLERANCE
    num_confident = is_confident.sum(axis=1)
    one_or_most_probable = np.where(num_confident == 1, is_confident.argmax(axis=1), proba.argmax(axis=1))
    return np.where(num_confident == 0, -1, one_or_most_probable)


def _count_confident(labels: np.ndarray, proba: np.ndarray) -> np.ndarray:
    num_classes = proba.shape[1]
    confident = _confident_class(labels, proba)
    cell = labels[confident >= 0] * num_classes + confident[confident >= 0]
    counts = np.bincount(cell, minlength=num_classes**2).reshape(num_classes, num_classes)
    np.fill_diagonal(counts, np.maximum(counts.diagonal(), 1))
    return counts


def _calibrated(counts: np.ndarray, labels: np.ndarray) -> np.ndarray:
    images = np.bincount(labels, minlength=len(counts))
    # Presumed class by given class, in memory too, so that the sum adds in cleanlab's order and halves fall as its do.
    scaled = np.ascontiguousarray(counts.T) / counts.sum(axis=1) * images  # no row is empty: the diagonal is not
    return _rounded((scaled / scaled.sum() * images.sum()).T)


def _rounded(rows: np.ndarray) -> np.ndarray:
    """Round to whole numbers so that each row keeps its sum: what lies farthest from its rounding goes the other way.

    At most half of the columns are changed, as no rounding moves a number by more than a half.
    """
    whole = rows.round()
    surplus = rows - whole
    missing = (rows.sum(axis=1).round() - whole.sum(axis=1))[:, None]
    order = np.argsort(surplus, axis=1)
    place = np.argsort(order, axis=1)  # of each column, from the lowest surplus on
    whole += place >= rows.shape[1] - missing
    whole -= place < -missing
    return whole.astype(np.int64)


def _num_wrong(labels: np.ndarray, proba: np.ndarray) -> np.ndarray:
    """Int64 (C, C): how many images of each given class (row) to take for each presumed class; the diagonal stays.

    At least one image of a class stays: where the calibrated joint would take all, its counts are lowered alike.
    """
    joint = _calibrated(_count_confident(labels, proba), labels)
    right = joint.diagonal()
    num_presumed = np.maximum((joint > 0).sum(axis=1) - 1, 1)
    lack = np.maximum(right, 1) - right
    taken = np.maximum(joint - (lack / num_presumed)[:, None], 0).astype(np.int64)
    np.fill_diagonal(taken, np.maximum(right, 1))
    return taken


def _prune_by_noise_rate(labels: np.ndarray, proba: np.ndarray) -> np.ndarray:
    found = np.zeros(len(labels), dtype=bool)
    for given, num_wrong in enumerate(_num_wrong(labels, proba)):
        images = np.flatnonzero(labels == given)
        presumed = np.flatnonzero(num_wrong)
        presumed = presumed[presumed != given]
        if len(images) < 2 or not len(presumed):
            continue
        margin = proba[images, given, None] - proba[images][:, presumed]
        order = np.argsort(margin, axis=0)  # of each presumed class, the least like the given one first
        is_taken = np.arange(len(images))[:, None] < num_wrong[presumed]
        found[images[order[is_taken]]] = True
    return found


def _prune_by_class(labels: np.ndarray, proba: np.ndarray) -> np.ndarray:
    found = np.zeros(len(labels), dtype=bool)
    for given, num_right in enumerate(_num_wrong(labels, proba).diagonal()):
        images = np.flatnonzero(labels == given)
        order = np.argsort(proba[images, given])
        found[images[order[: max(len(images) - num_right, 0)]]] = True
    return found


def _prune_by_both(labels: np.ndarray, proba: np.ndarray) -> np.ndarray:
    return _prune_by_noise_rate(labels, proba) & _prune_by_class(labels, proba)


def _off_diagonal(labels: np.ndarray, proba: np.ndarray) -> np.ndarray:
    confident = _confident_class(labels, proba)
    return (confident >= 0) & (confident != labels)


def _predicted_otherwise(labels: np.ndarray, proba: np.ndarray) -> np.ndarray:
    return proba.argmax(axis=1) != labels


#: Which images are issues: functions of (labels, proba) to bool (n,).
FILTERS: dict[str, Callable] = {
    "prune_by_noise_rate": _prune_by_noise_rate,
    "prune_by_class": _prune_by_class,
    "both": _prune_by_both,
    "confident_learning": _off_diagonal,
    "predicted_neq_given": _predicted_otherwise,
}
