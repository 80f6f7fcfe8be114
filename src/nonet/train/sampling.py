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
        raise DataError(f"Class {which} has no training image.", hint="Add images of it, or leave it out of --classes.")
    # expm1 and log1p keep the digits that 1 - beta**n loses for beta near 1.
    effective = -np.expm1(counts * np.log1p(beta - 1)) / (1 - beta) if beta > 0 else np.ones_like(counts)
    weights = 1 / effective
    return weights / weights.mean()


def draw_epoch(labels: np.ndarray, num_classes: int, settings: Sampling, *, seed: int) -> np.ndarray:
    """Return the order of an epoch: int64 (n,), rows of the n training images.

    'effective_number' draws with replacement, a row's chance the weight of its class: rare classes come about as often
    as common ones. 'uniform' shuffles, so that each row comes once.
    """
    generator = np.random.default_rng(seed)
    if settings.sampler == "uniform":
        return generator.permutation(len(labels))
    chance = _chances(np.bincount(labels, minlength=num_classes), settings)[labels]
    return generator.choice(len(labels), size=len(labels), p=chance / chance.sum())


def _chances(counts: np.ndarray, settings: Sampling) -> np.ndarray:
    """Return how likely one image of each class is drawn, up to a factor, (num_classes,)."""
    weights = np.zeros(len(counts))
    present = np.flatnonzero(counts)
    uniform = settings.sampler == "uniform"
    weights[present] = 1.0 if uniform else effective_number_weights(counts[present], beta=settings.beta)
    return weights


def drawn_shares(labels: np.ndarray, fold: np.ndarray, num_classes: int, settings: Sampling) -> np.ndarray:
    """Return the share of each class among the images that training draws, averaged over folds.

    These are the class priors that the members learn. Mixing images leaves them as they are, as it mixes labels in the
    same proportion.

    Parameters
    ----------
    labels : int (n,), class numbers of all images of folds.csv.
    fold : (n,), the fold that an image is held out in; NaN where it is trained on in every fold.

    Returns
    -------
    float64 (num_classes,), summing to 1.
    """
    shares = []
    for held_out in np.unique(fold[~np.isnan(fold)]):
        counts = np.bincount(labels[fold != held_out], minlength=num_classes)
        drawn = counts * _chances(counts, settings)
        shares.append(drawn / max(drawn.sum(), 1e-300))
    return np.mean(shares, axis=0)


def cut_batches(order: np.ndarray, batch_size: int, *, smallest: int = 2) -> list[np.ndarray]:
    """Cut an epoch into batches; a last batch below `smallest` is dropped.

    Batch normalisation needs two images, and several devices one each.
    """
    cut = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return cut[:-1] if len(cut) > 1 and len(cut[-1]) < smallest else cut
