"""Fit a Calibration on out-of-fold logits; with too few images or patients, none is fitted and its notes say so."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import logsumexp, softmax

from nonet.artifacts.ensemble_file import MAX_SLOPE
from nonet.calibration.calibrator import UNCALIBRATED, Calibration, normalised_entropy
from nonet.calibration.conformal import MIN_GROUPS_OF_CLASS, MIN_IMAGES_OF_CLASS, fit_thresholds, own_thresholds
from nonet.calibration.priors import choose_strength, class_shares, prior_shift
from nonet.recipe import Calibrate

#: One temperature needs few images, but of several patients: one patient's cells are right or wrong together.
MIN_IMAGES, MIN_GROUPS = 100, 10
_LOG_TEMPERATURES = (np.log(0.02), np.log(50.0))


@dataclass(frozen=True)
class HeldOut:
    """Logits of the ensemble for n images, each by members that never saw it.

    Attributes
    ----------
    logits : ndarray of float64, shape (n, classes)
        Mean over members.
    true : ndarray of int, shape (n,)
        Class numbers.
    group : ndarray of str, shape (n,)
        Patient of each image, or a name of its own if unknown.
    fold : ndarray of int, shape (n,)
        Fold that the image was held out in.
    nucleus : ndarray of bool, shape (n,), or None
        Whether the image shows anything that could be a nucleus.
    rejected : ndarray of bool, shape (n,), or None
        Whether the cell is left unidentified whatever its probabilities, and so has no prediction set. None: no cell.
    """

    logits: np.ndarray
    true: np.ndarray
    group: np.ndarray
    fold: np.ndarray
    nucleus: np.ndarray | None = None
    rejected: np.ndarray | None = None

    @property
    def num_classes(self) -> int:
        return self.logits.shape[1]

    def subset(self, rows: np.ndarray) -> "HeldOut":
        """Return the images of a boolean mask, shape (n,)."""
        nucleus = None if self.nucleus is None else self.nucleus[rows]
        rejected = None if self.rejected is None else self.rejected[rows]
        return HeldOut(self.logits[rows], self.true[rows], self.group[rows], self.fold[rows], nucleus, rejected)


def negative_log_likelihood(logits: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return minus the log of the true class's probability.

    Parameters
    ----------
    logits : ndarray of float, shape (n, classes)
        Any.
    true : ndarray of int, shape (n,)
        Class numbers.

    Returns
    -------
    ndarray of float64, shape (n,)
    """
    return logsumexp(logits, axis=1) - logits[np.arange(len(true)), true]


def fit_temperature(logits: np.ndarray, true: np.ndarray) -> float:
    """Return the temperature that maximises the likelihood of the true classes.

    Parameters
    ----------
    logits : ndarray of float, shape (n, classes)
        Out of fold.
    true : ndarray of int, shape (n,)
        Class numbers.

    Returns
    -------
    float
        Between 0.02 and 50, so that logits which are always right, or uninformative, still give one.

    References
    ----------
    Guo, Pleiss, Sun & Weinberger, On calibration of modern neural networks, ICML 2017.
    """
    from scipy.optimize import minimize_scalar  # here, as predicting uses this module and fits nothing

    below_best = logits - logits.max(axis=1, keepdims=True)
    mean_of_true = below_best[np.arange(len(true)), true].mean()

    def mean_loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float(np.log(np.exp(below_best * scale).sum(axis=1)).mean() - mean_of_true * scale)

    return float(np.exp(minimize_scalar(mean_loss, bounds=_LOG_TEMPERATURES, method="bounded").x))


def fit_sloped_temperature(logits: np.ndarray, true: np.ndarray, group: np.ndarray) -> tuple[float, float]:
    """Return the temperature and its slope with entropy that maximise the likelihood, each patient counting the same.

    Parameters
    ----------
    logits : ndarray of float, shape (n, classes)
        Out of fold.
    true : ndarray of int, shape (n,)
        Class numbers.
    group : ndarray, shape (n,)
        Patient of each image, or a name of its own if unknown.

    Returns
    -------
    temperature, entropy_slope : float
        As `Calibration` holds them, the temperature between 0.02 and 50, the slope between -2 and 2.

    References
    ----------
    Balanya, Maroñas & Ramos, Adaptive temperature scaling for robust calibration of deep neural networks, Neural
    Computing and Applications 2024: a temperature that depends on the entropy alone needs few images.
    """
    from scipy.optimize import minimize  # here, as predicting uses this module and fits nothing

    entropy = normalised_entropy(logits)
    below_best = logits - logits.max(axis=1, keepdims=True)
    of_true = below_best[np.arange(len(true)), true]
    _, number, counts = np.unique(group, return_inverse=True, return_counts=True)
    weight = 1 / (counts[number] * len(counts))

    def mean_loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scale = np.exp(parameters[1] * entropy - parameters[0])
        scaled = below_best * scale[:, None]
        normaliser = logsumexp(scaled, axis=1)
        mean = (np.exp(scaled - normaliser[:, None]) * scaled).sum(axis=1)
        slope = weight * (mean - of_true * scale)  # of the loss of each image by the logarithm of its scale
        return float(weight @ (normaliser - of_true * scale)), np.array([-slope.sum(), slope @ entropy])

    bounds = [_LOG_TEMPERATURES, (-MAX_SLOPE, MAX_SLOPE)]
    log_temperature, entropy_slope = minimize(mean_loss, np.zeros(2), jac=True, bounds=bounds, method="L-BFGS-B").x
    return float(np.exp(log_temperature)), float(entropy_slope)


