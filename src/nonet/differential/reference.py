"""What a person counted: a table of labels, one row per cell, or of counts, one row per case."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nonet.artifacts.csv_files import unquote
from nonet.cells import class_code, class_name
from nonet.data.sources.tables import read_table
from nonet.differential.groups import NOT_COUNTED
from nonet.errors import DataError
from nonet.evaluation.score import IMAGE_COLUMNS, LABEL_COLUMNS

CASE_COLUMNS = ("case", "patient", "sample")
#: Columns of a table of counts that are no classes.
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


def read_reference(path: Path) -> Reference:
    """Read a person's labels or counts.

    Parameters
    ----------
    path : Path
        CSV with a column of `IMAGE_COLUMNS` and one of `LABEL_COLUMNS`: labels, one row per cell. Or with a column of
        `CASE_COLUMNS` and a column per class, by code or name: counts or per cents, one row per case.

    Returns
    -------
    Reference

    Raises
    ------
    DataError
        If it is neither, or a number is negative, missing or not a number.
    """
    table = unquote(read_table(path))
    columns = {name.strip().lower(): name for name in reversed(list(map(str, table.columns)))}
    image = next((columns[name] for name in IMAGE_COLUMNS if name in columns), None)
    label = next((columns[name] for name in LABEL_COLUMNS if name in columns), None)
    case = next((columns[name] for name in CASE_COLUMNS if name in columns), None)
    if image is not None and label is not None:
        return _labels(table, image, label, case)
    codes = {name: code for name in map(str, table.columns) if (code := _class_of(name)) and name != case}
    if case is None or not codes:
        raise DataError(
            f"{path} is neither a table of labels nor of counts: its columns are {', '.join(map(str, table.columns))}.",
            hint="Labels need the columns image and label; counts need the column case and one column per class, "
            "such as SNE or lymphocyte.",
        )
    return _counts(path, table, case, codes)


def _labels(table: pd.DataFrame, image: str, label: str, case: str | None) -> Reference:
    cells = pd.DataFrame({"image": table[image], "label": table[label].map(lambda text: _class_of(text) or text)})
    cells["case"] = "" if case is None else table[case]
    empty = cells["label"] == ""
    notes = [f"{empty.sum():,} rows of the reference have no label and are left out."] if empty.any() else []
    return Reference(cells[~empty].reset_index(drop=True), None, notes)


def _counts(path: Path, table: pd.DataFrame, case: str, codes: dict[str, str]) -> Reference:
    numbers = (
        table[list(codes)].replace("", "0").apply(lambda column: column.str.strip().str.removesuffix("%").str.strip())
    )
    values = numbers.apply(pd.to_numeric, errors="coerce")
    wrong = values.isna() | (values < 0) | ~np.isfinite(values)
    if wrong.any(axis=None):
        row, column = np.argwhere(wrong.to_numpy())[0]
        raise DataError(
            f"{path}, row {row + 2}, column {values.columns[column]}: "
            f'"{table[values.columns[column]].iloc[row]}" is not a count.',
            hint="Write a number of cells or a per cent, at least 0; empty is 0.",
        )
    twice = table[case][table[case].duplicated()]
    if len(twice):
        raise DataError(f'{path} has two rows for case "{twice.iloc[0]}".', hint="Give each case one row.")
    values.columns = [codes[name] for name in values.columns]
    white = values.T.groupby(level=0).sum().T.drop(columns=list(NOT_COUNTED), errors="ignore")
    total = white.sum(axis=1)
    if (total == 0).any():
        raise DataError(
            f'{path}: case "{table[case][total == 0].iloc[0]}" has no white cell.',
            hint="Remove the row, or fill it in.",
        )
    ignored = [name for name in map(str, table.columns) if name not in codes and name != case]
    others = [name for name in ignored if name.strip().lower() not in _TOTALS]
    notes = [f"Columns of the reference that are no class are left out: {', '.join(others)}."] if others else []
    return Reference(None, white.div(total, axis=0).set_axis(table[case].to_numpy()), notes)


def _class_of(name: str) -> str | None:
    """Return the code of a class or of a cell that is not counted, by code or name; None for other words."""
    plain = name.strip().removesuffix("%").strip()
    by_name = {words: code for code, words in NOT_COUNTED.items()}
    return class_code(plain) or (plain.upper() if plain.upper() in NOT_COUNTED else by_name.get(plain.lower()))


def class_title(code: str) -> str:
    """Return "SNE, segmented neutrophil", or the label itself where it is not one of the thirteen."""
    return code if class_name(code) == code else f"{code}, {class_name(code)}"
