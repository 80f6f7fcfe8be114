"""`train`: from a recipe and a dataset to the trained members of a run.

Errors in the call are raised before pandas is imported, and errors in recipe, dataset and run folder before torch is,
which takes seconds.
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nonet.artifacts.run import Run
from nonet.artifacts.storage import FolderKind, exclusive_lock, prepare_folder, require_usable_folder
from nonet.data.opening import require_dataset
from nonet.models.accelerators import require_devices
from nonet.models.backbones import require_size, require_weights
from nonet.recipe import Recipe, load_recipe
from nonet.training.losses import get_loss
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
    if isinstance(dataset, (str, Path)):
        require_dataset(Path(dataset).expanduser())
    run = Run(out)
    require_devices(accelerator, devices)
    _check_recipe(recipe)
    if not run.has_members:
        _require_weights(recipe)
        require_usable_folder(run.folder, _FOLDER)
    from nonet.data.manifest import Dataset
    from nonet.training.inputs import begin_run, get_folds

    dataset = Dataset.open(dataset)
    folds, notes = get_folds(recipe, dataset)
    with _lock(run):
        begin_run(run, recipe, dataset, folds, notes)
        from nonet.models.device import make_fabric  # imports torch, as everything below does
        from nonet.training.all_members import train_remaining

        fabric = make_fabric(accelerator=accelerator, devices=devices, precision=recipe.train.precision)
        for note in notes:
            logger.warning(note)
        train_remaining(fabric, run, recipe, dataset, folds)
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
        prepare_folder(run.folder, _FOLDER)
    with exclusive_lock(run.lock, f"{run} is being trained by another process.", "Wait for it, or give another `out`."):
        yield
