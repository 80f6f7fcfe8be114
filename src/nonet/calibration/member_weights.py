"""How much each member of an ensemble counts, as `ensemble.json` says, and the mean that this makes out of fold.

Predictions average all members, by their weights. Out of fold only one fold's members may judge an image, so the same
weights are taken among those. NumPy in, NumPy out.
"""

from collections.abc import Mapping, Sequence

import numpy as np

#: (architecture, fold) → weight; a member that is not there has none.
Weights = Mapping[tuple[str, int], float]
#: Only the ratio of weights counts; beyond this they are a slip of the pen, and their sum would overflow.
MAX_WEIGHT = 1_000_000


def member_weights(description: Mapping) -> dict[tuple[str, int], float]:
    """Return (architecture, fold) → weight of the members that ensemble.json lists.

    Raises
    ------
    KeyError, TypeError or ValueError, saying what is wrong: people may edit the file.
    """
    weights: dict[tuple[str, int], float] = {}
    members = description["members"]
    if not isinstance(members, list) or not all(isinstance(member, Mapping) for member in members):
        raise ValueError("members must be a list of tables")
    for member in members:
        place, weight = (member["architecture"], member["fold"]), member["weight"]
        if not isinstance(place[0], str) or not _is_number(place[1], int) or place[1] < 0:
            raise ValueError(f"a member must have a name and a fold from 0, not {place[0]!r} and {place[1]!r}")
        if place in weights:
            raise ValueError(f"{place[0]}, fold {place[1]}, is listed twice")
        if not _is_number(weight, (int, float)) or not 0 <= weight <= MAX_WEIGHT:
            raise ValueError(
                f"weights must be 0 or more, and at most {MAX_WEIGHT:,}; that of {place[0]}, fold {place[1]}, is "
                f"{weight!r}"
            )
        weights[place] = float(weight)
    if not any(weights.values()):
        raise ValueError("weights must be 0 or more, and one of them more than 0")
    return weights


def _is_number(value: object, kinds: type | tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


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
