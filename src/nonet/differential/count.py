"""`nonet count`: the differential of each case of a prediction, as tables, JSON, a page to print, and FHIR.

What can be wrong with a call is checked before pandas and SciPy are imported, which takes seconds.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from nonet.artifacts.mirror import fetched
from nonet.artifacts.predictions_csv import NAME as PREDICTIONS
from nonet.artifacts.shard_results import AGAIN, INDEX, TO_COUNT, is_of_shards
from nonet.artifacts.storage import FolderKind, read_json, require_usable_folder
from nonet.artifacts.stores import has_file
from nonet.artifacts.urls import as_url, require_path
from nonet.errors import DataError
from nonet.evaluation.interval_options import require_confidence

if TYPE_CHECKING:
    from nonet.differential.counting import Differentials

FOLDER = FolderKind(
    "differential",
    main="differential.json",
    keys={"cases", "format_version"},
    hint="Give a new or an empty folder as `out`, or that of an earlier count.",
)


class HasFolder(Protocol):
    """The result of `nonet.predict` or `nonet.predict_shards`."""

    @property
    def folder(self) -> Path | str:
        """The folder of predictions, or its address in an object store."""


def count(
    predictions: str | Path | HasFolder,
    *,
    out: str | Path | None = None,
    confidence: float = 0.95,
    fhir: bool = False,
) -> "Differentials":
    """Count the cells of each case of a prediction, with exact intervals, and write the differentials.

    Shares refer to the white cells that have a class: what is unidentified, of an unknown type or unreadable is counted
    apart. Beside each share stands the same, corrected for the confusions that the ensemble is known to make on
    patients it has not seen; its interval includes how much patients differ in that.

    Parameters
    ----------
    predictions : path, Predictions or ShardPredictions
        The folder of "nonet predict", of images or of shards; that of shards also in an object store. Its column
        `case` says which images belong together.
    out : path, optional
        Folder for the results, on this machine; by default "differential" in the folder of predictions.
    confidence : float in (0, 1)
        Of the intervals.
    fhir : bool
        Also write each case as an HL7 FHIR R4B Bundle, fhir/CASE.json, with status "preliminary". Needs the extra
        "fhir".

    Returns
    -------
    Differentials
        The cases and where the files are.

    Raises
    ------
    DataError
        If the folder has no predictions, `confidence` is out of range, or a package is missing.
    DamagedError
        If predictions.csv, a result of a shard, or confusions.csv cannot be read as such.
    StorageError
        If `out` holds other files.
    """
    require_confidence(confidence)
    place = predictions if isinstance(predictions, (str, Path)) else predictions.folder
    url = as_url(place)
    if url is not None and out is None:
        raise DataError(f"{url} is in an object store.", hint="Give a folder of this machine as `out`.")
    folder = Path(place).expanduser() / "differential" if out is None else Path(out).expanduser()
    require_usable_folder(folder, FOLDER)
    if url is not None:
        return _count_in_store(url, folder, confidence=confidence, fhir=fhir)
    source = Path(place).expanduser()
    if not is_of_shards(source):
        require_predictions(source)
    from nonet.differential.counting import count_cases

    return count_cases(source, folder, str(source), confidence=confidence, fhir=fhir)


def _count_in_store(url: str, folder: Path, *, confidence: float, fhir: bool) -> "Differentials":
    if not has_file(f"{url}/{INDEX}"):
        raise DataError(
            f"{url} has no finished prediction of shards: {INDEX} is missing.",
            hint="Copy a prediction of images to this machine to count it.",
        )
    from nonet.differential.counting import count_cases

    with fetched(url, only=TO_COUNT) as source:
        return count_cases(source, folder, url, confidence=confidence, fhir=fhir)


def get_folder(predictions: str | Path | HasFolder) -> Path:
    """Return the folder of predictions."""
    place = predictions if isinstance(predictions, (str, Path)) else predictions.folder
    require_path(place, "prediction", DataError)
    return Path(place).expanduser()


def require_predictions(folder: Path) -> Path:
    """Return the path of a folder's predictions.csv; DataError if there is none."""
    file = folder / PREDICTIONS
    if is_of_shards(folder):
        raise DataError(
            f"{folder} holds a prediction of shards, which has no {PREDICTIONS}.",
            hint='"nonet count" counts it. For anything else, predict the images of these cases as images.',
        )
    if "num_shards" in read_json(folder / "plan.json"):
        raise DataError(f"{folder} holds an unfinished prediction of shards.", hint=AGAIN)
    if not file.is_file():
        raise DataError(
            f"{folder} has no {PREDICTIONS}.", hint='Give a folder that "nonet predict RUN CELLS --out FOLDER" wrote.'
        )
    return file
