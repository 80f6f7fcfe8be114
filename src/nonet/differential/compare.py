"""`nonet compare`: a count by the ensemble against a count by a person, as evaluations of cell readers report it.

What can be wrong with a call is checked before pandas and SciPy are imported, which takes seconds.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from nonet.artifacts.storage import FolderKind, require_usable_folder
from nonet.data.sources.tables import require_table
from nonet.differential.count import HasFolder, get_folder, require_predictions
from nonet.evaluation.interval_options import require_interval_options

if TYPE_CHECKING:
    from nonet.differential.comparison import Comparison

FOLDER = FolderKind(
    "comparison",
    main="comparison.json",
    keys={"nonet"},
    hint="Give a new or an empty folder as `out`, or that of an earlier comparison.",
)


def compare(
    predictions: str | Path | HasFolder,
    reference: str | Path,
    *,
    out: str | Path | None = None,
    num_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> "Comparison":
    """Compare a count with a person's: kappa, sensitivity and specificity, Passing and Bablok, Bland and Altman.

    Parameters
    ----------
    predictions : path or Predictions
        The folder of "nonet predict".
    reference : path
        CSV of a person's labels (image, label and, optionally, case) or counts (case and a column per class, in cells
        or per cent).
    out : path, optional
        Folder for the results; by default "comparison" in the folder of predictions.
    num_resamples : int
        Resamples of the bootstrap over cases, or over cells where there is one case only.
    confidence : float in (0, 1)
        Of the intervals.
    seed : int
        Of the resamples.

    Returns
    -------
    Comparison

    Raises
    ------
    DataError
        If a file or column is missing, no cell or case is in both, or an argument is out of range.
    StorageError
        If `out` holds other files.
    """
    require_interval_options(num_resamples, confidence)
    source, reference = get_folder(predictions), Path(reference).expanduser()
    folder = source / "comparison" if out is None else Path(out).expanduser()
    require_usable_folder(folder, FOLDER)
    require_predictions(source)
    require_table(reference)
    from nonet.differential.comparison import compare_counts
    from nonet.evaluation.bootstrap import Bootstrap

    return compare_counts(source, reference, folder, Bootstrap(num_resamples, confidence, seed))
