"""`train`: from a recipe and a dataset to the nine trained members of a run.

What can be wrong with recipe, dataset and run folder is told before torch is imported, which takes many seconds.
"""

import contextlib
import hashlib
import logging
import multiprocessing
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from nonet.artifacts.integrity import note_checksums, write_sealed
from nonet.artifacts.run import Run, now, require_same, software_and_machine, write_json, write_text, written_whole
from nonet.artifacts.storage import alone, claim
from nonet.data.dataset_record import summarise_dataset
from nonet.data.folds import check_folds, make_folds, read_folds, write_folds
from nonet.data.manifest import Dataset
from nonet.data.preprocess.cache import PreparedImages, prepare_images
from nonet.data.preprocess.crops import Crop
from nonet.errors import DataError, NonetError, RecipeError, RunError
from nonet.models.accelerators import require_devices
from nonet.models.backbones import crop_of, get_backbone, require_size, require_weights
from nonet.progress import hide_progress, progress, progress_is_hidden
from nonet.recipe import Recipe, differing_settings, load_recipe
from nonet.training.ensemble import finish
from nonet.training.member_data import MemberData
from nonet.training.repair import beginning_is_whole, begun_with, heal_members, samples_are_whole
from nonet.workers import end_with_parent

if TYPE_CHECKING:
    from lightning_fabric import Fabric

logger = logging.getLogger("nonet")

NUM_SAMPLES_PER_CLASS = 8  # in the report's sample grid


