"""Labels, patients and file names that would cause trouble later: in tables, spreadsheets or on a terminal."""

from collections.abc import Iterator

import pandas as pd

from nonet.artifacts.csv_files import is_formula
from nonet.data.selection import Selection
from nonet.errors import DataError, counted, printable

#: Separates the classes of a prediction set, as in "LY|VLY".
SET_SEPARATOR = "|"
_NOUNS = {"label": "label", "patient": "patient", "source": "source", "path": "file name"}


def drop_unprintable_labels(selection: Selection) -> None:
    """Drop rows whose label has control characters, such as a line break.

    Parameters
    ----------
    selection : Selection

    Raises
    ------
    DataError
        When a label contains the separator of prediction sets, so that these could not be read back.
    """
    labels = selection.rows["label"].fillna("").astype(str)
    separated = selection.rows[labels.str.contains(SET_SEPARATOR, regex=False)]
    if len(separated):
        first = separated.iloc[0]
        raise DataError(
            f'{len(separated):,} images have a label with "{SET_SEPARATOR}", first {first["image_id"]}: '
            f'"{first["label"]}". This character separates the classes of a prediction set.',
            hint="Rename the class, or choose others with `classes`.",
        )
    unprintable = labels.map(printable).ne(labels) | labels.str.contains(r"[\n\t]")
    selection.exclude(unprintable, "label with control characters")


def notes_on_names(rows: pd.DataFrame) -> Iterator[str]:
    """Report names that a spreadsheet would run as formulas, and names with control characters.

    Parameters
    ----------
    rows : DataFrame
        Columns label, patient, source, path.

    Yields
    ------
    str
    """
    for column, noun in _NOUNS.items():
        names = pd.Series(rows[column].dropna().unique(), dtype=object)
        formulas, odd = names[names.map(is_formula).astype(bool)], names[names.map(printable).ne(names)]
        if len(formulas):
            names_begin = counted(len(formulas), f"{noun} begins", f"{noun}s begin")
            yield (
                f"{names_begin} with =, +, -, @, tab or line break, first {_quoted(formulas.iloc[0])}: a "
                "spreadsheet would run it as a formula. nonet's own CSV files put an apostrophe before it."
            )
        if len(odd):
            names_contain = counted(len(odd), f"{noun} contains", f"{noun}s contain")
            first = _quoted(odd.iloc[0])
            yield f"{names_contain} control characters, first {first}. They are shown as escapes."


def _quoted(name: str) -> str:
    return '"' + printable(name).replace("\n", "\\n").replace("\t", "\\t") + '"'
