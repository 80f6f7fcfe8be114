"""The work of `nonet score`: reading both tables, matching their images, scoring. NumPy and pandas only."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from nonet.artifacts.csv_files import unquote, write_csv
from nonet.artifacts.storage import prepare_folder
from nonet.cells import UNIDENTIFIED, class_name, in_order_of_maturation
from nonet.data.manifest import Dataset
from nonet.data.sources.tables import read_table
from nonet.errors import DataError
from nonet.evaluation.bootstrap import Bootstrap, GroupConfusions, confusions_by_group
from nonet.evaluation.matching import describe_match, match_names
from nonet.evaluation.metrics import SCORES, accuracy_score, per_class_scores
from nonet.evaluation.score import FOLDER, IMAGE_COLUMNS, LABEL_COLUMNS, PREDICTED_COLUMNS
from nonet.evaluation.tables import HEADINGS, format_interval


@dataclass(frozen=True)
class Score:
    """Predictions against labels.

    Attributes
    ----------
    scores : DataFrame
        One row per score: score, value, low, high; those of `SCORES`, in the order in which WBCBench 2026 ranks, and
        accuracy.
    per_class : DataFrame
        One row per class with images or predictions: code, name, images, predicted, precision, recall, f1.
    confusion : DataFrame
        Counts; rows true, columns predicted. A column "" holds images without a predicted class, if any.
    num_images, num_patients : int
        Number of scored images, and of their known patients.
    notes : list of str
        Sentences on what was left out and how names were matched.
    """

    scores: pd.DataFrame
    per_class: pd.DataFrame
    confusion: pd.DataFrame
    num_images: int
    num_patients: int
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        headings = HEADINGS | {"accuracy": "accuracy"}
        lines = [
            f"{headings[row['score']]:18}  {format_interval(row['value'], row['low'], row['high'])}"
            for row in self.scores.to_dict("records")
        ]
        table = self.per_class.to_string(index=False, float_format="%.3f", na_rep="–")
        return "\n".join([*self.notes, "", *lines, "", table])


def score_tables(predictions: Path, labels: Path, folder: Path | None, bootstrap: Bootstrap) -> Score:
    """Score a table of predictions, and write the scores if there is a folder for them; see `nonet.score`."""
    predicted, truth = _read_predictions(predictions), _read_labels(labels)
    match = match_names(truth["image"], predicted["image"])
    notes = describe_match(truth["image"], predicted["image"], match)
    if truth.attrs["num_unlabelled"]:
        notes.append(f"{truth.attrs['num_unlabelled']:,} rows of the table of labels have no label.")
    truth = truth[match >= 0]
    calls = predicted["class"].to_numpy(dtype=object)[match[match >= 0]]
    notes += _notes_on_classes(truth["class"], calls, predicted.attrs["classes"])
    classes = sorted(set(truth["class"]) | set(calls))
    number = {code: k for k, code in enumerate(classes)}
    patient = truth["patient"]
    group = ("patient " + patient).where(patient != "", "image " + truth["image"])
    true, called = (np.array([number[code] for code in each], dtype=np.int64) for each in (truth["class"], calls))
    confusions = confusions_by_group(true, called, group.to_numpy(dtype=str), len(classes))
    num_patients = patient[patient != ""].nunique()
    notes.append(_groups_in_words(num_patients, int((patient == "").sum()), bootstrap.confidence))
    made = Score(
        scores=_scores(confusions, bootstrap),
        per_class=_per_class(confusions.total(), classes),
        confusion=_confusion(confusions.total(), classes),
        num_images=len(truth),
        num_patients=num_patients,
        notes=notes,
    )
    if folder is not None:
        prepare_folder(folder, FOLDER)
        write_csv(folder / "per_class.csv", made.per_class)
        write_csv(folder / "confusion.csv", made.confusion.reset_index())
        write_csv(folder / "scores.csv", made.scores)
    return made


def _read_predictions(path: Path) -> pd.DataFrame:
    """Return image and class ("" where there is none); attrs["classes"] are those that were possible, or None."""
    table = read_table(path)
    image, called = _column(table, IMAGE_COLUMNS, path, "image"), _column(table, PREDICTED_COLUMNS, path, "class")
    read = pd.DataFrame({"image": table[image], "class": table[called]}).reset_index(drop=True)
    read = unquote(read)
    read["class"] = read["class"].replace(UNIDENTIFIED, "")  # of a table that has labels only
    read.attrs["classes"] = [name.removeprefix("p_") for name in map(str, table) if name.startswith("p_")] or None
    return read


def _read_labels(path: Path) -> pd.DataFrame:
    """Return image, class and patient ("" where unknown) of the rows that have a label."""
    if path.is_dir():
        table = Dataset.open(path).manifest[["image_id", "label", "patient"]].fillna("")
    else:
        table = read_table(path)
    image, label = _column(table, IMAGE_COLUMNS, path, "image"), _column(table, LABEL_COLUMNS, path, "label")
    patient = {name.lower(): name for name in table.columns}.get("patient")
    read = pd.DataFrame({"image": table[image], "class": table[label]})
    read["patient"] = "" if patient is None else table[patient]
    if (read["class"] == "").all():
        raise DataError(f'{path} has no label: its column "{label}" is empty.', hint="Give the table of true labels.")
    labelled = read[read["class"] != ""]
    labelled.attrs["num_unlabelled"] = len(read) - len(labelled)
    return labelled


def _column(table: pd.DataFrame, names: tuple[str, ...], path: Path, what: str) -> str:
    """Return the column of the table that has one of these names, in any case."""
    have = {name.lower(): name for name in reversed(list(table.columns))}
    column = next((have[name] for name in names if name in have), None)
    if column is None:
        raise DataError(
            f"{path} has no column with the {what}; it has {', '.join(map(str, table.columns))}.",
            hint=f"Name the column one of {', '.join(names)}.",
        )
    return column


def _notes_on_classes(true: pd.Series, calls: np.ndarray, possible: list[str] | None) -> Iterator[str]:
    num_none = int((calls == "").sum())
    if num_none:
        yield f"{num_none:,} images have no predicted class and count as wrong."
    unknown = true[~true.isin(set(calls) if possible is None else possible)].value_counts()
    if len(unknown):
        listed = ", ".join(f'"{label}" ({count:,})' for label, count in unknown.items())
        why = "never predicted" if possible is None else "not among the classes of the predictions"
        yield f"Labels that are {why}; all their images count as wrong: {listed}."


def _groups_in_words(num_patients: int, num_unknown: int, confidence: float) -> str:
    percent = f"{100 * confidence:g} %"
    if not num_patients:
        return f"{percent} intervals over images, as the labels have no patients: these are too narrow."
    unknown = f" and {num_unknown:,} images of unknown patient" if num_unknown else ""
    return f"{percent} intervals over {num_patients:,} patients{unknown}."


def _scores(confusions: GroupConfusions, bootstrap: Bootstrap) -> pd.DataFrame:
    functions = SCORES | {"accuracy": accuracy_score}
    intervals = bootstrap.intervals(confusions, functions)
    rows = [
        (name, float(function(confusions.total())), *map(float, intervals[name]))
        for name, function in functions.items()
    ]
    return pd.DataFrame(rows, columns=["score", "value", "low", "high"])


def _per_class(confusion: np.ndarray, classes: list[str]) -> pd.DataFrame:
    values = per_class_scores(confusion)
    rows = []
    for code in in_order_of_maturation(set(classes) - {""}):
        k = classes.index(code)
        judged = {name: values[name][k] if values["support"][k] else np.nan for name in ("precision", "recall", "f1")}
        about = {"code": code, "name": class_name(code), "images": int(confusion[k].sum())}
        rows.append(about | {"predicted": int(confusion[:, k].sum())} | judged)
    return pd.DataFrame(rows)


def _confusion(confusion: np.ndarray, classes: list[str]) -> pd.DataFrame:
    order = in_order_of_maturation(set(classes) - {""})
    table = pd.DataFrame(confusion, index=pd.Index(classes, name="true"), columns=classes)
    return table.loc[order, [*order, *([""] if "" in classes else [])]]
