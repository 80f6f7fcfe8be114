"""The majority baseline: always predicting the commonest class. A run that does not beat it is of no use."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nonet.evaluation.bootstrap import DEFAULT_BOOTSTRAP, Bootstrap, GroupConfusions
from nonet.evaluation.metrics import accuracy_score, balanced_accuracy_score, macro_f1_score


@dataclass(frozen=True)
class MajorityBaseline:
    """Scores of the predictions beside those of always predicting the commonest class.

    Attributes
    ----------
    commonest : str
        Code of the commonest class.
    num_classes : int
        Number of classes with scored images; the baseline has a balanced accuracy of one over it.
    accuracy, macro_f1, balanced_accuracy : tuple of float
        The score of the predictions, and that of the baseline.
    gain : tuple of float
        Balanced accuracy minus the baseline's: value, low, high. The ends are NaN where there is one patient only.
    """

    commonest: str
    num_classes: int
    accuracy: tuple[float, float]
    macro_f1: tuple[float, float]
    balanced_accuracy: tuple[float, float]
    gain: tuple[float, float, float]

    @property
    def nothing_learned(self) -> bool:
        """Whether the balanced accuracy is not shown to be above the baseline's."""
        value, low, _ = self.gain
        return self.num_classes > 1 and (value <= 0 or low <= 0)

    @property
    def is_below(self) -> bool:
        """Whether the baseline has at least the same accuracy or macro-F1."""
        return self.num_classes > 1 and any(mine <= constant for mine, constant in (self.accuracy, self.macro_f1))

    def words(self) -> str | None:
        """Return the report's warning, or None where the baseline is beaten.

        Returns
        -------
        str or None
            One or two sentences.
        """
        if self.nothing_learned:
            ours, chance = (100 * score for score in self.balanced_accuracy)
            begin = "No better than chance" if self.gain[0] <= 0 else "Not shown to be better than chance"
            return (
                f"{begin}: averaged over the {self.num_classes} classes, these networks find {ours:.0f} of 100 cells, "
                f"and always predicting {self.commonest} finds {chance:.0f}. Do not act on anything below."
            )
        if not self.is_below:
            return None
        (right, constant), (macro_f1, baseline) = self.accuracy, self.macro_f1
        if right <= constant:
            return (
                f"Always predicting {self.commonest} would be right for {100 * constant:.0f} of 100 cells, and these "
                f"networks are right for {100 * right:.0f}: what they add is that they find rarer classes."
            )
        return (
            f"Always predicting {self.commonest} would have a macro-F1 of {baseline:.3f}; these networks have "
            f"{macro_f1:.3f}."
        )


def measure_majority_baseline(
    confusions: GroupConfusions, classes: list[str], bootstrap: Bootstrap = DEFAULT_BOOTSTRAP
) -> MajorityBaseline:
    """Compare predictions with always predicting the commonest class.

    Parameters
    ----------
    confusions : GroupConfusions
        Of the predictions, shape (C, C).
    classes : list of str
        The C class codes.
    bootstrap : Bootstrap
        For the interval of the gain.

    Returns
    -------
    MajorityBaseline
        Scores of both.
    """
    total = confusions.total()
    support = total.sum(axis=1)
    commonest = int(support.argmax())
    constant = np.zeros_like(total)
    constant[:, commonest] = support
    low, high = bootstrap.intervals(confusions, {"gain": _gain})["gain"]

    def both(score: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float]:
        return float(score(total)), float(score(constant))

    return MajorityBaseline(
        commonest=classes[commonest],
        num_classes=int((support > 0).sum()),
        accuracy=both(accuracy_score),
        macro_f1=both(macro_f1_score),
        balanced_accuracy=both(balanced_accuracy_score),
        gain=(float(_gain(total)), float(low), float(high)),
    )


def _gain(counts: np.ndarray) -> np.ndarray:
    """Return balanced accuracy minus the baseline's: one over the number of classes among the drawn patients."""
    num_classes = (counts.sum(axis=-1) > 0).sum(axis=-1)
    return balanced_accuracy_score(counts) - 1 / np.maximum(num_classes, 1)
