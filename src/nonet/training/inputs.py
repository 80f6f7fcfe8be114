"""What a run begins with: its folds, its folder, and the images as its networks see them. No torch here."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nonet.artifacts.integrity import note_checksums, write_sealed
from nonet.artifacts.run import (
    Member,
    Run,
    now,
    require_same,
    software_and_machine,
    write_json,
    write_text,
    written_whole,
)
from nonet.data.dataset_record import summarise_dataset
from nonet.data.folds import check_folds, make_folds, read_folds, write_folds
from nonet.data.manifest import Dataset
from nonet.data.preprocess.cache import PreparedImages, prepare_images
from nonet.data.preprocess.crop import Crop
from nonet.data.unknown_types import divide_unknown
from nonet.errors import DataError, RecipeError
from nonet.models.backbones import get_crop
from nonet.recipe import Recipe, differing_settings, load_recipe
from nonet.training.member_data import MemberData
from nonet.training.repair import inputs_are_intact, samples_are_intact, stored_fingerprints

logger = logging.getLogger("nonet")

#: Images of each class in the report's sample grid.
NUM_SAMPLES_PER_CLASS = 8


@dataclass(frozen=True)
class Job:
    """What every process of a training needs; small enough to be sent to it.

    Attributes
    ----------
    run : Run
    recipe : Recipe
    table : DataFrame
        One row per image: folds.csv joined with the manifest.
    unknown : DataFrame
        One row per image of an unknown cell type, from `divide_unknown`.
    classes : list of str
        Class codes.
    images : dict of Crop to PreparedImages
        In the order of `table`, then of `unknown`.
    num_folds : int
    """

    run: Run
    recipe: Recipe
    table: pd.DataFrame
    unknown: pd.DataFrame
    classes: list[str]
    images: dict[Crop, PreparedImages]
    num_folds: int

    @property
    def members(self) -> list[Member]:
        """All members of the run."""
        return self.run.members(self.recipe.models.architectures, self.num_folds)


def get_folds(recipe: Recipe, dataset: Dataset) -> tuple[pd.DataFrame, list[str]]:
    """Return the folds of a dataset's own folds.csv, or new ones if there is none, and check them.

    Parameters
    ----------
    recipe : Recipe
    dataset : Dataset

    Returns
    -------
    folds : DataFrame
        Columns image_id and fold.
    notes : list of str
        Sentences for the user.

    Raises
    ------
    DataError
        If a patient or an image is in several folds, or folds.csv does not fit the dataset.
    """
    edited, settings = Path(dataset.folder) / "folds.csv", recipe.folds
    manifest, by, hold_out_external = dataset.manifest, settings.by, settings.hold_out_external
    if edited.exists():
        folds = read_folds(edited, manifest, by=by, hold_out_external=hold_out_external)
        notes = [f"The folds are those of {edited}; the recipe's [folds] num_folds and seed have no effect."]
        if hold_out_external:
            external = set(manifest.loc[~manifest["evaluate"], "image_id"])
            num_without = int((folds["image_id"].isin(external) & folds["fold"].isna()).sum())
            if num_without:
                notes.append(
                    f"{num_without:,} external images have no fold in {edited} and are trained on in every fold, "
                    'although folds.hold_out_external is true. "nonet data folds --hold-out-external" gives them folds.'
                )
    else:
        folds, notes = make_folds(
            manifest, num_folds=settings.num_folds, seed=settings.seed, by=by, hold_out_external=hold_out_external
        )
    check_folds(folds, manifest, by=by, hold_out_external=hold_out_external)
    return folds, notes


def begin_run(run: Run, recipe: Recipe, dataset: Dataset, folds: pd.DataFrame, notes: list[str]) -> None:
    """Write the inputs of a new run, provenance.json last, or check that this run was begun with the same.

    Parameters
    ----------
    run : Run
    recipe : Recipe
    dataset : Dataset
    folds : DataFrame
        Columns image_id and fold.
    notes : list of str
        Stored in provenance.json.

    Raises
    ------
    RunError
        If the run was begun with another recipe, manifest or folds; names what differs.
    """
    fold_text = folds.sort_values("image_id").to_csv(index=False)
    requested = {
        "recipe": hashlib.sha256(recipe.to_toml().encode()).hexdigest(),
        "manifest": dataset.fingerprint(),
        "folds": hashlib.sha256(fold_text.encode()).hexdigest(),
    }
    stored = stored_fingerprints(run)
    # Without a first state, for example because weights were missing, there is nothing yet that could be mixed up.
    if stored is not None and (stored == requested or run.has_members):
        changed = (_changed_settings(run, recipe) or {}).items()
        described = ", ".join(f"{key} was {was!r}, is {now_is!r}" for key, (was, now_is) in changed)
        require_same(stored, requested, run, described)
        if inputs_are_intact(run):
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
            "dataset": str(Path(dataset.folder).absolute()),  # found from any folder
            "classes": dataset.classes,
            "architectures": recipe.models.architectures,
            "num_folds": int(folds["fold"].max()) + 1,
            "fingerprints": requested,
            "notes": notes,
            "environment": software_and_machine(),
        },
    )


def _changed_settings(run: Run, recipe: Recipe) -> dict[str, tuple] | None:
    """Return setting → (before, now) where a recipe differs from a run's own; None if that cannot be read.

    The description is not a setting.
    """
    try:
        before = load_recipe(run.recipe)
    except RecipeError:  # gone, damaged, or of a newer nonet
        return None
    return {key: pair for key, pair in differing_settings(before, recipe).items() if key != "description"}


def prepare(recipe: Recipe, dataset: Dataset, table: pd.DataFrame) -> dict[Crop, PreparedImages]:
    """Denoise and resize images for every architecture of a recipe, or read them from the dataset's cache.

    Parameters
    ----------
    recipe : Recipe
    dataset : Dataset
    table : DataFrame
        Images, with columns image_id and sha256.

    Returns
    -------
    dict of Crop to PreparedImages
        In the order of `table`.

    Raises
    ------
    DataError
        If an image cannot be read.
    """
    crops = sorted({get_crop(architecture, recipe.models) for architecture in recipe.models.architectures})
    return prepare_images(
        [dataset.image_path(image_id) for image_id in table["image_id"]],
        table["sha256"].tolist(),
        crops=crops,
        denoise=recipe.denoise,
        cache_dir=Path(dataset.folder) / "cache",
        description=f"{'denoising' if recipe.denoise.enabled else 'reading'}, {' and '.join(map(str, crops))}",
    )


def make_job(run: Run, recipe: Recipe, dataset: Dataset, folds: pd.DataFrame) -> Job:
    """Prepare the images of a training, and return what its processes need.

    Parameters
    ----------
    run : Run
    recipe : Recipe
    dataset : Dataset
    folds : DataFrame
        Columns image_id and fold.

    Returns
    -------
    Job

    Raises
    ------
    DataError
        If an image cannot be read.
    """
    table = folds.merge(dataset.manifest, on="image_id", how="left", validate="one_to_one")
    unknown, columns = divide_unknown(dataset.manifest, folds), ["image_id", "sha256"]
    images = prepare(recipe, dataset, pd.concat([table[columns], unknown[columns]], ignore_index=True))
    return Job(run, recipe, table, unknown, dataset.classes, images, int(folds["fold"].max()) + 1)


def get_member_data(job: Job, member: Member) -> MemberData:
    """Select the images and labels of a member.

    Parameters
    ----------
    job : Job
    member : Member

    Returns
    -------
    MemberData
    """
    images = job.images[get_crop(member.architecture, job.recipe.models)]
    fold = job.table["fold"]
    held_out = np.flatnonzero((fold == member.fold).fillna(False).to_numpy(dtype=bool))
    train = np.setdiff1d(np.arange(len(fold)), held_out)
    number = {code: i for i, code in enumerate(job.classes)}
    labels = job.table["label"].map(number).to_numpy(dtype=np.int64)
    return MemberData(images, labels, train, held_out, job.table, job.classes, job.unknown)


def write_samples(run: Run, recipe: Recipe, dataset: Dataset, table: pd.DataFrame) -> None:
    """Write a few prepared images of each class to the run, for the report. If they cannot be read, only warn.

    Parameters
    ----------
    run : Run
    recipe : Recipe
    dataset : Dataset
    table : DataFrame
        One row per image: folds.csv joined with the manifest.
    """
    if samples_are_intact(run):
        return
    rows = table.reset_index(drop=True).groupby("label").sample(frac=1, random_state=0)
    rows = rows.sort_values(["evaluate"], ascending=False, kind="stable").groupby("label").head(NUM_SAMPLES_PER_CLASS)
    picked = table.iloc[np.sort(rows.index.to_numpy())]
    try:
        images = prepare(recipe, dataset, picked)
    except DataError as error:
        logger.warning(f"{error.message} Reports will lack sample images.")
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
