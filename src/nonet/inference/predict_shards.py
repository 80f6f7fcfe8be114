"""`predict_shards`: many shards, each a task of an engine: of this machine, of a Ray cluster or of Slurm.

Everything is checked before the first task starts, and no network is loaded in this process.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nonet.artifacts.mirror import mirrored
from nonet.artifacts.run import Run
from nonet.artifacts.shard_results import COUNTS, remove_result
from nonet.artifacts.urls import as_url
from nonet.data.shards.shard_image import ShardError
from nonet.errors import DamagedError, DataError, counted
from nonet.inference.folder import PREDICTION
from nonet.inference.load import OpenedRun, open_run, parse_views, require_effort
from nonet.inference.predict import describe_run
from nonet.inference.predict_shard import Model, digest_model, find_record, predict_task
from nonet.inference.shard_folder import NOT_COPIED, ShardPredictionFolder, plan_shards
from nonet.inference.shards import Shard, find_shards
from nonet.jobs.engines import make_engine, require_engine
from nonet.jobs.gpus import count_gpus, require_gpus
from nonet.jobs.tasks import Engine, LostError, Needs, Task
from nonet.models.accelerators import require_devices
from nonet.progress import progress
from nonet.workers import num_processors

if TYPE_CHECKING:
    from tqdm import tqdm

logger = logging.getLogger("nonet")


@dataclass(frozen=True)
class ShardPredictions:
    """The result of `nonet.predict_shards`.

    Attributes
    ----------
    folder : Path or str
        With results/*.parquet, a file a shard, and predictions.json; a str is its address in an object store.
    num_images : int
        Rows of all results together.
    num_unreadable : int
        Those with an error instead of a label.
    num_unidentified : int
        Those that were read and are unidentified.
    num_to_retry : int
        Unreadable ones that may be readable later; the same call predicts their shards again.
    labels : dict of str to int
        Images of each class.
    set_aside : dict of str to str
        Paths of shards without a result, each with its error; the same call tries them again.
    """

    folder: Path | str
    num_images: int
    num_unreadable: int
    num_unidentified: int
    num_to_retry: int
    labels: dict[str, int]
    set_aside: dict[str, str]

    def __str__(self) -> str:
        unreadable = f", {self.num_unreadable:,} of them unreadable (see column error)" if self.num_unreadable else ""
        doubtful = f", {self.num_unidentified:,} unidentified (see column reason)" if self.num_unidentified else ""
        lines = [f"{self.num_images:,} images{unreadable}{doubtful}: {self.folder}"]
        lines += [", ".join(f"{num:,} {label}" for label, num in self.labels.items())] if self.labels else []
        if self.num_to_retry:
            lines.append(
                f"{self.num_to_retry:,} of the unreadable could not be read now: the same command predicts their "
                "shards again."
            )
        if self.set_aside:
            were = counted(len(self.set_aside), "shard was", "shards were")
            lines.append(
                f"{were} set aside, as {self.folder}/set_aside.csv says: the same command tries again. "
                "The other results are complete."
            )
        return "\n".join(lines)


def predict_shards(
    run: str | Path | Run,
    shards: str | Path | Iterable[str | Path],
    *,
    out: str | Path,
    views: str | int | None = None,
    accelerator: str = "auto",
    backend: str = "auto",
    effort: str = "full",
    num_workers: int | None = None,
    on: str = "local",
    address: str | None = None,
    devices: int | None = None,
    job: Mapping[str, str] | None = None,
) -> ShardPredictions:
    """Predict the images of many shards with a run's ensemble, on this machine, a Ray cluster or Slurm.

    Each shard becomes one Parquet file, written whole, with exactly one row an image. A shard that is damaged, or whose
    process dies twice, is set aside by name, and the others are predicted.

    Parameters
    ----------
    run : str, path or Run
        A trained run. On a cluster, all machines see it, the shards and `out` under the same paths. Each of the three
        may be in an object store: "s3://bucket/runs/first".
    shards : path or iterable of paths
        Folders of `nonet.shard_images`, or files: Parquet with a column of images as data sets on the Hugging Face hub
        have it, or WebDataset archives (.tar); globs.
    out : path
        Folder for the results: new, empty, or that of an earlier call with the same run and shards, which resumes: what
        is there and whole is not predicted again.
    views : str or int, optional
        Test-time augmentation: "none", "dihedral" (or 8), "random" or "random:N". Default: as in the recipe.
    accelerator : {"auto", "cpu", "gpu", "cuda", "mps"}
        What to compute on: "auto" takes GPUs where there are any; on Slurm, where `job` asks for them.
    backend : {"auto", "torch", "openvino", "openvino-int8"}
        What runs the networks, as for `nonet.predict`.
    effort : {"full", "auto"}
        As for `nonet.predict`.
    num_workers : int, optional
        Number of processes that read and denoise images, for each shard that is being predicted. Default: one per core.
    on : {"local", "ray", "slurm"}
        What deals out the work: this machine, a Ray cluster, or Slurm.
    address : str, optional
        Of the Ray cluster, such as "auto" or "10.0.0.1:6379". Default: that of RAY_ADDRESS, or a new one on this
        machine.
    devices : int, optional
        How many shards are predicted at a time: GPUs, if they compute, otherwise processes or jobs. Default: on this
        machine all its GPUs, or one process with all cores; on a cluster as many as there is room for.
    job : mapping of str to str, optional
        Options of Slurm's sbatch, such as partition, account and time.

    Returns
    -------
    ShardPredictions
        Where the results are, how many images there are of each class, and which shards were set aside.

    Raises
    ------
    StorageError
        If `out` contains something that nonet did not write, or cannot be written.
    RunError
        If the run is incomplete, `out` contains another prediction, or another process is predicting into it.
    DataError
        If there is no shard, or options contradict each other.
    """
    require_devices(accelerator, 1 if devices is None else devices)
    require_effort(effort)
    require_engine(on, address=address, options=job)
    if as_url(out) is None:
        ShardPredictionFolder(out).require_usable()
    found = find_shards([shards] if isinstance(shards, (str, Path)) else shards)
    if found is None:
        raise DataError("These are not shards.", hint="Make them: nonet data shard IMAGES… --out SHARDS")
    opened = open_run(run)
    on_gpus = accelerator in ("auto", "gpu", "cuda") and not backend.startswith("openvino")
    num_slots = _num_slots(on, on_gpus, devices)
    with _opened(out) as folder:
        engine = make_engine(on, folder=folder.logs, address=address, num_slots=num_slots, options=job)
        needs = _needs(engine, on, on_gpus, num_slots, num_workers)
        if on != "local" and accelerator == "auto":  # what this machine has does not matter
            accelerator = "gpu" if needs.devices else "cpu"
        model, plan = _plan(opened, accelerator, views, backend, effort, num_workers)
        with folder.lock():
            folder.begin(plan | plan_shards(found))
            folder.copy_confusions(opened.run.confusions)
            return run_shards(folder, found, model, engine, needs, opened.classes)


@contextmanager
def _opened(out: str | Path) -> Iterator[ShardPredictionFolder]:
    """Give the folder of a prediction; what is written to that of an object store is copied to it."""
    if (url := as_url(out)) is None:
        yield ShardPredictionFolder(out)
        return
    with mirrored(url, PREDICTION, without=NOT_COPIED) as mirror:
        folder = ShardPredictionFolder(mirror.folder, url)
        folder.require_usable()
        yield folder


def _num_slots(on: str, on_gpus: bool, devices: int | None) -> int | None:
    """Return how many shards are predicted at a time; None leaves it to the cluster."""
    if on != "local":
        return devices
    if on_gpus:
        require_gpus(devices)
    return devices or (count_gpus() if on_gpus else 0) or 1


def _needs(engine: Engine, on: str, on_gpus: bool, num_slots: int | None, num_workers: int | None) -> Needs:
    """Return what a task needs: a GPU if there are any; its share of this machine, or processors as given."""
    devices = int(on_gpus and engine.has_gpus())
    if on != "local":
        return Needs(devices, num_workers)
    return Needs(devices, None if num_slots in (None, 1) else max(1, num_processors() // num_slots))


def _plan(
    opened: OpenedRun, accelerator: str, views: str | int | None, backend: str, effort: str, num_workers: int | None
) -> tuple[Model, dict]:
    """Return the model as tasks name it, and the keys of plan.json that describe it."""
    settings = parse_views(views, opened.recipe.predict)
    backend, _ = opened.choose_backend(backend, accelerator)
    chosen = None if views is None else str(views)
    digest = digest_model(opened, settings, backend, effort)
    model = Model(opened.place, chosen, accelerator, backend, effort, num_workers, digest)
    plan = describe_run(opened.run, opened.recipe, opened.ensemble, settings) | {"backend": backend, "effort": effort}
    return model, plan | ({"run": opened.place} if as_url(opened.place) else {})


def run_shards(
    folder: ShardPredictionFolder,
    shards: Sequence[Shard],
    model: Model,
    engine: Engine,
    needs: Needs,
    classes: Sequence[str],
) -> ShardPredictions:
    """Predict the shards that have no result yet, and write the index.

    Parameters
    ----------
    folder : ShardPredictionFolder
        Locked.
    shards : sequence of Shard
    model : Model
    engine : Engine
    needs : Needs
        Of each task.
    classes : sequence of str
        Of the run.

    Returns
    -------
    ShardPredictions
    """
    aside: dict[str, str] = {}
    with progress(total=len(shards), description="predicting", unit="shards") as bar:
        results = _Results(folder, shards, model, bar)
        left = results.find_left()
        if left:
            folder.open_again()
            # Named by their paths, which are unique, and are what a user is told.
            numbers = {shards[number].place: number for number in left}
            tasks = [Task(name, predict_task, results.arguments(number)) for name, number in numbers.items()]
            with closing(engine.run(tasks, needs)) as outcomes:
                for outcome in outcomes:
                    if outcome.error is not None and not isinstance(outcome.error, (LostError, ShardError)):
                        raise outcome.error
                    shard = shards[numbers[outcome.task.name]]
                    if not results.take(numbers[outcome.task.name]):
                        error = outcome.error or DamagedError(f"The result of {shard.place} is not whole.")
                        logger.warning(f"{shard.place} is set aside: {error}")
                        aside[shard.place] = error.message
    totals, labels = results.totals(), {label: results.labels[label] for label in classes if results.labels[label]}
    entries = [results.entries[number] for number in sorted(results.entries)]
    folder.finish({**totals, "labels": labels, "classes": list(classes), "shards": entries}, aside)
    return ShardPredictions(folder.url or folder.path, **totals, labels=labels, set_aside=aside)


class _Results:
    """What the results that are there contain; a line a shard and a number a class are in memory."""

    def __init__(self, folder: ShardPredictionFolder, shards: Sequence[Shard], model: Model, bar: "tqdm"):
        self._folder, self._shards, self._model, self._bar = folder, shards, model, bar
        self.entries: dict[int, dict[str, Any]] = {}
        self.labels: Counter[str] = Counter()

    def arguments(self, number: int) -> tuple[Shard, str, Model]:
        """Return the arguments of `predict_task` for a shard."""
        return self._shards[number], self._folder.result(number), self._model

    def find_left(self) -> list[int]:
        """Take the results that are there, and return the numbers of the shards to predict.

        Those with images that could not be read for a transient reason are among them.
        """
        left = []
        for number in range(len(self._shards)):
            if not self.take(number, complete=True):
                left.append(number)
        return left

    def take(self, number: int, *, complete: bool = False) -> bool:
        """Add a result; return False if it is not there, damaged or of another model or shard.

        Parameters
        ----------
        number : int
            Of the shard.
        complete : bool
            Remove the result, so that it is made again, if an image may be readable by now.
        """
        shard, result, model = self.arguments(number)
        record = find_record(result, shard, model)
        if record is None:
            return False
        if complete and record["num_to_retry"]:
            remove_result(result)
            return False
        counts = {key: record[key] for key in COUNTS}
        self.entries[number] = {"shard": shard.place, "name": Path(result).name, **counts, "file": record["file"]}
        self.labels.update(record["labels"])
        self._bar.update()
        return True

    def totals(self) -> dict[str, int]:
        """Return the numbers of images of all shards together."""
        return {key: sum(entry[key] for entry in self.entries.values()) for key in COUNTS}
