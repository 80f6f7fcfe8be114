"""What a person counted: a table of labels, one row per cell, or of counts, one row per case."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nonet.artifacts.csv_files import unquote
from nonet.cells import UNIDENTIFIED
from nonet.data.labels import match_label, name_code
from nonet.data.sources.tables import read_table
from nonet.differential.groups import is_white
from nonet.errors import DataError, counted
from nonet.evaluation.score import IMAGE_COLUMNS, LABEL_COLUMNS

CASE_COLUMNS = ("case", "patient", "sample")
_MOST = 1e9  # cells that anyone counts
#: Names of columns that add up the others.
_TOTALS = ("total", "sum", "cells", "n")


@dataclass(frozen=True)
class Reference:
    """A person's count.

    Attributes
    ----------
    cells : DataFrame or None
        Columns image, label and case ("" where the table has none); None for a table of counts.
    shares : DataFrame or None
        Rows are cases, columns classes, values shares of the white cells; None for a table of labels.
    notes : list of str
        What was left out.
    """

    cells: pd.DataFrame | None
    shares: pd.DataFrame | None
    notes: list[str]


def read_reference(path: Path, classes: list[str]) -> Reference:
    """Read a person's labels or counts.

    Parameters
    ----------
    path : Path
        CSV with a column of `IMAGE_COLUMNS` and one of `LABEL_COLUMNS`: labels, one row per cell. Or with a column of
        `CASE_COLUMNS` and a column per class, by code or name: counts or per cents, one row per case.

    classes : list of str
        Of the run; its own words for them are understood, too.

    Returns
    -------
    Reference

    Raises
    ------
    DataError
        If it is neither, or a number is negative, missing or not a number.
    """
    table = unquote(read_table(path))
    if table.empty:
        raise DataError(f"{path} has a header line and no rows.", hint="Give one row per cell, or one per case.")
    columns = {name.strip().lower(): name for name in reversed(list(map(str, table.columns)))}
    image = next((columns[name] for name in IMAGE_COLUMNS if name in columns), None)
    label = next((columns[name] for name in LABEL_COLUMNS if name in columns), None)
    case = next((columns[name] for name in CASE_COLUMNS if name in columns), None)
    if image is not None and label is not None:
        return _labels(path, table, image, label, case, classes)
    codes = {name: code for name in map(str, table.columns) if (code := _class_of(name, classes)) and name != case}
    if case is None or not codes:
        raise DataError(
            f"{path} is neither a table of labels nor of counts: its columns are {', '.join(map(str, table.columns))}.",
            hint="Labels need the columns image and label; counts need the column case and one column per class, "
            "such as SNE or lymphocyte.",
        )
    return _counts(path, table, case, codes)


def _labels(path: Path, table: pd.DataFrame, image: str, label: str, case: str | None, classes: list[str]) -> Reference:
    labels = table[label].map(lambda text: _class_of(text, classes) or text)
    cells = pd.DataFrame({"image": table[image], "label": labels})
    cells["case"] = "" if case is None else table[case]
    without = cells["label"].isin(["", UNIDENTIFIED])
    if without.all():
        raise DataError(f'{path} names no class: its column "{label}" is empty or "{UNIDENTIFIED}" throughout.')
    rows = counted(int(without.sum()), "row of the reference has", "rows of the reference have")
    notes = [f"{rows} no class and {'is' if without.sum() == 1 else 'are'} left out."] if without.any() else []
    return Reference(cells[~without].reset_index(drop=True), None, notes)


def _counts(path: Path, table: pd.DataFrame, case: str, codes: dict[str, str]) -> Reference:
    numbers = (
        table[list(codes)].replace("", "0").apply(lambda column: column.str.strip().str.removesuffix("%").str.strip())
    )
    values = numbers.apply(pd.to_numeric, errors="coerce")
    right = (values >= 0) & (values < _MOST)  # NaN and infinity are neither
    if not right.all(axis=None):
        row, column = map(int, np.argwhere(~right.to_numpy())[0])
        raise DataError(
            f"{path}, line {table.index[row]}, column {values.columns[column]}: "
            f'"{table[values.columns[column]].iloc[row]}" is not a count.',
            hint="Write a number of cells or a per cent, at least 0; empty is 0.",
        )
    nameless = table[case] == ""
    if nameless.any():
        raise DataError(
            f"{path}, line {table.index[int(nameless.argmax())]}: the case has no name.", hint="Fill it in."
        )
    twice = table[case][table[case].duplicated()]
    if len(twice):
        raise DataError(f'{path} has two rows for case "{twice.iloc[0]}".', hint="Give each case one row.")
    values.columns = [codes[name] for name in values.columns]
    sums = values.T.groupby(level=0).sum().T
    white = sums[[label for label in sums if is_white(str(label))]]
    total = white.sum(axis=1)
    if (total == 0).any():
        raise DataError(
            f'{path}: case "{table[case][total == 0].iloc[0]}" has no white cell.',
            hint="Remove the row, or fill it in.",
        )
    ignored = [name for name in map(str, table.columns) if name not in codes and name != case]
    others = [name for name in ignored if name.strip().lower() not in _TOTALS]
    notes = [f"Columns of the reference that do not name a class: {', '.join(others)}."] if others else []
    return Reference(None, white.div(total, axis=0).set_axis(table[case].to_numpy()), notes)


def _class_of(name: str, classes: list[str]) -> str | None:
    """Return the class that a name means, such as "SNE" or "Lymphocytes %": one of the run's, or a code; else None."""
    name = name.strip().removesuffix("%").strip()
    return (match_label(name, classes) or name_code(name)) if name else None
