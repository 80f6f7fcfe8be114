"""CSV files that are safe in spreadsheets: text that would be run as a formula is quoted, and unquoted on reading."""

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nonet.artifacts.run import written_whole

if TYPE_CHECKING:
    import pandas as pd

#: Characters that begin a formula in spreadsheets; see OWASP, "CSV Injection".
_SIGNS = r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"  # the last four are full-width ones
_FORMULA = re.compile(rf"'*{_SIGNS}")
_QUOTED = re.compile(rf"'+{_SIGNS}")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def is_formula(text: object) -> bool:
    """Whether a spreadsheet would run text as a formula; signed numbers are not formulas."""
    return isinstance(text, str) and bool(re.match(_SIGNS, text)) and not _NUMBER.fullmatch(text)


def quote(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return a table with an apostrophe before each text, in cells and header, that would be a formula.

    Text that already begins with apostrophes before such a character gets one more, so that `unquote` restores it.

    Parameters
    ----------
    table : DataFrame

    Returns
    -------
    DataFrame
    """
    return _map_text(table, lambda text: f"'{text}" if _is_to_quote(text) else text)


def unquote(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return a table without the apostrophes added by `quote`."""
    return _map_text(table, lambda text: text[1:] if _QUOTED.match(text) else text)


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Write a quoted table atomically, without its index: all of it or nothing.

    Parameters
    ----------
    path : Path
    table : DataFrame
    """
    with written_whole(path) as temporary:
        to_csv(table, temporary)


def to_csv(table: "pd.DataFrame", file: Any, **options: Any) -> None:
    """Write a quoted table to a file or path, without its index.

    Parameters
    ----------
    table : DataFrame
    file : path or text file
    **options
        For `DataFrame.to_csv`.
    """
    quoted = quote(table)
    texts = (*quoted.columns, *quoted.select_dtypes(exclude="number").to_numpy().flat)
    if any(isinstance(text, str) and "\r" in text for text in texts):
        options["quoting"] = csv.QUOTE_NONNUMERIC  # Python's writer does not quote it; readers end the row there
    quoted.to_csv(file, index=False, lineterminator="\n", **options)


def read_csv(file: Any, **options: Any) -> "pd.DataFrame":
    """Read what `write_csv` wrote.

    Parameters
    ----------
    file : path or text file
    **options
        For `pandas.read_csv`.

    Returns
    -------
    DataFrame
    """
    import pandas as pd

    return unquote(pd.read_csv(file, **options))


def _is_to_quote(text: str) -> bool:
    return bool(_FORMULA.match(text)) and not _NUMBER.fullmatch(text)


def _map_text(table: "pd.DataFrame", change: Callable[[str], str]) -> "pd.DataFrame":
    import pandas as pd

    def cell(value: object) -> object:
        return change(value) if isinstance(value, str) else value

    table = table.copy(deep=False)
    table.columns = [cell(name) for name in table.columns]
    for place, kind in enumerate(table.dtypes):
        if not (pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_datetime64_any_dtype(kind)):
            column = table.iloc[:, place]
            changed = column.astype(object).map(cell).astype(column.dtype)
            table.isetitem(place, changed)  # type: ignore[arg-type]  # the stubs know of scalars alone
    return table
