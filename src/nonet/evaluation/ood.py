"""The share of known cells that is rejected, on patients that neither threshold nor score was fitted on.

Out-of-fold scores are standardised by the other patients of a fold (`MemberScore.score_held_out`), and the threshold is
that of the other folds.
"""

import numpy as np
import pandas as pd

from nonet.artifacts.ensemble_file import EnsembleFile
from nonet.calibration.nucleus_rule import NucleusRule
from nonet.calibration.ood import fit_rejection
from nonet.cells import class_name, in_order_of_maturation
from nonet.evaluation.bootstrap import DEFAULT_BOOTSTRAP, Bootstrap, confusions_by_group
from nonet.evaluation.not_measured import NotMeasured
from nonet.evaluation.oof import ALL_CLASSES, OutOfFold


def measure_rejection(
    oof: OutOfFold,
    rejected: np.ndarray | NotMeasured,
    without_nucleus: np.ndarray,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> pd.DataFrame | NotMeasured:
    """Measure the share of known cells that is rejected.

    Parameters
    ----------
    oof : OutOfFold
        The predictions.
    rejected : ndarray of bool, shape (num_images,), or NotMeasured
        From `rejected_out_of_fold`.
    without_nucleus : ndarray of bool, shape (num_images,)
        From `without_nucleus_out_of_fold`.
    bootstrap : Bootstrap
        For the intervals.

    Returns
    -------
    DataFrame or NotMeasured
        As `rejection_table` returns it.
    """
    if not isinstance(rejected, NotMeasured):
        return rejection_table(oof, rejected, without_nucleus, bootstrap)
    if not without_nucleus.any():
        return rejected
    return NotMeasured(
        f"{rejected.reason} {without_nucleus.sum():,} of {len(oof.true):,} images show no nucleus and are unidentified."
    )


def rejection_words(measured: pd.DataFrame | NotMeasured | None, false_alarm: float) -> dict | None:
    """Return the values of the report's section.

    Parameters
    ----------
    measured : DataFrame, NotMeasured or None
        From `measure_rejection`.
    false_alarm : float in [0, 1)
        The target share of known cells to reject.

    Returns
    -------
    dict or None
        None where `measured` is: the report then has no such section.
    """
    if measured is None:
        return None
    if isinstance(measured, NotMeasured):
        return {"missing": measured.reason}
    by_class = measured.iloc[1:]
    most = by_class[by_class["share"] > max(0.05, 2 * false_alarm)].nlargest(3, "share")
    return {
        "missing": None,
        "false_alarm": false_alarm,
        "overall": measured.iloc[0].to_dict(),
        "by_class": by_class.to_dict("records"),
        "most": most.to_dict("records"),
    }


def rejected_out_of_fold(oof: OutOfFold, false_alarm: float) -> np.ndarray | NotMeasured:
    """Return which images are rejected, each fold by the threshold fitted on the other folds.

    Parameters
    ----------
    oof : OutOfFold
        The predictions.
    false_alarm : float in [0, 1)
        The target share of known cells to reject.

    Returns
    -------
    ndarray of bool, shape (num_images,), or NotMeasured
        NotMeasured where no image has a score or the folds are too small for a threshold.
    """
    if oof.ood_score is None:
        return NotMeasured("No member of this run has scores to reject by (ood.npz).")
    if false_alarm == 0:
        return NotMeasured("calibrate.false_alarm is 0: nothing is rejected.")
    together = fit_rejection(oof.ood_score, oof.group, oof.fold, false_alarm=false_alarm)
    if not together.is_fitted:
        return NotMeasured(" ".join(together.notes))
    rejected = np.zeros(len(oof.true), dtype=bool)
    for fold in np.unique(oof.fold):
        rows = oof.fold == fold
        fitted = fit_rejection(oof.ood_score[~rows], oof.group[~rows], oof.fold[~rows], false_alarm=false_alarm)
        if not fitted.is_fitted:
            return NotMeasured.too_few(fitted.notes)
        rejected[rows] = fitted.rejects(fitted.percentile(oof.ood_score[rows]))
    return rejected


def without_nucleus_out_of_fold(oof: OutOfFold, ensemble: EnsembleFile) -> np.ndarray:
    """Return which images are unidentified because they show no nucleus, by the rule of ensemble.json.

    Parameters
    ----------
    oof : OutOfFold
        The predictions.
    ensemble : EnsembleFile
        The run's ensemble.json.

    Returns
    -------
    ndarray of bool, shape (num_images,)
        True where no nucleus is seen.
    """
    if oof.nucleus is None:
        return np.zeros(len(oof.true), dtype=bool)
    return NucleusRule.from_ensemble(ensemble).rejects(oof.nucleus)


def rejection_table(
    oof: OutOfFold,
    rejected: np.ndarray,
    without_nucleus: np.ndarray | None = None,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> pd.DataFrame:
    """Return the share of held-out known cells that is rejected, overall and per class.

    Parameters
    ----------
    oof : OutOfFold
        The predictions.
    rejected : ndarray of bool, shape (num_images,)
        From `rejected_out_of_fold`.
    without_nucleus : ndarray of bool, shape (num_images,), optional
        From `without_nucleus_out_of_fold`; by default every image shows a nucleus.
    bootstrap : Bootstrap
        For the intervals.

    Returns
    -------
    DataFrame
        A row for all images, then one per class in order of maturation. Columns: class, name, images, patients (groups
        of the bootstrap), rejected (images), without_nucleus (images), share, share_low, share_high. The share is NaN
        without an image, and its interval is NaN where all images come from one patient.
    """
    without_nucleus = np.zeros(len(rejected), dtype=bool) if without_nucleus is None else without_nucleus
    rejected = rejected | without_nucleus
    size = max(len(oof.classes), 2)  # the counts are square; accepted and rejected are two columns
    counts = confusions_by_group(oof.true, rejected.astype(int), oof.group, size)
    total = shares_rejected(counts.total())
    low, high = bootstrap.intervals(counts, {"share": shares_rejected})["share"]
    rows = []
    for code in (ALL_CLASSES, *in_order_of_maturation(oof.classes)):
        k = size if code == ALL_CLASSES else oof.classes.index(code)
        of_class = np.ones(len(oof.true), dtype=bool) if code == ALL_CLASSES else oof.true == k
        num_groups = len(set(oof.group[of_class]))
        rows.append(
            {
                "class": code,
                "name": "all known cells" if code == ALL_CLASSES else class_name(code),
                "images": int(of_class.sum()),
                "patients": num_groups,
                "rejected": int(rejected[of_class].sum()),
                "without_nucleus": int(without_nucleus[of_class].sum()),
                "share": total[k],
                "share_low": low[k] if num_groups > 1 else np.nan,
                "share_high": high[k] if num_groups > 1 else np.nan,
            }
        )
    return pd.DataFrame(rows)


def shares_rejected(counts: np.ndarray) -> np.ndarray:
    """Return the share rejected, (..., C + 1), of each class or type and overall.

    Parameters
    ----------
    counts : ndarray of float, shape (..., C, C)
        Column 1 has those rejected, column 0 the others.

    Returns
    -------
    ndarray of float64, shape (..., C + 1)
        NaN without images.
    """
    rejected, images = counts[..., 1].astype(float), counts.sum(-1).astype(float)
    rejected = np.concatenate([rejected, rejected.sum(-1, keepdims=True)], axis=-1)
    images = np.concatenate([images, images.sum(-1, keepdims=True)], axis=-1)
    return np.divide(rejected, images, out=np.full(rejected.shape, np.nan), where=images > 0)
