"""A CSV file with path and label, and patient, source and split where known."""

import difflib
from pathlib import Path

import pandas as pd

from nonet.data.sources.listing import Listing, path_within
from nonet.data.sources.source import Source
from nonet.data.sources.tables import read_table
from nonet.errors import DataError

USED = ("path", "label", "patient", "source", "split", "evaluate", "sha256")
PASSED_OVER = ("width", "height")  # measured anew

#: What others call our columns; a wrong guess would lose patients without a word, so the user renames.
ALIASES = {
    "path": ("file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img", "img_path"),
    "label": ("class", "class_name", "category", "cell_type", "target", "y"),
    "patient": ("patient_id", "patientid", "subject", "subject_id", "case", "case_id", "donor", "donor_id"),
    "source": ("dataset", "data_source"),
    "split": ("subset", "set", "partition"),
    "sha256": ("sha", "hash", "sha_256"),
}
TRUTHS = {"": True, "true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def read_csv(path: Path, name: str | None = None) -> Listing:
    """List the images of a CSV file.

    Parameters
    ----------
    path : the file. Its paths are relative to its folder and may not leave it.
    name : of the source; by default the column source, else the file's name without its ending.

    Raises
    ------
    DataError where the file cannot be read, lacks a column, or has one that seems misspelt.
    """
    table = read_table(path)
    listing = Listing(path.parent, notes=_check_columns(path, list(table.columns)))
    table = table.reindex(columns=list(USED), fill_value="")
    table["source"] = name or table["source"].where(table["source"] != "", path.stem)
    table["evaluate"] = _truths(path, table["evaluate"])
    for line, row in zip(table.index, table.to_dict("records")):
        if not row["path"]:
            listing.exclude("", row["source"], row["label"], f"no path: line {line} of {path.name}")
            continue
        within = path_within(listing.root, row["path"])
        if within is None:
            reason = f"outside: line {line} of {path.name} leaves {listing.root}"
            listing.exclude(row["path"], row["source"], row["label"], reason)
            continue
        known = {key: value for key, value in row.items() if value != ""}
        if "sha256" in known:
            known["sha256"] = known["sha256"].lower()
        listing.add(**known | {"path": within})
    return listing


def _check_columns(path: Path, columns: list[str]) -> list[str]:
    """Return a note on columns not used; raise where one is missing or seems misspelt."""
    others = [column for column in columns if column not in USED + PASSED_OVER]
    for column in others:
        meant = _meant(column)
        if meant and meant not in columns:
            raise DataError(
                f'{path} has a column "{column}", which nonet does not know.',
                hint=f'Rename it to "{meant}" if that is what it holds, else to something less like it. '
                f"Columns: {', '.join(columns)}.",
            )
    missing = [column for column in ("path", "label") if column not in columns]
    if missing:
        raise DataError(
            f"{path} has no column {' and no column '.join(missing)}; it has {', '.join(columns)}.",
            hint="The first line should read path,label and, where known, patient,source,split.",
        )
    if not others:
        return []
    return [f"{path.name}: column{'s' if len(others) > 1 else ''} not used: {', '.join(others)}."]


def _meant(column: str) -> str | None:
    """Return the column of ours that this one looks like, or None."""
    plain = column.lower().replace(" ", "_").replace("-", "_")
    for ours, aliases in ALIASES.items():
        if plain in aliases:
            return ours
    close = difflib.get_close_matches(plain, USED, n=1, cutoff=0.8)
    return close[0] if close else None


def _truths(path: Path, values: pd.Series) -> pd.Series:
    wrong = values[~values.str.lower().isin(TRUTHS)]
    if len(wrong):
        raise DataError(
            f'{path}, line {wrong.index[0]}: evaluate is "{wrong.iloc[0]}".',
            hint="Give true, false or nothing (true).",
        )
    return values.str.lower().map(TRUTHS).astype(bool)


CSV = Source(
    name="csv",
    title="your own table: path and label, and patient, source, split where known",
    read=read_csv,
    layout="TABLE.csv with the columns path,label and, where known, patient,source,split,evaluate,sha256; paths are "
    "relative to its folder",
    patients="as given",
    paper=None,
    paper_words="all that you give",
)
