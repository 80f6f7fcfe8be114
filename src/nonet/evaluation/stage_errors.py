"""How far the granulocyte stages are called too early or too late: the signed stage error. NumPy and pandas only.

A classifier and a reader may make equally many mistakes between stages and err in opposite directions. The direction
matters: stages called too early look like a left shift of the blood that is not there, and too late hide one.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from nonet.cells import GRANULOCYTE_STAGES, class_name
from nonet.evaluation.bootstrap import DEFAULT_BOOTSTRAP, Bootstrap, sums_by_group
from nonet.evaluation.not_measured import NotMeasured
from nonet.evaluation.oof import ALL_CLASSES, OutOfFold


def stage_errors(true: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Return by how many steps of maturation each cell's stage is called too late.

    Parameters
    ----------
    true, predicted : ndarray of int, shape (num_images,)
        Class numbers.
    classes : sequence of str
        The class codes.

    Returns
    -------
    ndarray of float64, shape (num_images,)
        Negative where the stage is called too early (less mature), positive where too late; NaN where the true or the
        predicted class is not one of `GRANULOCYTE_STAGES`.

    Notes
    -----
    With r(c) = 0, 1, 2, 3, 4 for c = PMY, MY, MMY, BNE, SNE, the error of cell i is

        e_i = r(predicted_i) − r(true_i).

    Steps are counted along all five stages, whichever of them the classes have: from MY to BNE is two steps of
    maturation even for networks that do not know MMY, so that runs of different classes can be compared.

    Examples
    --------
    >>> stage_errors(np.array([1, 1, 0]), np.array([2, 1, 1]), ["LY", "MY", "SNE"])
    array([ 3.,  0., nan])
    """
    rank = {code: float(step) for step, code in enumerate(GRANULOCYTE_STAGES)}
    step = np.array([rank.get(code, np.nan) for code in classes])
    return step[predicted] - step[true]


def measure_stage_errors(
    oof: OutOfFold, predicted: np.ndarray, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP
) -> pd.DataFrame | NotMeasured:
    """Measure the mean signed and the mean absolute stage error, of all stages together and of each true stage.

    Parameters
    ----------
    oof : OutOfFold
        The held-out images.
    predicted : ndarray of int, shape (num_images,)
        The ensemble's class numbers.
    bootstrap : Bootstrap
        For the intervals.

    Returns
    -------
    DataFrame or NotMeasured
        A row for all stages, then one per stage of the run in order of maturation. Columns: class (the true stage),
        name, images (cells whose true and predicted class are both stages, n below), groups (of the bootstrap, of these
        cells), other_class (further cells of the stage, predicted as a class that is not a stage), signed_error and
        absolute_error, each with _low and _high. Errors are NaN without a cell, and intervals also where all cells are
        of one group. NotMeasured where the run has fewer than two stages, or no cell has both classes among them.

    Notes
    -----
    With the errors e_i of `stage_errors`, over the n cells of a row:

        signed error = 1/n Σ e_i,    absolute error = 1/n Σ |e_i|.

    The first stage can only be called too late, and the last only too early. Therefore the signed error of all stages
    also depends on how common each is.
    """
    stages = [code for code in GRANULOCYTE_STAGES if code in oof.classes]
    if len(stages) < 2:
        return NotMeasured(
            f"The signed stage error is not measured: the run has fewer than two of the stages "
            f"{', '.join(GRANULOCYTE_STAGES)}."
        )
    error = stage_errors(oof.true, predicted, oof.classes)
    counts = ~np.isnan(error)
    if not counts.any():
        return NotMeasured("The signed stage error is not measured: no cell of a stage is predicted as a stage.")
    number = [oof.classes.index(code) for code in stages]
    of_row = np.column_stack([np.isin(oof.true, number), *(oof.true == k for k in number)])
    per_image = np.column_stack([np.nan_to_num(error), np.abs(np.nan_to_num(error)), counts])
    shape = (per_image.shape[1], of_row.shape[1])
    sums = sums_by_group((per_image[:, :, None] * of_row[:, None]).reshape(len(error), -1), oof.group, shape)
    names = ("signed_error", "absolute_error")
    means = _means(sums.total())
    low, high = bootstrap.intervals(sums, {"means": _means})["means"]
    rows = []
    for column, code in enumerate((ALL_CLASSES, *stages)):
        judged = of_row[:, column] & counts
        num_groups = len(set(oof.group[judged]))
        row = {
            "class": code,
            "name": "all stages" if code == ALL_CLASSES else class_name(code),
            "images": int(judged.sum()),
            "groups": num_groups,
            "other_class": int((of_row[:, column] & ~counts).sum()),
        }
        for place, name in enumerate(names):
            row[name] = means[place, column]
            row[f"{name}_low"] = low[place, column] if num_groups > 1 else np.nan
            row[f"{name}_high"] = high[place, column] if num_groups > 1 else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def _means(sums: np.ndarray) -> np.ndarray:
    """Return mean signed and absolute errors, (..., 2, rows), from sums (..., 3, rows), whose last are counts."""
    num = sums[..., 2:, :]
    return np.divide(sums[..., :2, :], num, out=np.full((*sums.shape[:-2], 2, sums.shape[-1]), np.nan), where=num > 0)
