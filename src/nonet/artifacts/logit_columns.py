"""The columns of logits in oof.parquet and logits.parquet: the prefix `logit_` and the class."""

from collections.abc import Iterable

import pandas as pd

PREFIX = "logit_"


def logit_columns(classes: Iterable[str]) -> list[str]:
    """Return the columns of these classes' logits, in their order."""
    return [PREFIX + code for code in classes]


def logit_classes(table: pd.DataFrame) -> list[str]:
    """Return the classes whose logits a table has, in the order of its columns."""
    return [column.removeprefix(PREFIX) for column in table.columns if column.startswith(PREFIX)]
