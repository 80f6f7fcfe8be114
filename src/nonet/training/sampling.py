"""How the images of an epoch are drawn. To add a sampler: a function like those above SAMPLERS and its entry there."""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from nonet.errors import DataError, RecipeError, choose_from
from nonet.recipe import Sampling


def derive_seed(*parts: object) -> int:
    """Derive a seed from names and numbers, like (seed, architecture, fold, epoch, step).

    Every random number in training comes from such a seed, so a resumed training needs no generator's state.

    Parameters
    ----------
    *parts : object
        Anything with a text form; other parts or another order give another seed.

    Returns
    -------
    int
        Of 63 bits.
    """
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def effective_number_weights(
    counts: Sequence[int] | np.ndarray, *, beta: float = 0.9999, names: Sequence[str] | None = None
) -> np.ndarray:
    """Weigh each class by the inverse of its effective number of images.

    Parameters
    ----------
    counts : array_like of int, shape (num_classes,)
        Images per class, each at least 1.
    beta : float in [0, 1), default 0.9999
        0 gives all classes the same weight; towards 1, weights approach 1 / n.
    names : sequence of str, optional
        Of the classes, for the error.

    Returns
    -------
    ndarray of float64, shape (num_classes,)
        Weights that average 1.

    Raises
    ------
    DataError
        If a class has no image; names the class.

    References
    ----------
    Cui et al., CVPR 2019, equation 3: E_n = (1 - beta**n) / (1 - beta).
    """
    number = np.asarray(counts, dtype=np.float64)
    empty = np.flatnonzero(number < 1)
    if len(empty):
        which = names[empty[0]] if names is not None else f"number {empty[0]}"
        raise DataError(f"Class {which} has no training image.", hint="Add images of it, or leave it out of `classes`.")
    # expm1 and log1p keep the digits that 1 - beta**n loses for beta near 1.
    effective = -np.expm1(number * np.log1p(beta - 1)) / (1 - beta) if beta > 0 else np.ones_like(number)
    weights = 1 / effective
    return weights / weights.mean()


def effective_number(counts: np.ndarray, settings: Sampling) -> np.ndarray:
    """Draw rare classes about as often as common ones: the weight of a class is 1 / its effective number of images.

    Parameters
    ----------
    counts : ndarray of int, shape (k,)
        Images of each class that has some.
    settings : Sampling
        The recipe's section.

    Returns
    -------
    ndarray of float64, shape (k,)
    """
    return effective_number_weights(counts, beta=settings.beta)


def uniform(counts: np.ndarray, settings: Sampling) -> np.ndarray:
    """Draw each image once per epoch.

    Parameters
    ----------
    counts : ndarray of int, shape (k,)
        Images of each class that has some.
    settings : Sampling
        Not used.

    Returns
    -------
    ndarray of float64, shape (k,)
    """
    del settings
    return np.ones(len(counts))


#: Name in a recipe → weight of an image of each class. Docstrings' first lines are in the reference of settings.
SAMPLERS: dict[str, Callable[[np.ndarray, Sampling], np.ndarray]] = {
    "effective_number": effective_number,
    "uniform": uniform,
}


def get_sampler(name: str) -> Callable[[np.ndarray, Sampling], np.ndarray]:
    """Return an entry of SAMPLERS.

    Parameters
    ----------
    name : str
        Its key.

    Returns
    -------
    callable
        From (counts, settings) to the weight of an image of each class.

    Raises
    ------
    RecipeError
        If there is none of this name; lists the names.
    """
    if name not in SAMPLERS:
        raise RecipeError(f'Unknown sampling.sampler "{name}".', hint=choose_from(name, SAMPLERS))
    return SAMPLERS[name]


