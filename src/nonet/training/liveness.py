"""Whether a network learned anything: what it says of the images held out, against a constant. NumPy in, words out.

A network can die: its features or the hidden units of its head become the same for every image, no gradient is left
to change that, and it names one class for good. Which seeds do so is chance, so another seed is the remedy
(docs/decisions/0018-dead-members.md). A weak network is another matter: what tells classes apart at all is left alone.
"""

import numpy as np
from scipy.special import log_softmax
from scipy.stats import rankdata

#: Logits that vary between images by less than this share of the largest are the same but for rounding.
SAME = 1e-5
#: A network that names one class for so many of the images names one class.
NEARLY_ALL = 0.99
#: Log probabilities whose standard deviation over images is smaller hardly vary: probabilities differ by 5 %.
HARDLY = 0.05
#: From fewer images on, a weak network may name one class for all of them.
MIN_IMAGES = 100
NUM_SHUFFLES = 200


def why_dead(logits: np.ndarray, truth: np.ndarray, *, at_end: bool) -> str | None:
    """Say why a network counts as dead, None where it lives.

    Parameters
    ----------
    logits : float (n, C), of the images held out. truth : int (n,), their classes.
    at_end : of training. Before, a network counts as dead only where its logits are the same for every image or not
        finite, which more steps do not mend; a living one, above all an average over many steps, may well name one
        class in its first epochs. At the end a network is also dead if it orders the images no better than chance, or
        names one class for nearly every image with probabilities that hardly vary.

    Returns
    -------
    The end of a sentence that begins with the network's name.
    """
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        return f"gave logits that are not finite for {(~finite).sum():,} of {len(logits):,} images held out"
    if len(np.unique(truth)) < 2:
        return None  # to say the same of all images is right
    if np.ptp(logits, axis=0).max() <= SAME * np.abs(logits).max():
        return "gave the same logits for every image held out"
    if not at_end or len(logits) < MIN_IMAGES:
        return None
    log_proba = log_softmax(logits.astype(np.float64), axis=1)
    names_one = np.bincount(logits.argmax(axis=1)).max() >= NEARLY_ALL * len(logits)
    if names_one and log_proba.std(axis=0).max() < HARDLY:
        return "named one class for every image held out, with probabilities that hardly vary"
    area, error = ranking(log_proba, truth)
    if area <= 0.5 + 2 * error:
        return f"ordered the images held out no better than chance (AUC {area:.2f})"
    return None


def ranking(scores: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return how well scores (n, C) order images by class: the area under the ROC curve, and its error by chance.

    Each class against all others, weighted by the number of pairs that are compared. The error is the standard
    deviation of the same over shuffled classes.
    """
    ranks = rankdata(scores, axis=0)
    rng = np.random.default_rng(0)  # the same logits, the same answer
    shuffled = [_area(ranks, rng.permutation(truth)) for _ in range(NUM_SHUFFLES)]
    return _area(ranks, truth), float(np.std(shuffled))


def _area(ranks: np.ndarray, truth: np.ndarray) -> float:
    """Return the area under the ROC curve of ranks (n, C)."""
    areas, weights = [], []
    for k in np.unique(truth):
        own = truth == k
        count = int(own.sum())
        pairs = count * (len(truth) - count)
        areas.append((ranks[own, k].sum() - count * (count + 1) / 2) / pairs)
        weights.append(pairs)
    return float(np.average(areas, weights=weights))
