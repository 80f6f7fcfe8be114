"""What commands print."""

from collections.abc import Mapping, Sequence
from typing import Any

from nonet.cli.options import with_options
from nonet.errors import printable


def say(text: object = "") -> None:
    """Print text with parameters as options, and control characters, for example of file names, escaped."""
    print(printable(with_options(str(text))))


def in_columns(rows: Sequence[Mapping[Any, object]]) -> str:
    """Return rows with the same keys, at least one, as text with left-aligned columns."""
    columns = [[str(name), *(str(row[name]) for row in rows)] for name in rows[0]]
    widths = [max(map(len, column)) for column in columns]
    return "\n".join("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths)).rstrip() for row in zip(*columns))
