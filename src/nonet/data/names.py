"""Labels, patients and file names that would make trouble later: in tables, spreadsheets or on a terminal."""

import pandas as pd

from nonet.artifacts.csv_files import is_formula
from nonet.data.selection import exclude
from nonet.errors import DataError, printable

#: Stands between the classes of a prediction set, as in "LY|VLY".
SET_SEPARATOR = "|"
_WHAT = {"label": "label", "patient": "patient", "source": "source", "path": "file name"}


def drop_unprintable_labels(table: pd.DataFrame, excluded: list[dict]) -> pd.DataFrame:
    """Return the table without rows whose label holds control characters, say a line break; list these.

    Raises
    ------
    DataError where a label holds the separator of prediction sets, which could not be read back.
    """
    labels = table["label"].fillna("").astype(str)
    separated = table[labels.str.contains(SET_SEPARATOR, regex=False)]
    if len(separated):
        first = separated.iloc[0]
        raise DataError(
            f'{len(separated):,} images have a label with "{SET_SEPARATOR}", first {first["image_id"]}: '
            f'"{first["label"]}". The sign stands between the classes of a prediction set.',
            hint="Rename the class, or choose others with `classes`.",
        )
    unprintable = labels.map(printable).ne(labels) | labels.str.contains(r"[\n\t]")
    for row in table[unprintable].itertuples():
        exclude(excluded, row, "label with control characters")
    return table[~unprintable]


def notes_on_names(table: pd.DataFrame) -> list[str]:
    """Say which names a spreadsheet would run as formulas, and which hold control characters."""
    notes = []
    for column, what in _WHAT.items():
        names = pd.Series(table[column].dropna().unique(), dtype=object)
        formulas, odd = names[names.map(is_formula).astype(bool)], names[names.map(printable).ne(names)]
        if len(formulas):
            notes.append(
                f"{_count(len(formulas), what)} with =, +, -, @, tab or line break, first {_shown(formulas.iloc[0])}: "
                "a spreadsheet would run it as a formula. nonet's own CSV files put an apostrophe before it."
            )
        if len(odd):
            notes.append(
                f"{_count(len(odd), what, 'holds', 'hold')} control characters, first {_shown(odd.iloc[0])}. "
                "They are shown as escapes."
            )
    return notes


def _count(num: int, what: str, one: str = "begins", many: str = "begin") -> str:
    return f"1 {what} {one}" if num == 1 else f"{num:,} {what}s {many}"


def _shown(name: str) -> str:
    return '"' + printable(name).replace("\n", "\\n").replace("\t", "\\t") + '"'
