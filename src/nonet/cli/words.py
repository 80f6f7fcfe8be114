"""How runs, datasets and lists are given on the command line, and tables shown.

Folders are looked at while the command line is read: what is not there is told before anything heavy is imported.
"""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from nonet.artifacts.run import Run
from nonet.data.opening import require_dataset
from nonet.models.accelerators import ACCELERATORS


def _is_run(_: type, folder: Path) -> None:
    Run(folder).require()


def _is_dataset(_: type, folder: Path | None) -> None:
    if folder is not None:
        require_dataset(folder.expanduser())


RunFolder = Annotated[Path, Parameter(validator=_is_run)]
DatasetFolder = Annotated[Path, Parameter(validator=_is_dataset)]
Accelerator = Literal[ACCELERATORS]
Names = Annotated[list[str], Parameter(negative=(), consume_multiple=True)]


def split_commas(names: list[str] | None) -> list[str] | None:
    """Return the names of "A B", "A,B" and "A,B C" alike; None where none is given."""
    return [name for item in names for name in item.split(",")] if names else None


def in_columns(table) -> str:
    """Return a table of text with its columns flush left."""
    columns = [[str(name), *map(str, table[name])] for name in table.columns]
    widths = [max(map(len, column)) for column in columns]
    return "\n".join("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths)).rstrip() for row in zip(*columns))
