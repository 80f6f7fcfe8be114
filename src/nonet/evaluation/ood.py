"""What share of known cells is rejected, on patients by whom neither threshold nor score was fitted.

Out-of-fold scores are standardised by the other patients of a fold (`MemberScore.score_held_out`), and the threshold is
that of the other folds.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from nonet.artifacts.csv_files import write_csv
from nonet.artifacts.ensemble_file import EnsembleFile
from nonet.calibration.nucleus_rule import NucleusRule
from nonet.calibration.ood import fit_rejection
from nonet.cells import in_order_of_maturation, name_of
from nonet.evaluation.bootstrap import DEFAULT_BOOTSTRAP, Bootstrap, confusions_by_group
from nonet.evaluation.not_measured import NotMeasured
from nonet.evaluation.oof import OutOfFold

ALL = "all"


def measure_rejection(
    oof: OutOfFold,
    rejected: np.ndarray | NotMeasured,
    without_nucleus: np.ndarray,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> pd.DataFrame | NotMeasured:
    """Return `rejection_table`, or a sentence that says why there is nothing to measure."""
    if not isinstance(rejected, NotMeasured):
        return rejection_table(oof, rejected, without_nucleus, bootstrap)
    if not without_nucleus.any():
        return rejected
    return NotMeasured(
        f"{rejected.reason} {without_nucleus.sum():,} of {len(oof.true):,} images show no nucleus and are unidentified."
    )


def write_rejection(folder: Path, measured: pd.DataFrame | NotMeasured) -> None:
    """Write rejection.csv into `folder`; where nothing was measured, remove an earlier one's."""
    if isinstance(measured, NotMeasured):
        (folder / "rejection.csv").unlink(missing_ok=True)
    else:
        write_csv(folder / "rejection.csv", measured)


def rejection_words(measured: pd.DataFrame | NotMeasured | None, false_alarm: float) -> dict | None:
    """Return what the report's section is filled with; None without a section."""
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
    """Return which images are rejected, bool (n,): each fold by the threshold that the other folds give.

    A sentence instead, where there is nothing to reject by.
    """
    if oof.ood_score is None:
        return NotMeasured("This run was made by a nonet that did not know of rejection.")
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
            return NotMeasured("Measured on no fold, as the others together are too few. " + " ".join(fitted.notes))
        rejected[rows] = fitted.rejects(fitted.percentile(oof.ood_score[rows]))
    return rejected


def without_nucleus_out_of_fold(oof: OutOfFold, ensemble: EnsembleFile) -> np.ndarray:
    """Return which images are unidentified as they show no nucleus, bool (n,), by the rule of ensemble.json."""
    if oof.nucleus is None:
        return np.zeros(len(oof.true), dtype=bool)
    return NucleusRule.from_ensemble(ensemble).rejects(oof.nucleus)


def rejection_table(
    oof: OutOfFold,
    rejected: np.ndarray,
    without_nucleus: np.ndarray | None = None,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> pd.DataFrame:
    """Return what share of held-out known cells is rejected, of all and of each class.

    Parameters
    ----------
    rejected : from `rejected_out_of_fold`.
    without_nucleus : from `without_nucleus_out_of_fold`; None: every image shows one.

    Returns
    -------
    A row for all images, then one a class in order of maturation. Columns: class, name, images, patients (groups of the
    bootstrap), rejected (images), without_nucleus (images of those), share, share_low, share_high. The share is NaN
    without an image, and its interval too where all images come from one patient.
    """
    without_nucleus = np.zeros(len(rejected), dtype=bool) if without_nucleus is None else without_nucleus
    rejected = rejected | without_nucleus
    size = max(len(oof.classes), 2)  # the counts are square, and kept or rejected are two columns
    counts = confusions_by_group(oof.true, rejected.astype(int), oof.group, size)
    total = _shares(counts.total())
    resampled = bootstrap.scores(counts, {"share": _shares})["share"]
    low, high = bootstrap.interval(resampled)
    rows = []
    for code in (ALL, *in_order_of_maturation(oof.classes)):
        k = size if code == ALL else oof.classes.index(code)
        of_class = np.ones(len(oof.true), dtype=bool) if code == ALL else oof.true == k
        num_groups = len(set(oof.group[of_class]))
        rows.append(
            {
                "class": code,
                "name": "all known cells" if code == ALL else name_of(code),
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


def _shares(counts: np.ndarray) -> np.ndarray:
    """Share rejected of each class and of all, (…, C + 1), of counts (…, C, C) by class and rejected (column 1)."""
    rejected, images = counts[..., 1], counts.sum(-1)
    rejected = np.concatenate([rejected, rejected.sum(-1, keepdims=True)], axis=-1).astype(float)
    images = np.concatenate([images, images.sum(-1, keepdims=True)], axis=-1)
    return np.divide(rejected, images, out=np.full(rejected.shape, np.nan), where=images > 0)
