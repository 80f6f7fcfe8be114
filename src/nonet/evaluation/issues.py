"""The label issues of a run, out of fold, with what a reviewer needs beside them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import softmax
from scipy.stats import poisson

from nonet.artifacts.run import Run
from nonet.evaluation.bootstrap import confusions_by_group
from nonet.evaluation.calibration import CrossFitted, cross_fit
from nonet.evaluation.label_issues import find_label_issues, label_quality
from nonet.evaluation.neighbours import NUM_NEIGHBOURS, find_neighbours
from nonet.evaluation.not_measured import NotMeasured
from nonet.evaluation.run_data import RunData
from nonet.evaluation.tables import confusion_table

#: Left empty for a person to fill in; `build_dataset(decisions=…)` takes the file then.
DECISION_COLUMNS = ("decision", "label", "note")
#: A group stands out where chance would produce so many more issues than expected in fewer than one of twenty runs.
_CHANCE = 0.05


@dataclass(frozen=True)
class Issues:
    """The label issues of a run.

    Attributes
    ----------
    table : DataFrame
        One row per issue, worst first; columns as `nonet.issues` returns them.
    pairs : DataFrame
        Counts of issues; rows are the given, columns the suggested classes, in order of maturation.
    confusion : DataFrame
        Counts of all evaluated images; rows are the given classes, columns those that the ensemble predicts.
    by_source, by_patient : DataFrame
        As `count_by` returns them; images of unknown patients are left out.
    num_images : int
        Number of labels examined.
    compared_by : str or None
        The architecture whose features found the neighbours; None without features.
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
    """Find the label issues of a run.

    Parameters
    ----------
    run : Run
        The run, with its members' features.
    data : RunData
        What was read of it.
    fitted : CrossFitted or NotMeasured, optional
        As in `ensemble_proba`.
    filter_by, rank_by : str
        As in `nonet.find_label_issues`.

    Returns
    -------
    Issues
        The issues with neighbours, and their counts.

    Raises
    ------
    DataError
        If `filter_by` or `rank_by` is unknown.
    """
    oof = data.oof
    proba = ensemble_proba(data, fitted)
    indices = find_label_issues(oof.true, proba, filter_by=filter_by, rank_by=rank_by)
    suggested = proba.argmax(axis=1)
    table, compared_by = _table(run, data, proba, indices, suggested[indices])
    rows = data.manifest.set_index("image_id").loc[oof.image_id]
    is_issue = np.zeros(len(oof.true), dtype=bool)
    is_issue[indices] = True
    return Issues(
        table=table,
        pairs=_pairs(oof.true[indices], suggested[indices], oof.classes),
        confusion=confusion_table(
            confusions_by_group(oof.true, suggested, oof.group, len(oof.classes)).total(), oof.classes
        ),
        by_source=count_by(rows["source"].to_numpy(dtype=object), oof.true, is_issue),
        by_patient=count_by(oof.patient, oof.true, is_issue),
        num_images=len(oof.true),
        compared_by=compared_by,
    )


def ensemble_proba(data: RunData, fitted: CrossFitted | NotMeasured | None = None) -> np.ndarray:
    """Return the ensemble's out-of-fold probabilities over the final views.

    Parameters
    ----------
    data : RunData
        The run.
    fitted : CrossFitted or NotMeasured, optional
        The result of `cross_fit`, where it is known. It is used with prior correction: the correction must not come
        from the labels that are then examined.

    Returns
    -------
    ndarray of float64, shape (num_images, C)
        In the order of the images of `data.oof`.
    """
    oof = data.oof
    if fitted is None and data.calibrate.prior_strength != 0:
        fitted = cross_fit(oof.held_out, data.calibrate, data.trained_priors, oof.classes)
    if isinstance(fitted, CrossFitted) and fitted.moves_priors:
        return softmax(fitted.logits, axis=1)
    return softmax(data.calibration.scale(oof.final_logits), axis=1)


