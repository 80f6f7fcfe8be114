"""The floor: what always naming one class would reach. Predictions that do not exceed it say nothing of the cells."""

from dataclasses import dataclass

import numpy as np

from nonet.evaluation.bootstrap import DEFAULT_BOOTSTRAP, Bootstrap, GroupConfusions
from nonet.evaluation.metrics import balanced_accuracy_score, macro_f1_score


@dataclass(frozen=True)
class Floor:
    """Scores beside those of always naming the commonest class.

    commonest : its code. num_classes : with scored images; chance finds one in so many of each class's cells.
    accuracy, macro_f1, balanced_accuracy : pairs, of the predictions and of the constant.
    gain : of balanced accuracy over the constant's, and its interval's ends (value, low, high); low and high are NaN
        from one patient.
    """

    commonest: str
    num_classes: int
    accuracy: tuple[float, float]
    macro_f1: tuple[float, float]
    balanced_accuracy: tuple[float, float]
    gain: tuple[float, float, float]

    @property
    def nothing_learned(self) -> bool:
        """Whether the predictions cannot be told from a constant's, class by class."""
        value, low, _ = self.gain
        return self.num_classes > 1 and (value <= 0 or low <= 0)

    @property
    def is_below(self) -> bool:
        """Whether the constant is right as often, or has the higher macro-F1."""
        return self.num_classes > 1 and any(mine <= constant for mine, constant in (self.accuracy, self.macro_f1))

    def words(self) -> str | None:
        """Say it in the report's first sentence, None where there is nothing to say."""
        if self.nothing_learned:
            found, chance = (100 * score for score in self.balanced_accuracy)
            begin = "No better than chance" if self.gain[0] <= 0 else "Not shown to be better than chance"
            return (
                f"{begin}: averaged over the {self.num_classes} classes, these networks find {found:.0f} of 100 cells, "
                f"and always naming {self.commonest} finds {chance:.0f}. Nothing below may be acted on."
            )
        if not self.is_below:
            return None
        (right, constant), (macro_f1, floor) = self.accuracy, self.macro_f1
        if right <= constant:
            return (
                f"Always naming {self.commonest} would name {100 * constant:.0f} of 100 cells rightly, and these "
                f"networks name {100 * right:.0f}: what they add is that they find rarer classes."
            )
        return (
            f"Always naming {self.commonest} would have a macro-F1 of {floor:.3f}; these networks have {macro_f1:.3f}."
        )


def measure_floor(confusions: GroupConfusions, classes: list[str], bootstrap: Bootstrap = DEFAULT_BOOTSTRAP) -> Floor:
    """Compare the predictions whose confusion counts these are, (C, C), with a constant; options of the bootstrap."""
    total = confusions.total()
    support = total.sum(axis=1)
    commonest = int(support.argmax())
    constant = np.zeros_like(total)
    constant[:, commonest] = support
    low, high = bootstrap.intervals(confusions, {"gain": _gain})["gain"]
    scores = [
        tuple(float(score(counts)) for counts in (total, constant))
        for score in (_accuracy, macro_f1_score, balanced_accuracy_score)
    ]
    gain = float(_gain(total)), float(low), float(high)
    return Floor(classes[commonest], int((support > 0).sum()), *scores, gain)


def _gain(counts: np.ndarray) -> np.ndarray:
    """Balanced accuracy over that of a constant: one in as many as there are classes among the drawn patients."""
    num_classes = (counts.sum(axis=-1) > 0).sum(axis=-1)
    return balanced_accuracy_score(counts) - 1 / np.maximum(num_classes, 1)


def _accuracy(counts: np.ndarray) -> float:
    return np.trace(counts) / counts.sum()
