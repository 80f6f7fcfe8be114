"""Whether a network has learned anything, judged by its held-out logits. NumPy in, text out.

A network can die: its features, or the hidden units of its head, become the same for every image, no gradient is left
to change that, and it predicts one class from then on. Whether that happens depends on the seed, so another seed is the
remedy (docs/decisions/0018-dead-members.md). A weak network that distinguishes classes at all is not dead.
"""

import numpy as np
from scipy.special import log_softmax
from scipy.stats import rankdata

#: Logits that vary between images by at most this share of the largest count as equal; the rest is rounding.
EQUAL_LOGITS_TOLERANCE = 1e-5
#: A network that predicts one class for at least this share of the images counts as predicting one class.
ONE_CLASS_SHARE = 0.99
#: Log probabilities hardly vary if their standard deviation over images is below this (probabilities differ by 5 %).
MIN_LOG_PROBA_STD = 0.05
#: For fewer images, even a living but weak network may predict one class for all.
MIN_IMAGES = 100
#: Permutations of the classes that estimate the chance error of the AUC.
NUM_SHUFFLES = 200


def get_death_reason(logits: np.ndarray, truth: np.ndarray, *, at_end: bool) -> str | None:
    """Return why a network counts as dead.

    Parameters
    ----------
    logits : ndarray of float, shape (n, classes)
        Of held-out images.
    truth : ndarray of int, shape (n,)
        Their class numbers.
    at_end : bool
        Whether training is over. Before, only non-finite logits, or logits that are the same for every image, count
        as dead, as more steps do not change that; a living network, above all an average over many steps, may
        well predict one class in its first epochs. At the end, a network is also dead if it ranks images no
        better than chance, or predicts one class for nearly every image with probabilities that hardly vary.

    Returns
    -------
    str or None
        The end of a sentence that begins with the network's name; None if the network is alive.
    """
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        return f"gave non-finite logits for {(~finite).sum():,} of {len(logits):,} held-out images"
    if len(np.unique(truth)) < 2:
        return None  # the same answer for all images is right
    if np.ptp(logits, axis=0).max() <= EQUAL_LOGITS_TOLERANCE * np.abs(logits).max():
        return "gave the same logits for every held-out image"
    if not at_end or len(logits) < MIN_IMAGES:
        return None
    log_proba = log_softmax(logits.astype(np.float64), axis=1)
    one_class = np.bincount(logits.argmax(axis=1)).max() >= ONE_CLASS_SHARE * len(logits)
    if one_class and log_proba.std(axis=0).max() < MIN_LOG_PROBA_STD:
        return "predicted one class for nearly every held-out image, with probabilities that hardly vary"
    auc, error = ranking_auc(log_proba, truth)
    if auc <= 0.5 + 2 * error:
        return f"ranked the held-out images no better than chance (AUC {auc:.2f})"
    return None


def ranking_auc(scores: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return the area under the ROC curve of each class against all others, averaged, and its chance error.

    Parameters
    ----------
    scores : ndarray of float, shape (n, classes)
        Higher for more likely.
    truth : ndarray of int, shape (n,)
        Class numbers.

    Returns
    -------
    auc : float
        Average over classes, weighted by the number of pairs compared.
    error : float
        Standard deviation of the same over shuffled classes.
    """
    ranks = rankdata(scores, axis=0)
    rng = np.random.default_rng(0)  # fixed, so that the same logits give the same answer
    shuffled = [_auc(ranks, rng.permutation(truth)) for _ in range(NUM_SHUFFLES)]
    return _auc(ranks, truth), float(np.std(shuffled))


def _auc(ranks: np.ndarray, truth: np.ndarray) -> float:
    """Return the average area under the ROC curve of ranks (n, classes)."""
    aucs, weights = [], []
    for k in np.unique(truth):
        own = truth == k
        count = int(own.sum())
        pairs = count * (len(truth) - count)
        aucs.append((ranks[own, k].sum() - count * (count + 1) / 2) / pairs)
        weights.append(pairs)
    return float(np.average(aucs, weights=weights))
