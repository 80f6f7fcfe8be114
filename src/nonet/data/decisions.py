"""Decisions from review, applied before anything else: keep an image, drop it, or give it another label."""

from pathlib import Path

import pandas as pd

from nonet.artifacts.csv_files import unquote
from nonet.cells import CLASSES
from nonet.data.labels import match_label
from nonet.data.selection import exclude
from nonet.data.sources.tables import read_table
from nonet.errors import DataError

DECISIONS = ("keep", "drop", "relabel")
DECIDED_COLUMNS = ["image_id", "decision", "label_before", "label", "note"]
_HEADER = "Give a CSV with image_id (or path), decision (keep, drop, relabel) and, where known, label and note."


def read_decisions(path: str | Path, table: pd.DataFrame, *, classes: set[str] | None = None) -> pd.DataFrame:
    """Read a file of decisions and find the images that it is about.

    Parameters
    ----------
    path : CSV with image_id or path, decision, and for "relabel" label; note is free text.
    table : what the sources list: image_id, path, label.
    classes : labels that may be given, beside nonet's thirteen and those that the sources have.

    Returns
    -------
    DataFrame, DECIDED_COLUMNS, one row an image; label is empty where a decision gives none.

    Raises
    ------
    DataError, naming the line, on an unknown image, decision or label, or on decisions that contradict each other.
    """
    path = Path(path).expanduser()
    given = _read(path)
    ids, by_path = table.groupby("image_id")["label"].first(), table.groupby("path")["image_id"].unique()
    labels = {*CLASSES, *table["label"].dropna(), *(classes or ())}
    decided: dict[str, dict] = {}
    for line, row in zip(given.index, given.to_dict("records")):
        where = f"{path}, line {line}"
        image_id = _image(row, ids, by_path, where)
        decision, label = row["decision"].lower(), row["label"]
        if decision not in DECISIONS:
            raise DataError(f'{where}: "{row["decision"]}" is no decision.', hint=f"Decisions: {', '.join(DECISIONS)}.")
        before = ids[image_id] if isinstance(ids[image_id], str) else ""
        label = label and (match_label(label, labels) or label)
        if decision == "relabel" and label not in labels:
            what = f'label "{label}" is unknown' if label else "there is no label"
            raise DataError(f"{where}: {what}, for {image_id}.", hint=f"Labels: {', '.join(sorted(labels))}.")
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
                f"{where}: {image_id} is decided twice, {_words(old)} and {_words(new)}.", hint="Leave one of them."
            )
    return pd.DataFrame(list(decided.values()), columns=DECIDED_COLUMNS, dtype=str)


def apply_decisions(table: pd.DataFrame, decided: pd.DataFrame, excluded: list[dict], notes: list[str]) -> pd.DataFrame:
    """Return the table without what was dropped, with what was relabelled; list the one, note the other."""
    if decided.empty:
        return table
    decided = decided.set_index("image_id")
    notes_of, kinds = decided["note"], decided["decision"]
    dropped = table["image_id"].map(kinds).eq("drop")
    for row in table[dropped].itertuples():
        exclude(excluded, row, f"dropped by decision: {notes_of[row.image_id] or 'no note'}")
    table = table[~dropped].copy()
    relabelled = table["image_id"].map(kinds).eq("relabel")
    table.loc[relabelled, "label"] = table.loc[relabelled, "image_id"].map(decided["label"])
    table.loc[relabelled, "only_if_asked"] = None  # the reason was the old label's
    counts = kinds.value_counts()
    listed = ", ".join(f"{counts[kind]:,} {words}" for kind, words in _DONE.items() if kind in counts)
    notes.append(f"Decisions applied, listed in decided.csv: {listed}.")
    return table


_DONE = {"keep": "kept", "drop": "dropped", "relabel": "relabelled"}


def _read(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise DataError(f"There is no file of decisions {path}.", hint=_HEADER)
    table = unquote(read_table(path))  # names may be copied from a table of nonet
    if "decision" not in table or not {"image_id", "path"} & set(table.columns):
        raise DataError(f"{path} has columns {', '.join(map(str, table.columns))}.", hint=_HEADER)
    columns = ["image_id", "path", "decision", "label", "note"]
    return table.reindex(columns=columns, fill_value="")


def _image(row: dict, ids: pd.Series, by_path: pd.Series, where: str) -> str:
    if row["image_id"]:
        if row["image_id"] in ids.index:
            return row["image_id"]
        raise DataError(
            f'{where}: no source has an image "{row["image_id"]}".', hint="An image_id is SOURCE/PATH, as in manifests."
        )
    path = row["path"] if row["path"] in by_path.index else row["path"].replace("\\", "/")
    found = by_path[path] if path in by_path.index else ()
    if len(found) != 1:
        what = f'{len(found)} sources have a path "{row["path"]}"' if len(found) else f'no source has "{row["path"]}"'
        raise DataError(f"{where}: {what}.", hint="Give image_id, which is SOURCE/PATH.")
    return found[0]


def _words(row: dict) -> str:
    return f"{row['decision']} {row['label']}".strip()