def fit_calibration(
    held_out: HeldOut, settings: Calibrate, trained_priors: np.ndarray, classes: list[str]
) -> Calibration:
    """Fit temperature, prior correction and prediction sets.

    Parameters
    ----------
    held_out : HeldOut
        Images to fit on.
    settings : Calibrate
        The recipe's [calibrate].
    trained_priors : ndarray of float, shape (classes,)
        Share of each class in what training drew.
    classes : list of str
        Class codes, for the notes.

    Returns
    -------
    Calibration
        One that changes nothing if there are fewer than `MIN_IMAGES` images or `MIN_GROUPS` patients.
    """
    num_images, num_groups = len(held_out.true), len(np.unique(held_out.group))
    if num_images < MIN_IMAGES or num_groups < MIN_GROUPS:
        return Calibration(
            notes=[
                f"Not calibrated: {num_images:,} images of {num_groups:,} patients are too few; {MIN_IMAGES} images of "
                f"{MIN_GROUPS} are needed. So temperature is 1, there are no prediction sets, and no cell is doubtful."
            ]
        )
    if not np.isfinite(held_out.logits).all():
        return Calibration(notes=["Not calibrated: some out-of-fold logits are not finite; a member diverged."])
    fitted = replace(
        _fit_logits(held_out, settings, trained_priors),
        min_confidence=settings.min_confidence,
        coverage=settings.coverage,
    )
    proba = softmax(fitted.apply(held_out.logits), axis=-1)
    thresholds, notes = _fit_sets(proba, held_out, settings.coverage)
    notes = [*_notes(held_out, classes), *notes]
    return replace(fitted, class_priors=proba.mean(axis=0), thresholds=thresholds, notes=notes)


def _fit_logits(held_out: HeldOut, settings: Calibrate, trained_priors: np.ndarray) -> Calibration:
    """Return the temperature and the prior correction."""
    logits, true = held_out.logits, held_out.true
    fitted = UNCALIBRATED
    if settings.temperature:
        temperature, slope = fit_sloped_temperature(logits, true, held_out.group)
        fitted = Calibration(temperature=temperature, entropy_slope=slope)
    # Priors add to logits on the scale of probabilities, so the temperature comes first.
    scaled, natural = fitted.scale(logits), class_shares(true, held_out.num_classes)
    strength = settings.prior_strength
    if strength == "choose":
        strength = choose_strength(scaled, true, trained_priors, natural)
    if strength == 0:
        return fitted
    bias = prior_shift(strength, trained_priors, natural)
    # A second temperature, of the shifted logits, changes no decision that the strength was chosen for.
    again = fit_temperature(scaled + bias, true) if settings.temperature else 1.0
    return replace(fitted, temperature=fitted.temperature * again, prior_strength=float(strength), bias=bias / again)


def _fit_sets(proba: np.ndarray, held_out: HeldOut, coverage: float) -> tuple[np.ndarray, list[str]]:
    """Return the thresholds of prediction sets, (classes,), and notes.

    A rejected cell has no set, so the sets of the others must hold the true class more often than is asked of all.
    """
    kept = np.ones(len(held_out.true), dtype=bool) if held_out.rejected is None else ~held_out.rejected
    if kept.mean() <= coverage:
        why = f"{1 - kept.mean():.1%} of the known cells are rejected, so prediction sets cannot cover {coverage:.1%}"
        why += " of them. The sets of the others hold every class."
        return np.zeros(proba.shape[1]), [why]
    true, group = held_out.true[kept], held_out.group[kept]
    return fit_thresholds(proba[kept], true, group, coverage=coverage / kept.mean()), []


def _notes(held_out: HeldOut, classes: list[str]) -> list[str]:
    kept = slice(None) if held_out.rejected is None else ~held_out.rejected
    own = set(own_thresholds(held_out.true[kept], held_out.group[kept], held_out.num_classes))
    few = [code for k, code in enumerate(classes) if k not in own]
    notes = [f"Fitted out of fold on {len(held_out.true):,} images of {len(np.unique(held_out.group)):,} patients."]
    if few:
        notes.append(
            f"{', '.join(few)}: fewer than {MIN_IMAGES_OF_CLASS} images or {MIN_GROUPS_OF_CLASS} patients each, so "
            "they share one threshold for prediction sets, whose coverage of each of these classes may be off."
        )
    return notes
