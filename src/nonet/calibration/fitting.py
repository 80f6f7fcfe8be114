"""Fit a Calibration on out-of-fold logits; with too few images or patients, none is fitted and its notes say so."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import logsumexp, softmax

from nonet.calibration.calibrator import Calibration
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
    """

    logits: np.ndarray
    true: np.ndarray
    group: np.ndarray
    fold: np.ndarray
    nucleus: np.ndarray | None = None

    @property
    def num_classes(self) -> int:
        return self.logits.shape[1]

    def subset(self, rows: np.ndarray) -> "HeldOut":
        """Return the images of a boolean mask, shape (n,)."""
        nucleus = None if self.nucleus is None else self.nucleus[rows]
        return HeldOut(self.logits[rows], self.true[rows], self.group[rows], self.fold[rows], nucleus)


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
    temperature, strength, bias = _fit_logits(held_out, settings, trained_priors)
    fitted = Calibration(
        temperature=temperature,
        bias=bias,
        prior_strength=strength,
        min_confidence=settings.min_confidence,
        coverage=settings.coverage,
        notes=_notes(held_out, classes),
    )
    proba = softmax(fitted.apply(held_out.logits), axis=-1)
    thresholds = fit_thresholds(proba, held_out.true, held_out.group, coverage=settings.coverage)
    return replace(fitted, class_priors=proba.mean(axis=0), thresholds=thresholds)


def _fit_logits(
    held_out: HeldOut, settings: Calibrate, trained_priors: np.ndarray
) -> tuple[float, float, np.ndarray | None]:
    """Return temperature, strength of the prior correction, and its bias."""
    logits, true = held_out.logits, held_out.true
    temperature = fit_temperature(logits, true) if settings.temperature else 1.0
    # Priors add to logits on the scale of probabilities, so the temperature comes first.
    scaled, natural = logits / temperature, class_shares(true, held_out.num_classes)
    strength = settings.prior_strength
    if strength == "choose":
        strength = choose_strength(scaled, true, trained_priors, natural)
    if strength == 0:
        return temperature, 0.0, None
    bias = prior_shift(strength, trained_priors, natural)
    # A second temperature, of the shifted logits, changes no decision that the strength was chosen for.
    again = fit_temperature(scaled + bias, true) if settings.temperature else 1.0
    return temperature * again, float(strength), bias / again


def _notes(held_out: HeldOut, classes: list[str]) -> list[str]:
    own = set(own_thresholds(held_out.true, held_out.group, held_out.num_classes))
    few = [code for k, code in enumerate(classes) if k not in own]
    notes = [f"Fitted out of fold on {len(held_out.true):,} images of {len(np.unique(held_out.group)):,} patients."]
    if few:
        notes.append(
            f"{', '.join(few)}: fewer than {MIN_IMAGES_OF_CLASS} images or {MIN_GROUPS_OF_CLASS} patients each, so "
            "they share one threshold for prediction sets, whose coverage of each of these classes may be off."
        )
    return notes
