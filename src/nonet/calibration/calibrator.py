"""How an ensemble's logits become probabilities, as ensemble.json stores it. NumPy in, NumPy out.

    probabilities = softmax(logits / (temperature * exp(-entropy_slope * entropy)) + bias)

where entropy is that of softmax(logits), from 0 for a cell whose class is certain to 1 for one that could be anything.
`fitting` fits it on out-of-fold logits, `conformal` its prediction sets.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import softmax, xlogy

from nonet.artifacts.ensemble_file import CalibrationSection, EnsembleFile, per_class
from nonet.settings import Calibrate


@dataclass(frozen=True)
class Calibration:
    """How logits become probabilities, prediction sets and "unidentified". The default changes nothing.

    Attributes
    ----------
    temperature : float
        Divides the logits of a cell whose class is certain; above 1 it makes probabilities less confident.
    entropy_slope : float
        How fast the logarithm of the temperature falls with entropy. 0: every cell has the same temperature.
    bias : ndarray of float64, shape (classes,), or None
        Added after that: the prior correction. None is zero.
    prior_strength : float
        Strength of the prior correction, see `nonet.calibration.priors.prior_shift`. For people to read.
    class_priors : ndarray of float64, shape (classes,), or None
        Mean probability of each class over the images it was fitted on; None if it was not fitted.
    min_confidence : float
        A cell whose most probable class is less probable than this is unidentified. 0 if nothing was fitted, as
        uncalibrated probabilities say little about doubt.
    coverage : float or None
        Share of images whose prediction set should contain the true class; None without sets.
    thresholds : ndarray of float64, shape (classes,), or None
        A class is in the set if its probability is at least this. None without sets.
    notes : list of str
        Sentences on what was fitted and what was not.
    """

    temperature: float = 1.0
    entropy_slope: float = 0.0
    bias: np.ndarray | None = None
    prior_strength: float = 0.0
    class_priors: np.ndarray | None = None
    min_confidence: float = 0.0
    coverage: float | None = None
    thresholds: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)

    def apply(self, logits: np.ndarray) -> np.ndarray:
        """Return calibrated logits, whose soft-max are the probabilities.

        Parameters
        ----------
        logits : ndarray, shape (..., classes)
            Of the ensemble, averaged over members and views.

        Returns
        -------
        ndarray of float64, shape (..., classes)
        """
        scaled = self.scale(logits)
        return scaled if self.bias is None else scaled + self.bias

    def scale(self, logits: np.ndarray) -> np.ndarray:
        """Return the logits divided by the temperature of each cell, without the prior correction.

        Parameters
        ----------
        logits : ndarray, shape (..., classes)
            As for `apply`.

        Returns
        -------
        ndarray of float64, shape (..., classes)
        """
        logits = np.asarray(logits, dtype=np.float64)
        if self.entropy_slope == 0:
            return logits / self.temperature
        return logits * (np.exp(self.entropy_slope * normalised_entropy(logits)) / self.temperature)[..., None]

    def __str__(self) -> str:
        corrected = f", prior correction of strength {self.prior_strength:+g}" if self.bias is not None else ""
        sets = "" if self.coverage is None else f", prediction sets for {self.coverage:.0%}"
        sloped = "" if self.entropy_slope == 0 else f" (entropy slope {self.entropy_slope:.3f})"
        return f"temperature {self.temperature:.3f}{sloped}{corrected}{sets}."

    @classmethod
    def from_ensemble(cls, ensemble: EnsembleFile) -> "Calibration":
        """Return the calibration that ensemble.json holds."""
        section = ensemble.calibration
        return cls(
            temperature=float(ensemble.temperature),
            entropy_slope=float(section.entropy_slope),
            bias=ensemble.array(section.bias),
            prior_strength=float(section.prior_strength),
            class_priors=ensemble.array(ensemble.class_priors),
            min_confidence=float(section.min_confidence),
            coverage=section.coverage,
            thresholds=ensemble.array(section.thresholds),
            notes=list(section.notes),
        )

    def to_ensemble(self, classes: Sequence[str], settings: Calibrate | None = None) -> dict:
        """Return the values of `EnsembleFile` that hold it.

        Parameters
        ----------
        classes : sequence of str
            Class codes, in the order of the arrays.
        settings : Calibrate, optional
            What it was fitted with.

        Returns
        -------
        dict
            Keys temperature, class_priors and calibration.
        """
        return {
            "temperature": self.temperature,
            "class_priors": per_class(classes, self.class_priors),
            "calibration": CalibrationSection(
                entropy_slope=self.entropy_slope,
                prior_strength=self.prior_strength,
                bias=per_class(classes, self.bias),
                min_confidence=self.min_confidence,
                coverage=self.coverage,
                thresholds=per_class(classes, self.thresholds),
                notes=self.notes,
                settings=settings,
            ),
        }


UNCALIBRATED = Calibration()


def normalised_entropy(logits: np.ndarray) -> np.ndarray:
    """Return the entropy of the soft-max of logits as a share of the greatest possible.

    Parameters
    ----------
    logits : ndarray of float, shape (..., classes)
        Any.

    Returns
    -------
    ndarray of float64, shape (...)
        From 0, one class is certain, to 1, all are equally probable; 0 with a single class.
    """
    proba = softmax(np.asarray(logits, dtype=np.float64), axis=-1)
    num_classes = proba.shape[-1]
    if num_classes == 1:
        return np.zeros(proba.shape[:-1])
    return -xlogy(proba, proba).sum(axis=-1) / np.log(num_classes)
