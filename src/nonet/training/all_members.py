"""Training every member of a run that is not done, in this process or in one per device."""

import logging
import multiprocessing
import os
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from nonet.artifacts.run import Run
from nonet.data.manifest import Dataset
from nonet.errors import NonetError, RunError
from nonet.models.backbones import get_backbone
from nonet.progress import hide_progress, progress, progress_is_hidden
from nonet.recipe import Recipe
from nonet.training.ensemble import finish
from nonet.training.inputs import Job, get_member_data, prepare, write_samples
from nonet.training.repair import reset_damaged_members
from nonet.workers import end_with_parent

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

    from lightning_fabric import Fabric

logger = logging.getLogger("nonet")


def train_remaining(fabric: "Fabric", run: Run, recipe: Recipe, dataset: Dataset, folds: pd.DataFrame) -> None:
    """Train the members that are not done, and write what a trained run has besides them."""
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

    Raises
    ------
    RunError
        If memory runs out.
    """
    from nonet.models.device import keep_freed_memory, make_repeatable
    from nonet.models.memory import is_out_of_memory
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
            try:
                training = MemberTraining(member, get_member_data(job, member), job.recipe, fabric)
                if training.origin and fabric.is_global_zero:
                    logger.info(training.origin)
                training.run()
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                batch_size = job.recipe.train.batch_size
                raise RunError(
                    f"Memory ran out on {fabric.device} while {member.name} was trained with "
                    f"train.batch_size={batch_size}.",
                    hint="End other programs that use its memory and run the same command again, or begin a new run "
                    f"with a smaller batch, such as train.batch_size={max(batch_size // 2, 2)}.",
                ) from error
            fabric.barrier()
            bar.update()
