"""predictions.csv, which `nonet predict` writes: a row per image. The only module that knows how to read it."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from nonet.artifacts.csv_files import read_csv
from nonet.artifacts.integrity import reading
from nonet.errors import DamagedError

if TYPE_CHECKING:
    import pandas as pd

NAME = "predictions.csv"
#: Columns with text; all others are numbers.
TEXT_COLUMNS = ("image", "case", "label", "best", "reason", "set", "note", "priors", "error")
_HINT = 'Undo the change; or run the same "nonet predict" again, which keeps this file under another name.'
#: Prefix of the columns of probabilities.
PREFIX = "p_"
#: Images that are predicted and stored together, as one file of "parts".
CHUNK_SIZE = 64


def read_predictions(file: Path) -> "pd.DataFrame":
    """Read predictions.csv.

    Parameters
    ----------
    file : Path

    Returns
    -------
    DataFrame
        Numbers of unreadable images are NaN.

    Raises
    ------
    DamagedError
        If it is missing, is not such a table, or a line is cut short.
    """
    import pandas as pd

    with reading(file, hint=_HINT):
        _require_whole_lines(file)
        numbers = [name for name in pd.read_csv(file, nrows=0) if name not in TEXT_COLUMNS]
        return read_csv(
            file,
            dtype=dict.fromkeys(TEXT_COLUMNS, str) | dict.fromkeys(numbers, float),
            keep_default_na=False,
            na_values={name: [""] for name in numbers},
        )


def _require_whole_lines(file: Path) -> None:
    """Refuse another table, and lines that are too short or too long: pandas fills up the former without a word."""
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream)
        try:
            header = next(reader, [])
            if "image" not in header:
                raise DamagedError(f"{file} has no column image, separated by commas.", hint=_HINT)
            for row in reader:
                if row and len(row) != len(header):
                    where = f"{file}, line {reader.line_num}"
                    raise DamagedError(f"{where}: {len(row)} values for {len(header)} columns.", hint=_HINT)
        except csv.Error as error:
            raise ValueError(f"line {reader.line_num}: {error}") from error


def predicted_classes(table: "pd.DataFrame") -> list[str]:
    """Return the classes of the run, from the columns of probabilities."""
    return [name.removeprefix(PREFIX) for name in map(str, table.columns) if name.startswith(PREFIX)]
