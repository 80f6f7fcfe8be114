"""How lists are given on the command line, and tables shown."""

from typing import Annotated

from cyclopts import Parameter

Names = Annotated[list[str], Parameter(negative=(), consume_multiple=True)]


def split_commas(names: list[str] | None) -> list[str] | None:
    """Return the names of "A B", "A,B" and "A,B C" alike; None where none is given."""
    return [name for item in names for name in item.split(",")] if names else None


def in_columns(table) -> str:
    """Return a table of text with its columns flush left."""
    columns = [[str(name), *map(str, table[name])] for name in table.columns]
    widths = [max(map(len, column)) for column in columns]
    return "\n".join("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths)).rstrip() for row in zip(*columns))
