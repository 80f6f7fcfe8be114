"""Which column of a table is which of nonet's: by name, or as the user says. All problems are reported at once."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nonet.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

USED = ("path", "label", "patient", "source", "split", "evaluate", "sha256")
REQUIRED = ("path", "label")
IGNORED = ("width", "height")  # measured again

#: Other names for these columns. A wrong guess would silently lose patients, so the user confirms them.
ALIASES = {
    "path": (
        *("file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "image_file", "image_name"),
        *("img", "img_path", "img_name", "imagepath", "imagename", "paths", "fname", "image_filename", "relative_path"),
    ),
    "label": (
        *("class", "class_name", "classname", "category", "cell_type", "celltype", "target", "y", "labels", "type"),
        *("cell_class", "diagnosis", "annotation", "cell_label", "ground_truth", "truth", "class_label"),
    ),
    "patient": (
        *("patient_id", "patientid", "subject", "subject_id", "case", "case_id", "donor", "donor_id", "patients"),
        *("pid", "pat_id", "patient_no", "patient_number", "person", "individual", "case_no", "participant", "mrn"),
    ),
    "source": ("dataset", "data_source"),
    "split": ("subset", "set", "partition", "splits", "data_split", "usage", "phase"),
    "evaluate": ("scored", "evaluated"),
    "sha256": ("sha", "hash", "sha_256"),
}
EVALUATE = {
    **dict.fromkeys(("", "true", "1", "1.0", "yes", "t", "y", "on", "wahr", "vrai"), True),
    **dict.fromkeys(("false", "0", "0.0", "no", "f", "n", "off", "falsch", "faux"), False),
}


def parse_columns(given: str | Mapping[str, str] | list[str] | None) -> dict[str, str]:
    """Parse which columns of a table are nonet's.

    Parameters
    ----------
    given : str, mapping, list of str, or None
        "path=filename,label=cell_type", a list of such, or a mapping of nonet's names to the table's.

    Returns
    -------
    dict
        nonet's name → the table's.

    Raises
    ------
    DataError
        When it is written otherwise, or names a column that nonet does not use.
    """
    if not given:
        return {}
    if isinstance(given, Mapping):
        items = [f"{ours}={theirs}" for ours, theirs in given.items()]
    else:
        items = [item for text in ([given] if isinstance(given, str) else given) for item in text.split(",")]
    hint = "Write NAME=COLUMN, like `columns=path=filename,label=cell_type,patient=case`."
    columns: dict[str, str] = {}
    for item in (each for each in items if each.strip()):
        ours, _, theirs = (part.strip() for part in item.partition("="))
        if not ours or not theirs:
            raise DataError(f'"{item.strip()}" does not name a column.', hint=hint)
        if ours not in USED:
            swapped = f'Did you mean "{theirs}={ours}"? ' if theirs in USED else did_you_mean(ours, USED)
            raise DataError(
                f'"{ours}={theirs}": nonet has no column "{ours}".', hint=f"{swapped}Its columns: {', '.join(USED)}."
            )
        if columns.setdefault(ours, theirs) != theirs:
            raise DataError(f'Column "{ours}" is given twice: {columns[ours]} and {theirs}.', hint=hint)
    return columns


def choose_columns(path: Path, table: "pd.DataFrame", given: Mapping[str, str]) -> "tuple[pd.DataFrame, list[str]]":
    """Rename the columns of a table to nonet's names.

    Parameters
    ----------
    path : Path
        Of the table, for messages.
    table : DataFrame
    given : mapping
        nonet's name → the table's, as the user says; ignored where the table lacks the latter and has the former.

    Returns
    -------
    table : DataFrame
    notes : list of str
        A sentence on columns that are not used.

    Raises
    ------
    DataError
        When columns are missing or seem misspelt; it names all of them, and what to write.
    """
    table = table.rename(columns=plain_names(table.columns))
    columns = list(table.columns)
    used = {ours: theirs for ours, theirs in given.items() if theirs in columns}
    absent = {ours: theirs for ours, theirs in given.items() if theirs not in columns and ours not in columns}
    if absent:
        close = "".join(did_you_mean(theirs, columns) for theirs in absent.values())
        raise DataError(
            f"{path} has no column {' and no column '.join(absent.values())}, as `columns` says.",
            hint=f"{close}It has: {', '.join(columns)}.",
        )
    # A column with nonet's name is used unless the user names another one for it.
    rest = table.drop(columns=[column for column in columns if column in used or column in used.values()])
    table = rest.assign(**{ours: table[theirs] for ours, theirs in used.items()})
    _require_columns(path, list(table.columns), used)
    others = [column for column in table.columns if column not in USED + IGNORED]
    notes = [f"{path.name}: column{'s' if len(others) > 1 else ''} not used: {', '.join(others)}."] if others else []
    return table, notes


def plain_names(columns: Iterable[str]) -> dict[str, str]:
    """Find the columns that differ from nonet's names only by letter case, such as Path.

    Parameters
    ----------
    columns : iterable of str

    Returns
    -------
    dict
        The table's name → nonet's.
    """
    columns = list(columns)
    ours = {column.casefold(): column for column in reversed(columns) if column.casefold() in USED}
    return {theirs: name for name, theirs in ours.items() if name not in columns}


def _require_columns(path: Path, columns: list[str], used: Mapping[str, str]) -> None:
    missing = [column for column in REQUIRED if column not in columns]
    others = [column for column in columns if column not in USED + IGNORED]
    meant: dict[str, str] = {}
    for column in others:
        ours = _guess_column(column)
        if ours and ours not in columns and ours not in meant:
            meant[ours] = column
    if not missing and not meant:
        return
    quoted = ", ".join(f'"{theirs}"' for theirs in meant.values())
    noun, pronoun = ("a column", "it") if len(meant) == 1 else ("columns", "them")
    lacking = [f"no column {column}" for column in missing if column not in meant]
    problems = [*([f"{noun} {quoted} that nonet does not know"] if meant else []), *lacking]
    hint = ""
    if meant:
        guesses = ", ".join(f'"{theirs}" seems to be "{ours}"' for ours, theirs in meant.items())
        known = ",".join(f"{ours}={theirs}" for ours, theirs in (dict(used) | meant).items())
        hint = f"{guesses}. Rename {pronoun}, or add: `columns={known}`. "
        hint += "If a column is something else, give it another name. "
    if lacking:
        hint += "The first line should name the columns: path,label and, where known, patient,source,split. "
    raise DataError(f"{path} has {' and '.join(problems)}. Its columns: {', '.join(columns)}.", hint=hint.strip())


def _guess_column(column: str) -> str | None:
    """Return the column of nonet's that a name seems to mean, or None."""
    plain = column.lower().replace(" ", "_").replace("-", "_").replace(".", "_")
    for ours, aliases in ALIASES.items():
        if plain in aliases:
            return ours
    close = difflib.get_close_matches(plain, USED, n=1, cutoff=0.8)
    return close[0] if close else None
