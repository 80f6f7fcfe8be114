"""Class priors: what they were in training, what they are among the images, and logits moved from one to the other.

A network trained on balanced batches learns posteriors under equal priors. By Bayes' rule, adding the log of a ratio
of priors to the logits moves them to other priors (Saerens, Latinne & Decaestecker 2002, equation 2.4).
"""

import numpy as np
from sklearn.metrics import f1_score

from nonet.errors import DataError

#: Strengths to choose from: -1 equal priors, 0 those of training, 1 those of the evaluated images.
STRENGTHS = (-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0)
#: From fewer images than this no priors are estimated: a rare class is expected less than once.
MIN_IMAGES_TO_ADAPT = 50


def class_shares(true: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the share of each class, half an image added to each, so that none is impossible. Float64 (C,)."""
    counts = np.bincount(true, minlength=num_classes) + 0.5
    return counts / counts.sum()


def prior_shift(strength: float, trained: np.ndarray, natural: np.ndarray) -> np.ndarray:
    """Return what to add to logits, (C,), to move their class priors.

    Parameters
    ----------
    strength : in -1 … 1. From 0, the priors of training, to 1, the natural ones, or to -1, where every class is as
        likely as every other.
    trained : (C,), the share of each class among the images that training drew; a class of share 0 is not moved.
    natural : (C,), the share of each class where the ensemble is to be used.
    """
    known = trained > 0
    ratio = np.ones(len(trained))
    ratio[known] = (natural if strength > 0 else np.full(len(trained), 1 / len(trained)))[known] / trained[known]
    shift = abs(strength) * np.log(ratio)
    return shift - shift.mean()


def choose_strength(logits: np.ndarray, true: np.ndarray, trained: np.ndarray, natural: np.ndarray) -> float:
    """Return the strength of `STRENGTHS` with the highest macro-F1; of equals the one nearest to 0.

    The score is flattered, as it is of a choice: `nonet.evaluation.calibration` chooses on other folds than it scores.
    """
    present = np.unique(true)

    def macro_f1(strength: float) -> float:
        best = (logits + prior_shift(strength, trained, natural)).argmax(1)
        return f1_score(true, best, labels=present, average="macro", zero_division=0)

    return max(sorted(STRENGTHS, key=abs), key=macro_f1)


def estimate_priors(
    proba: np.ndarray, priors: np.ndarray, *, max_iterations: int = 2000, tolerance: float = 1e-7
) -> np.ndarray:
    """Estimate the class priors of new images from their probabilities, all of them together.

    Expectation-maximisation: Saerens, Latinne & Decaestecker, Adjusting the outputs of a classifier to new a priori
    probabilities, Neural Computation 14, 2002. It needs calibrated probabilities, and their mean over images like
    those of training as the priors to start from (Alexandari, Kundaje & Shrikumar, ICML 2020): then such images give
    these priors back. It assumes that cells of a class look alike in both; a new stain or scanner breaks that.

    Parameters
    ----------
    proba : (n, C), calibrated.
    priors : (C,), their mean where they were calibrated.

    Returns
    -------
    float64 (C,), summing to 1. Multiply probabilities by the ratio to `priors` and divide by their sum.

    Raises
    ------
    DataError where there are fewer images than `MIN_IMAGES_TO_ADAPT`.
    """
    if len(proba) < MIN_IMAGES_TO_ADAPT:
        raise DataError(
            f"Class priors cannot be estimated from {len(proba)} images; {MIN_IMAGES_TO_ADAPT} are needed.",
            hint="Predict more images of the sample together, or leave the priors as they are.",
        )
    start = np.maximum(priors, 1e-12)
    estimate = start / start.sum()
    for _ in range(max_iterations):
        ratio = estimate / start
        # Mean over images of the posterior under `estimate`: ratio * proba, each row divided by its sum.
        following = ratio * ((1 / (proba @ ratio)) @ proba) / len(proba)
        change = np.abs(following - estimate).max()
        estimate = following
        if change < tolerance:
            break
    return estimate / estimate.sum()


def log_ratio(new: np.ndarray, old: np.ndarray) -> np.ndarray:
    """Return what to add to logits to move them from the priors `old` to `new`, (C,); bounded where one is 0."""
    return np.log(np.maximum(new, 1e-9)) - np.log(np.maximum(old, 1e-9))
