"""`nonet table`: Table 1 over several runs, on the images that all of them score, with paired differences.

What can be wrong with a call is checked before NumPy and pandas are imported.
"""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from nonet.artifacts.run import Run
from nonet.artifacts.storage import FolderKind, require_usable_folder
from nonet.errors import DataError
from nonet.evaluation.interval_options import require_interval_options
from nonet.evaluation.opening import require_evaluable

if TYPE_CHECKING:
    from nonet.evaluation.runs_table import RunsTable

#: How to tell a folder that `table` wrote; it has no JSON file, so that only the marker does.
FOLDER = FolderKind("comparison of runs", main="table.csv", keys={"nonet"}, hint="Give a new folder as `out`.")


def table(
    runs: Sequence[str | PathLike | Run],
    *,
    out: str | PathLike | None = None,
    num_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> "RunsTable":
    """Set runs side by side, on the evaluated images that all of them hold out, with paired differences.

    An image is the same in two runs if its image_id is; else if its content is. Every row of every run is scored on the
    same resampled patients, so what two runs share, such as a hard patient, cancels in their difference. The
    ensembles are as trained, with the weights in ensemble.json.

    Parameters
    ----------
    runs : sequence of str, path-like or Run
        Two or more trained runs; differences are later ones minus earlier ones.
    out : str or path-like, optional
        Folder for table.csv, differences.csv and table.md; by default nothing is written.
    num_resamples : int
        Resamples of the bootstrap over patients, or over images where patients are unknown.
    confidence : float in (0, 1)
        Of the intervals.
    seed : int
        Of the resamples.

    Returns
    -------
    RunsTable
        Tables and notes.

    Raises
    ------
    DataError
        If the runs share no image, a shared image has different labels, or an argument is out of range.
    RunError
        As `nonet.evaluate` does.
    StorageError
        If `out` holds other files.
    """
    require_interval_options(num_resamples, confidence)
    folder = None if out is None else Path(out).expanduser()
    if folder is not None:
        require_usable_folder(folder, FOLDER)
    opened = [Run(run) for run in runs]
    if len(opened) < 2:
        raise DataError("A comparison needs at least two runs.", hint="For one run: nonet evaluate RUN.")
    if len({run.folder.resolve() for run in opened}) < len(opened):
        raise DataError("A run is given twice.", hint="Give each run once.")
    for run in opened:
        require_evaluable(run)
    from nonet.evaluation.bootstrap import Bootstrap
    from nonet.evaluation.runs_table import compare_runs

    return compare_runs(opened, folder, Bootstrap(num_resamples, confidence, seed))
