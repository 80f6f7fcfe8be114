"""Everything that an evaluation found, in one place for tables, figures, report and cards."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from nonet.artifacts.run import Run
from nonet.calibration.calibrator import Calibration
from nonet.calibration.fitting import HeldOut, fit_calibration
from nonet.calibration.nucleus_rule import fit_nucleus_rule
from nonet.calibration.ood import Rejection, fit_rejection
from nonet.evaluation.bootstrap import DEFAULT_BOOTSTRAP, Bootstrap, confusions_by_group
from nonet.evaluation.calibration import CALIBRATED, MeasuredCalibration, measure_calibration
from nonet.evaluation.issues import Issues, find_issues
from nonet.evaluation.majority_baseline import Floor, measure_floor
from nonet.evaluation.mistakes import Expanded, measure_expanded, mistakes_table
from nonet.evaluation.not_measured import NotMeasured
from nonet.evaluation.ood import measure_rejection, rejected_out_of_fold, without_nucleus_out_of_fold
from nonet.evaluation.oof import ENSEMBLE, OutOfFold
from nonet.evaluation.robustness import Robustness, read_robustness
from nonet.evaluation.run_data import RunData, read_run
from nonet.evaluation.tables import confusion_table, difference_table, per_class_table, table_1


@dataclass(frozen=True)
class Results:
    """The findings on a run, all on the same resampled patients, and of what `predict` would say of each image.

    Where class priors are moved, that is by what the other folds teach, and so are headline, per_class, confusion,
    accuracy and predicted; table and differences have the ensemble as trained, too.

    table, per_class, differences, confusion : as `nonet.evaluation.tables` makes them; the first and the third have the
        rows of calibration, too, where there are any.
    mistakes : as `mistakes_table` makes it, of the scored images. expanded : None where no external image was held out.
    accuracy : share of all images whose best class is right, with its interval: (value, low, high).
    calibration, rejection : what was measured, or a sentence that says why nothing was.
    floor : what always naming one class would reach.
    issues : None for a run of one class, or where nothing was learned. robustness : None where it was not tested.
    """

    data: RunData
    table: pd.DataFrame
    per_class: pd.DataFrame
    differences: pd.DataFrame
    confusion: pd.DataFrame
    mistakes: pd.DataFrame
    expanded: Expanded | None
    accuracy: tuple[float, float, float]
    calibration: MeasuredCalibration | NotMeasured
    rejection: pd.DataFrame | NotMeasured
    floor: Floor
    issues: Issues | None
    robustness: Robustness | None
    bootstrap: Bootstrap

    @property
    def moves_priors(self) -> bool:
        """Whether the scores are of the ensemble with class priors moved."""
        return isinstance(self.calibration, MeasuredCalibration) and self.calibration.fitted.moves_priors

    @cached_property
    def headline(self) -> pd.Series:
        """The ensemble's row of Table 1, with views where the run has them."""
        is_final = self.table["views"] == self.data.oof.final_view_set
        architecture = CALIBRATED if self.moves_priors else ENSEMBLE
        return self.table[(self.table["architecture"] == architecture) & is_final].iloc[0]

    @cached_property
    def predicted(self) -> np.ndarray:
        """The ensemble's class number of each image, int (n,), with views where the run has them."""
        return best_classes(self.data.oof, self.calibration)

    @cached_property
    def is_stale(self) -> bool:
        """Whether ensemble.json is calibrated otherwise than its weights and settings ask for, or not at all.

        Then `predict` decides by another calibration than the one that is measured here across folds.
        """
        oof, asked = self.data.oof, self.data.calibrate
        kept, rejection = Calibration.from_ensemble(self.data.ensemble), Rejection.from_ensemble(self.data.ensemble)
        asks_for_nucleus = self.data.ensemble.nucleus.required
        held_out = HeldOut(oof.final_logits, oof.true, oof.group, oof.fold)
        fitted = fit_calibration(held_out, asked, self.data.trained_priors, oof.classes)
        ood_score = np.full(len(oof.true), np.nan) if oof.ood_score is None else oof.ood_score
        refitted = fit_rejection(ood_score, oof.group, oof.fold, false_alarm=asked.false_alarm)
        pairs = [(fitted.temperature, kept.temperature), (fitted.bias, kept.bias), (fitted.thresholds, kept.thresholds)]
        pairs += [(fitted.min_confidence, kept.min_confidence), (refitted.quantiles, rejection.quantiles)]
        if refitted.is_fitted:
            pairs.append((refitted.false_alarm, rejection.false_alarm))
        nucleus = fit_nucleus_rule(oof.nucleus, required=asked.require_nucleus)
        pairs.append((float(nucleus.required), float(asks_for_nucleus)))
        return not all(_alike(*pair) for pair in pairs)

    @property
    def percent(self) -> str:
        """The intervals' confidence, as in "95"."""
        return f"{100 * self.bootstrap.confidence:g}"

    @property
    def group(self) -> str:
        """What the bootstrap drew, in words."""
        unknown = self.data.oof.num_unknown_patients
        if unknown == 0:
            return "patients"
        return "images" if unknown == len(self.data.oof.true) else "patients, and images whose patient is unknown"


