"""Members trained by an engine, each a task in another process; their progress is read from the run folder."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nonet.artifacts.mirror import SECONDS_BETWEEN_COPIES, Mirror
from nonet.artifacts.run import Member, Run
from nonet.artifacts.storage import writing_to
from nonet.errors import BusyError, NonetError
from nonet.jobs.tasks import Needs, Task
from nonet.progress import progress
from nonet.training.in_store import StoredJob, pull_progress, store_job, train_stored_member
from nonet.training.inputs import Job
from nonet.training.placement import Placement

if TYPE_CHECKING:
    from tqdm import tqdm

#: Between two looks at what the members have written.
SECONDS_BETWEEN_LOOKS = 1.0


def train_member(job: Job, name: str, accelerator: str, num_devices: int) -> None:
    """Train one member in this process, which an engine started.

    Parameters
    ----------
    job : Job
    name : str
        Of the member.
    accelerator : str
    num_devices : int
        How many devices share each batch.

    Raises
    ------
    BusyError
        If another process is training the member.
    StorageError
        If something cannot be read or written.
    """
    from nonet.training.all_members import train_here  # imports torch

    with writing_to(job.run):
        if busy := train_here(job, [name], accelerator, num_devices):
            raise busy


def train_elsewhere(placement: Placement, job: Job, members: Sequence[Member]) -> BusyError | None:
    """Train members by an engine. If one fails, the others are trained nonetheless.

    Parameters
    ----------
    placement : Placement
    job : Job
    members : sequence of Member
        Not done yet.

    Returns
    -------
    BusyError or None
        About a member that another process is training, if there is one.

    Raises
    ------
    NonetError
        Of the first member that failed, once the others are done.
    """
    job = _with_absolute_paths(job)
    engine = placement.make_engine(job.run.folder / "jobs")
    needs = placement.needs(engine)
    accelerator = placement.accelerator if needs.devices or placement.accelerator == "mps" else "cpu"
    function: Callable[..., None] = train_member
    what: Job | StoredJob = job
    if placement.mirror is not None:
        function, what = train_stored_member, store_job(placement.mirror, job)
    elif placement.on == "ray" and placement.share > 1:  # workers may be on several nodes
        from nonet.training.ray_train import train_member_over_workers

        function, needs = train_member_over_workers, Needs(processors=0)
    tasks = [Task(one.name, function, (what, one.name, accelerator, placement.share)) for one in members]
    busy: BusyError | None = None
    failure: NonetError | None = None
    with _shown(members, job, placement.mirror), contextlib.closing(engine.run(tasks, needs)) as outcomes:
        for outcome in outcomes:
            if isinstance(outcome.error, BusyError):
                busy = busy or outcome.error
            else:
                failure = failure or outcome.error
    if failure:
        raise failure
    return busy


def _with_absolute_paths(job: Job) -> Job:
    """Return a job for processes that may be in another folder."""
    models = job.recipe.models
    files = {name: str(Path(file).expanduser().absolute()) for name, file in models.weight_files.items()}
    recipe = job.recipe.model_copy(update={"models": models.model_copy(update={"weight_files": files})})
    return replace(job, run=Run(job.run.folder.absolute()), recipe=recipe)


@contextlib.contextmanager
def _shown(members: Sequence[Member], job: Job, mirror: Mirror | None) -> Iterator[None]:
    """Show a table of members, a bar each and one for all of them, while the block runs."""
    ended = threading.Event()
    with contextlib.ExitStack() as bars:
        watcher = threading.Thread(target=partial(_watch, members, job, mirror, ended, bars), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()


def _watch(
    members: Sequence[Member], job: Job, mirror: Mirror | None, ended: threading.Event, bars: contextlib.ExitStack
) -> None:
    width = max(len(member.name) for member in members)
    done = sum(one.is_done for one in job.members)
    name = "members".ljust(width)
    total = bars.enter_context(progress(total=len(job.members), initial=done, description=name, unit="members"))
    rows = [(member, bars.enter_context(_make_row(member, job, width))) for member in members]
    while True:
        is_last = ended.wait(SECONDS_BETWEEN_LOOKS if mirror is None else SECONDS_BETWEEN_COPIES)
        if mirror is not None:
            with contextlib.suppress(NonetError):  # what the store does not tell now, it tells the next time
                pull_progress(mirror)
        for member, bar in rows:
            epoch, macro_f1 = _read_progress(member)
            if epoch != bar.n:
                bar.set_postfix(macro_f1=macro_f1, refresh=False)
                bar.update(epoch - bar.n)  # back, if the network died and is trained again
        total.update(sum(one.is_done for one in job.members) - total.n)
        if is_last:
            return


def _make_row(member: Member, job: Job, width: int) -> "tqdm":
    epoch, _ = _read_progress(member)
    return progress(
        total=job.recipe.train.epochs, initial=epoch, description=member.name.ljust(width), unit="epochs", leave=False
    )


def _read_progress(member: Member) -> tuple[int, str]:
    """Return how many epochs a member has been trained for, and its last macro-F1; 0 and "" if that is not known."""
    try:
        lines = member.history.read_text(encoding="utf-8").splitlines()
        return len(lines), f"{json.loads(lines[-1])['val_macro_f1']:.3f}" if lines else ""
    except (OSError, ValueError, KeyError):
        return 0, ""
