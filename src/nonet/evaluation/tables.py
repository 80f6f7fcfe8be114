"""The tables of a run's evaluation: the paper's Table 1, the classes one by one, and paired differences."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from nonet.cells import class_name, in_order_of_maturation
from nonet.evaluation.bootstrap import DEFAULT_BOOTSTRAP, Bootstrap, confusions_by_group
from nonet.evaluation.metrics import SCORES, per_class_scores
from nonet.evaluation.oof import ENSEMBLE, OutOfFold
from nonet.page.numbers import number
from nonet.settings import NO_VIEWS

#: The headings of the scores.
HEADINGS = {
    "macro_f1": "macro-F1",
    "balanced_accuracy": "balanced accuracy",
    "macro_precision": "macro precision",
    "macro_specificity": "macro specificity",
}

#: A class from fewer patients than this gets a note: its interval says too little about the next patient.
FEW_PATIENTS = 3


def table_1(
    oof: OutOfFold, *, names: Mapping[str, str] | None = None, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP
) -> pd.DataFrame:
    """Score each architecture and the ensemble, without and with views.

    Parameters
    ----------
    oof : OutOfFold
        The predictions.
    names : mapping of str to str, optional
        Display names of the architectures, such as {"swinv2_tiny": "SwinV2-Tiny"}.
    bootstrap : Bootstrap
        Over patients, or over images where patients are unknown.

    Returns
    -------
    DataFrame
        One row for each view set and architecture, the ensemble last in each view set. Columns: name, architecture,
        views, then each score of `SCORES` with `_low` and `_high`, all from 0 to 1; then images, patients (known ones)
        and groups (what the bootstrap drew). An architecture with a dead member has fewer images: those of its other
        members.

    Notes
    -----
    Each architecture's row joins the members of all folds: an image is scored by the one that never saw it. The
    fourth score is the specificity; the paper heads that column sensitivity.
    """
    views, keys = zip(*oof.rows())
    table = pd.DataFrame({"name": [row_name(oof, key, names) for key in keys], "architecture": keys, "views": views})
    return with_scores(table, oof, oof.predicted, bootstrap)


def with_scores(table: pd.DataFrame, oof: OutOfFold, predicted: np.ndarray, bootstrap: Bootstrap) -> pd.DataFrame:
    """Add scores to rows of Table 1.

    Parameters
    ----------
    table : DataFrame
        The rows.
    oof : OutOfFold
        The labels, and the groups to resample.
    predicted : ndarray of int, shape (num_rows, num_images)
        The class numbers that each row predicts; -1 for none.
    bootstrap : Bootstrap
        For the intervals.

    Returns
    -------
    DataFrame
        A copy with the scores, their intervals and counts, as in `table_1`.
    """
    confusions = confusions_by_group(oof.true, predicted, oof.group, len(oof.classes))
    table = table.copy()
    for score, (low, high) in bootstrap.intervals(confusions, SCORES).items():
        table[score], table[f"{score}_low"], table[f"{score}_high"] = SCORES[score](confusions.total()), low, high
    return table.assign(**count_judged(predicted, oof.patient, oof.group))


def count_judged(predicted: np.ndarray, patient: np.ndarray, group: np.ndarray) -> dict[str, list[int]]:
    """Count the images, known patients and groups of each row of predictions.

    Parameters
    ----------
    predicted : ndarray of int, shape (num_rows, num_images)
        Class numbers; -1 for an image without a prediction.
    patient, group : ndarray, shape (num_images,)
        As in `OutOfFold`.

    Returns
    -------
    dict of str to list of int
        `images`, `patients` and `groups`, one number per row.
    """
    judged = predicted >= 0
    return {
        "images": [int(row.sum()) for row in judged],
        "patients": [len({name for name in patient[row] if name is not None}) for row in judged],
        "groups": [len(set(group[row])) for row in judged],
    }


def per_class_table(
    oof: OutOfFold,
    *,
    architecture: str = ENSEMBLE,
    view_set: str | None = None,
    predicted: np.ndarray | None = None,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> pd.DataFrame:
    """Score each class of one row of Table 1, by default the ensemble's with views; or of other predictions.

    Parameters
    ----------
    oof : OutOfFold
        The predictions.
    architecture, view_set : str, optional
        The row of Table 1; by default the ensemble with the final views.
    predicted : ndarray of int, shape (num_images,), optional
        Class numbers to score instead of that row's.
    bootstrap : Bootstrap
        Over patients, or over images where patients are unknown.

    Returns
    -------
    DataFrame
        One row per class, in order of maturation. Columns: code, name, images, patients (missing where some patients of
        the class are unknown), groups (as in Table 1: patients, and images of unknown patients), precision, recall, f1,
        f1_low, f1_high, specificity, and note. Recall and F1 are NaN without an image, and the interval is NaN where
        all images come from one patient.
    """
    confusions = oof.confusions(view_set or oof.final_view_set, architecture)
    if predicted is not None:
        confusions = confusions_by_group(oof.true, predicted, oof.group, len(oof.classes))
    scores = per_class_scores(confusions.total())
    low, high = bootstrap.intervals(confusions, {"f1": _f1_of_classes_present})["f1"]
    rows = []
    for code in in_order_of_maturation(oof.classes):
        number = oof.classes.index(code)
        of_class = oof.true == number
        num_groups = len(set(oof.group[of_class]))
        patients_known = all(patient is not None for patient in oof.patient[of_class])
        has_images, has_interval = bool(of_class.any()), num_groups > 1
        rows.append(
            {
                "code": code,
                "name": class_name(code),
                "images": int(of_class.sum()),
                "patients": num_groups if patients_known else pd.NA,
                "groups": num_groups,
                "precision": scores["precision"][number] if has_images else np.nan,
                "recall": scores["recall"][number] if has_images else np.nan,
                "f1": scores["f1"][number] if has_images else np.nan,
                "f1_low": low[number] if has_interval else np.nan,
                "f1_high": high[number] if has_interval else np.nan,
                "specificity": scores["specificity"][number],
                "note": _note(int(of_class.sum()), num_groups, patients_known),
            }
        )
    return pd.DataFrame(rows).astype({"patients": "Int64"})


def difference_table(
    oof: OutOfFold, *, names: Mapping[str, str] | None = None, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP
) -> pd.DataFrame:
    """Return what the ensemble and the views gain in macro-F1, paired on the same resamples.

    Parameters
    ----------
    oof : OutOfFold
        The predictions.
    names : mapping of str to str, optional
        Display names of the architectures, such as {"swinv2_tiny": "SwinV2-Tiny"}.
    bootstrap : Bootstrap
        Over patients, or over images where patients are unknown.

    Returns
    -------
    DataFrame
        Columns: comparison, difference, difference_low, difference_high, from -1 to 1. Both sides are scored on the
        images that both predict. Where an interval contains 0, these patients do not settle which of the two is better.
    """
    rows, final = oof.rows(), oof.final_view_set
    ensemble = (final, ENSEMBLE)
    pairs = [
        (f"ensemble − {row_name(oof, key, names)}", ensemble, (final, key))
        for key in oof.architectures
        if len(oof.architectures) > 1
    ]
    if final != NO_VIEWS and (NO_VIEWS, ENSEMBLE) in rows:
        pairs.append(("ensemble with views − without", ensemble, (NO_VIEWS, ENSEMBLE)))
    columns = ["comparison", "difference", "difference_low", "difference_high"]
    if not pairs:
        return pd.DataFrame([], columns=columns)
    predicted = np.stack([oof.predicted[[rows.index(first), rows.index(second)]] for _, first, second in pairs])
    predicted = np.where((predicted >= 0).all(axis=1, keepdims=True), predicted, -1).reshape(-1, len(oof.true))
    confusions = confusions_by_group(oof.true, predicted, oof.group, len(oof.classes))
    differences = bootstrap.differences(confusions, [(2 * i, 2 * i + 1) for i in range(len(pairs))])
    return pd.DataFrame([(name, *row) for (name, *_), row in zip(pairs, differences)], columns=columns)


def confusion_table(confusion: np.ndarray, classes: list[str]) -> pd.DataFrame:
    """Label a confusion matrix and put it into order of maturation.

    Parameters
    ----------
    confusion : ndarray, shape (C, C)
        Counts; rows are the true classes.
    classes : list of str
        The C class codes.

    Returns
    -------
    DataFrame
        Rows and columns by class code; the index is named "true".
    """
    order = in_order_of_maturation(classes)
    table = pd.DataFrame(confusion, index=pd.Index(classes, name="true"), columns=classes)
    return table.loc[order, order]


def row_name(oof: OutOfFold, architecture: str, names: Mapping[str, str] | None = None) -> str:
    """Return the name of a row of Table 1.

    Parameters
    ----------
    oof : OutOfFold
        The predictions.
    architecture : str
        An architecture, or `ENSEMBLE`.
    names : mapping of str to str, optional
        Display names of the architectures.

    Returns
    -------
    str
        "3 × SwinV2-Tiny" for an architecture with three folds, or "ensemble".
    """
    if architecture == ENSEMBLE:
        return ENSEMBLE
    return f"{oof.num_folds[architecture]} × {(names or {}).get(architecture, architecture)}"


def format_interval(value: float, low: float, high: float, *, decimals: int = 3) -> str:
    """Format a score with its interval.

    Parameters
    ----------
    value, low, high : float
        The score and the ends of its interval; NaN where unknown.
    decimals : int
        Digits after the point.

    Returns
    -------
    str
        Such as "0.512 [0.470, 0.550]", with a dash for what is unknown.
    """
    if np.isnan(value):
        return "–"
    interval = "–" if np.isnan(low) else f"{number(low, decimals)}, {number(high, decimals)}"
    return f"{number(value, decimals)} [{interval}]"


def format_table(table: pd.DataFrame) -> str:
    """Lay out Table 1 for a terminal, with aligned columns.

    Parameters
    ----------
    table : DataFrame
        As `table_1` returns it.

    Returns
    -------
    str
        One line per row.
    """
    lines = [["", "views", *HEADINGS.values()]]
    for _, row in table.iterrows():
        cells = [format_interval(row[s], row[f"{s}_low"], row[f"{s}_high"]) for s in HEADINGS]
        part = "" if row["images"] == table["images"].max() else f" ({row['images']:,} images)"
        lines.append([row["name"] + part, row["views"], *cells])
    return align_columns(lines)


def align_columns(lines: list[list[str]]) -> str:
    """Lay out the cells of a table in columns as wide as their widest cell.

    Parameters
    ----------
    lines : list of list of str
        The cells of each line.

    Returns
    -------
    str
        One line per row.
    """
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _f1_of_classes_present(confusion: np.ndarray) -> np.ndarray:
    scores = per_class_scores(confusion)
    return np.where(scores["support"] > 0, scores["f1"], np.nan)


def _note(num_images: int, num_groups: int, patients_known: bool) -> str:
    if num_images == 0:
        return "no evaluated image: cannot be judged"
    if not patients_known:
        return "patients unknown: interval over images" if num_groups >= FEW_PATIENTS else "very few images"
    if num_groups == 1:
        return "1 patient: no interval"
    if num_groups < FEW_PATIENTS:
        return f"{num_groups} patients: the interval says little"
    return ""
