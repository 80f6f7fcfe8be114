"""What makes probabilities out of an ensemble's logits, as `ensemble.json` keeps it. NumPy in, NumPy out.

    probabilities = softmax(logits / temperature + bias)

`fitting` fits it on out-of-fold logits, `conformal` its prediction sets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

#: Of any number in a calibration: with larger ones logits would overflow.
MAX_NUMBER = 1_000_000


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
        moved = f", class priors moved by {self.prior_strength:+g}" if self.bias is not None else ""
        sets = "" if self.coverage is None else f", prediction sets for {self.coverage:.0%}"
        return f"temperature {self.temperature:.3f}{moved}{sets}."

    def describe(self, classes: Sequence[str]) -> dict:
        """Return it as `ensemble.json` keeps it: two keys at the top, the rest under "calibration"."""
        return {
            "temperature": self.temperature,
            "class_priors": _by_class(self.class_priors, classes),
            "calibration": {
                "prior_strength": self.prior_strength,
                "bias": _by_class(self.bias, classes),
                "min_confidence": self.min_confidence,
                "coverage": self.coverage,
                "thresholds": _by_class(self.thresholds, classes),
                "notes": self.notes,
            },
        }

    @classmethod
    def of(cls, description: Mapping, classes: Sequence[str]) -> "Calibration":
        """Read it from what `ensemble.json` holds, that of an older nonet too.

        Raises
        ------
        ValueError, saying what is wrong: people may edit the file.
        """
        temperature = _number("temperature", description["temperature"])
        if not temperature >= 1 / MAX_NUMBER:
            raise ValueError(f"temperature is {temperature}, and must be more than 0 (at least {1 / MAX_NUMBER:g})")
        kept = description.get("calibration") or {}
        if not isinstance(kept, Mapping):
            raise ValueError(f"calibration is {kept!r}, and must be a table")
        coverage = kept.get("coverage")
        min_confidence = _number("min_confidence", kept.get("min_confidence", 0.0))
        if not 0 <= min_confidence <= 1:
            raise ValueError(f"min_confidence is {min_confidence}, and must lie between 0 and 1")
        return cls(
            temperature=temperature,
            prior_strength=_number("prior_strength", kept.get("prior_strength", 0.0)),
            bias=_array("bias", kept.get("bias"), classes),
            class_priors=_array("class_priors", description.get("class_priors"), classes),
            min_confidence=min_confidence,
            coverage=None if coverage is None else _number("coverage", coverage),
            thresholds=_array("thresholds", kept.get("thresholds"), classes),
            notes=[str(note) for note in kept.get("notes", [])],
        )


def _by_class(values: np.ndarray | None, classes: Sequence[str]) -> dict[str, float] | None:
    return None if values is None else {code: float(value) for code, value in zip(classes, values, strict=True)}


def _array(what: str, values: object, classes: Sequence[str]) -> np.ndarray | None:
    if values is None:
        return None
    if not isinstance(values, Mapping) or set(values) != set(classes):
        raise ValueError(f"{what} must have one number a class")
    return np.array([_number(f"{what} of {code}", values[code]) for code in classes])


def _number(what: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{what} is {value!r}, and must be a number")
    if not abs(value) <= MAX_NUMBER:  # an int may be too large for a float
        raise ValueError(f"{what} is {value}, and must be finite, at most {MAX_NUMBER:,}")
    return float(value)
