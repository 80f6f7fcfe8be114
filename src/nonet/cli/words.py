"""How lists are given on the command line."""

from typing import Annotated

from cyclopts import Parameter

Names = Annotated[list[str], Parameter(negative=(), consume_multiple=True)]


def split_commas(names: list[str] | None) -> list[str] | None:
    """Return the names of "A B", "A,B" and "A,B C" alike; None where none is given."""
    return [name for item in names for name in item.split(",")] if names else None
