"""All results of an evaluation, in one place for tables, figures, report and cards."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from nonet.artifacts.run import Run
from nonet.calibration.calibrator import Calibration
from nonet.calibration.fitting import fit_calibration
from nonet.calibration.nucleus_rule import fit_nucleus_rule
from nonet.calibration.ood import Rejection, fit_rejection
from nonet.evaluation.bootstrap import DEFAULT_BOOTSTRAP, Bootstrap, confusions_by_group
from nonet.evaluation.calibration import CALIBRATED, MeasuredCalibration, measure_calibration
from nonet.evaluation.issues import Issues, find_issues
from nonet.evaluation.majority_baseline import MajorityBaseline, measure_majority_baseline
from nonet.evaluation.metrics import accuracy_score
from nonet.evaluation.mistakes import Expanded, measure_expanded, mistakes_table
from nonet.evaluation.not_measured import NotMeasured
from nonet.evaluation.ood import measure_rejection, rejected_out_of_fold, without_nucleus_out_of_fold
from nonet.evaluation.oof import ENSEMBLE, OutOfFold
from nonet.evaluation.robustness import Robustness, read_robustness
from nonet.evaluation.run_data import RunData, read_run
from nonet.evaluation.stage_errors import measure_stage_errors
from nonet.evaluation.tables import confusion_table, difference_table, per_class_table, table_1
from nonet.evaluation.unknown import measure_unknown, read_unknown


@dataclass(frozen=True)
class Results:
    """The results of a run: of what `predict` would return for each image, all on the same resampled patients.

    With prior correction, each fold's priors come from the other folds, and headline, per_class, confusion,
    stage_errors, accuracy and predicted include it; table and differences have the ensemble as trained as well.

    Attributes
    ----------
    data : RunData
        What was read of the run.
    table, per_class, differences, confusion : DataFrame
        As `nonet.evaluation.tables` makes them; table and differences include the rows of calibration, if any.
    mistakes : DataFrame
        As `mistakes_table` makes it, of the scored images.
    stage_errors : DataFrame or NotMeasured
        As `measure_stage_errors` returns it.
    expanded : Expanded or None
        None where no external image was held out.
    accuracy : tuple of float
        Share of all images whose most probable class is right: value, low, high.
    calibration : MeasuredCalibration or NotMeasured
        As `measure_calibration` returns it.
    rejection : DataFrame or NotMeasured
        As `measure_rejection` returns it.
    unknown : DataFrame or None
        As `measure_unknown` returns it.
    baseline : MajorityBaseline
        The majority baseline.
    issues : Issues or None
        None for a run with one class, or where nothing was learned.
    robustness : Robustness or None
        None where robustness was not tested.
    bootstrap : Bootstrap
        The resamples that all intervals come from.
    """

    data: RunData
    table: pd.DataFrame
    per_class: pd.DataFrame
    differences: pd.DataFrame
    confusion: pd.DataFrame
    mistakes: pd.DataFrame
    stage_errors: pd.DataFrame | NotMeasured
    expanded: Expanded | None
    accuracy: tuple[float, float, float]
    calibration: MeasuredCalibration | NotMeasured
    rejection: pd.DataFrame | NotMeasured
    unknown: pd.DataFrame | None
    baseline: MajorityBaseline
    issues: Issues | None
    robustness: Robustness | None
    bootstrap: Bootstrap

    @property
    def moves_priors(self) -> bool:
        """Whether the scores are those of the ensemble with prior correction."""
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
        """Whether ensemble.json is not calibrated as its weights and settings imply.

        `predict` then uses another calibration than the one measured here across folds.
        """
        oof, settings = self.data.oof, self.data.calibrate
        stored, rejection = Calibration.from_ensemble(self.data.ensemble), Rejection.from_ensemble(self.data.ensemble)
        requires_nucleus = self.data.ensemble.nucleus.required
        ood_score = np.full(len(oof.true), np.nan) if oof.ood_score is None else oof.ood_score
        refitted = fit_rejection(ood_score, oof.group, oof.fold, false_alarm=settings.false_alarm)
        nucleus = fit_nucleus_rule(oof.nucleus, required=settings.require_nucleus)
        rejected = refitted.rejects(refitted.percentile(ood_score))
        if oof.nucleus is not None:
            rejected |= nucleus.rejects(oof.nucleus)
        held_out = replace(oof.held_out, rejected=rejected)
        fitted = fit_calibration(held_out, settings, self.data.trained_priors, oof.classes)
        names = ("temperature", "entropy_slope", "bias", "thresholds", "min_confidence")
        pairs = [(getattr(fitted, name), getattr(stored, name)) for name in names]
        pairs.append((refitted.quantiles, rejection.quantiles))
        if refitted.is_fitted:
            pairs.append((refitted.false_alarm, rejection.false_alarm))
        pairs.append((float(nucleus.required), float(requires_nucleus)))
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
    """Read a run and evaluate it; nothing is written.

    Parameters
    ----------
    run : Run
        The run folder.
    bootstrap : Bootstrap
        For all intervals.

    Returns
    -------
    Results
        Tables, calibration, rejection, label issues and the rest.

    Raises
    ------
    RunError
        As `read_run` and `align_oof` do.
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
    low, high = bootstrap.intervals(confusions, {"accuracy": accuracy_score})["accuracy"]
    baseline = measure_majority_baseline(confusions, oof.classes, bootstrap)
    has_issues = len(oof.classes) > 1 and not baseline.nothing_learned
    return Results(
        data=data,
        table=table,
        per_class=per_class_table(oof, predicted=predicted, bootstrap=bootstrap),
        differences=differences,
        confusion=confusion_table(confusions.total(), oof.classes),
        mistakes=mistakes_table(oof, names=data.titles, predicted=predicted),
        stage_errors=measure_stage_errors(oof, predicted, bootstrap),
        expanded=measure_expanded(data.expanded, oof, names=data.titles, calibration=data.calibration),
        accuracy=(float(accuracy_score(confusions.total())), float(low), float(high)),
        calibration=calibration,
        rejection=measure_rejection(oof, rejected, without_nucleus, bootstrap),
        unknown=measure_unknown(
            read_unknown(run, data.ensemble, data.done), oof, data.calibrate.false_alarm, bootstrap
        ),
        baseline=baseline,
        issues=find_issues(run, data, fitted=fitted) if has_issues else None,
        robustness=read_robustness(run),
        bootstrap=bootstrap,
    )


def best_classes(oof: OutOfFold, calibration: MeasuredCalibration | NotMeasured) -> np.ndarray:
    """Return the most probable class of each image, as `predict` would.

    Parameters
    ----------
    oof : OutOfFold
        The predictions.
    calibration : MeasuredCalibration or NotMeasured
        With prior correction, each fold's priors come from the other folds.

    Returns
    -------
    ndarray of int, shape (num_images,)
        Class numbers.
    """
    if isinstance(calibration, MeasuredCalibration) and calibration.fitted.moves_priors:
        return calibration.fitted.logits.argmax(axis=1)
    return oof.final_logits.argmax(axis=1)


def _alike(one: np.ndarray | float | None, other: np.ndarray | float | None) -> bool:
    if one is None or other is None:
        return one is other
    return bool(np.allclose(one, other, rtol=1e-3, atol=1e-6))
