"""What commands print."""

from typing import TYPE_CHECKING

from nonet.cli.options import with_options
from nonet.errors import printable

if TYPE_CHECKING:
    import pandas as pd


def say(text: object = "") -> None:
    """Print text with parameters as options, and control characters, for example of file names, escaped."""
    print(printable(with_options(str(text))))


def in_columns(table: "pd.DataFrame") -> str:
    """Return a table as text with left-aligned columns."""
    columns = [[str(name), *map(str, table[name])] for name in table.columns]
    widths = [max(map(len, column)) for column in columns]
    return "\n".join("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths)).rstrip() for row in zip(*columns))
