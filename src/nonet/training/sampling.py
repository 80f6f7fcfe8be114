"""How an epoch's images are drawn."""

import hashlib
from collections.abc import Sequence

import numpy as np

from nonet.errors import DataError
from nonet.recipe import Sampling


def derive_seed(*parts: object) -> int:
    """Return a 63-bit seed for whatever the parts name, say (seed, architecture, fold, epoch, step).

    Every random number in training comes from such a seed, so a resumed training needs no generator's state.
    """
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def effective_number_weights(counts: Sequence[int], *, beta: float = 0.9999, names: Sequence[str] | None = None):
    """Weigh each class by the inverse of its effective number of images.

    E_n = (1 - beta**n) / (1 - beta); Cui et al., CVPR 2019, equation 3.

    Parameters
    ----------
    counts : int array (num_classes,), images per class, each at least 1.
    beta : in [0, 1). 0 weighs classes alike by image; towards 1, by 1/n.
    names : of the classes, for the error.

    Returns
    -------
    float64 array (num_classes,) that averages 1.

    Raises
    ------
    DataError, naming the class, where a class has no image.
    """
    counts = np.asarray(counts, dtype=np.float64)
    empty = np.flatnonzero(counts < 1)
    if len(empty):
        which = names[empty[0]] if names is not None else f"number {empty[0]}"
        raise DataError(f"Class {which} has no training image.", hint="Add images of it, or leave it out of `classes`.")
    # expm1 and log1p keep the digits that 1 - beta**n loses for beta near 1.
    effective = -np.expm1(counts * np.log1p(beta - 1)) / (1 - beta) if beta > 0 else np.ones_like(counts)
    weights = 1 / effective
    return weights / weights.mean()


def chances(labels: np.ndarray, settings: Sampling, external: np.ndarray | None = None) -> np.ndarray:
    """Return each row's chance of being drawn, float64 (n,) summing to 1.

    Parameters
    ----------
    labels : int array (n,), class numbers of the training images.
    settings : the recipe's [sampling] section.
    external : bool array (n,), images that are trained on and never evaluated; none where None.

    Raises
    ------
    DataError, where no image is left that may be drawn.
    """
    counts = np.bincount(labels)
    present = np.flatnonzero(counts)
    weights = np.ones(len(counts))
    if settings.sampler == "effective_number":
        weights[present] = effective_number_weights(counts[present], beta=settings.beta)
    chance = weights[labels]
    if external is not None:
        chance = np.where(external, settings.external_weight * chance, chance)
    if not chance.sum() > 0:
        raise DataError("No training image may be drawn.", hint="Raise sampling.external_weight above 0.")
    return chance / chance.sum()


def training_prior(
    labels: np.ndarray, num_classes: int, settings: Sampling, external: np.ndarray | None = None
) -> np.ndarray:
    """Return each class's share of the draws, the prior that training really sees: float64 (num_classes,)."""
    return np.bincount(labels, weights=chances(labels, settings, external), minlength=num_classes)


def draw_epoch(labels: np.ndarray, settings: Sampling, *, seed: int, external: np.ndarray | None = None) -> np.ndarray:
    """Return the order of an epoch: int64 (n,), rows of the n training images.

    'uniform' shuffles, so that each row comes once; every other way draws with replacement, with `chances`.
    """
    generator = np.random.default_rng(seed)
    if settings.sampler == "uniform" and settings.external_weight == 1:
        return generator.permutation(len(labels))
    return generator.choice(len(labels), size=len(labels), p=chances(labels, settings, external))


def drawn_shares(
    labels: np.ndarray, fold: np.ndarray, num_classes: int, settings: Sampling, external: np.ndarray
) -> np.ndarray:
    """Return the share of each class among the images that training draws, averaged over folds.

    These are the class priors that the members learn. Mixing images leaves them as they are, as it mixes labels in the
    same proportion.

    Parameters
    ----------
    labels : int (n,), class numbers of all images of folds.csv.
    fold : (n,), the fold that an image is held out in; NaN where it is trained on in every fold.
    external : bool (n,), images that are not evaluated.

    Returns
    -------
    float64 (num_classes,), summing to 1.
    """
    shares = []
    for held_out in np.unique(fold[~np.isnan(fold)]):
        kept = fold != held_out
        shares.append(training_prior(labels[kept], num_classes, settings, external[kept]))
    return np.mean(shares, axis=0)


def cut_batches(order: np.ndarray, batch_size: int, *, smallest: int = 2) -> list[np.ndarray]:
    """Cut an epoch into batches; a last batch below `smallest` is dropped.

    Batch normalisation needs two images, and several devices one each.
    """
    cut = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return cut[:-1] if len(cut) > 1 and len(cut[-1]) < smallest else cut
