"""`nonet score`: predictions against a table of labels, as the challenge ranks.

It does not matter whose predictions they are: predictions.csv of `predict`, a submission, or any table of names and
classes. What can be wrong with a call is checked before NumPy and pandas are imported.
"""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from nonet.artifacts.storage import FolderKind, require_usable_folder
from nonet.data.opening import require_dataset
from nonet.data.sources.tables import require_table
from nonet.errors import DataError
from nonet.evaluation.interval_options import require_interval_options

if TYPE_CHECKING:
    from nonet.evaluation.scoring import Score

#: Accepted column names, in any case; the first one present is used.
IMAGE_COLUMNS = ("image", "image_id", "id", "path", "file", "filename", "name")
PREDICTED_COLUMNS = ("best", "label", "labels", "predicted", "prediction", "class")
LABEL_COLUMNS = ("true_label", "label", "labels", "class")
#: How to tell a folder that `score` wrote; it has no JSON file, so that only the marker does.
FOLDER = FolderKind("score", main="scores.csv", keys={"nonet"}, hint="Give a new folder as `out`.")
#: Files of a folder of predictions; the first one present is used.
_FILES = ("predictions.csv", "submission.csv")


def score(
    predictions: str | PathLike,
    labels: str | PathLike,
    *,
    out: str | PathLike | None = None,
    num_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> "Score":
    """Score predictions against a table of labels, with the challenge's scores.

    Images are matched by file name, with or without extension; case and the form of accents only matter where names
    would otherwise collide, and where several files have the same name, the one with the most matching folders is used.
    Only images with both a label and a prediction are scored. An image that could not be read has no class and counts
    as wrong.

    Parameters
    ----------
    predictions : str or path-like
        predictions.csv or submission.csv, a folder with one of them, or a CSV file with a column of `IMAGE_COLUMNS` and
        one of `PREDICTED_COLUMNS`. Of predictions.csv the most probable class is used, however doubtful.
    labels : str or path-like
        CSV file with a column of `IMAGE_COLUMNS`, one of `LABEL_COLUMNS` and optionally patient; or a dataset.
    out : str or path-like, optional
        Folder for scores.csv, per_class.csv and confusion.csv; by default nothing is written.
    num_resamples : int
        Resamples of the bootstrap over patients, or over images where patients are unknown.
    confidence : float in (0, 1)
        Of the intervals.
    seed : int
        Of the resamples.

    Returns
    -------
    Score
        Scores, classes and confusion.

    Raises
    ------
    DataError
        If a file or a column is missing, no image is in both tables, a name fits several images, or an argument is out
        of range.
    StorageError
        If `out` holds other files.
    """
    require_interval_options(num_resamples, confidence)
    folder = None if out is None else Path(out).expanduser()
    if folder is not None:
        require_usable_folder(folder, FOLDER)
    predicted, truth = _predictions_file(Path(predictions).expanduser()), Path(labels).expanduser()
    require_table(predicted)
    (require_dataset if truth.is_dir() else require_table)(truth)
    from nonet.evaluation.bootstrap import Bootstrap
    from nonet.evaluation.scoring import score_tables

    return score_tables(predicted, truth, folder, Bootstrap(num_resamples, confidence, seed))


def _predictions_file(path: Path) -> Path:
    """Return the table of predictions in a folder, or the path itself if it is not a folder."""
    if not path.is_dir():
        return path
    file = next((path / name for name in _FILES if (path / name).is_file()), None)
    if file is None:
        raise DataError(f"{path} has neither {' nor '.join(_FILES)}.", hint="Give the folder of nonet predict.")
    return file
