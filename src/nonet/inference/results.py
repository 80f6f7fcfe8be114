"""The results of a prediction: predictions.csv and logits.parquet, joined from the parts."""

import contextlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import softmax

from nonet.artifacts.csv_files import to_csv
from nonet.artifacts.oof import logit_columns
from nonet.artifacts.predictions_csv import CHUNK_SIZE, NAME, PREFIX, read_predictions
from nonet.artifacts.run import written_whole
from nonet.calibration.labels import NOT_NOW, UNREADABLE
from nonet.calibration.priors import MIN_IMAGES_TO_ADAPT, estimate_priors, log_ratio
from nonet.errors import DataError, RunError
from nonet.inference.folder import PredictionFolder
from nonet.inference.inputs import Input

if TYPE_CHECKING:
    from nonet.inference.ensemble import Ensemble

logger = logging.getLogger("nonet")

PRIORS_NOTE = "Class priors were estimated from these images, so a cell's label depends on the others."


@dataclass(frozen=True)
class Predictions:
    """Where the results of `nonet.predict` are, and how many images there are of each kind.

    Attributes
    ----------
    folder : Path
    num_images : int
        Rows of predictions.csv.
    num_unreadable : int
        Those with an error instead of a label.
    num_unidentified : int
        Those that were read and are unidentified.
    num_to_retry : int
        Unreadable ones that may be readable later; the same call predicts only these.
    """

    folder: Path
    num_images: int
    num_unreadable: int
    num_unidentified: int
    num_to_retry: int = 0

    @property
    def csv(self) -> Path:
        """Path of predictions.csv."""
        return self.folder / NAME

    def table(self) -> pd.DataFrame:
        """Return predictions.csv as a DataFrame; numbers of unreadable images are NaN."""
        return read_predictions(self.csv)

    def __str__(self) -> str:
        unreadable = f", {self.num_unreadable:,} of them unreadable (see column error)" if self.num_unreadable else ""
        doubtful = f", {self.num_unidentified:,} unidentified (see column reason)" if self.num_unidentified else ""
        text = f"{self.num_images:,} images{unreadable}{doubtful}: {self.csv}"
        if self.num_to_retry:
            text += (
                f"\n{self.num_to_retry:,} of the unreadable could not be read now. When they can be, run the same "
                "command again: it predicts only these."
            )
        return text


def require_adaptable(ensemble: "Ensemble", num_images: int) -> None:
    """Check that class priors can be estimated from new images.

    Raises
    ------
    RunError
        If the run is not calibrated.
    DataError
        If there are too few images.
    """
    _calibrated_priors(ensemble)
    if num_images < MIN_IMAGES_TO_ADAPT:
        raise DataError(
            f"`adapt_priors` needs {MIN_IMAGES_TO_ADAPT} images or more; {num_images} were given.",
            hint="Predict more images of the sample together, or leave it out.",
        )


def _calibrated_priors(ensemble: "Ensemble") -> np.ndarray:
    """Return the class priors that the calibrated logits imply; raise RunError if the run is not calibrated."""
    if ensemble.calibration.class_priors is None:
        raise RunError(
            f"{ensemble.run} is not calibrated, so the class priors of new images cannot be estimated.",
            hint=f'Run "nonet calibrate {ensemble.run}", or leave `adapt_priors` out.',
        )
    return ensemble.calibration.class_priors


