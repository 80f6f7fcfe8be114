"""Reading CSV files as people save them: byte-order mark, CRLF, UTF-16, a line "sep=,", values as ="007"."""

import codecs
import csv
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

from nonet.data.images.file_kinds import WORKBOOK, detect_file_kind, unpack_hint
from nonet.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

# UTF-32 first: its mark starts with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060\u00ad"
#: ="007", "007" and '007', which keep a spreadsheet from changing a value.
_WRAPPED = re.compile(r"""="([^"]*)"|"([^"]+)"|'([^']+)'""")
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}  # a blank may be part of a column's name
_MAX_CELL = 2**31 - 1  # some tables store images as text, in a column that nonet does not use


def read_table(path: Path) -> "pd.DataFrame":
    """Read a comma-separated file as text.

    Blanks and quotation marks around values, columns without a name, and repeated header lines (as in concatenated
    files) are removed.

    Parameters
    ----------
    path : Path

    Returns
    -------
    DataFrame of str
        Indexed by the line in the file.

    Raises
    ------
    DataError
        When it is missing, not a text file, empty, not UTF-8 or UTF-16, not separated by commas, or ragged.
    """
    text = _read_text(path)
    # A line that tells Excel the separator is not part of the table.
    sep = re.match(r'"?sep=(.)"?[ \t;,]*(?:\r\n|\r|\n)', text, re.IGNORECASE)
    skipped = 0
    if sep:
        if sep.group(1) != ",":
            raise _other_separator(path, sep.group(1))
        text, skipped = text[sep.end() :], 1
    # Old Macs end lines with CR alone, which the csv module refuses.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    csv.field_size_limit(_MAX_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    last = 0  # line at which the last complete row ends
    try:
        header = [_bare(name) for name in next(reader, [])]
        while not any(header) and reader.line_num < text.count("\n"):
            header = [_bare(name) for name in next(reader, [])]
        _check_header(path, header)
        lines, rows = [], []
        last = reader.line_num
        for row in reader:
            values = [_bare(value) for value in row]
            last = reader.line_num
            if any(values) and values != header:
                rows.append(_fit(path, last + skipped, values, header))
                lines.append(last + skipped)
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise DataError(
                f"{path}, line {last + skipped + 1}: a quotation mark is opened there, or below, and never closed.",
                hint="Close or remove it.",
            ) from error
        raise DataError(
            f"{path}, line {reader.line_num + skipped}, is not CSV: {error}.",
            hint='Double the quotation marks within a value: "5"" left".',
        ) from error
    import pandas as pd  # a table that is missing or damaged is refused before

    table = pd.DataFrame(rows, columns=header, index=lines, dtype=object)
    return table.loc[:, [name != "" for name in header]]


def require_table(path: Path) -> None:
    """Require that a file exists at this path, without reading it."""
    try:
        if path.is_dir():
            raise DataError(f"{path} is a folder, not a table.", hint=f"Give its CSV file, or write folder:{path}.")
        if not path.exists():
            raise DataError(f"{path} does not exist.", hint="Check the path.")
        if not path.is_file():
            raise DataError(f"{path} is not a regular file.", hint="Save the table as a file first.")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error


def _read_text(path: Path) -> str:
    try:
        require_table(path)
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist.") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    kind = detect_file_kind(path)
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
        raise DataError(
            f"{path} contains NUL characters: it is UTF-16 without a byte-order mark, or damaged.",
            hint='Save it as "CSV UTF-8".',
        )
    return text.lstrip(_INVISIBLE)


def _bare(value: str) -> str:
    """Return a value without what a spreadsheet does not show around it: blanks, zero-width characters, ="…"."""
    value = value.strip().strip(_INVISIBLE).strip()
    wrapped = _WRAPPED.fullmatch(value)
    return next(inner for inner in wrapped.groups() if inner is not None).strip() if wrapped else value


def _check_header(path: Path, header: list[str]) -> None:
    if not any(header):
        raise DataError(f"{path} is empty.", hint="Its first line should name the columns.")
    for delimiter in _SEPARATORS:
        if len(header) == 1 and delimiter in header[0]:
            raise _other_separator(path, delimiter)
    if len(header) == 1 and {"path", "label"} <= set(header[0].casefold().split()):
        raise _other_separator(path, " ")
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise DataError(f"{path} has two columns named {twice[0]}.", hint="Remove or rename one.")


def _other_separator(path: Path, separator: str) -> DataError:
    name = {**_SEPARATORS, " ": "blanks"}.get(separator, "another character")
    return DataError(f'{path} is separated by {name} ("{separator}").', hint="Save it separated by commas.")


def _fit(path: Path, line: int, values: list[str], header: list[str]) -> list[str]:
    width = len(header)
    if any(values[width:]):
        hint = 'Put values that contain a comma into quotation marks: "a, b".'
        if width == 1:
            hint = (
                f'The first line, "{header[0][:80]}", should name the columns: remove it if it is a title or comment.'
            )
        raise DataError(
            f"{path}, line {line}, has {len(values)} values for {width} column{'s' if width > 1 else ''}.", hint=hint
        )
    return values[:width] + [""] * (width - len(values))
