"""Tasks as jobs of Slurm, by submitit. A job runs a group of tasks one after another, each in a process of its own."""

import logging
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from nonet.errors import NonetError, RunError
from nonet.jobs.local import LocalEngine
from nonet.jobs.tasks import MAX_DEATHS, Needs, Outcome, Reply, Task, lost, outcome_of

logger = logging.getLogger("nonet")

#: Jobs that tasks are dealt to unless told otherwise; many sites allow an array of 1,000.
MAX_JOBS = 200
_SECONDS_BETWEEN_LOOKS = 1.0
_MINUTES = 24 * 60


def import_submitit() -> ModuleType:
    """Import submitit.

    Raises
    ------
    NonetError
        If it is not installed.
    """
    try:
        import submitit
    except ImportError as error:
        raise NonetError("submitit is not installed.", hint="Install it: pip install 'nonet[slurm]'") from error
    return submitit


class Group:
    """Tasks that one job runs; Slurm runs the job again if it is preempted or its time is over.

    Parameters
    ----------
    tasks : sequence of Task
    needs : Needs
        Of each.
    """

    def __init__(self, tasks: Sequence[Task], needs: Needs):
        self.tasks, self.needs = list(tasks), needs

    def __call__(self) -> list[Reply]:
        """Run the tasks; return the reply of each, in their order."""
        replies = {}
        for outcome in LocalEngine(1).run(self.tasks, self.needs):
            error = outcome.error
            replies[outcome.task.name] = Reply(outcome.value) if error is None else Reply.of_error(error)
        return [replies[task.name] for task in self.tasks]

    def checkpoint(self) -> Any:
        """Return what submitit is to submit when the job was interrupted: the same, which finds what was done."""
        return import_submitit().helpers.DelayedSubmission(self)


class SlurmEngine:
    """Deals tasks to the jobs of a Slurm array.

    Parameters
    ----------
    folder : Path
        Where the jobs leave their logs; all nodes see it.
    num_slots : int, optional
        Number of jobs. Default: one a task, at most MAX_JOBS.
    options : mapping of str to str
        Options of sbatch, such as partition, account and time.
    cluster : str
        "slurm", or "local" for processes of this machine; for tests.
    """

    def __init__(self, folder: Path, num_slots: int | None, options: Mapping[str, str], *, cluster: str = "slurm"):
        self.folder, self.num_slots, self.options, self.cluster = folder, num_slots, dict(options), cluster

    def run(self, tasks: Sequence[Task], needs: Needs) -> Generator[Outcome, None, None]:
        """Run tasks; see `Engine`. A group whose job died is submitted once more."""
        if not tasks:
            return
        executor = self._executor(needs)
        num_jobs = min(self.num_slots or MAX_JOBS, len(tasks))
        groups = [Group(tasks[number::num_jobs], needs) for number in range(num_jobs)]
        with executor.batch():
            jobs = [executor.submit(group) for group in groups]
        running = {job: (group, 0) for job, group in zip(jobs, groups, strict=True)}
        logger.info(f"{num_jobs} jobs were submitted, first {jobs[0].job_id}; logs: {self.folder}")
        try:
            while running:
                done = [job for job in running if job.done()]
                for job in done:
                    group, deaths = running.pop(job)
                    if (error := job.exception()) is None:
                        yield from map(outcome_of, group.tasks, job.result())
                    elif deaths + 1 < MAX_DEATHS:
                        logger.warning(f"Job {job.job_id} of Slurm failed ({job.state}). It is submitted again.")
                        running[executor.submit(group)] = group, deaths + 1
                    else:
                        logger.debug(str(error))
                        what = f"Slurm's job failed again (see {job.paths.stderr})"
                        yield from (lost(task, what) for task in group.tasks)
                if not done:
                    time.sleep(_SECONDS_BETWEEN_LOOKS)
        finally:
            for job in running:
                job.cancel()

    def has_gpus(self) -> bool:
        """Whether the options ask for GPUs: what a cluster has is not known before a job runs there."""
        return any(key.replace("_", "-").startswith(("gpus", "gres")) for key in self.options)

    def _executor(self, needs: Needs) -> Any:
        submitit = import_submitit()
        try:
            executor = submitit.AutoExecutor(self.folder, cluster=self.cluster)
        except RuntimeError as error:  # sbatch is not installed
            raise RunError(
                f"Slurm cannot be used: {error}", hint="Run the command on a machine that submits jobs to Slurm."
            ) from error
        # Named as sbatch names them, with underscores, they replace what comes before.
        options = {key.replace("-", "_"): value for key, value in self.options.items()}
        if needs.devices:
            options = {"gpus_per_node": str(needs.devices)} | options
        executor.update_parameters(
            name="nonet",
            timeout_min=_MINUTES,
            cpus_per_task=needs.processors or 1,
            slurm_additional_parameters=options,
        )
        return executor
