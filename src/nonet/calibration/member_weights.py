"""Means over members by the weights of ensemble.json.

Predictions average all members, by their weights. Out of fold only one fold's members may judge an image, so the same
weights are taken among those. NumPy in, NumPy out.
"""

from collections.abc import Sequence

import numpy as np

from nonet.artifacts.ensemble_file import Weights


def folds_that_count(weights: Weights) -> set[int]:
    """Return the folds with a member of some weight; images held out in another can be judged by none of them."""
    return {fold for (_, fold), weight in weights.items() if weight > 0}


def weights_by_image(weights: Weights, architectures: Sequence[str], fold: np.ndarray) -> np.ndarray:
    """Return the weight of the member that judges each image, (architectures, n), of the folds (n,) held out in."""
    folds, number = np.unique(fold, return_inverse=True)
    table = np.array([[weights.get((name, int(k)), 0.0) for k in folds] for name in architectures])
    return table.reshape(len(architectures), len(folds))[:, number]


def mean_over_members(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the weighted mean over architectures, (…, n, k), of values (…, architectures, n, k).

    Of equal weights it is the plain mean. What a member without weight says does not count, finite or not.

    Parameters
    ----------
    weight : (architectures, n), of which each image has one more than 0.
    """
    counted = np.where(weight[..., None] > 0, values, 0.0)
    return (counted * weight[..., None]).sum(axis=-3) / weight.sum(axis=0)[:, None]
