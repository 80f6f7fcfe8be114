"""predictions.csv, which `nonet predict` writes: a row per image. The only module that knows how to read it."""

from pathlib import Path

import pandas as pd

from nonet.artifacts.csv_files import read_csv

NAME = "predictions.csv"
#: Columns with text; all others are numbers.
TEXT_COLUMNS = ("image", "case", "label", "best", "reason", "set", "note", "priors", "error")
#: Prefix of the columns of probabilities.
PREFIX = "p_"


def read_predictions(file: Path) -> pd.DataFrame:
    """Return predictions.csv as a DataFrame; numbers of unreadable images are NaN."""
    numbers = [name for name in pd.read_csv(file, nrows=0) if name not in TEXT_COLUMNS]
    return read_csv(
        file,
        dtype=dict.fromkeys(TEXT_COLUMNS, str) | dict.fromkeys(numbers, float),
        keep_default_na=False,
        na_values={name: [""] for name in numbers},
    )


def predicted_classes(table: pd.DataFrame) -> list[str]:
    """Return the classes of the run, from the columns of probabilities."""
    return [name.removeprefix(PREFIX) for name in map(str, table.columns) if name.startswith(PREFIX)]