def estimate_folder_priors(folder: PredictionFolder, num_images: int, ensemble: "Ensemble") -> np.ndarray:
    """Estimate the class priors from all known cells of a prediction together.

    All logits are in memory at once: 4 bytes per class and image.

    Returns
    -------
    ndarray of float64, shape (num_classes,)

    Raises
    ------
    DataError
        If there are too few known cells.
    """
    columns = [*logit_columns(ensemble.classes), "ood_percentile", "nucleus"]
    parts = [folder.read_part(i)[columns] for i in range(-(-num_images // CHUNK_SIZE))]
    table = pd.concat(parts, ignore_index=True)
    logits = table[columns[:-2]].to_numpy(dtype=np.float64)
    rejected = ensemble.rejection.rejects(table["ood_percentile"].to_numpy())
    rejected |= ensemble.nucleus.rejects(table["nucleus"].to_numpy(dtype=bool))
    known = ~np.isnan(logits).any(axis=1) & ~rejected
    if known.sum() < MIN_IMAGES_TO_ADAPT:
        raise DataError(
            f"`adapt_priors` needs {MIN_IMAGES_TO_ADAPT} images of known cells or more: of {len(known)}, "
            f"{np.isnan(logits).any(axis=1).sum()} are unreadable and {rejected.sum()} of an unknown cell type.",
            hint="Predict more images of the sample together, or leave it out; finished predictions are kept.",
        )
    return estimate_priors(softmax(logits[known], axis=-1), _calibrated_priors(ensemble))


def record_priors(priors: np.ndarray | None, ensemble: "Ensemble") -> dict:
    """Log that class priors were estimated, and return them for plan.json; {} if they were not."""
    if priors is None:
        return {}
    shares = dict(zip(ensemble.classes, priors.round(4).tolist()))
    logger.warning(f"{PRIORS_NOTE} {shares}")
    return {"class_priors": shares, "note": PRIORS_NOTE}


def join(
    folder: PredictionFolder, inputs: Sequence[Input], ensemble: "Ensemble", priors: np.ndarray | None
) -> tuple[dict[str, int], list[int]]:
    """Join the parts into predictions.csv and logits.parquet, one part at a time.

    Parameters
    ----------
    folder : PredictionFolder
    inputs : sequence of Input
        The images, for their cases and paths.
    ensemble : Ensemble
    priors : ndarray of float, shape (num_classes,), or None
        Class priors to correct for.

    Returns
    -------
    counts : dict of str to int
        Attributes of `Predictions`.
    to_retry : list of int
        Indices of the images to predict again.
    """
    columns = logit_columns(ensemble.classes)
    shift = None if priors is None else log_ratio(priors, _calibrated_priors(ensemble)).astype(np.float32)
    reasons: Counter[str] = Counter()
    to_retry: list[int] = []
    with (
        written_whole(folder.csv) as csv_path,
        written_whole(folder.logits) as logits_path,
        csv_path.open("w", encoding="utf-8", newline="") as file,
        contextlib.ExitStack() as stack,
    ):
        writer = None
        for number in range(-(-len(inputs) // CHUNK_SIZE)):
            part = folder.read_part(number)
            chunk = inputs[number * CHUNK_SIZE : (number + 1) * CHUNK_SIZE]
            part["case"] = [one.case for one in chunk]
            part["path"] = [str(one.path.absolute()) for one in chunk]
            to_retry += (number * CHUNK_SIZE + np.flatnonzero(part["retry"])).tolist()
            if shift is not None:
                part[columns] = part[columns] + shift
                part["priors"] = "estimated from these images"
            rows = make_rows(part, ensemble)
            reasons.update(rows["reason"])
            to_csv(rows, file, header=number == 0, float_format="%.6f")
            logits = pa.Table.from_pandas(
                part[["image", "path", *columns]], preserve_index=False
            ).replace_schema_metadata(None)
            writer = writer or stack.enter_context(pq.ParquetWriter(logits_path, logits.schema))
            writer.write_table(logits)
    unreadable = reasons.pop(UNREADABLE, 0) + reasons.pop(NOT_NOW, 0)
    reasons.pop("", None)
    counts = {"num_unreadable": unreadable, "num_unidentified": reasons.total(), "num_to_retry": len(to_retry)}
    return counts, to_retry


def make_rows(part: pd.DataFrame, ensemble: "Ensemble") -> pd.DataFrame:
    """Return the rows of predictions.csv: image, case, label, best, …, spread, agreement, …, p_…, note, error.

    Parameters
    ----------
    part : DataFrame
        From `predict_chunk`, with the column case.
    ensemble : Ensemble

    Returns
    -------
    DataFrame
    """
    proba = softmax(part[logit_columns(ensemble.classes)].to_numpy(dtype=np.float64), axis=-1)
    labels = ensemble.label(proba, part["ood_percentile"].to_numpy(), part["nucleus"].to_numpy(dtype=bool))
    labels.loc[part["retry"].to_numpy(), "reason"] = NOT_NOW
    probabilities = pd.DataFrame(proba, columns=[PREFIX + code for code in ensemble.classes])
    last = part[[name for name in ("note", "priors", "error") if name in part]]
    return pd.concat(
        [part[["image", "case"]], labels, part[["spread", "agreement", "ood_percentile"]], probabilities, last], axis=1
    )
