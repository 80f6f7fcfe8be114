"""Reading CSV files as people save them: byte-order mark, CRLF, empty trailing columns."""

import csv
import io
from pathlib import Path

import pandas as pd

from nonet.errors import DataError


def read_table(path: Path) -> pd.DataFrame:
    """Read a comma-separated file as text, blanks around values removed, columns without a name dropped.

    Returns
    -------
    DataFrame of str, indexed by the line of the file.

    Raises
    ------
    DataError where it is missing, empty, not UTF-8, not separated by commas, or ragged.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"There is no table {path}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text.", hint='Save it as "CSV UTF-8".') from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(path, header)
        lines, rows = [], []
        for row in reader:
            if any(value.strip() for value in row):
                rows.append(_fit(path, reader.line_num, row, len(header)))
                lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}, is not CSV: {error}.") from error
    table = pd.DataFrame(rows, columns=header, index=lines, dtype=object)
    return table.loc[:, [name != "" for name in header]]


def _check_header(path: Path, header: list[str]) -> None:
    if not any(header):
        raise DataError(f"{path} is empty.", hint="Its first line should name the columns.")
    for delimiter, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(header) == 1 and delimiter in header[0]:
            raise DataError(f'{path} is separated by {name} ("{delimiter}").', hint="Save it separated by commas.")
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise DataError(f"{path} has two columns named {twice[0]}.", hint="Remove or rename one.")


def _fit(path: Path, line: int, row: list[str], width: int) -> list[str]:
    values = [value.strip() for value in row]
    if any(values[width:]):
        raise DataError(
            f"{path}, line {line}, has {len(values)} values for {width} columns.",
            hint='Put values that hold a comma into quotation marks: "a, b".',
        )
    return values[:width] + [""] * (width - len(values))
