"""Which labels of a run to look at first, out of fold, with what a reviewer wants beside them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import softmax
from scipy.stats import poisson

from nonet.artifacts.run import Run
from nonet.calibration.fitting import HeldOut
from nonet.evaluation.bootstrap import confusions_by_group
from nonet.evaluation.calibration import CrossFitted, cross_fit
from nonet.evaluation.label_issues import find_label_issues, label_quality
from nonet.evaluation.neighbours import NUM_NEIGHBOURS, find_neighbours
from nonet.evaluation.not_measured import NotMeasured
from nonet.evaluation.run_data import RunData
from nonet.evaluation.tables import confusion_table

#: A group stands out where so many issues beyond those expected would come by chance in fewer than one of twenty runs.
_CHANCE = 0.05


@dataclass(frozen=True)
class Issues:
    """The label issues of a run.

    table : one row an issue, worst first; see `issues`.
    pairs : counts of issues, rows the given, columns the suggested class, in order of maturation.
    confusion : counts of all evaluated images, rows the given, columns the class that the ensemble predicts.
    by_source, by_patient : see `count_by`; patients that are unknown are left out.
    num_images : how many labels were judged.
    compared_by : the architecture whose features found the neighbours; None without.
    """

    table: pd.DataFrame
    pairs: pd.DataFrame
    confusion: pd.DataFrame
    by_source: pd.DataFrame
    by_patient: pd.DataFrame
    num_images: int
    compared_by: str | None


def find_issues(
    run: Run,
    data: RunData,
    *,
    fitted: CrossFitted | NotMeasured | None = None,
    filter_by: str = "prune_by_noise_rate",
    rank_by: str = "normalized_margin",
) -> Issues:
    """Return what `issues` writes; `fitted` as in `ensemble_proba`."""
    oof = data.oof
    proba = ensemble_proba(data, fitted)
    found = find_label_issues(oof.true, proba, filter_by=filter_by, rank_by=rank_by)
    suggested = proba.argmax(axis=1)
    table, compared_by = _table(run, data, proba, found, suggested[found])
    rows = data.manifest.set_index("image_id").loc[oof.image_id]
    is_issue = np.zeros(len(oof.true), dtype=bool)
    is_issue[found] = True
    return Issues(
        table=table,
        pairs=_pairs(oof.true[found], suggested[found], oof.classes),
        confusion=confusion_table(
            confusions_by_group(oof.true, suggested, oof.group, len(oof.classes)).total(), oof.classes
        ),
        by_source=count_by(rows["source"].to_numpy(dtype=object), oof.true, is_issue),
        by_patient=count_by(oof.patient, oof.true, is_issue),
        num_images=len(oof.true),
        compared_by=compared_by,
    )


def ensemble_proba(data: RunData, fitted: CrossFitted | NotMeasured | None = None) -> np.ndarray:
    """Return the ensemble's out-of-fold probabilities over the final views, float64 (n, C), in the order of the OOF.

    Parameters
    ----------
    fitted : what `cross_fit` makes of the run, where that is known. It is used where class priors are moved: their
        shift must not come from the labels that it then doubts.
    """
    oof = data.oof
    if fitted is None and data.calibrate.prior_strength != 0:
        held_out = HeldOut(oof.final_logits, oof.true, oof.group, oof.fold)
        fitted = cross_fit(held_out, data.calibrate, data.trained_priors, oof.classes)
    if isinstance(fitted, CrossFitted) and fitted.moves_priors:
        return softmax(fitted.logits, axis=1)
    return softmax(oof.final_logits / data.temperature, axis=1)


def _table(run: Run, data: RunData, proba: np.ndarray, found: np.ndarray, suggested: np.ndarray):
    oof = data.oof
    code, given = np.array(oof.classes, dtype=object), oof.true[found]
    neighbours, compared_by = find_neighbours(run, oof, found, np.stack([given, suggested], axis=1))
    rows = data.manifest.set_index("image_id").loc[oof.image_id[found]]
    table = pd.DataFrame(
        {
            "rank": np.arange(1, len(found) + 1),
            "image_id": oof.image_id[found],
            "path": rows["path"].to_numpy(dtype=object),
            "source": rows["source"].to_numpy(dtype=object),
            "patient": oof.patient[found],
            "given": code[given],
            "suggested": code[suggested],
            "self_confidence": proba[found, given],
            "suggested_confidence": proba[found, suggested],
            "normalized_margin": label_quality(oof.true, proba)[found],
        }
    )
    image_id = np.append(oof.image_id, None)  # -1, no neighbour, is the last
    for which, name in enumerate(("given", "suggested")):
        for place in range(NUM_NEIGHBOURS):
            table[f"{name}_neighbour_{place + 1}"] = image_id[neighbours[:, which, place]]
    return table, compared_by


def _pairs(given: np.ndarray, suggested: np.ndarray, classes: list[str]) -> pd.DataFrame:
    num = len(classes)
    counts = np.bincount(given * num + suggested, minlength=num * num).reshape(num, num)
    return confusion_table(counts, classes).rename_axis("given")


def count_by(group: np.ndarray, given: np.ndarray, is_issue: np.ndarray) -> pd.DataFrame:
    """Count issues by source or patient, and say which have more than their classes explain.

    Parameters
    ----------
    group : object (n,), the source or patient of each image, None where unknown: such images are left out.
    given : int (n,), class numbers. is_issue : bool (n,).

    Returns
    -------
    One row a group, the largest excess over what is expected first. Columns: name, images, issues, share, expected (how
    many there would be, were each class as doubtful as in the other groups; a class that they lack counts as it is; NaN
    of a lone group), and note: where so many more would come by chance (Poisson) in under 5 % of runs, over all groups.
    """
    known = np.array([name is not None for name in group], dtype=bool)
    names, number = np.unique(group[known].astype(str), return_inverse=True)
    num_classes = int(given.max()) + 1
    cell = number * num_classes + given[known]
    shape = (len(names), num_classes)
    images = np.bincount(cell, minlength=np.prod(shape)).reshape(shape)
    wrong = np.bincount(cell, weights=is_issue[known], minlength=np.prod(shape)).reshape(shape)
    elsewhere, wrong_elsewhere = images.sum(axis=0) - images, wrong.sum(axis=0) - wrong
    rate = np.divide(wrong_elsewhere, elsewhere, out=np.zeros(shape), where=elsewhere > 0)
    expected = np.where(elsewhere > 0, images * rate, wrong).sum(axis=1)
    if len(names) < 2:
        expected[:] = np.nan
    count = wrong.sum(axis=1)
    stands_out = (poisson.sf(count - 1, np.maximum(expected, 1e-9)) < _CHANCE / max(len(names), 1)) & (count > 0)
    table = pd.DataFrame(
        {
            "name": names,
            "images": images.sum(axis=1),
            "issues": count.astype(np.int64),
            "share": count / images.sum(axis=1),
            "expected": expected,
            "note": np.where(stands_out, "more than its classes explain", ""),
        }
    )
    excess = np.lexsort((np.arange(len(names)), -(count - expected)))
    return table.iloc[excess].reset_index(drop=True)


def commonest(found: Issues, num: int = 5) -> list[dict]:
    """Return the commonest pairs of given and suggested class among the issues: given, suggested, count."""
    counts = found.table.groupby(["given", "suggested"]).size().sort_values(ascending=False, kind="stable").head(num)
    return [{"given": given, "suggested": suggested, "count": int(n)} for (given, suggested), n in counts.items()]


def in_words(found: Issues) -> str:
    """Say in a few sentences what was found."""
    num = len(found.table)
    if not num:
        return f"No label of {found.num_images:,} is an issue."
    pairs = ", ".join(f"{p['given']} that may be {p['suggested']} ({p['count']:,})" for p in commonest(found))
    lines = [f"{num:,} of {found.num_images:,} labels ({num / found.num_images:.1%}) are issues: look at these first."]
    lines.append(f"Commonest: {pairs}.")
    for what, table in (("source", found.by_source), ("patient", found.by_patient)):
        for row in table[table["note"] != ""].itertuples():
            lines.append(f"{what} {row.name}: {row.issues:,} issues, {row.expected:.1f} expected of its classes.")
    return "\n".join(lines)
