"""`predict`: new images in, predictions.csv out; a stream, so memory does not grow with the number of images.

Run, images and options are checked before torch and pandas are imported, which takes seconds.
"""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nonet.artifacts.ensemble_file import EnsembleFile
from nonet.artifacts.integrity import read_done
from nonet.artifacts.run import Run, now
from nonet.errors import DataError, UnreadableNowError
from nonet.inference.backends.choice import choose_backend
from nonet.inference.folder import PredictionFolder, file_state, plan_images, state_digest
from nonet.inference.inputs import CaseFrom, Input, find_inputs
from nonet.inference.load import OpenedRun, open_run, parse_views, require_effort
from nonet.inference.submission import read_submission_ids, require_class, require_format, require_ids, write_submission
from nonet.models.accelerators import require_devices
from nonet.progress import progress
from nonet.recipe import Predict, Recipe

if TYPE_CHECKING:
    import pandas as pd

    from nonet.data.shards.shard_image import ShardImage
    from nonet.inference.ensemble import Ensemble
    from nonet.inference.prepared_input import PreparedInput
    from nonet.inference.results import Predictions
    from nonet.models.views import View

logger = logging.getLogger("nonet")


def predict(
    run: "str | Path | Run | Ensemble",
    images: str | Path | Iterable[str | Path],
    *,
    out: str | Path,
    views: str | int | None = None,
    split: str | None = None,
    case: str | None = None,
    case_from: CaseFrom = "column",
    format: str = "csv",
    sample_submission: str | Path | None = None,
    unreadable_label: str | None = None,
    adapt_priors: bool = False,
    accelerator: str = "auto",
    backend: str = "auto",
    effort: str = "full",
    num_workers: int | None = None,
) -> "Predictions":
    """Predict images with a run's ensemble and write predictions.csv and logits.parquet.

    An unreadable image is a row with its error.

    Parameters
    ----------
    run : str, path, Run or Ensemble
        A trained run, or an Ensemble from `nonet.load`.
    images : path or iterable of paths
        Files, folders, globs, a CSV with a column "path", or a dataset folder.
    out : path
        Folder for the results: new, empty, or that of an earlier prediction, which is replaced. If interrupted, the
        same call resumes; once finished, it predicts only images that could not be read for a transient reason.
    views : str or int, optional
        Test-time augmentation: "none", "dihedral" (or 8), "random" or "random:N". Default: as in the recipe.
    split : str, optional
        Predict only this split of a dataset, for example "test".
    case : str, optional
        Name of the case that all these images belong to, for `nonet.count`.
    case_from : {"column", "folder"}
        Where cases are named, if `case` is not given: in the column "case", or else "patient", of a CSV file or
        dataset; or by folder, one per case: the first below each folder given, or the one that an image lies in.
    format : {"csv", "wbcbench"}
        "wbcbench" also writes the challenge's submission.csv (ID,labels).
    sample_submission : path, optional
        The challenge's CSV of IDs, each of which must be predicted. Required for "wbcbench".
    unreadable_label : str, optional
        Class to submit for unreadable images; without it, an unreadable image prevents the submission.
    adapt_priors : bool
        Estimate how common each class is among these images and correct the class priors for it (label shift). A
        cell's label then depends on the other images, as plan.json and the column "priors" record. Meant for samples
        of another mix of classes that look alike; on the next patients of one hospital it made predictions worse.
    accelerator : {"auto", "cpu", "gpu", "cuda", "mps"}
        What to compute on: "auto" takes the best there is; "cuda" and "mps" are kinds of GPU.
    backend : {"auto", "torch", "openvino", "openvino-int8"}
        What runs the networks: "auto" is OpenVINO on a CPU and PyTorch on a GPU. "openvino-int8" takes two
        thirds of the time; images close to another decision are predicted again without int8, which keeps 99.75 % of
        the out-of-fold decisions. It is made once, with the run's images, which takes minutes; from then on
        "auto" uses it too.
    effort : {"full", "auto"}
        "auto" leaves out views of cells that are sure without them: fewer than one decision in a thousand changes.
        An Ensemble has the backend and the effort that it was loaded with.
    num_workers : int, optional
        Number of processes, or for fewer than 256 images threads, that read and denoise images. Default: one per core.

    Returns
    -------
    Predictions
        Where the results are, and how many images were predicted, unreadable and unidentified.

    Raises
    ------
    StorageError
        If `out` contains something that nonet did not write. Nothing in it is changed.
    RunError
        If the run is incomplete, `out` contains an unfinished prediction of something else, or another process is
        predicting into it.
    DataError
        If there is no image, or options contradict each other.

    See Also
    --------
    nonet.calibration.priors.estimate_priors : The method of `adapt_priors`.
    """
    require_format(format, sample_submission=sample_submission, unreadable_label=unreadable_label)
    folder = PredictionFolder(out)
    folder.require_usable(submission=format == "wbcbench")
    require_devices(accelerator)
    choose_backend(backend, accelerator)
    require_effort(effort)
    opened = open_run(run) if isinstance(run, (str, Path, Run)) else run
    if unreadable_label is not None:
        require_class(unreadable_label, opened.classes)
    settings = parse_views(views, opened.recipe.predict)
    submission_ids = read_submission_ids(sample_submission) if sample_submission is not None else None
    given = [images] if isinstance(images, (str, Path)) else images
    inputs = find_inputs(given, split=split, case=case, case_from=case_from)
    if submission_ids is not None:
        require_ids(submission_ids, [one.name for one in inputs])
    ensemble = opened.load(accelerator, backend, effort) if isinstance(opened, OpenedRun) else opened
    from nonet.inference.results import Predictions, require_adaptable
    from nonet.models.views import get_views

    if not ensemble.rejection.is_fitted:
        logger.warning(f"No image is rejected as an unknown cell type. {' '.join(ensemble.rejection.notes)}")
    if adapt_priors:
        require_adaptable(ensemble, len(inputs))
    with folder.lock():
        states = [file_state(one.path) for one in inputs]
        plan = describe_model(ensemble, settings) | plan_images(folder, inputs, states)
        plan |= {"adapt_priors": adapt_priors, "cases": _digest(one.case for one in inputs)}
        counts = folder.finished_counts(plan)
        if counts is None:
            counts = _predict_remaining(folder, plan, inputs, states, ensemble, get_views(settings), num_workers)
        folder.copy_confusions(ensemble.run.confusions)
        if not counts["num_to_retry"]:
            folder.remove_parts()
        if submission_ids is not None:
            _submit(folder, submission_ids, ensemble, counts, unreadable_label)
    return Predictions(folder.path, len(inputs), **counts)


