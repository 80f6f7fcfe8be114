"""`train`: from a recipe and a dataset to the trained members of a run.

Errors in the call are raised before pandas is imported, and errors in recipe, dataset and run folder before torch is,
which takes seconds.
"""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nonet.artifacts.mirror import fetched, mirrored
from nonet.artifacts.run import Run
from nonet.artifacts.storage import (
    FolderKind,
    exclusive_lock,
    prepare_folder,
    require_usable_folder,
    waiting_lock,
)
from nonet.artifacts.stores import has_file
from nonet.artifacts.urls import as_url
from nonet.data.opening import MAKE_ONE, require_dataset
from nonet.errors import DataError, RunError
from nonet.models.backbones import require_size, require_stages, require_weights
from nonet.recipe import Recipe, load_recipe
from nonet.training.losses import get_loss
from nonet.training.placement import Placement
from nonet.training.sampling import get_sampler

if TYPE_CHECKING:
    from nonet.data.manifest import Dataset

logger = logging.getLogger("nonet")

_FOLDER = FolderKind(
    "run",
    main="provenance.json",
    keys={"fingerprints"},
    hint="Give a new or an empty folder as `out`, or that of a run to resume.",
)


def train(
    recipe: str | Path | Recipe,
    dataset: "str | Path | Dataset",
    *,
    out: str | Path,
    settings: list[str] | None = None,
    members: list[str] | None = None,
    on: str = "local",
    accelerator: str = "auto",
    devices: int | None = None,
    devices_per_member: int = 1,
    address: str | None = None,
    job: dict[str, str] | None = None,
) -> Run:
    """Train every member of a recipe on a dataset. If interrupted, the same call resumes.

    Parameters
    ----------
    recipe : str, path or Recipe
        Name of a built-in recipe, a TOML file, or a Recipe.
    dataset : path or Dataset
        Made by `build_dataset`, also in an object store. If its folder contains folds.csv, those folds are used.
    out : path
        Folder for the run, also in an object store: "s3://bucket/runs/first". There, it is copied to this machine and
        back, and machines of a cluster need no file system in common.
    settings : list of str, optional
        Changes to the recipe, such as "train.epochs=5".
    members : list of str, optional
        Train only these members, such as "swinv2_tiny/fold-0"; several calls may train different members of a run at
        the same time. The call that trains the last one completes the run.
    on : {"local", "ray", "slurm"}
        Where members are trained: on this machine, on a Ray cluster, or as jobs of Slurm. All machines need the same
        file system, unless `out` is in an object store.
    accelerator : {"auto", "cpu", "gpu", "cuda", "mps"}
        What to compute on: "auto" takes the best there is; "cuda" and "mps" are kinds of GPU.
    devices : int, optional
        How many devices are used at a time, each by a process of its own. Default: all GPUs there are, or the CPU.
    devices_per_member : int
        How many of them share each batch of a member.
    address : str, optional
        Of the Ray cluster, such as "auto" or "10.0.0.1:6379". Default: that of RAY_ADDRESS, or a new one on this
        machine.
    job : dict of str to str, optional
        Options of sbatch for Slurm's jobs, such as {"partition": "gpu", "time": "08:00:00"}.

    Returns
    -------
    Run
        For `evaluate(run)` and `load(run)`; of a run in an object store, the copy on this machine.

    Raises
    ------
    RunError
        If `out` was begun with another recipe, dataset or folds, or another process is training it.
    DataError
        If a patient or an image is in several folds, or an image cannot be read.
    RecipeError
        If a setting is not valid.
    WeightsError
        If pretrained weights are missing or do not fit.
    """
    recipe = load_recipe(recipe, settings)
    if isinstance(dataset, (str, Path)):
        dataset = _find_dataset(dataset)
    placement = Placement(on, accelerator, devices, devices_per_member, address, job or {})
    placement.require()
    _check_recipe(recipe)
    with _opened(out, placement) as (run, placement):
        _train(recipe, dataset, run, members, placement)
    return run


def _find_dataset(place: str | Path) -> Path:
    """Return the folder of a dataset on this machine; of one in an object store, a copy."""
    if (url := as_url(place)) is None:
        folder = Path(place).expanduser()
        require_dataset(folder)
        return folder
    if not has_file(f"{url}/dataset.json"):  # before it is copied
        raise DataError(f"{url} is not a dataset: dataset.json is missing.", hint=MAKE_ONE)
    with fetched(url) as folder:
        require_dataset(folder)
    return folder


@contextlib.contextmanager
def _opened(out: str | Path, placement: Placement) -> Iterator[tuple[Run, Placement]]:
    """Give a run's folder, on this machine; what is written to that of an object store is copied to it."""
    url = as_url(out)
    if url is None:
        yield Run(out), placement
        return
    if placement.on == "ray" and placement.share > 1:
        raise RunError(
            "On Ray, workers that share the batches of a member need a file system in common.",
            hint="Give `out` on that file system, or leave out `devices_per_member`.",
        )
    from nonet.training.in_store import NOT_COPIED, remove_prepared

    with mirrored(url, _FOLDER, without=NOT_COPIED) as mirror:
        run = Run(mirror.folder)
        yield run, replace(placement, mirror=mirror)
        if run.ensemble.exists():
            remove_prepared(mirror)


def _train(
    recipe: Recipe, dataset: "Path | Dataset", run: Run, members: list[str] | None, placement: Placement
) -> None:
    """Train what is left of a run, on this machine or by the processes that an engine starts."""
    if not run.has_members:
        _require_weights(recipe)
        require_usable_folder(run.folder, _FOLDER)
    from nonet.data.manifest import Dataset
    from nonet.training.inputs import begin_run, get_folds

    dataset = Dataset.open(dataset)
    folds, notes = get_folds(recipe, dataset)
    with _lock(run) if members is None else _own_folder(run):
        with waiting_lock(run.begin_lock):
            begin_run(run, recipe, dataset, folds, notes)
        from nonet.training.all_members import train_remaining

        for note in notes:
            logger.warning(note)
        train_remaining(placement, run, recipe, dataset, folds, members)


def _check_recipe(recipe: Recipe) -> None:
    """Raise if a backbone, an image size, a sampler or a loss is not valid."""
    for architecture in recipe.models.architectures:
        require_size(architecture, recipe.models.image_size_px)
        require_stages(architecture, recipe.models.head_stages)
    get_sampler(recipe.sampling.sampler)
    get_loss(recipe.loss.name)


def _require_weights(recipe: Recipe) -> None:
    """Raise if a new run would stop half way because of missing weights."""
    if recipe.models.weights == "pretrained":
        for architecture in recipe.models.architectures:
            require_weights(architecture, recipe.models.weight_files.get(architecture))


@contextlib.contextmanager
def _own_folder(run: Run) -> Iterator[None]:
    """Refuse a folder that is not a run's."""
    if not run.has_members:  # a run that lost its provenance.json can be repaired
        prepare_folder(run.folder, _FOLDER)
    yield


@contextlib.contextmanager
def _lock(run: Run) -> Iterator[None]:
    """Refuse a folder that is not a run's, and a second training of the whole run at the same time.

    The lock is released when the process that holds it ends, however it ends.
    """
    busy = f"{run} is being trained by another process.", "Wait for it, or give another `out`."
    with _own_folder(run), exclusive_lock(run.lock, *busy):
        yield
