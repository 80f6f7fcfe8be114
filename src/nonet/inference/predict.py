"""`predict`: new images in, predictions.csv out; a stream, so memory does not grow with the number of images.

What can be wrong with run, images and options is told before torch is imported, which takes many seconds.
"""

import hashlib
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.special import softmax

from nonet.artifacts.logit_columns import logit_columns
from nonet.artifacts.run import Run, now
from nonet.errors import DataError, UnreadableNowError
from nonet.inference.folder import PredictionFolder, about_images, state_digest, states_of
from nonet.inference.inputs import Input, find_inputs
from nonet.inference.load import OpenedRun, open_run, parse_views
from nonet.inference.reader import Reader
from nonet.inference.results import Predictions, about_priors, estimate_priors_of, join, require_adaptable
from nonet.inference.submission import read_submission_ids, require_class, require_format, require_ids, write_submission
from nonet.models.accelerators import require_devices
from nonet.progress import progress

if TYPE_CHECKING:
    from nonet.inference.ensemble import Ensemble
    from nonet.models.views import View

logger = logging.getLogger("nonet")


def predict(
    run: "str | Path | Run | Ensemble",
    images: str | Path | Iterable[str | Path],
    *,
    out: str | Path,
    views: str | int | None = None,
    split: str | None = None,
    format: str = "csv",
    sample_submission: str | Path | None = None,
    unreadable_label: str | None = None,
    adapt_priors: bool = False,
    accelerator: str = "auto",
    num_workers: int | None = None,
) -> Predictions:
    """Predict images with a run's ensemble and write predictions.csv and logits.parquet.

    Parameters
    ----------
    run : a trained run, or an Ensemble from `load`.
    images : files, folders, globs, a CSV with a column `path`, or a dataset folder.
    out : folder of the results: new, empty, or that of an earlier prediction, which is replaced. Stopped half way, the
        same call resumes; finished, it predicts only images that could not be read for a reason that may pass.
    views : "none", "dihedral" (or 8), "random" or "random:N"; the recipe's where left out.
    split : of a dataset, only rows of this split.
    format : "csv", or "wbcbench" for submission.csv (ID,labels) as well.
    sample_submission : the challenge's CSV of IDs, needed for "wbcbench"; every ID must be predicted.
    unreadable_label : class that unreadable images are submitted as; without it they prevent a submission.
    adapt_priors : estimate how common each class is among these images, all together, and lean towards that; see
        `nonet.calibration.priors.estimate_priors`. A cell's label then depends on the other images, which plan.json and
        the column `priors` say. For samples of quite another mix that look the same; on the next patients of one
        hospital it made predictions worse (docs/logger.md).
    accelerator : "auto", "cpu", "gpu".
    num_workers : processes that read and denoise; by default one a core where there are enough images.

    Returns
    -------
    Predictions: where they are, how many, how many unreadable. An unreadable image is a row with its error.

    Raises
    ------
    StorageError where `out` is another's folder, RunError where it holds another prediction half done or another
    process predicts into it; nothing in it was touched.
    """
    require_format(format, sample_submission=sample_submission, unreadable_label=unreadable_label)
    folder = PredictionFolder(out)
    folder.require_ours(submission=format == "wbcbench")
    require_devices(accelerator)
    opened = open_run(run) if isinstance(run, (str, os.PathLike)) else run  # which is an Ensemble
    if unreadable_label is not None:
        require_class(unreadable_label, opened.classes)
    settings = parse_views(views, opened.recipe.predict)
    wanted_ids = read_submission_ids(sample_submission) if sample_submission is not None else None
    inputs = find_inputs([images] if isinstance(images, (str, Path)) else images, split=split)
    if wanted_ids is not None:
        require_ids(wanted_ids, [one.name for one in inputs])
    ensemble = opened.load(accelerator) if isinstance(opened, OpenedRun) else opened
    from nonet.models.views import views_of

    if not ensemble.rejection.is_fitted:
        logger.warning(f"No image is rejected as an unknown cell type. {' '.join(ensemble.rejection.notes)}")
    if adapt_priors:
        require_adaptable(ensemble, len(inputs))
    with folder.alone():
        states = states_of(inputs)
        plan = _plan(ensemble, settings.model_dump()) | about_images(folder, inputs, states)
        plan |= {"adapt_priors": adapt_priors}
        counts = folder.done(plan)
        if counts is None:
            counts = _carry_out(folder, plan, inputs, states, ensemble, views_of(settings), num_workers)
        if not counts["num_to_retry"]:
            folder.remove_parts()
        if wanted_ids is not None:
            _submit(folder, wanted_ids, ensemble, counts, unreadable_label)
    return Predictions(folder.path, len(inputs), **counts)


def _carry_out(
    folder: PredictionFolder,
    plan: dict,
    inputs: list[Input],
    states: list[str | None],
    ensemble: "Ensemble",
    views: "list[View]",
    num_workers: int | None,
) -> dict:
    """Predict from wherever an earlier call stopped, write what the plan asks for, and return what was counted."""
    folder.begin(plan)
    _predict_chunks(folder, inputs, ensemble, views, num_workers)
    priors = estimate_priors_of(folder, len(inputs), ensemble) if plan["adapt_priors"] else None
    counts, to_retry = join(folder, len(inputs), ensemble, priors)
    facts = state_digest(states, to_retry) | about_priors(priors, ensemble) | counts
    folder.note(plan, **facts, finished=now(), files={})
    folder.note_files(folder.csv, folder.logits)
    return counts