def _predict_remaining(
    folder: PredictionFolder,
    plan: dict,
    inputs: list[Input],
    states: list[str | None],
    ensemble: "Ensemble",
    views: "list[View]",
    num_workers: int | None,
) -> dict:
    """Predict the images that an earlier call left, write the results, and return the counts."""
    from nonet.inference.results import estimate_folder_priors, join, record_priors

    folder.begin(plan)
    if ensemble.effort is not None:
        ensemble.effort.begin()
    _predict_chunks(folder, inputs, ensemble, views, num_workers)
    if ensemble.effort is not None:
        logger.info(ensemble.effort)
    priors = estimate_folder_priors(folder, len(inputs), ensemble) if plan["adapt_priors"] else None
    counts, to_retry = join(folder, inputs, ensemble, priors)
    facts = state_digest(states, to_retry) | record_priors(priors, ensemble) | counts
    folder.write_plan(plan, **facts, finished=now(), files={})
    folder.record_files(folder.csv, folder.logits)
    return counts


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def describe_model(ensemble: "Ensemble", settings: Predict) -> dict:
    """Return what determines a prediction besides its images: the same gives the same predictions.

    Parameters
    ----------
    ensemble : Ensemble
    settings : Predict
        The recipe's section with the views.

    Returns
    -------
    dict
        Keys of plan.json.
    """
    return describe_run(ensemble.run, ensemble.recipe, ensemble.file, settings) | {
        "int8_margin": None if ensemble.int8 is None else ensemble.int8.margin,
        "sure": None if ensemble.effort is None else ensemble.effort.sure,
    }


