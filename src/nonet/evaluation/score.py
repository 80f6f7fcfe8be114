"""`nonet score`: predictions against a table of labels, as the challenge ranks; NumPy and pandas only.

It does not matter whose predictions they are: predictions.csv of `predict`, a submission, or any table of names and
classes.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from nonet.artifacts.csv_files import unquote, write_csv
from nonet.artifacts.storage import FolderKind, prepare_folder, require_usable_folder
from nonet.cells import UNIDENTIFIED, class_name, in_order_of_maturation
from nonet.data.manifest import Dataset
from nonet.data.sources.tables import read_table
from nonet.errors import DataError
from nonet.evaluation.bootstrap import Bootstrap, GroupConfusions, confusions_by_group
from nonet.evaluation.metrics import SCORES, accuracy_score, per_class_scores
from nonet.evaluation.tables import HEADINGS, format_interval

#: Accepted column names, in any case; the first one present is used.
IMAGE_COLUMNS = ("image", "image_id", "id", "path", "file", "filename", "name")
PREDICTED_COLUMNS = ("best", "label", "labels", "predicted", "prediction", "class")
LABEL_COLUMNS = ("true_label", "label", "labels", "class")
#: How to tell a folder that `score` wrote; it has no JSON file, so that only the marker does.
_FOLDER = FolderKind("score", main="scores.csv", keys={"nonet"}, hint="Give a new folder as `out`.")
#: Files of a folder of predictions; the first one present is used.
_FILES = ("predictions.csv", "submission.csv")
_MOST = 3  # examples in a sentence


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


def score(
    predictions: str | PathLike,
    labels: str | PathLike,
    *,
    out: str | PathLike | None = None,
    num_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Score:
    """Score predictions against a table of labels, with the challenge's scores.

    Images are matched by file name, with or without extension; case and the form of accents only matter where names
    would otherwise collide, and where several files have the same name, the one with the most matching folders is used.
    Only images with both a label and a prediction are scored. An image that could not be read has no class and counts
    as wrong.

    Parameters
    ----------
    predictions : str or path-like
        predictions.csv or submission.csv, a folder with one of them, or a CSV file with a column of `IMAGE_COLUMNS` and
        one of `PREDICTED_COLUMNS`. Of predictions.csv the most probable class is used, however doubtful.
    labels : str or path-like
        CSV file with a column of `IMAGE_COLUMNS`, one of `LABEL_COLUMNS` and optionally patient; or a dataset.
    out : str or path-like, optional
        Folder for scores.csv, per_class.csv and confusion.csv; by default nothing is written.
    num_resamples : int
        Resamples of the bootstrap over patients, or over images where patients are unknown.
    confidence : float in (0, 1)
        Of the intervals.
    seed : int
        Of the resamples.

    Returns
    -------
    Score
        Scores, classes and confusion.

    Raises
    ------
    DataError
        If a file or a column is missing, no image is in both tables, a name fits several images, or an argument is out
        of range.
    StorageError
        If `out` holds other files.
    """
    bootstrap = Bootstrap(num_resamples, confidence, seed)
    folder = None if out is None else Path(out).expanduser()
    if folder is not None:
        require_usable_folder(folder, _FOLDER)
    predicted, truth = _read_predictions(Path(predictions).expanduser()), _read_labels(Path(labels).expanduser())
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
    notes.append(_groups_in_words(num_patients, int((patient == "").sum()), confidence))
    made = Score(
        scores=_scores(confusions, bootstrap),
        per_class=_per_class(confusions.total(), classes),
        confusion=_confusion(confusions.total(), classes),
        num_images=len(truth),
        num_patients=num_patients,
        notes=notes,
    )
    if folder is not None:
        prepare_folder(folder, _FOLDER)
        write_csv(folder / "per_class.csv", made.per_class)
        write_csv(folder / "confusion.csv", made.confusion.reset_index())
        write_csv(folder / "scores.csv", made.scores)
    return made


def match_names(wanted: Iterable[str], given: Iterable[str]) -> np.ndarray:
    """Match image names as `score` does.

    Parameters
    ----------
    wanted, given : iterable of str
        Names of images, with or without folders.

    Returns
    -------
    ndarray of int64, shape (num_wanted,)
        The place in `given` of each wanted image; -1 where there is none.

    Raises
    ------
    DataError
        If a name fits several images, or two names fit the same.
    """
    theirs, ours = ([PurePosixPath(name.replace("\\", "/")) for name in names] for names in (given, wanted))
    places_by_key: dict[tuple[int, str], list[int]] = {}
    for place, path in enumerate(theirs):
        for key in {*_keys(path.name), *_keys(_stem(path))}:
            places_by_key.setdefault(key, []).append(place)
    match = np.full(len(ours), -1, dtype=np.int64)
    for i, path in enumerate(ours):
        keys = zip(_keys(path.name), _keys(_stem(path)))  # as written first, and then as much alike
        candidates = next((places_by_key[key] for pair in keys for key in pair if key in places_by_key), [])
        depths = [_agreement(path, theirs[place]) for place in candidates]
        best = [place for place, depth in zip(candidates, depths) if depth == max(depths)]
        if len(best) > 1:
            raise DataError(
                f"{path} fits {len(best)} predictions, as {theirs[best[0]]} and {theirs[best[1]]}.",
                hint="Write more of the path into the table of labels, or predict one folder.",
            )
        if best:
            match[i] = best[0]
    places, first = np.unique(match[match >= 0], return_index=True)
    if len(places) < (match >= 0).sum():
        matched = np.flatnonzero(match >= 0)
        twice = matched[~np.isin(np.arange(len(matched)), first)][0]
        other = matched[first[np.searchsorted(places, match[twice])]]
        raise DataError(
            f"{ours[other]} and {ours[twice]} of the table of labels fit one prediction, {theirs[match[twice]]}.",
            hint="Give each image one row.",
        )
    return match


def _keys(name: str) -> list[tuple[int, str]]:
    """Return a name as written, and as other systems may write it: accents composed, case folded."""
    return [(0, name), (1, unicodedata.normalize("NFC", name).casefold())]


def _stem(path: PurePosixPath) -> str:
    """Return a file's name without its extension; "cell.01" has none."""
    return path.stem if re.fullmatch(r"\.[A-Za-z][A-Za-z0-9]{1,4}", path.suffix) else path.name