@dataclass(frozen=True)
class Job:
    """What every process of a training needs; small enough to be sent to it."""

    run: Run
    recipe: Recipe
    table: pd.DataFrame
    classes: list[str]
    images: dict[Crop, PreparedImages]
    num_folds: int


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
        For `nonet.evaluate` and `nonet.load`.

    Raises
    ------
    RunError
        If `out` was started with another recipe, dataset or folds.
    DataError
        If a patient is in more than one fold.
    """
    recipe = load_recipe(recipe, settings)
    dataset = dataset if isinstance(dataset, Dataset) else Dataset.open(dataset)
    run = Run(out)
    require_devices(accelerator, devices)
    for architecture in recipe.models.architectures:
        require_size(architecture, recipe.models.image_size_px)
    if not run.has_members:
        _require_weights(recipe)
    folds, notes = _folds(recipe, dataset)
    with _alone(run):
        begin(run, recipe, dataset, folds, notes)
        from nonet.models.device import make_fabric  # torch, from here on

        fabric = make_fabric(accelerator=accelerator, devices=devices, precision=recipe.train.precision)
        for note in notes:
            logger.warning(note)
        _train_what_is_left(fabric, run, recipe, dataset, folds)
    return run


#: How a run's folder is told from another's; see `nonet.artifacts.storage.claim`.
_OURS = {
    "kind": "run",
    "main": "provenance.json",
    "keys": {"fingerprints"},
    "hint": "Give a new or an empty folder as `out`, or that of a run to resume.",
}


def _require_weights(recipe: Recipe) -> None:
    """Raise where a new run would stop half way because weights on this machine are missing."""
    if recipe.models.weights == "pretrained":
        for architecture in recipe.models.architectures:
            require_weights(architecture, recipe.models.weight_files.get(architecture))


@contextlib.contextmanager
def _alone(run: Run):
    """Refuse a folder of something else, and a second training of the same run at the same time.

    The lock goes with the process that holds it.
    """
    if not run.has_members:  # a run that lost its provenance can be healed
        claim(run.folder, **_OURS)
    with alone(run.lock, f"{run} is being trained by another process.", "Wait for it, or give another `out`."):
        yield


def _train_what_is_left(fabric: "Fabric", run: Run, recipe: Recipe, dataset: Dataset, folds: pd.DataFrame) -> None:
    table = folds.merge(dataset.manifest, on="image_id", how="left", validate="one_to_one")
    num_folds = int(table["fold"].max()) + 1
    members = run.members(recipe.models.architectures, num_folds)
    heal_members(run, members)
    for member in members:
        if member.is_done:
            member.clear()
    if not all(member.is_done for member in members):
        images = _prepare(recipe, dataset, table)
        job = Job(run, recipe, table, dataset.classes, images, num_folds)
        if fabric.world_size == 1:
            train_members(fabric, job)
        else:
            _launch(fabric, job)
    _write_samples(run, recipe, dataset, table)
    titles = {architecture: get_backbone(architecture).title for architecture in recipe.models.architectures}
    finish(run, recipe, dataset.classes, titles, members)


def _folds(recipe: Recipe, dataset: Dataset) -> tuple[pd.DataFrame, list[str]]:
    edited, settings = Path(dataset.folder) / "folds.csv", recipe.folds
    options = {"by": settings.by, "hold_out_external": settings.hold_out_external}
    if edited.exists():
        folds = read_folds(edited, dataset.manifest, **options)
        notes = [f"The folds are those of {edited}; the recipe's [folds] num_folds and seed have no effect."]
        if settings.hold_out_external:
            external = set(dataset.manifest.loc[~dataset.manifest["evaluate"], "image_id"])
            num_kept = int((folds["image_id"].isin(external) & folds["fold"].isna()).sum())
            if num_kept:
                notes.append(
                    f"{num_kept:,} external images have no fold in {edited} and are trained on in every fold, although "
                    'folds.hold_out_external is true. "nonet data folds --hold-out-external" gives them folds.'
                )
    else:
        folds, notes = make_folds(dataset.manifest, num_folds=settings.num_folds, seed=settings.seed, **options)
    check_folds(folds, dataset.manifest, **options)
    return folds, notes


def begin(run: Run, recipe: Recipe, dataset: Dataset, folds: pd.DataFrame, notes: list[str]) -> None:
    """Write what a new run begins with, provenance last, or make sure that this one was begun with the same."""
    fold_text = folds.sort_values("image_id").to_csv(index=False)
    asked = {
        "recipe": hashlib.sha256(recipe.to_toml().encode()).hexdigest(),
        "manifest": dataset.fingerprint(),
        "folds": hashlib.sha256(fold_text.encode()).hexdigest(),
    }
    kept = begun_with(run)
    # Without a first state, say because weights were not at hand, there is nothing yet that could be mixed up.
    goes_on = kept is not None and (kept == asked or run.has_members)
    if goes_on:
        changed = (_changed_settings(run, recipe) or {}).items()
        described = ", ".join(f"{key} was {was!r}, is {now_is!r}" for key, (was, now_is) in changed)
        require_same(kept, asked, run, described)
        if beginning_is_whole(run):
            return
    else:
        run.samples.unlink(missing_ok=True)
    write_text(run.recipe, recipe.to_toml())
    with written_whole(run.manifest) as path:
        dataset.manifest.to_parquet(path, index=False)
    write_folds(run.folds, folds)
    write_json(run.dataset_record, summarise_dataset(dataset))
    note_checksums(run, [run.manifest, run.folds, run.dataset_record])
    write_sealed(
        run.provenance,
        {
            "created": now(),
            "recipe": recipe.name,
            "dataset": str(dataset.folder),
            "classes": dataset.classes,
            "architectures": recipe.models.architectures,
            "num_folds": int(folds["fold"].max()) + 1,
            "fingerprints": asked,
            "notes": notes,
            "environment": software_and_machine(),
        },
    )


def _changed_settings(run: Run, recipe: Recipe) -> dict[str, tuple] | None:
    """Return setting → (before, now) of those in which a recipe differs from the one that a run was begun with.

    What the recipe says of itself is no setting. None where the run's recipe cannot be read.
    """
    try:
        before = load_recipe(run.recipe)
    except RecipeError:  # missing or damaged
        return None
    return {key: pair for key, pair in differing_settings(before, recipe).items() if key != "description"}


def _prepare(recipe: Recipe, dataset: Dataset, table: pd.DataFrame) -> dict[Crop, PreparedImages]:
    crops = sorted({crop_of(architecture, recipe.models) for architecture in recipe.models.architectures})
    return prepare_images(
        [dataset.image_path(image_id) for image_id in table["image_id"]],
        table["sha256"].tolist(),
        crops=crops,
        denoise=recipe.denoise,
        cache_dir=Path(dataset.folder) / "cache",
        description=f"{'denoising' if recipe.denoise.enabled else 'reading'}, {' and '.join(map(str, crops))}",
    )


def _launch(fabric: "Fabric", job: Job) -> None:
    """Train in processes of their own; an error that one of them raises on purpose is raised here, as it was."""
    from torch.multiprocessing import ProcessRaisedException

    try:
        errors = multiprocessing.get_context("spawn").SimpleQueue()
    except OSError as error:  # its locks are small files in shared memory
        raise RunError(
            f"Processes for several devices cannot be started: {error.strerror or error}.",
            hint="Is /dev/shm there, and larger than some kB? In Docker, --shm-size sets it. Or give `devices=1`.",
        ) from error
    before, port = set(multiprocessing.active_children()), os.environ.get("MASTER_PORT")
    try:
        # Bound, as Fabric searches the arguments for networks and stumbles over frozen dataclasses.
        fabric.launch(partial(_train_in_process, job=job, errors=errors, hidden=progress_is_hidden()))
    except ProcessRaisedException:
        if errors.empty():
            raise
        kind, message, hint = errors.get()
        raise kind(message, hint) from None
    finally:
        for process in set(multiprocessing.active_children()) - before:  # after Ctrl-C; else there are none
            process.terminate()
        if port is None:  # Fabric leaves the one that was free; by the next training it may be another program's
            os.environ.pop("MASTER_PORT", None)


def _train_in_process(fabric: "Fabric", job: Job, errors, hidden: bool) -> None:
    end_with_parent()
    hide_progress(hidden)
    try:
        train_members(fabric, job)
    except NonetError as error:
        errors.put((type(error), error.message, error.hint))
        raise  # which ends the other processes, too


def train_members(fabric: "Fabric", job: Job) -> None:
    """Train every member that is not done; runs in each process of a training over several devices."""
    from nonet.models.device import keep_freed_memory, make_repeatable
    from nonet.training.member import MemberTraining

    make_repeatable()
    keep_freed_memory()
    members = job.run.members(job.recipe.models.architectures, job.num_folds)
    todo = [member for member in members if not member.is_done]
    fabric.barrier()  # nobody writes a DONE before all have counted
    bar = progress(
        total=len(members),
        initial=len(members) - len(todo),
        description="members",
        unit="members",
        disable=not fabric.is_global_zero,
    )
    for member in todo:
        if fabric.is_global_zero:
            member.folder.mkdir(parents=True, exist_ok=True)
        training = MemberTraining(member, _data_of(job, member), job.recipe, fabric)
        if training.origin and fabric.is_global_zero:
            logger.info(training.origin)
        training.run()
        fabric.barrier()
        bar.update()
    bar.close()


def _data_of(job: Job, member) -> MemberData:
    images = job.images[crop_of(member.architecture, job.recipe.models)]
    fold = job.table["fold"]
    held_out = np.flatnonzero((fold == member.fold).fillna(False).to_numpy(dtype=bool))
    train = np.setdiff1d(np.arange(len(fold)), held_out)
    number = {code: i for i, code in enumerate(job.classes)}
    labels = job.table["label"].map(number).to_numpy(dtype=np.int64)
    return MemberData(images, labels, train, held_out, job.table, job.classes)


def _write_samples(run: Run, recipe: Recipe, dataset: Dataset, table: pd.DataFrame) -> None:
    """Keep a few prepared images of each class in the run, for the report; a run without them is still a run."""
    if samples_are_whole(run):
        return
    rows = table.reset_index(drop=True).groupby("label").sample(frac=1, random_state=0)
    rows = rows.sort_values(["evaluate"], ascending=False, kind="stable").groupby("label").head(NUM_SAMPLES_PER_CLASS)
    picked = table.iloc[np.sort(rows.index.to_numpy())]
    try:
        images = _prepare(recipe, dataset, picked)
    except DataError as error:
        logger.warning(f"{error.message} Reports go without sample images.")
        return
    array = images[max(images, key=lambda crop: (crop.centre, crop.size_px))]  # as much as any member sees
    with written_whole(run.samples) as path, path.open("wb") as file:
        np.savez_compressed(
            file,
            image=array[:],
            label=picked["label"].to_numpy(dtype=str),
            image_id=picked["image_id"].to_numpy(dtype=str),
        )
    note_checksums(run, [run.samples])
