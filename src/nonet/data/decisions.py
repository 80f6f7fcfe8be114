"""Decisions from review, applied before anything else: keep an image, drop it, or give it another label."""

from pathlib import Path

import pandas as pd

from nonet.artifacts.csv_files import unquote
from nonet.cells import CLASSES
from nonet.data.labels import match_label
from nonet.data.selection import Selection
from nonet.data.sources.tables import read_table
from nonet.errors import DataError, counted

DECISIONS = ("keep", "drop", "relabel")
DECIDED_COLUMNS = ["image_id", "decision", "label_before", "label", "note"]
_HEADER = "Give a CSV with image_id (or path), decision (keep, drop, relabel) and, if known, label and note."


def read_decisions(path: str | Path, table: pd.DataFrame, *, classes: set[str] | None = None) -> pd.DataFrame:
    """Read a file of decisions and find its images.

    Parameters
    ----------
    path : str or Path
        CSV with image_id or path, decision, and for "relabel" label; note is free text.
    table : DataFrame
        Images of the sources: image_id, path, label.
    classes : set of str, optional
        Labels that are allowed beside nonet's thirteen and those of the sources.

    Returns
    -------
    DataFrame
        One row per image, with the columns DECIDED_COLUMNS; label is empty where a decision gives none. Rows without a
        decision, of which attrs["num_undecided"] is the number, are left out.

    Raises
    ------
    DataError
        When an image, decision or label is unknown, or decisions contradict each other; the line is named.
    """
    path = Path(path).expanduser()
    given = _read(path)
    label_before: dict[str, str] = {}
    ids_by_path: dict[str, list[str]] = {}
    for image_id, image_path, label in zip(table["image_id"], table["path"], table["label"]):
        if image_id not in label_before:
            label_before[image_id] = ""
            ids_by_path.setdefault(image_path, []).append(image_id)
        if isinstance(label, str):
            label_before[image_id] = label_before[image_id] or label
    labels = {*CLASSES, *table["label"].dropna(), *(classes or ())}
    decided: dict[str, dict] = {}
    for line, row in zip(given.index, given.to_dict("records")):
        where = f"{path}, line {line}"
        if not row["decision"]:
            if row["label"]:
                raise DataError(f'{where}: label "{row["label"]}" without a decision.', hint="Write relabel beside it.")
            continue
        image_id = _find_image(row, label_before, ids_by_path, where)
        decision, label = row["decision"].lower(), row["label"]
        if decision not in DECISIONS:
            raise DataError(
                f'{where}: "{row["decision"]}" is not a decision.', hint=f"Decisions: {', '.join(DECISIONS)}."
            )
        before = label_before[image_id]
        label = label and (match_label(label, labels) or label)
        if decision == "relabel" and label not in labels:
            problem = f'label "{label}" is unknown' if label else "the label is missing"
            raise DataError(f"{where}: {problem}, for {image_id}.", hint=f"Labels: {', '.join(sorted(labels))}.")
        if decision == "keep" and label not in ("", before):
            raise DataError(
                f"{where}: {image_id} is to be kept as {label}, but is {before or 'unlabelled'}.",
                hint="To change a label, write relabel.",
            )
        label = label if decision == "relabel" else ""
        new = dict(zip(DECIDED_COLUMNS, (image_id, decision, before, label, row["note"])))
        old = decided.setdefault(image_id, new)
        if (old["decision"], old["label"]) != (decision, label):
            raise DataError(
                f"{where}: {image_id} has two decisions, {_text(old)} and {_text(new)}.", hint="Remove one of them."
            )
    table = pd.DataFrame(list(decided.values()), columns=DECIDED_COLUMNS, dtype=str)
    table.attrs["num_undecided"] = int((given["decision"] == "").sum())
    return table


def apply_decisions(selection: Selection, decided: pd.DataFrame) -> None:
    """Drop and relabel images as decided.

    Parameters
    ----------
    selection : Selection
    decided : DataFrame
        As `read_decisions` returns it.
    """
    if undecided := decided.attrs.get("num_undecided", 0):
        selection.notes.append(f"{counted(undecided, 'row', 'rows')} of the decisions file without a decision.")
    if decided.empty:
        return
    decided = decided.set_index("image_id")
    notes, decisions = decided["note"], decided["decision"]
    dropped = selection.rows["image_id"].map(decisions).eq("drop")
    selection.exclude(dropped, lambda row: f"dropped by decision: {notes[row.image_id] or 'no note'}")
    rows = selection.rows
    relabelled = rows["image_id"].map(decisions).eq("relabel")
    rows.loc[relabelled, "label"] = rows.loc[relabelled, "image_id"].map(decided["label"])
    rows.loc[relabelled, "opt_in_reason"] = None  # it was the old label's
    counts = decisions.value_counts()
    listed = ", ".join(f"{counts[decision]:,} {word}" for decision, word in _DONE.items() if decision in counts)
    selection.notes.append(f"Decisions applied, listed in decided.csv: {listed}.")


_DONE = {"keep": "kept", "drop": "dropped", "relabel": "relabelled"}


def _read(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise DataError(f"The decisions file {path} does not exist.", hint=_HEADER)
    table = unquote(read_table(path))  # names may be copied from one of nonet's tables
    if "decision" not in table or not {"image_id", "path"} & set(table.columns):
        raise DataError(f"{path} has columns {', '.join(map(str, table.columns))}.", hint=_HEADER)
    columns = ["image_id", "path", "decision", "label", "note"]
    return table.reindex(columns=columns, fill_value="")


def _find_image(row: dict, label_before: dict[str, str], ids_by_path: dict[str, list[str]], where: str) -> str:
    if row["image_id"]:
        if row["image_id"] in label_before:
            return row["image_id"]
        raise DataError(
            f'{where}: no source has an image "{row["image_id"]}".', hint="An image_id is SOURCE/PATH, as in manifests."
        )
    matching = ids_by_path.get(row["path"]) or ids_by_path.get(row["path"].replace("\\", "/"), [])
    if len(matching) != 1:
        how_many = f"{len(matching)} sources have" if matching else "no source has"
        raise DataError(f'{where}: {how_many} a path "{row["path"]}".', hint="Give image_id, which is SOURCE/PATH.")
    return matching[0]


def _text(row: dict) -> str:
    return f"{row['decision']} {row['label']}".strip()
