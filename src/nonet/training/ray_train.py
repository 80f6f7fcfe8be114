"""One member over several workers of a Ray cluster, which may be on different nodes, by Ray Train."""

from typing import TYPE_CHECKING, Any

from nonet.artifacts.storage import writing_to
from nonet.errors import NonetError, RunError
from nonet.jobs.on_ray import import_ray, with_processors
from nonet.jobs.tasks import Needs, environment_of
from nonet.training.inputs import Job
from nonet.training.members import choose_members, lock_member

if TYPE_CHECKING:
    from lightning_fabric import Fabric

#: How often workers or their nodes may be lost; each time the member goes on from its last state.
MAX_FAILURES = 20


def train_member_over_workers(job: Job, name: str, accelerator: str, num_workers: int) -> None:
    """Train a member by workers that share each batch. Runs in a task of Ray, which waits for the workers.

    Parameters
    ----------
    job : Job
    name : str
        Of the member.
    accelerator : str
        "cpu" for workers without GPUs.
    num_workers : int

    Raises
    ------
    BusyError
        If another process is training the member.
    NonetError
        That a worker raised, or if workers were lost too often.
    """
    ray = import_ray()
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    (member,) = choose_members(job.members, [name])
    on_gpu = accelerator != "cpu"
    needs = with_processors(ray, Needs(devices=int(on_gpu)))
    resources = {"CPU": needs.processors} | ({"GPU": 1} if on_gpu else {})
    trainer = TorchTrainer(
        _train_share,
        train_loop_config={"job": job, "name": name, "accelerator": accelerator, "processors": needs.processors},
        scaling_config=ScalingConfig(num_workers=num_workers, use_gpu=on_gpu, resources_per_worker=resources),
        run_config=RunConfig(
            name=name.replace("/", "-"),
            storage_path=str((job.run.folder / "jobs").absolute()),
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
        ),
    )
    with writing_to(job.run), lock_member(member):
        if member.is_done:
            return
        try:
            result = trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise _own_error(error, name) from error
        if result.error is not None:
            raise _own_error(result.error, name)


def _train_share(config: dict[str, Any]) -> None:
    """Train a worker's share; Ray Train has joined it to the others."""
    import os

    os.environ.update(environment_of(config["processors"]))
    from nonet.progress import hide_progress
    from nonet.training.all_members import train_members

    hide_progress()
    job = config["job"]
    members = choose_members(job.members, [config["name"]])
    fabric = _join(config["accelerator"], job.recipe.train.precision)
    fabric.launch(lambda fabric: train_members(fabric, job, members))


def _join(accelerator: str, precision: str) -> "Fabric":
    """Return a Fabric of the process group that Ray Train has made."""
    from lightning_fabric.plugins.environments import LightningEnvironment
    from lightning_fabric.strategies import DDPStrategy
    from ray.train import get_context
    from ray.train.torch import get_device

    from nonet.models.device import make_fabric

    class Workers(LightningEnvironment):
        """Ranks as Ray Train has given them."""

        creates_processes_externally = True

        def world_size(self) -> int:
            return get_context().get_world_size()

        def global_rank(self) -> int:
            return get_context().get_world_rank()

        def local_rank(self) -> int:
            return 0  # the position among the devices of this process, of which there is one

        def node_rank(self) -> int:
            return get_context().get_node_rank()

        def set_world_size(self, size: int) -> None:
            pass

        def set_global_rank(self, rank: int) -> None:
            pass

    devices = 1 if accelerator == "cpu" else [get_device().index]
    return make_fabric(
        accelerator=accelerator,
        devices=devices,
        precision=precision,
        strategy=DDPStrategy(cluster_environment=Workers()),
    )


def _own_error(error: Exception, name: str) -> NonetError:
    """Return the error of nonet that a worker raised, or one about the workers."""
    waiting: list[BaseException | None] = [error, *getattr(error, "worker_failures", {}).values()]
    while waiting:
        failure = waiting.pop()
        if isinstance(failure, NonetError):
            return failure
        if failure is not None:
            waiting += [getattr(failure, "cause", None), failure.__cause__]
    last = (str(error).splitlines() or [type(error).__name__])[-1]
    return RunError(f"The workers of {name} failed: {last}", hint="Run the same command again to resume.")
