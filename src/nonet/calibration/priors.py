"""Prior correction: logits learned under the class priors of training are converted to other priors (label shift).

A network trained on balanced batches learns posteriors under equal priors. By Bayes' rule, adding the log of the ratio
of priors to the logits gives the posteriors under other priors (Saerens, Latinne & Decaestecker 2002, equation 2.4).
"""

import numpy as np

from nonet.errors import DataError

#: Strengths to choose from: -1 equal priors, 0 those of training, 1 those of the evaluated images.
STRENGTHS = (-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0)
#: From fewer images than this no priors are estimated: a rare class is expected less than once.
MIN_IMAGES_TO_ADAPT = 50


def class_shares(true: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the share of each class, with half an image added to each so that none is 0.

    Parameters
    ----------
    true : ndarray of int, shape (n,)
        Class numbers.
    num_classes : int
        Number of classes.

    Returns
    -------
    ndarray of float64, shape (num_classes,)
    """
    counts = np.bincount(true, minlength=num_classes) + 0.5
    return counts / counts.sum()


def prior_shift(strength: float, trained: np.ndarray, natural: np.ndarray) -> np.ndarray:
    """Return what to add to logits to correct their class priors.

    Parameters
    ----------
    strength : float in [-1, 1]
        0 leaves the priors of training, 1 gives the natural ones, -1 equal ones.
    trained : ndarray of float, shape (classes,)
        Share of each class in what training drew; a class of share 0 is not corrected.
    natural : ndarray of float, shape (classes,)
        Share of each class where the ensemble will be used.

    Returns
    -------
    ndarray of float64, shape (classes,)
        With mean 0.
    """
    known = trained > 0
    ratio = np.ones(len(trained))
    ratio[known] = (natural if strength > 0 else np.full(len(trained), 1 / len(trained)))[known] / trained[known]
    shift = abs(strength) * np.log(ratio)
    return shift - shift.mean()


def choose_strength(logits: np.ndarray, true: np.ndarray, trained: np.ndarray, natural: np.ndarray) -> float:
    """Return the strength among `STRENGTHS` with the highest macro-F1; of ties, the one nearest to 0.

    That macro-F1 is optimistic, being the best of several: `nonet.evaluation.calibration` chooses on other folds than
    it scores.

    Parameters
    ----------
    logits : ndarray of float, shape (n, classes)
        Already divided by the temperature.
    true : ndarray of int, shape (n,)
        Class numbers.
    trained, natural : ndarray of float, shape (classes,)
        As of `prior_shift`.

    Returns
    -------
    float
    """
    from sklearn.metrics import f1_score  # here, as predicting uses this module and needs no scikit-learn

    present = np.unique(true)

    def macro_f1(strength: float) -> float:
        best = (logits + prior_shift(strength, trained, natural)).argmax(1)
        return f1_score(true, best, labels=present, average="macro", zero_division=0)

    return max(sorted(STRENGTHS, key=abs), key=macro_f1)


def estimate_priors(
    proba: np.ndarray, priors: np.ndarray, *, max_iterations: int = 2000, tolerance: float = 1e-7
) -> np.ndarray:
    """Estimate the class priors of new images from all their probabilities together, by expectation-maximisation.

    It assumes that cells of a class look alike in both samples; a new stain or scanner breaks that.

    Parameters
    ----------
    proba : ndarray of float, shape (n, classes)
        Calibrated probabilities.
    priors : ndarray of float, shape (classes,)
        Mean of the calibrated probabilities over the images that the calibration was fitted on. Started from these,
        images like those of training give the same priors back (Alexandari, Kundaje & Shrikumar, ICML 2020).
    max_iterations : int, default 2000
        At most.
    tolerance : float, default 1e-7
        Largest change of a prior at which iteration stops.

    Returns
    -------
    ndarray of float64, shape (classes,)
        Sums to 1. Multiply probabilities by its ratio to `priors` and divide by their sum.

    Raises
    ------
    DataError
        If there are fewer images than `MIN_IMAGES_TO_ADAPT`.

    References
    ----------
    Saerens, Latinne & Decaestecker, Adjusting the outputs of a classifier to new a priori probabilities, Neural
    Computation 14, 2002.
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
    """Return what to add to logits to convert them from the priors `old` to `new`.

    Parameters
    ----------
    new, old : ndarray of float, shape (classes,)
        Class priors.

    Returns
    -------
    ndarray of float64, shape (classes,)
        Bounded where a prior is 0.
    """
    return np.log(np.maximum(new, 1e-9)) - np.log(np.maximum(old, 1e-9))
