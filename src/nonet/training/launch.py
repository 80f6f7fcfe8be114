"""`train`: from a recipe and a dataset to the trained members of a run.

Errors in recipe, dataset and run folder are raised before torch is imported, which takes many seconds.
"""

import contextlib
import logging
import multiprocessing
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from nonet.artifacts.run import Run
from nonet.artifacts.storage import FolderKind, exclusive_lock, prepare_folder
from nonet.data.manifest import Dataset
from nonet.errors import NonetError, RunError
from nonet.models.accelerators import require_devices
from nonet.models.backbones import get_backbone, require_size, require_weights
from nonet.progress import hide_progress, progress, progress_is_hidden
from nonet.recipe import Recipe, load_recipe
from nonet.training.ensemble import finish
from nonet.training.inputs import Job, begin_run, get_folds, get_member_data, prepare, write_samples
from nonet.training.losses import get_loss
from nonet.training.repair import reset_damaged_members
from nonet.training.sampling import get_sampler
from nonet.workers import end_with_parent

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

    from lightning_fabric import Fabric

logger = logging.getLogger("nonet")


def train(
    recipe: str | Path | Recipe,
    dataset: str | Path | Dataset,
    *,
    out: str | Path,
    settings: list[str] | None = None,
    accelerator: str = "auto",
    devices: int = 1,
) -> Run:
    """Train every member of a recipe on a dataset. If interrupted, the same call resumes.

    Parameters
    ----------
    recipe : str, path or Recipe
        Name of a built-in recipe, a TOML file, or a Recipe.
    dataset : path or Dataset
        Made by `build_dataset`. If its folder contains folds.csv, those folds are used.
    out : path
        Folder for the run.
    settings : list of str, optional
        Changes to the recipe, such as "train.epochs=5".
    accelerator : {"auto", "cpu", "gpu", "cuda", "mps"}
        What to compute on: "auto" takes the best there is; "cuda" and "mps" are kinds of GPU.
    devices : int
        Number of processes that share each batch.

    Returns
    -------
    Run
        For `evaluate(run)` and `load(run)`.

    Raises
    ------
    RunError
        If `out` was begun with another recipe, dataset or folds.
    DataError
        If a patient or an image is in several folds, or an image cannot be read.
    RecipeError
        If a setting is not valid.
    WeightsError
        If pretrained weights are missing or do not fit.
    """
    recipe = load_recipe(recipe, settings)
    dataset = dataset if isinstance(dataset, Dataset) else Dataset.open(dataset)
    run = Run(out)
    require_devices(accelerator, devices)
    _check_recipe(recipe)
    if not run.has_members:
        _require_weights(recipe)
    folds, notes = get_folds(recipe, dataset)
    with _lock(run):
        begin_run(run, recipe, dataset, folds, notes)
        from nonet.models.device import make_fabric  # imports torch, as everything below does

        fabric = make_fabric(accelerator=accelerator, devices=devices, precision=recipe.train.precision)
        for note in notes:
            logger.warning(note)
        _train_remaining(fabric, run, recipe, dataset, folds)
    return run


def _check_recipe(recipe: Recipe) -> None:
    """Raise if a backbone, an image size, a sampler or a loss is not valid."""
    for architecture in recipe.models.architectures:
        require_size(architecture, recipe.models.image_size_px)
    get_sampler(recipe.sampling.sampler)
    get_loss(recipe.loss.name)


def _require_weights(recipe: Recipe) -> None:
    """Raise if a new run would stop half way because of missing weights."""
    if recipe.models.weights == "pretrained":
        for architecture in recipe.models.architectures:
            require_weights(architecture, recipe.models.weight_files.get(architecture))


