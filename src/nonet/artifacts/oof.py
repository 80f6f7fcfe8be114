"""The layout of oof.parquet: one row per image, architecture and view set, with a column of logits per class.

logits.parquet, which `nonet predict` writes, has the same columns of logits.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

PREFIX = "logit_"


def logit_columns(classes: Iterable[str]) -> list[str]:
    """Return the columns of these classes' logits, in their order."""
    return [PREFIX + code for code in classes]


def logit_classes(table: pd.DataFrame) -> list[str]:
    """Return the classes whose logits a table has, in the order of its columns."""
    return [column.removeprefix(PREFIX) for column in table.columns if column.startswith(PREFIX)]


def read_oof(file: Path) -> pd.DataFrame:
    """Read the oof.parquet of a run or a member.

    Parameters
    ----------
    file : Path

    Returns
    -------
    DataFrame
        Columns image_id, label, patient, source, fold, architecture, view_set, ood_score, nucleus and
        `logit_<CLASS>`.
    """
    return pd.read_parquet(file).astype({"image_id": str})


def first_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per image, in alphabetical order of image_id: for the columns that members and views share."""
    return table.drop_duplicates("image_id").sort_values("image_id")


def values_by_architecture(
    table: pd.DataFrame, columns: Sequence[str], architectures: Sequence[str], image_id: np.ndarray
) -> np.ndarray:
    """Arrange the rows of one view set by architecture and image.

    Parameters
    ----------
    table : DataFrame
        At most one row per architecture and image.
    columns : sequence of str
        Columns of numbers.
    architectures : sequence of str
        Order of the first axis.
    image_id : ndarray of str, shape (n,)
        Order of the second axis.

    Returns
    -------
    ndarray of float64, shape (num_architectures, n, num_columns)
        NaN where there is no row, as of a dead member.
    """
    by_image = table.set_index("image_id")
    # Not np.stack, which keeps the layout of pandas' blocks: sums over classes would differ in their last digits.
    values = np.empty((len(architectures), len(image_id), len(columns)))
    for number, name in enumerate(architectures):
        rows = by_image.loc[by_image["architecture"] == name, list(columns)]
        values[number] = rows.reindex(image_id).to_numpy(dtype=np.float64)
    return values