def _agreement(one: PurePosixPath, other: PurePosixPath) -> int:
    """Return the number of matching folders, counted from the file upwards."""
    depth = 0
    for a, b in zip(reversed(one.parts[:-1]), reversed(other.parts[:-1])):
        if a != b:
            break
        depth += 1
    return depth


def _read_predictions(path: Path) -> pd.DataFrame:
    """Return image and class ("" where there is none); attrs["classes"] are those that were possible, or None."""
    if path.is_dir():
        file = next((path / name for name in _FILES if (path / name).is_file()), None)
        if file is None:
            raise DataError(f"{path} has neither {' nor '.join(_FILES)}.", hint="Give the folder of nonet predict.")
        path = file
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


def describe_match(labelled: pd.Series, predicted: pd.Series, match: np.ndarray) -> list[str]:
    """Describe how many images are in one table only, with the first of them.

    Parameters
    ----------
    labelled, predicted : Series of str
        Names of the images that have a label, and of those that have a prediction.
    match : ndarray of int, shape (num_labelled,)
        As `match_names` returns it.

    Returns
    -------
    list of str
        Sentences.

    Raises
    ------
    DataError
        If no image is in both.
    """
    if not (match >= 0).any():
        raise DataError(
            f"No image is in both tables: labels begin with {labelled.iloc[0]}, predictions with "
            f"{predicted.iloc[0] if len(predicted) else 'nothing'}.",
            hint="Images are matched by the file's name, with or without its ending.",
        )
    notes = []
    without = labelled[match < 0]
    if len(without):
        notes.append(
            f"{len(without):,} of {len(labelled):,} labels have no prediction and are left out: {_few(without)}."
        )
    unused = predicted[~np.isin(np.arange(len(predicted)), match)]
    if len(unused):
        notes.append(
            f"{len(unused):,} of {len(predicted):,} predictions have no label and are left out: {_few(unused)}."
        )
    return notes


def _few(names: pd.Series) -> str:
    listed = ", ".join(names.head(_MOST))
    return listed + (" …" if len(names) > _MOST else "")


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
