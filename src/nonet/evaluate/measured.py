"""Everything that an evaluation found, in one place for tables, figures, report and cards."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from nonet.evaluate.bootstrap import bootstrap_intervals
from nonet.evaluate.calibration import MeasuredCalibration, measure_calibration
from nonet.evaluate.issues import Issues, find_issues
from nonet.evaluate.oof import ENSEMBLE
from nonet.evaluate.reading import RunData, read_run
from nonet.evaluate.rejection import measure_rejection
from nonet.evaluate.robustness import Robustness, read_robustness
from nonet.evaluate.tables import confusion_table, difference_table, per_class_table, table_1
from nonet.runs import Run


@dataclass(frozen=True)
class Measured:
    """The findings on a run, all on the same resampled patients.

    table, per_class, differences, confusion : as `nonet.evaluate.tables` makes them; the first and the third have the
        rows of calibration, too, where there are any.
    accuracy : share of all images whose best class is right, with its interval: (value, low, high).
    calibration, rejection : what was measured, or a sentence that says why nothing was.
    issues : None for a run of one class. robustness : None where it was not tested.
    """

    data: RunData
    table: pd.DataFrame
    per_class: pd.DataFrame
    differences: pd.DataFrame
    confusion: pd.DataFrame
    accuracy: tuple[float, float, float]
    calibration: MeasuredCalibration | str
    rejection: pd.DataFrame | str
    issues: Issues | None
    robustness: Robustness | None
    num_resamples: int
    confidence: float
    seed: int

    @cached_property
    def headline(self) -> pd.Series:
        """The ensemble's row of Table 1, with views where the run has them."""
        is_final = self.table["views"] == self.data.oof.final_view_set
        return self.table[(self.table["architecture"] == ENSEMBLE) & is_final].iloc[0]

    @cached_property
    def predicted(self) -> np.ndarray:
        """The ensemble's class number of each image, int (n,), with views where the run has them."""
        return self.data.oof.final_logits.argmax(axis=1)

    @property
    def percent(self) -> str:
        """The intervals' confidence, as in "95"."""
        return f"{100 * self.confidence:g}"

    @property
    def unit(self) -> str:
        """What the bootstrap drew, in words."""
        unknown = self.data.oof.num_unknown_patients
        if unknown == 0:
            return "patients"
        return "images" if unknown == len(self.data.oof.true) else "patients, and images whose patient is unknown"


def measure(run: Run, *, num_resamples: int = 2000, confidence: float = 0.95, seed: int = 0) -> Measured:
    """Read a run and measure all there is to measure; nothing is written.

    Raises
    ------
    RunError, as `read_run` and `align_oof` do.
    """
    data, options = read_run(run), {"num_resamples": num_resamples, "confidence": confidence, "seed": seed}
    oof = data.oof
    table = table_1(oof, names=data.titles, **options)
    differences = difference_table(oof, names=data.titles, **options)
    calibration = measure_calibration(oof, data.calibrate, data.trained_shares, **options)
    if isinstance(calibration, MeasuredCalibration):
        differences = pd.concat([differences, calibration.differences], ignore_index=True)
        table = pd.concat([table, calibration.row], ignore_index=True)
    confusions = oof.confusions(oof.final_view_set, ENSEMBLE)
    low, high = bootstrap_intervals(confusions, {"accuracy": _accuracy}, **options)["accuracy"]
    return Measured(
        data=data,
        table=table,
        per_class=per_class_table(oof, **options),
        differences=differences,
        confusion=confusion_table(confusions.total(), oof.classes),
        accuracy=(float(_accuracy(confusions.total())), float(low), float(high)),
        calibration=calibration,
        rejection=measure_rejection(oof, data.calibrate.false_alarm, **options),
        issues=find_issues(run, data) if len(oof.classes) > 1 else None,
        robustness=read_robustness(run),
        **options,
    )


def _accuracy(counts: np.ndarray) -> np.ndarray:
    return np.trace(counts, axis1=-2, axis2=-1) / counts.sum((-2, -1))