def draw_probabilities(labels: np.ndarray, settings: Sampling, external: np.ndarray | None = None) -> np.ndarray:
    """Return the probability of each image at every draw.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
        Class numbers of the training images.
    settings : Sampling
        The recipe's section.
    external : ndarray of bool, shape (n,), optional
        Images that are trained on and never evaluated; by default none.

    Returns
    -------
    ndarray of float64, shape (n,)
        Sums to 1.

    Raises
    ------
    DataError
        If no image can be drawn.
    RecipeError
        If the sampler is unknown.
    """
    counts = np.bincount(labels)
    present = np.flatnonzero(counts)
    weights = np.ones(len(counts))
    weights[present] = get_sampler(settings.sampler)(counts[present], settings)
    probability = weights[labels]
    if external is not None:
        probability = np.where(external, settings.external_weight * probability, probability)
    if not probability.sum() > 0:
        raise DataError("No training image can be drawn.", hint="Raise sampling.external_weight above 0.")
    return probability / probability.sum()


def training_prior(
    labels: np.ndarray, num_classes: int, settings: Sampling, external: np.ndarray | None = None
) -> np.ndarray:
    """Return the share of each class among the images drawn, which is the class prior that a network learns.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
        Class numbers of the training images.
    num_classes : int
        Number of classes.
    settings : Sampling
        The recipe's section.
    external : ndarray of bool, shape (n,), optional
        Images that are trained on and never evaluated; by default none.

    Returns
    -------
    ndarray of float64, shape (num_classes,)
        Sums to 1.
    """
    return np.bincount(labels, weights=draw_probabilities(labels, settings, external), minlength=num_classes)


def draw_epoch(labels: np.ndarray, settings: Sampling, *, seed: int, external: np.ndarray | None = None) -> np.ndarray:
    """Draw the images of an epoch.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
        Class numbers of the training images.
    settings : Sampling
        The recipe's section. The sampler "uniform" with external_weight 1 shuffles the images; all else draws with
        replacement.
    seed : int
        Seed of the draw.
    external : ndarray of bool, shape (n,), optional
        Images that are trained on and never evaluated; by default none.

    Returns
    -------
    ndarray of int64, shape (n,)
        Row numbers, in the order in which they are trained on.
    """
    generator = np.random.default_rng(seed)
    if settings.sampler == "uniform" and settings.external_weight == 1:
        return generator.permutation(len(labels))
    return generator.choice(len(labels), size=len(labels), p=draw_probabilities(labels, settings, external))


def drawn_shares(
    labels: np.ndarray, fold: np.ndarray, num_classes: int, settings: Sampling, external: np.ndarray
) -> np.ndarray:
    """Return the share of each class among the images that training draws, averaged over folds.

    These are the class priors that the members learn. Mixup and cutmix do not change them, as they mix labels in the
    same proportion as images.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
        Class numbers of all images of folds.csv.
    fold : ndarray of float, shape (n,)
        Fold that an image is held out in; NaN if it is trained on in every fold.
    num_classes : int
        Number of classes.
    settings : Sampling
        The recipe's section.
    external : ndarray of bool, shape (n,)
        Images that are not evaluated.

    Returns
    -------
    ndarray of float64, shape (num_classes,)
        Sums to 1.
    """
    shares = []
    for held_out in np.unique(fold[~np.isnan(fold)]):
        trained_on = fold != held_out
        shares.append(training_prior(labels[trained_on], num_classes, settings, external[trained_on]))
    return np.mean(shares, axis=0)


def split_batches(order: np.ndarray, batch_size: int, *, smallest: int = 2) -> list[np.ndarray]:
    """Split an epoch into batches, and drop a last batch that is too small.

    Batch normalisation needs two images, and each of several devices one.

    Parameters
    ----------
    order : ndarray of int, shape (n,)
        Row numbers of the epoch.
    batch_size : int
        Images per batch.
    smallest : int, default 2
        Smallest last batch, unless it is the only one.

    Returns
    -------
    list of ndarray of int
    """
    split = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return split[:-1] if len(split) > 1 and len(split[-1]) < smallest else split
