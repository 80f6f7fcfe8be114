"""How many unknown cells are found, by type, among those that no network's rejection has learned from."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from nonet.artifacts.ensemble_file import EnsembleFile
from nonet.artifacts.integrity import read_checked_parquet, require_whole
from nonet.artifacts.run import Run, repair_hint
from nonet.calibration.ood import fit_rejection
from nonet.data.folds import patient_or_image
from nonet.data.sources.base import EXTRA_LABELS
from nonet.data.unknown_types import type_numbers
from nonet.evaluation.bootstrap import DEFAULT_BOOTSTRAP, Bootstrap, confusions_by_group
from nonet.evaluation.ood import shares_rejected
from nonet.evaluation.oof import OutOfFold

ALL_TYPES = "all"


def read_unknown(run: Run, ensemble: EnsembleFile, done: Mapping[tuple[str, int], Mapping]) -> pd.DataFrame | None:
    """Return the unknown cells that members with non-zero weight hold out, with the ensemble's score of each.

    Parameters
    ----------
    run : Run
    ensemble : EnsembleFile
        Of the run.
    done : mapping of (architecture, fold) to mapping
        Contents of the members' DONE, which says whether they hold out unknown cells.

    Returns
    -------
    DataFrame or None
        Columns image_id, unknown_type, patient, source, fold and ood_score, the weighted mean over the members of the
        image's fold; None if there is no such cell.

    Raises
    ------
    DamagedError
        If a file is missing or damaged.
    """
    tables = []
    for entry in ensemble.members:
        file = run.member(entry.architecture, entry.fold).unknown
        files = done.get((entry.architecture, entry.fold), {}).get("files", {})
        if entry.weight > 0 and file.name in files:
            require_whole(file, files[file.name], hint=repair_hint(run))
            table = read_checked_parquet(file)
            tables.append(table.assign(weight=entry.weight, weighted=entry.weight * table["ood_score"]))
    if not tables:
        return None
    every = pd.concat(tables, ignore_index=True)
    sums = every.groupby("image_id")[["weight", "weighted"]].sum()
    first = every.drop_duplicates("image_id").drop(columns=["architecture", "ood_score", "weight", "weighted"])
    return first.assign(ood_score=(sums["weighted"] / sums["weight"]).loc[first["image_id"]].to_numpy())


def measure_unknown(
    unknown: pd.DataFrame | None, oof: OutOfFold, false_alarm: float, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP
) -> pd.DataFrame | None:
    """Measure how many unknown cells are rejected, each by the threshold from known cells of the other folds.

    Parameters
    ----------
    unknown : DataFrame or None
        From `read_unknown`.
    oof : OutOfFold
        The predictions for known cells.
    false_alarm : float in [0, 1)
        The target share of known cells to reject.
    bootstrap : Bootstrap
        For the intervals.

    Returns
    -------
    DataFrame or None
        A row for all unknown cells, then one per type. Columns: type, name, images, patients (groups of the bootstrap),
        rejected (images), share, share_low, share_high, and auroc against all known cells held out. The interval is NaN
        where all images come from one patient. None without unknown cells, or where nothing is rejected.
    """
    if unknown is None or oof.ood_score is None or false_alarm == 0 or not np.isfinite(oof.ood_score).all():
        return None
    if not np.isfinite(unknown["ood_score"]).all():  # of a network that diverged
        return None
    rejected = np.zeros(len(unknown), dtype=bool)
    score, fold = unknown["ood_score"].to_numpy(dtype=np.float64), unknown["fold"].to_numpy(dtype=np.int64)
    for k in np.unique(fold):
        others = oof.fold != k
        fitted = fit_rejection(oof.ood_score[others], oof.group[others], oof.fold[others], false_alarm=false_alarm)
        if not fitted.is_fitted:
            return None
        rejected[fold == k] = fitted.rejects(fitted.percentile(score[fold == k]))
    names, number = type_numbers(unknown["unknown_type"])
    group = patient_or_image(unknown).to_numpy(dtype=str)
    counts = confusions_by_group(number, rejected.astype(int), group, size := max(len(names), 2))
    low, high = bootstrap.intervals(counts, {"share": shares_rejected})["share"]
    rows = []
    for name, k in [(ALL_TYPES, size), *((name, k) for k, name in enumerate(names))]:
        own = np.ones(len(unknown), dtype=bool) if name == ALL_TYPES else number == k
        several = len(set(group[own])) > 1
        rows.append(
            {
                "type": name,
                "name": "all unknown cells" if name == ALL_TYPES else EXTRA_LABELS.get(name, name),
                "images": int(own.sum()),
                "patients": len(set(group[own])),
                "rejected": int(rejected[own].sum()),
                "share": float(rejected[own].mean()),
                "share_low": low[k] if several else np.nan,
                "share_high": high[k] if several else np.nan,
                "auroc": _auroc(oof.ood_score, score[own]),
            }
        )
    return pd.DataFrame(rows)


def _auroc(known: np.ndarray, unknown: Iterable[float]) -> float:
    unknown = np.asarray(list(unknown))
    return float(roc_auc_score(np.repeat([0, 1], [len(known), len(unknown)]), np.concatenate([known, unknown])))
