"""Means over members by the weights of ensemble.json.

Predictions average all members. Out of fold only the members of one fold have not seen an image, so the mean is over
those, with the same weights. NumPy in, NumPy out.
"""

from collections.abc import Sequence

import numpy as np

from nonet.artifacts.ensemble_file import Weights


def folds_with_weight(weights: Weights) -> set[int]:
    """Return the folds with a member of non-zero weight; images held out in another fold cannot be scored.

    Parameters
    ----------
    weights : mapping of (architecture, fold) to float
        Of the members.

    Returns
    -------
    set of int
    """
    return {fold for (_, fold), weight in weights.items() if weight > 0}


def weights_by_image(weights: Weights, architectures: Sequence[str], fold: np.ndarray) -> np.ndarray:
    """Return the weight of each architecture's member that scores each image.

    Parameters
    ----------
    weights : mapping of (architecture, fold) to float
        Of the members; one that is missing has weight 0.
    architectures : sequence of str
        Order of the rows.
    fold : ndarray of int, shape (n,)
        Fold that each image is held out in.

    Returns
    -------
    ndarray of float64, shape (architectures, n)
    """
    folds, number = np.unique(fold, return_inverse=True)
    table = np.array([[weights.get((name, int(k)), 0.0) for k in folds] for name in architectures])
    return table.reshape(len(architectures), len(folds))[:, number]


def mean_over_members(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the weighted mean over architectures.

    Parameters
    ----------
    values : ndarray of float, shape (..., architectures, n, k)
        Those of a member with weight 0 are ignored, finite or not.
    weight : ndarray of float, shape (architectures, n)
        At least one of each image is above 0.

    Returns
    -------
    ndarray of float64, shape (..., n, k)
        With equal weights, the plain mean.
    """
    counted = np.where(weight[..., None] > 0, values, 0.0)
    return (counted * weight[..., None]).sum(axis=-3) / weight.sum(axis=0)[:, None]