def measure(run: Run, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP) -> Results:
    """Read a run and measure all there is to measure; nothing is written.

    Raises
    ------
    RunError, as `read_run` and `align_oof` do.
    """
    data = read_run(run)
    oof = data.oof
    table = table_1(oof, names=data.titles, bootstrap=bootstrap)
    differences = difference_table(oof, names=data.titles, bootstrap=bootstrap)
    rejected = rejected_out_of_fold(oof, data.calibrate.false_alarm)
    without_nucleus = without_nucleus_out_of_fold(oof, data.ensemble)
    unidentified = without_nucleus if isinstance(rejected, NotMeasured) else rejected | without_nucleus
    calibration = measure_calibration(
        oof, data.calibrate, data.trained_priors, rejected=unidentified, bootstrap=bootstrap
    )
    if isinstance(calibration, MeasuredCalibration):
        differences = pd.concat([differences, calibration.differences], ignore_index=True)
        table = pd.concat([table, calibration.row], ignore_index=True)
    predicted = best_classes(oof, calibration)
    confusions = confusions_by_group(oof.true, predicted, oof.group, len(oof.classes))
    fitted = calibration.fitted if isinstance(calibration, MeasuredCalibration) else calibration
    low, high = bootstrap.intervals(confusions, {"accuracy": _accuracy})["accuracy"]
    floor = measure_floor(confusions, oof.classes, bootstrap)
    has_issues = len(oof.classes) > 1 and not floor.nothing_learned
    return Results(
        data=data,
        table=table,
        per_class=per_class_table(oof, predicted=predicted, bootstrap=bootstrap),
        differences=differences,
        confusion=confusion_table(confusions.total(), oof.classes),
        mistakes=mistakes_table(oof, names=data.titles, predicted=predicted),
        expanded=measure_expanded(data.expanded, oof, names=data.titles, temperature=data.temperature),
        accuracy=(float(_accuracy(confusions.total())), float(low), float(high)),
        calibration=calibration,
        rejection=measure_rejection(oof, rejected, without_nucleus, bootstrap),
        floor=floor,
        issues=find_issues(run, data, fitted=fitted) if has_issues else None,
        robustness=read_robustness(run),
        bootstrap=bootstrap,
    )


def best_classes(oof: OutOfFold, calibration: MeasuredCalibration | NotMeasured) -> np.ndarray:
    """Return the class number that `predict` calls the best of each image, int (n,), each fold's as others teach."""
    if isinstance(calibration, MeasuredCalibration) and calibration.fitted.moves_priors:
        return calibration.fitted.logits.argmax(axis=1)
    return oof.final_logits.argmax(axis=1)


def _alike(one: np.ndarray | float | None, other: np.ndarray | float | None) -> bool:
    if one is None or other is None:
        return one is other
    return bool(np.allclose(one, other, rtol=1e-3, atol=1e-6))


def _accuracy(counts: np.ndarray) -> np.ndarray:
    return np.trace(counts, axis1=-2, axis2=-1) / counts.sum((-2, -1))
