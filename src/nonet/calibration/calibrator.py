"""What makes probabilities out of an ensemble's logits, as ensemble.json stores it. NumPy in, NumPy out.

    probabilities = softmax(logits / temperature + bias)

`fitting` fits it on out-of-fold logits, `conformal` its prediction sets.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from nonet.artifacts.ensemble_file import CalibrationSection, EnsembleFile, per_class
from nonet.settings import Calibrate


@dataclass(frozen=True)
class Calibration:
    """How logits become probabilities, sets of classes, and "unidentified". Without arguments it changes nothing.

    Attributes
    ----------
    temperature : divides the logits; above 1 makes probabilities more doubtful.
    bias : (C,), added then; moves the class priors. None is zero.
    prior_strength : how far it moves them; see `nonet.calibration.priors.prior_shift`. For people to read.
    class_priors : (C,), mean probability of each class over the images it was fitted on; None where it was not fitted.
    min_confidence : below this probability of the best class a cell is unidentified. 0 where nothing was fitted, as
        probabilities that are not calibrated say little about doubt.
    coverage : share of the images whose set is to hold the true class; None without sets.
    thresholds : (C,), a class is in the set where its probability is at least this. None without sets.
    notes : sentences on what was fitted and what was not.
    """

    temperature: float = 1.0
    bias: np.ndarray | None = None
    prior_strength: float = 0.0
    class_priors: np.ndarray | None = None
    min_confidence: float = 0.0
    coverage: float | None = None
    thresholds: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)

    def apply(self, logits: np.ndarray) -> np.ndarray:
        """Return calibrated logits, float64 (…, C): their soft-max are the probabilities."""
        scaled = np.asarray(logits, dtype=np.float64) / self.temperature
        return scaled if self.bias is None else scaled + self.bias

    def __str__(self) -> str:
        corrected = f", prior correction of strength {self.prior_strength:+g}" if self.bias is not None else ""
        sets = "" if self.coverage is None else f", prediction sets for {self.coverage:.0%}"
        return f"temperature {self.temperature:.3f}{corrected}{sets}."

    @classmethod
    def from_ensemble(cls, ensemble: EnsembleFile) -> "Calibration":
        """Return the calibration that ensemble.json holds."""
        section = ensemble.calibration
        return cls(
            temperature=float(ensemble.temperature),
            bias=ensemble.array(section.bias),
            prior_strength=float(section.prior_strength),
            class_priors=ensemble.array(ensemble.class_priors),
            min_confidence=float(section.min_confidence),
            coverage=section.coverage,
            thresholds=ensemble.array(section.thresholds),
            notes=list(section.notes),
        )

    def to_ensemble(self, classes: Sequence[str], settings: Calibrate | None = None) -> dict:
        """Return the values of `EnsembleFile` that hold it; `settings` are those that it was fitted with."""
        return {
            "temperature": self.temperature,
            "class_priors": per_class(classes, self.class_priors),
            "calibration": CalibrationSection(
                prior_strength=self.prior_strength,
                bias=per_class(classes, self.bias),
                min_confidence=self.min_confidence,
                coverage=self.coverage,
                thresholds=per_class(classes, self.thresholds),
                notes=self.notes,
                settings=settings,
            ),
        }
