"""How much each member of an ensemble counts, as `ensemble.json` says, and the mean that this makes out of fold.

Predictions average all members, by their weights. Out of fold only one fold's members may judge an image, so the same
weights are taken among those. NumPy in, NumPy out.
"""

from collections.abc import Mapping, Sequence

import numpy as np

#: (architecture, fold) → weight; a member that is not there has none.
Weights = Mapping[tuple[str, int], float]


def member_weights(description: Mapping) -> dict[tuple[str, int], float]:
    """Return (architecture, fold) → weight of the members that ensemble.json lists.

    Raises
    ------
    KeyError, TypeError or ValueError, saying what is wrong: people may edit the file.
    """
    weights: dict[tuple[str, int], float] = {}
    for member in description["members"]:
        place = str(member["architecture"]), int(member["fold"])
        weights[place] = weights.get(place, 0.0) + float(member["weight"])
        if not (np.isfinite(float(member["weight"])) and float(member["weight"]) >= 0):
            raise ValueError(f"weights must be 0 or more; that of {place[0]}, fold {place[1]}, is {member['weight']!r}")
    if not any(weights.values()):
        raise ValueError("weights must be 0 or more, and one of them more than 0")
    return weights


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
