"""Training every member of a run that is not done: in this process, in one per device, or where an engine runs them."""

import logging
import multiprocessing
import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from nonet.artifacts.run import Member, Run
from nonet.artifacts.storage import waiting_lock
from nonet.data.manifest import Dataset
from nonet.errors import BusyError, NonetError, RunError, counted
from nonet.models.backbones import get_backbone
from nonet.progress import hide_progress, progress, progress_is_hidden
from nonet.recipe import Recipe
from nonet.stopping import SavedStops, end_processes, ignore_stops
from nonet.training.ensemble import finish
from nonet.training.in_store import exchange_members
from nonet.training.inputs import Job, get_member_data, make_job, write_samples
from nonet.training.members import choose_members, lock_free
from nonet.training.placement import Placement
from nonet.training.repair import reset_damaged_members
from nonet.workers import end_with_parent

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

    from lightning_fabric import Fabric

logger = logging.getLogger("nonet")


def train_remaining(
    placement: Placement,
    run: Run,
    recipe: Recipe,
    dataset: Dataset,
    folds: pd.DataFrame,
    names: Sequence[str] | None = None,
) -> None:
    """Train the members that are not done, and once all are, write what a trained run has besides them.

    Parameters
    ----------
    placement : Placement
        Where they are trained.
    run : Run
    recipe : Recipe
    dataset : Dataset
    folds : DataFrame
        Columns image_id and fold.
    names : sequence of str, optional
        Train only these members.

    Raises
    ------
    RunError
        If there is no such member, or memory runs out.
    BusyError
        If another process is training some of the members; the others are trained first.
    """
    table = folds.merge(dataset.manifest, on="image_id", how="left", validate="one_to_one")
    num_folds = int(table["fold"].max()) + 1
    members = run.members(recipe.models.architectures, num_folds)
    chosen = choose_members(members, names)
    with lock_free(chosen) as (free, busy):
        reset_damaged_members(run, free)
        for member in free:
            if member.is_done:
                member.clear()
    remaining = [member for member in chosen if not member.is_done]
    if remaining:
        job = make_job(run, recipe, dataset, folds)
        if placement.is_here:
            busy = train_here(job, [member.name for member in remaining], placement.accelerator, placement.share)
        else:
            from nonet.training.elsewhere import train_elsewhere

            busy = train_elsewhere(placement, job, remaining)
    if placement.mirror is not None:  # other machines may have trained others
        exchange_members(placement.mirror)
    if busy:
        raise busy
    num_left = sum(not member.is_done for member in members)
    if num_left:
        left = counted(num_left, "member of {run} is", "members of {run} are").replace("{run}", str(run))
        logger.info(f"{left} not trained yet.")
        return
    with waiting_lock(run.begin_lock):
        write_samples(run, recipe, dataset, table)
        titles = {architecture: get_backbone(architecture).title for architecture in recipe.models.architectures}
        finish(run, recipe, dataset.classes, titles, members)


def train_here(job: Job, names: Sequence[str], accelerator: str, num_devices: int) -> BusyError | None:
    """Train members in this process, or in one for each of the devices that share the batches.

    Parameters
    ----------
    job : Job
    names : sequence of str
        Of the members.
    accelerator : str
    num_devices : int
        How many devices share each batch.

    Returns
    -------
    BusyError or None
        About a member that another process is training, if there is one.

    Raises
    ------
    RunError
        If memory runs out, or this machine does not have the devices.
    """
    from nonet.models.device import make_fabric

    fabric = make_fabric(accelerator=accelerator, devices=num_devices, precision=job.recipe.train.precision)
    with lock_free(choose_members(job.members, names)) as (free, busy):
        remaining = [member for member in free if not member.is_done]
        if fabric.world_size == 1:
            train_members(fabric, job, remaining)
        else:
            _launch(fabric, job, remaining)
    return busy


def _launch(fabric: "Fabric", job: Job, members: Sequence[Member]) -> None:
    """Train in one process per device; a NonetError that one of them raises is raised here again."""
    from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

    try:
        errors = multiprocessing.get_context("spawn").SimpleQueue()
    except OSError as error:  # a queue's locks are small files in shared memory
        raise RunError(
            f"Processes for several devices cannot be started: {error.strerror or error}.",
            hint="Check that /dev/shm exists and has some space. In Docker, --shm-size sets it. Or give "
            "`devices_per_member=1`.",
        ) from error
    before, port = set(multiprocessing.active_children()), os.environ.get("MASTER_PORT")

    def end() -> None:
        end_processes(set(multiprocessing.active_children()) - before, one_saves=True)

    try:
        with SavedStops(end):
            # Bound, as Fabric searches the arguments for networks and fails on frozen dataclasses.
            hidden = progress_is_hidden()
            fabric.launch(partial(_train_in_process, job=job, members=members, errors=errors, hidden=hidden))
    except ProcessExitedException as error:
        raise RunError(
            f"A process of this training was killed: {error}.",
            hint="Was memory short? Run the same command again; it resumes.",
        ) from error
    except ProcessRaisedException:
        if errors.empty():
            raise
        kind, message, hint = errors.get()
        raise kind(message, hint) from None
    finally:
        for process in set(multiprocessing.active_children()) - before:  # after a second Ctrl-C; else there are none
            process.kill()
        if port is None:  # Fabric leaves the free port it found; by the next training another program may use it
            os.environ.pop("MASTER_PORT", None)


def _train_in_process(
    fabric: "Fabric", job: Job, members: Sequence[Member], errors: "SimpleQueue", hidden: bool
) -> None:
    end_with_parent()
    if not fabric.is_global_zero:
        ignore_stops()
    hide_progress(hidden)
    try:
        train_members(fabric, job, members)
    except NonetError as error:
        errors.put((type(error), error.message, error.hint))
        raise  # which ends the other processes as well


def train_members(fabric: "Fabric", job: Job, remaining: Sequence[Member]) -> None:
    """Train members one after another. Runs in each process of a training on several devices.

    Parameters
    ----------
    fabric : Fabric
        Of this process.
    job : Job
    remaining : sequence of Member
        Not done yet, and locked.

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
    bar = progress(
        total=len(job.members),
        initial=sum(member.is_done for member in job.members),
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