@contextlib.contextmanager
def _lock(run: Run) -> Iterator[None]:
    """Refuse a folder that is not a run's, and a second training of the same run at the same time.

    The lock is released when the process that holds it ends, however it ends.
    """
    if not run.has_members:  # a run that lost its provenance.json can be repaired
        hint = "Give a new or an empty folder as `out`, or that of a run to resume."
        prepare_folder(run.folder, FolderKind("run", main="provenance.json", keys={"fingerprints"}, hint=hint))
    with exclusive_lock(run.lock, f"{run} is being trained by another process.", "Wait for it, or give another `out`."):
        yield


def _train_remaining(fabric: "Fabric", run: Run, recipe: Recipe, dataset: Dataset, folds: pd.DataFrame) -> None:
    table = folds.merge(dataset.manifest, on="image_id", how="left", validate="one_to_one")
    num_folds = int(table["fold"].max()) + 1
    members = run.members(recipe.models.architectures, num_folds)
    reset_damaged_members(run, members)
    for member in members:
        if member.is_done:
            member.clear()
    if not all(member.is_done for member in members):
        images = prepare(recipe, dataset, table)
        job = Job(run, recipe, table, dataset.classes, images, num_folds)
        if fabric.world_size == 1:
            train_members(fabric, job)
        else:
            _launch(fabric, job)
    write_samples(run, recipe, dataset, table)
    titles = {architecture: get_backbone(architecture).title for architecture in recipe.models.architectures}
    finish(run, recipe, dataset.classes, titles, members)


def _launch(fabric: "Fabric", job: Job) -> None:
    """Train in one process per device; a NonetError that one of them raises is raised here again."""
    from torch.multiprocessing import ProcessRaisedException

    try:
        errors = multiprocessing.get_context("spawn").SimpleQueue()
    except OSError as error:  # a queue's locks are small files in shared memory
        raise RunError(
            f"Processes for several devices cannot be started: {error.strerror or error}.",
            hint="Check that /dev/shm exists and has some space. In Docker, --shm-size sets it. Or give `devices=1`.",
        ) from error
    before, port = set(multiprocessing.active_children()), os.environ.get("MASTER_PORT")
    try:
        # Bound, as Fabric searches the arguments for networks and fails on frozen dataclasses.
        fabric.launch(partial(_train_in_process, job=job, errors=errors, hidden=progress_is_hidden()))
    except ProcessRaisedException:
        if errors.empty():
            raise
        kind, message, hint = errors.get()
        raise kind(message, hint) from None
    finally:
        for process in set(multiprocessing.active_children()) - before:  # after Ctrl-C; otherwise there are none
            process.terminate()
        if port is None:  # Fabric leaves the free port it found; by the next training another program may use it
            os.environ.pop("MASTER_PORT", None)


def _train_in_process(fabric: "Fabric", job: Job, errors: "SimpleQueue", hidden: bool) -> None:
    end_with_parent()
    hide_progress(hidden)
    try:
        train_members(fabric, job)
    except NonetError as error:
        errors.put((type(error), error.message, error.hint))
        raise  # which ends the other processes as well


def train_members(fabric: "Fabric", job: Job) -> None:
    """Train every member that is not done. Runs in each process of a training on several devices.

    Parameters
    ----------
    fabric : Fabric
        Of this process.
    job : Job
    """
    from nonet.models.device import keep_freed_memory, make_repeatable
    from nonet.training.member import MemberTraining

    make_repeatable()
    keep_freed_memory()
    members = job.run.members(job.recipe.models.architectures, job.num_folds)
    remaining = [member for member in members if not member.is_done]
    fabric.barrier()  # no process writes a DONE before all have listed what remains
    bar = progress(
        total=len(members),
        initial=len(members) - len(remaining),
        description="members",
        unit="members",
        disable=not fabric.is_global_zero,
    )
    with bar:
        for member in remaining:
            if fabric.is_global_zero:
                member.folder.mkdir(parents=True, exist_ok=True)
            training = MemberTraining(member, get_member_data(job, member), job.recipe, fabric)
            if training.origin and fabric.is_global_zero:
                logger.info(training.origin)
            training.run()
            fabric.barrier()
            bar.update()