def describe_run(run: Run, recipe: Recipe, ensemble: EnsembleFile, settings: Predict) -> dict:
    """Return what `describe_model` does, without what depends on backend and effort; no network is loaded for it."""
    entries = [entry for entry in ensemble.members if entry.weight > 0]
    members = [run.member(entry.architecture, entry.fold) for entry in entries]
    return {
        "run": str(run.folder.resolve()),
        "weights": _digest(f"{one.name} {read_done(one)['files'].get(one.weights.name)}" for one in members),
        "recipe": hashlib.sha256(recipe.to_toml().encode()).hexdigest(),
        "views": settings.model_dump(),
        "members": [f"{one.name}={entry.weight}" for one, entry in zip(members, entries)],
        "ensemble": ensemble.model_dump(
            mode="json", include={"temperature", "class_priors", "calibration", "rejection", "nucleus"}
        ),
    }


def _submit(
    folder: PredictionFolder, ids: list[str], ensemble: "Ensemble", counts: dict, unreadable_label: str | None
) -> None:
    if counts["num_to_retry"]:
        raise DataError(
            f"{counts['num_to_retry']:,} images could not be read now (predictions.csv lists them). "
            "No submission was written.",
            hint="Run the same command again when they can be read; it predicts only these.",
        )
    folder.set_aside_changed(folder.submission, folder.read_plan())
    folder.write_plan(folder.read_plan(), submission=True)
    write_submission(folder.submission, ids, folder.csv, ensemble.classes, unreadable_label=unreadable_label)
    folder.record_files(folder.submission)


def _predict_chunks(
    folder: PredictionFolder, inputs: list[Input], ensemble: "Ensemble", views: "list[View]", num_workers: int | None
) -> None:
    """Predict the chunks that have no part yet, and the images of finished parts that are to be retried."""
    from nonet.inference.reader import Reader

    chunks = folder.chunks_left(len(inputs))
    num_left = sum(len(chunk.rows) for chunk in chunks)
    bar = progress(total=len(inputs), initial=len(inputs) - num_left, description="predicting", unit="images")
    with bar, Reader(ensemble.crops, ensemble.recipe.denoise, num_left, num_workers) as reader:
        images = [[inputs[row] for row in chunk.rows] for chunk in chunks]
        for chunk, chunk_inputs, prepared in zip(chunks, images, reader.read(images)):
            folder.write_part(chunk, predict_chunk(ensemble, chunk_inputs, prepared, views))
            bar.update(len(chunk_inputs))


def predict_chunk(
    ensemble: "Ensemble",
    chunk: "Sequence[Input | ShardImage]",
    prepared: "Sequence[PreparedInput | DataError]",
    views: "Sequence[View]",
) -> "pd.DataFrame":
    """Run the networks on images that are predicted together.

    Parameters
    ----------
    ensemble : Ensemble
    chunk : sequence of Input or ShardImage
        The images.
    prepared : sequence of PreparedInput or DataError
        Each as the members see it, or why it cannot be read.
    views : sequence of View
        Logits are averaged over them.

    Returns
    -------
    DataFrame
        image, spread, agreement, ood_percentile, nucleus, note, error, retry, logit_…. Numbers are NaN for images that
        could not be read; `retry` says whether a later attempt may succeed.
    """
    import numpy as np
    import pandas as pd
    from scipy.special import softmax

    from nonet.artifacts.oof import logit_columns

    classes, n = ensemble.classes, len(chunk)
    crops = {i: one.crops for i, one in enumerate(prepared) if not isinstance(one, DataError)}
    readable = list(crops)
    errors = [one.message if isinstance(one, DataError) else "" for one in prepared]
    logits = np.full((n, len(classes)), np.nan)
    spread, agreement, ood_percentile = (np.full(n, np.nan) for _ in range(3))
    if readable:
        scores = ensemble.score_prepared(list(crops.values()), views)
        logits[readable], ood_percentile[readable] = scores.logits, scores.ood_percentile
        finite = np.isfinite(scores.logits).all(axis=1)
        for i in np.array(readable)[~finite]:
            errors[i] = "the networks' output is not a finite number"
        best = scores.logits.argmax(1)
        calibrated = ensemble.calibration.apply(scores.member_logits)
        proba_of_best = softmax(calibrated, axis=-1)[:, np.arange(len(best)), best]
        spread[readable] = proba_of_best.std(0)
        agreement[readable] = np.where(finite, (calibrated.argmax(2) == best).mean(0), np.nan)
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
