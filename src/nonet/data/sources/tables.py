"""Reading CSV files as people save them: byte-order mark, CRLF, UTF-16, a line "sep=,", empty trailing columns."""

import codecs
import csv
import io
import re
from pathlib import Path

import pandas as pd

from nonet.data.filekind import WORKBOOK, kind_of, unpack_hint
from nonet.errors import DataError

# UTF-32 first: its mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060\u00ad"


def read_table(path: Path) -> pd.DataFrame:
    """Read a comma-separated file as text, blanks around values removed, columns without a name dropped.

    Returns
    -------
    DataFrame of str, indexed by the line of the file.

    Raises
    ------
    DataError where it is missing, not a text file, empty, not UTF-8 or UTF-16, not separated by commas, or ragged.
    """
    text = _text_of(path)
    # A line that tells Excel the separator is not of the table.
    sep = re.match(r'"?sep=(.)"?[ \t;,]*(?:\r\n|\r|\n)', text, re.IGNORECASE)
    skipped = 0
    if sep:
        if sep.group(1) != ",":
            raise _other_separator(path, sep.group(1))
        text, skipped = text[sep.end() :], 1
    # Old Macs end lines by CR alone, which csv refuses.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [_bare(name) for name in next(reader, [])]
        while not any(header) and reader.line_num < text.count("\n"):
            header = [_bare(name) for name in next(reader, [])]
        _check_header(path, header)
        lines, rows = [], []
        for row in reader:
            if any(value.strip() for value in row):
                rows.append(_fit(path, reader.line_num + skipped, row, len(header)))
                lines.append(reader.line_num + skipped)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num + skipped}, is not CSV: {error}.") from error
    table = pd.DataFrame(rows, columns=header, index=lines, dtype=object)
    return table.loc[:, [name != "" for name in header]]


def _text_of(path: Path) -> str:
    try:
        if path.is_dir():
            raise DataError(f"{path} is a folder, not a table.", hint=f"Give its CSV file, or write folder:{path}.")
        if path.exists() and not path.is_file():
            raise DataError(f"{path} is not a regular file.", hint="Save the table as a file first.")
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"There is no table {path}.") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    kind = kind_of(path)
    if kind:
        is_workbook = kind.group == WORKBOOK
        hint = 'Open it and save it as "CSV UTF-8".' if is_workbook else unpack_hint(path, "the CSV file in it")
        raise DataError(f"{path} is {kind.words}, not CSV.", hint=hint or "Give a CSV file: text, separated by commas.")
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8-sig")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path} is not UTF-8 text: line {line} has the byte 0x{data[error.start]:02x}.",
            hint='Save it as "CSV UTF-8"; it may be in Windows-1252 (Latin-1).',
        ) from error
    if text[:200].count("\0") > 20:
        raise DataError(f"{path} is not UTF-8 text; it may be UTF-16.", hint='Save it as "CSV UTF-8".')
    return text.lstrip(_INVISIBLE)


def _bare(value: str) -> str:
    """Return a value without blanks and letters of no width around it, which nobody sees in a spreadsheet."""
    return value.strip().strip(_INVISIBLE).strip()


def _check_header(path: Path, header: list[str]) -> None:
    if not any(header):
        raise DataError(f"{path} is empty.", hint="Its first line should name the columns.")
    for delimiter in _SEPARATORS:
        if len(header) == 1 and delimiter in header[0]:
            raise _other_separator(path, delimiter)
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise DataError(f"{path} has two columns named {twice[0]}.", hint="Remove or rename one.")


_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def _other_separator(path: Path, separator: str) -> DataError:
    named = _SEPARATORS.get(separator, "another sign")
    return DataError(f'{path} is separated by {named} ("{separator}").', hint="Save it separated by commas.")


def _fit(path: Path, line: int, row: list[str], width: int) -> list[str]:
    values = [_bare(value) for value in row]
    if any(values[width:]):
        raise DataError(
            f"{path}, line {line}, has {len(values)} values for {width} columns.",
            hint='Put values that hold a comma into quotation marks: "a, b".',
        )
    return values[:width] + [""] * (width - len(values))