def _table(
    run: Run, data: RunData, proba: np.ndarray, indices: np.ndarray, suggested: np.ndarray
) -> tuple[pd.DataFrame, str | None]:
    oof = data.oof
    code, given = np.array(oof.classes, dtype=object), oof.true[indices]
    neighbours, compared_by = find_neighbours(run, oof, indices, np.stack([given, suggested], axis=1))
    rows = data.manifest.set_index("image_id").loc[oof.image_id[indices]]
    table = pd.DataFrame(
        {
            "rank": np.arange(1, len(indices) + 1),
            "image_id": oof.image_id[indices],
            "path": rows["path"].to_numpy(dtype=object),
            "source": rows["source"].to_numpy(dtype=object),
            "patient": oof.patient[indices],
            "given": code[given],
            "suggested": code[suggested],
            "self_confidence": proba[indices, given],
            "suggested_confidence": proba[indices, suggested],
            "normalized_margin": label_quality(oof.true, proba)[indices],
            **dict.fromkeys(DECISION_COLUMNS, ""),
        }
    )
    image_id = np.array([*oof.image_id, None], dtype=object)  # the last is -1: no neighbour
    for which, name in enumerate(("given", "suggested")):
        for place in range(NUM_NEIGHBOURS):
            table[f"{name}_neighbour_{place + 1}"] = image_id[neighbours[:, which, place]]
    return table, compared_by


def _pairs(given: np.ndarray, suggested: np.ndarray, classes: list[str]) -> pd.DataFrame:
    num = len(classes)
    counts = np.bincount(given * num + suggested, minlength=num * num).reshape(num, num)
    return confusion_table(counts, classes).rename_axis("given")


def count_by(group: np.ndarray, given: np.ndarray, is_issue: np.ndarray) -> pd.DataFrame:
    """Count issues by source or patient, and note which have more than their classes explain.

    Parameters
    ----------
    group : ndarray of object, shape (num_images,)
        The source or patient of each image; images with None are left out.
    given : ndarray of int, shape (num_images,)
        Class numbers of the given labels.
    is_issue : ndarray of bool, shape (num_images,)
        Whether the label is an issue.

    Returns
    -------
    DataFrame
        One row per group, the largest excess over the expected number first. Columns: name, images, issues, share,
        expected (the number if each class had as many issues as in the other groups; a class that no other group has
        counts as observed; NaN for a single group), and note, where chance (Poisson) would produce so many in fewer
        than 5 % of runs, over all groups.
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


def commonest(issues: Issues) -> list[dict]:
    """Return the commonest pairs of given and suggested class.

    Parameters
    ----------
    issues : Issues
        The issues.

    Returns
    -------
    list of dict
        Up to five, with keys given, suggested and count; the commonest pair first.
    """
    counts = issues.table.groupby(["given", "suggested"]).size().sort_values(ascending=False, kind="stable").head(5)
    return counts.rename("count").reset_index().to_dict("records")


def issues_text(issues: Issues) -> str:
    """Summarise the issues.

    Parameters
    ----------
    issues : Issues
        The issues.

    Returns
    -------
    str
        A few lines for the terminal.
    """
    num = len(issues.table)
    if not num:
        return f"None of the {issues.num_images:,} labels is an issue."
    pairs = ", ".join(f"{p['given']} that may be {p['suggested']} ({p['count']:,})" for p in commonest(issues))
    lines = [
        f"{num:,} of {issues.num_images:,} labels ({num / issues.num_images:.1%}) are issues: look at these first."
    ]
    lines.append(f"Commonest: {pairs}.")
    for what, table in (("source", issues.by_source), ("patient", issues.by_patient)):
        for row in table[table["note"] != ""].itertuples():
            lines.append(f"{what} {row.name}: {row.issues:,} issues, {row.expected:.1f} expected from its classes.")
    return "\n".join(lines)