def _plan(ensemble: "Ensemble", views: dict) -> dict:
    """Return what decides a prediction beside its images: the same plan gives the same predictions."""
    weights = hashlib.sha256()
    for member in ensemble.members:
        weights.update(f"{member.name}\0{_state_of(member.file)}\0".encode())
    return {
        "run": str(ensemble.run.folder.resolve()),
        "weights": weights.hexdigest(),
        "recipe": hashlib.sha256(ensemble.recipe.to_toml().encode()).hexdigest(),
        "views": views,
        "members": [f"{member.name}={member.weight}" for member in ensemble.members],
        "ensemble": ensemble.file.model_dump(
            mode="json", include={"temperature", "class_priors", "calibration", "rejection", "nucleus"}
        ),
    }


def _state_of(path: Path) -> str:
    """Place, size and time of a file, which change when it does."""
    facts = path.stat()
    return f"{os.fsencode(path.absolute()).hex()} {facts.st_size} {facts.st_mtime_ns}"


def _submit(
    folder: PredictionFolder, ids: list[str], ensemble: "Ensemble", counts: dict, unreadable_label: str | None
) -> None:
    if counts["num_to_retry"]:
        raise DataError(
            f"{counts['num_to_retry']:,} images could not be read now (predictions.csv lists them). "
            "No submission was written.",
            hint="Run the same command again when they can be read; it predicts only these.",
        )
    folder.keep_changed(folder.submission, folder.kept_plan())
    folder.note(folder.kept_plan(), submission=True)
    write_submission(folder.submission, ids, folder.csv, ensemble.classes, unreadable_label=unreadable_label)
    folder.note_files(folder.submission)


def _predict_chunks(
    folder: PredictionFolder, inputs: list[Input], ensemble: "Ensemble", views: "list[View]", num_workers: int | None
) -> None:
    """Write the parts that are not there yet, and what is to be tried again of those that are."""
    chunks = folder.chunks_left(len(inputs))
    num_left = sum(len(chunk.rows) for chunk in chunks)
    bar = progress(total=len(inputs), initial=len(inputs) - num_left, description="predicting", unit="images")
    with bar, Reader(ensemble.crops, ensemble.recipe.denoise, num_left, num_workers) as reader:
        images = [[inputs[row] for row in chunk.rows] for chunk in chunks]
        for chunk, of_chunk, prepared in zip(chunks, images, reader.read(images)):
            folder.write_part(chunk, _predict_chunk(ensemble, of_chunk, prepared, views))
            bar.update(len(of_chunk))


def _predict_chunk(ensemble: "Ensemble", chunk: list[Input], prepared: list, views: "list[View]") -> pd.DataFrame:
    """Return a table of a chunk: image, spread, agreement, ood_percentile, nucleus, note, error, retry, logit_….

    Numbers of images that could not be read are NaN; `retry` says whether a later attempt may succeed.
    """
    classes, n = ensemble.classes, len(chunk)
    readable = [i for i, one in enumerate(prepared) if not isinstance(one, DataError)]
    errors = [one.message if isinstance(one, DataError) else "" for one in prepared]
    logits = np.full((n, len(classes)), np.nan)
    spread, agreement, ood_percentile = (np.full(n, np.nan) for _ in range(3))
    if readable:
        stacked = {crop: np.stack([prepared[i].crops[crop] for i in readable]) for crop in ensemble.crops}
        of_members, scores = ensemble.member_outputs(stacked, views)
        finite = np.isfinite(of_members).all(axis=(0, 2))  # in half precision a network may overflow on an odd image
        of_members[:, ~finite] = np.nan
        for i in np.array(readable)[~finite]:
            errors[i] = "the networks' answer is not a finite number"
        ood_percentile[readable] = ensemble.ood_percentile(scores)
        logits[readable] = ensemble.combine(of_members)
        winner = logits[readable].argmax(1)
        of_members = ensemble.calibration.apply(of_members)
        of_winner = softmax(of_members, axis=-1)[:, np.arange(len(winner)), winner]
        spread[readable] = of_winner.std(0)
        agreement[readable] = np.where(finite, (of_members.argmax(2) == winner).mean(0), np.nan)
    table = pd.DataFrame(
        {
            "image": [one.name for one in chunk],
            "spread": spread,
            "agreement": agreement,
            "ood_percentile": ood_percentile,
            "nucleus": [isinstance(one, DataError) or one.nucleus for one in prepared],
            "note": ["" if isinstance(one, DataError) else one.crops.note for one in prepared],
            "error": errors,
            "retry": [isinstance(one, UnreadableNowError) for one in prepared],
        }
    )
    return pd.concat([table, pd.DataFrame(logits.astype(np.float32), columns=logit_columns(classes))], axis=1)
