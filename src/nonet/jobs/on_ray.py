"""Tasks on a Ray cluster, whose nodes may come and go."""

import logging
import os
from collections import Counter, deque
from collections.abc import Generator, Sequence
from types import ModuleType
from typing import Any

from nonet.errors import NonetError, RunError
from nonet.jobs.tasks import MAX_DEATHS, Needs, Outcome, Task, call, environment_of, lost, outcome_of, pack

logger = logging.getLogger("nonet")

#: Tasks that Ray knows of at a time; more would only be a longer list.
MAX_SUBMITTED = 1_000
#: A node that is lost is not the fault of the task that ran there; but one that loses so many may be.
MAX_LOST_NODES = 20


def import_ray() -> ModuleType:
    """Import Ray.

    Raises
    ------
    NonetError
        If it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nonet reports nothing about its users to anyone
    try:
        import ray
    except ImportError as error:
        raise NonetError("Ray is not installed.", hint="Install it: pip install 'nonet[ray]'") from error
    return ray


class RayEngine:
    """Runs each task as a task of Ray.

    Parameters
    ----------
    address : str, optional
        See `nonet.jobs.engines.make_engine`.
    num_slots : int, optional
        How many tasks run at a time, at most.
    """

    def __init__(self, address: str | None = None, num_slots: int | None = None):
        self.address, self.num_slots = address, num_slots

    def run(self, tasks: Sequence[Task], needs: Needs) -> Generator[Outcome, None, None]:
        """Run tasks; see `Engine`. A task whose node is lost runs again on another."""
        if not tasks:
            return
        ray = import_ray()
        self._connect(ray)
        needs = with_processors(ray, needs)
        # Ray itself would run a task again without limit of its own; how often its process died is counted here.
        remote = ray.remote(
            num_cpus=needs.processors,
            num_gpus=needs.devices,
            max_retries=0,
            max_calls=0 if not needs.devices else 1_000,
        )(call)
        environment = environment_of(needs.processors)
        waiting = deque(tasks)
        running: dict[Any, Task] = {}
        deaths: Counter[str] = Counter()
        lost_nodes: Counter[str] = Counter()
        try:
            while waiting or running:
                while waiting and len(running) < (self.num_slots or MAX_SUBMITTED):
                    task = waiting.popleft()
                    running[remote.remote(pack(task), environment)] = task
                for reference in ray.wait(list(running), num_returns=1, timeout=5)[0]:
                    task = running.pop(reference)
                    try:
                        yield outcome_of(task, ray.get(reference))
                        continue
                    except ray.exceptions.RayTaskError:
                        raise  # a fault of the program, with the traceback of the other process
                    except ray.exceptions.RayError as error:
                        what, is_node = _describe(ray, error)
                    (lost_nodes if is_node else deaths)[task.name] += 1
                    if deaths[task.name] < MAX_DEATHS and lost_nodes[task.name] < MAX_LOST_NODES:
                        logger.warning(f"{task.name}: {what}. It is run again.")
                        waiting.appendleft(task)
                    else:
                        yield lost(task, f"{what} again")
        finally:
            for reference in running:
                ray.cancel(reference, force=True)

    def has_gpus(self) -> bool:
        """Whether a node of the cluster has GPUs."""
        ray = import_ray()
        self._connect(ray)
        return any(node["Alive"] and node["Resources"].get("GPU", 0) for node in ray.nodes())

    def _connect(self, ray: ModuleType) -> None:
        if ray.is_initialized():
            return
        # Never Ray's own guess, which may be a cluster of this machine that is gone, and is waited for.
        address = self.address or os.environ.get("RAY_ADDRESS") or "local"
        options = {"include_dashboard": False} if address == "local" else {}
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **options)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise RunError(
                f"The Ray cluster at {address} cannot be used: {str(error).splitlines()[0]}",
                hint='Start one with "ray start --head", or give the address that it prints.',
            ) from error


def with_processors(ray: ModuleType, needs: Needs) -> Needs:
    """Return the needs with a number of processors, after checking that some node can meet them.

    By default a task gets the processors of its share of a node: all of them without GPUs.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    able = [node for node in nodes if node.get("GPU", 0) >= needs.devices and node.get("CPU", 0) >= 1]
    if not able:
        has = ", ".join(f"{node.get('CPU', 0):.0f} processors and {node.get('GPU', 0):.0f} GPUs" for node in nodes)
        raise RunError(
            f"No node of the Ray cluster has {needs.devices} GPUs and a processor; they have {has}.",
            hint="Start Ray on a machine that has, or give another `accelerator` or fewer devices.",
        )
    shares = [
        int(node["CPU"]) * needs.devices // int(node["GPU"]) if needs.devices else int(node["CPU"]) for node in able
    ]
    processors = max(1, min(shares)) if needs.processors is None else needs.processors
    if processors > max(int(node["CPU"]) for node in able):
        raise RunError(
            f"No node of the Ray cluster has {processors} processors.", hint="Give a smaller number of them."
        )
    return Needs(needs.devices, processors)


def _describe(ray: ModuleType, error: Exception) -> tuple[str, bool]:
    """Return why a task's process is gone, as a clause, and whether its node was lost."""
    errors = ray.exceptions
    if isinstance(error, errors.OutOfMemoryError):
        return "its node ran short of memory, so that Ray ended its process", False
    if isinstance(error, errors.WorkerCrashedError):
        return "its process died", False
    if isinstance(error, (errors.NodeDiedError, errors.LocalRayletDiedError, errors.ObjectLostError)):
        return "its node was lost", True
    return f"Ray reported {type(error).__name__}", False
