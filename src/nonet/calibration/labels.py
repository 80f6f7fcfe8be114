"""From probabilities to labels: a class or "unidentified", the reason, and the prediction set."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from nonet.calibration.calibrator import Calibration
from nonet.calibration.conformal import prediction_sets
from nonet.cells import UNIDENTIFIED
from nonet.data.names import SET_SEPARATOR

#: Reasons for no label, in the column `reason` of predictions.csv.
DOUBTFUL, UNKNOWN_CELL_TYPE, UNREADABLE = "doubtful", "unknown cell type", "unreadable"
NO_NUCLEUS = "no nucleated cell"
#: The image may be readable later: its file is missing, not permitted, on a failing drive, ….
NOT_NOW = "could not be read now"


def label_images(
    proba: np.ndarray,
    classes: Sequence[str],
    calibration: Calibration,
    rejected: np.ndarray,
    without_nucleus: np.ndarray,
) -> pd.DataFrame:
    """Decide the label of each image.

    Parameters
    ----------
    proba : ndarray of float, shape (n, num_classes)
        Calibrated probabilities; a row of NaN is an image that could not be read.
    classes : sequence of str
        Class codes, in column order.
    calibration : Calibration
        Its `min_confidence` and thresholds decide.
    rejected : ndarray of bool, shape (n,)
        Images of an unknown cell type.
    without_nucleus : ndarray of bool, shape (n,)
        Images in which nothing could be a nucleus.

    Returns
    -------
    DataFrame
        n rows. label: a class, "unidentified", or "" if unreadable. best: the most probable class, however doubtful.
        confidence: its probability. reason: why there is no label, otherwise "". set: the classes of the prediction
        set, most probable first, joined by "|"; "" without thresholds, and for unknown cell types.
    """
    readable = ~np.isnan(proba).any(axis=1)
    codes = np.array(classes, dtype=object)
    best, confidence = np.full(len(proba), "", dtype=object), np.full(len(proba), np.nan)
    best[readable] = codes[proba[readable].argmax(1)]
    confidence[readable] = proba[readable].max(1)
    reason = np.where(confidence < calibration.min_confidence, DOUBTFUL, "").astype(object)
    reason[rejected] = UNKNOWN_CELL_TYPE
    reason[without_nucleus] = NO_NUCLEUS
    reason[~readable] = UNREADABLE
    label = np.where((reason != "") & readable, UNIDENTIFIED, best)
    sets = np.full(len(proba), "", dtype=object)
    named = readable & ~rejected & ~without_nucleus
    sets[named] = [SET_SEPARATOR.join(one) for one in list_prediction_sets(proba[named], classes, calibration)]
    return pd.DataFrame({"label": label, "best": best, "confidence": confidence, "reason": reason, "set": sets})


def list_prediction_sets(proba: np.ndarray, classes: Sequence[str], calibration: Calibration) -> list[list[str]]:
    """Return the classes of each image's prediction set.

    Parameters
    ----------
    proba, classes, calibration : as for `label_images`
        Probabilities, class codes and thresholds.

    Returns
    -------
    list of list of str
        Most probable first; empty lists if the calibration has no thresholds.
    """
    if calibration.thresholds is None:
        return [[] for _ in proba]
    inside = prediction_sets(proba, calibration.thresholds)
    order = np.argsort(-proba, axis=1, kind="stable")
    return [[classes[k] for k in row if inside[i, k]] for i, row in enumerate(order)]
