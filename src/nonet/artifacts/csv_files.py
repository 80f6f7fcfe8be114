"""CSV files that people open in spreadsheets: text that would be run as a formula is quoted, and read back."""

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from nonet.artifacts.run import written_whole

#: What spreadsheets take as the beginning of a formula; see OWASP, "CSV Injection".
_SIGNS = r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"  # the last four are full-width ones
_FORMULA = re.compile(rf"'*{_SIGNS}")
_QUOTED = re.compile(rf"'+{_SIGNS}")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def is_formula(text: object) -> bool:
    """Whether a spreadsheet would run text as a formula; a number with a sign is none."""
    return isinstance(text, str) and bool(re.match(_SIGNS, text)) and not _NUMBER.fullmatch(text)


def quote(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table in which an apostrophe is put before each text, also of its header, that would be a formula.

    Text that begins with apostrophes before such a sign gets one more, so that `unquote` gives back what there was.
    """
    return _map_text(table, lambda text: f"'{text}" if _is_to_quote(text) else text)


def unquote(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table without the apostrophes that `quote` put in."""
    return _map_text(table, lambda text: text[1:] if _QUOTED.match(text) else text)


def write_csv(path: Path, table: pd.DataFrame, *, index: bool = False) -> None:
    """Write a whole table or none, so that a spreadsheet shows every text as it is."""
    with written_whole(path) as temporary:
        to_csv(table, temporary, index=index)


def to_csv(table: pd.DataFrame, file: Any, *, index: bool = False, **options: Any) -> None:
    """Write as `DataFrame.to_csv`, quoted."""
    if index:
        table = table.rename_axis(index=table.index.name or "").reset_index()
    quoted = quote(table)
    if _any_text(quoted, lambda text: "\r" in text):  # which Python's writer leaves bare; readers end the row at it
        options["quoting"] = csv.QUOTE_NONNUMERIC
    quoted.to_csv(file, index=False, lineterminator="\n", **options)


def read_csv(file: Any, **options: Any) -> pd.DataFrame:
    """Read as `pandas.read_csv` what `write_csv` wrote."""
    return unquote(pd.read_csv(file, **options))


def _is_to_quote(text: str) -> bool:
    return bool(_FORMULA.match(text)) and not _NUMBER.fullmatch(text)


def _any_text(table: pd.DataFrame, holds: Callable[[str], bool]) -> bool:
    found = []
    _map_text(table, lambda text: found.append(holds(text)) or text)
    return any(found)


def _map_text(table: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    def cell(value):
        return change(value) if isinstance(value, str) else value

    table = table.copy(deep=False)
    table.columns = [cell(name) for name in table.columns]
    for place, kind in enumerate(table.dtypes):
        if not (pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_datetime64_any_dtype(kind)):
            column = table.iloc[:, place]
            table.isetitem(place, column.astype(object).map(cell).astype(column.dtype))
    return table
