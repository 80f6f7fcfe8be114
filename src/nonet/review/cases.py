"""Folders of predictions become cases of the store, once it is certain that this run predicted them."""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from nonet.artifacts.ensemble_file import EnsembleFile
from nonet.artifacts.integrity import UNPARSABLE, read_sealed
from nonet.artifacts.predictions_csv import PREFIX
from nonet.artifacts.run import Run, file_sha256
from nonet.differential.counting import NO_CASE, open_predictions
from nonet.errors import DataError, NonetError, RunError, counted, printable
from nonet.progress import progress
from nonet.review.records import NewCell
from nonet.review.store import Store

logger = logging.getLogger("nonet")

_AGAIN = 'Run the same "nonet predict" again.'
#: Keys of plan.json that determine labels, besides the images.
_MODEL_KEYS = ("weights", "recipe", "members", "ensemble", "views")
#: What plan.json copies of ensemble.json.
_ENSEMBLE_KEYS = {"temperature", "class_priors", "calibration", "rejection", "nucleus"}


def add_cases(
    store: Store, run: Run, folder: Path, *, added_by: str = "", notes: Mapping[str, str] | None = None
) -> int:
    """Add the cases of a folder of predictions to the store; those that are there already stay as they are.

    Parameters
    ----------
    store : Store
    run : Run
        The run that predicted them.
    folder : Path
        Of "nonet predict".
    added_by : str
        The user who uploaded them; "" for cases that "nonet serve" was given.
    notes : mapping of str to str, optional
        Image → what was unusual about the file that its pixels came from.

    Returns
    -------
    int
        How many were new.

    Raises
    ------
    DataError
        If the folder has no finished predictions, an image is missing, or a case of the same name holds something else.
    RunError
        If another run predicted them.
    """
    table, classes = open_predictions(folder)
    model = _fingerprint(run, folder)
    store.classes(classes)
    table = table.assign(
        path=_image_paths(folder, table), case=table["case"].replace(NO_CASE, folder.resolve().name or NO_CASE)
    )
    if notes:
        known = [[notes.get(image, ""), note] for image, note in zip(table["image"], table["note"])]
        table = table.assign(note=["; ".join(dict.fromkeys(filter(None, each))) for each in known])
    num_new = 0
    for name, part in table.groupby("case", sort=False):
        num_new += _add_case(store, str(name), part, classes, folder, model, added_by)
    return num_new


def _add_case(
    store: Store, name: str, part: pd.DataFrame, classes: list[str], folder: Path, model: str, added_by: str
) -> bool:
    """Add a case, and return whether it is new."""
    rows = part[["image", "path", "label", *(PREFIX + code for code in classes)]].to_csv(index=False)
    digest = hashlib.sha256(f"{model}\n{rows}".encode()).hexdigest()
    stored = store.find_case(name)
    if stored is not None and stored.digest != digest:
        raise DataError(
            f'Case "{printable(name)}" of {folder} is not the one that is in {store.path}: its cells or predictions '
            f"differ from those of {stored.source}.",
            hint="Give it another name: nonet predict … --case NAME. What was reviewed stays as it is.",
        )
    if stored is not None:
        return False
    sums = _checksums(part, folder)
    cells = [
        NewCell(row["image"], row["path"], sums[row["path"]], row["label"], row["reason"], _facts(row, classes))
        for row in part.to_dict("records")
    ]
    store.add_case(name, cells, source=str(folder.resolve()), digest=digest, model=model, added_by=added_by)
    return True


def _facts(row: dict, classes: list[str]) -> dict:
    """Return what the page shows of a prediction."""
    numbers = {name: row.get(name) for name in ("confidence", "agreement", "ood_percentile")}
    known: dict = {
        name: round(float(value), 6) for name, value in numbers.items() if value is not None and pd.notna(value)
    }
    proba = {code: row[PREFIX + code] for code in classes}
    if not any(pd.isna(value) for value in proba.values()):
        known["proba"] = {code: round(float(value), 6) for code, value in proba.items()}
    return known | {name: str(row.get(name) or "") for name in ("best", "set", "note", "error")}


def _checksums(part: pd.DataFrame, folder: Path) -> dict[str, str]:
    """Return path → SHA-256 of each image; "" for one that was unreadable already."""
    sums, missing = {}, []
    for path, label in progress([*zip(part["path"], part["label"])], description="reading images", unit="images"):
        try:
            sums[path] = file_sha256(path)
        except OSError:
            sums[path] = ""
            missing += [path] if label else []
    if missing:
        raise DataError(
            f"{counted(len(missing), 'image', 'images')} of {folder} cannot be read, first {missing[0]}.",
            hint="Copy them back, or predict them where they are now.",
        )
    return sums


def _image_paths(folder: Path, table: pd.DataFrame) -> list[str]:
    """Return the file of each image, from logits.parquet."""
    file = folder / "logits.parquet"
    try:
        columns = pq.read_table(file, columns=["image", "path"]).to_pydict()
    except (OSError, *UNPARSABLE) as error:
        raise DataError(f"{file} cannot be read: it says where the images are.", hint=_AGAIN) from error
    if columns.get("image") != table["image"].tolist() or "path" not in columns:
        raise DataError(f"{file} does not have the images of predictions.csv in the same order.", hint=_AGAIN)
    return [str(path) for path in columns["path"]]


def _fingerprint(run: Run, folder: Path) -> str:
    """Return the SHA-256 of what predicted a folder; raise RunError if that was another run."""
    plan = read_sealed(folder / "plan.json", hint=_AGAIN)
    if "finished" not in plan:
        raise DataError(f"The prediction in {folder} is not finished.", hint=f"{_AGAIN} It resumes.")
    if plan.get("run") != str(run.folder.resolve()) and not _is_copy(run, plan):
        raise RunError(
            f"{folder} was predicted by the run {plan.get('run')}, not by {run}.",
            hint=f"Give that run, or predict the cells again: nonet predict {run} CELLS --out FOLDER",
        )
    return model_fingerprint(plan)


def model_fingerprint(plan: dict) -> str:
    """Return the SHA-256 of what predicted: members and their weights, recipe, views, and how logits become labels.

    Parameters
    ----------
    plan : dict
        Content of plan.json.

    Returns
    -------
    str
    """
    content = {key: plan.get(key) for key in _MODEL_KEYS}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _is_copy(run: Run, plan: dict) -> bool:
    """Whether the run has the members and the calibration that a prediction was made with, wherever that run was."""
    try:
        ensemble = EnsembleFile.read(run)
    except NonetError:
        return False
    members = {f"{arch}/fold-{fold}={weight}" for (arch, fold), weight in ensemble.weights.items() if weight}
    same = set(plan.get("members", [])) == members
    return same and plan.get("ensemble") == ensemble.model_dump(mode="json", include=_ENSEMBLE_KEYS)
