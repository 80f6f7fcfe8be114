"""Out-of-fold logits of held-out images that are corrupted on purpose, by variant.

Each variant is a small table like oof.parquet. A finished one is stored, so that an interrupted test resumes after it
and a later call adds variants. The tables are in a folder named after what determines them: images, weights, seed.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from nonet.artifacts.ensemble_file import EnsembleFile, MemberEntry
from nonet.artifacts.integrity import read_checked_parquet, require_unchanged
from nonet.artifacts.oof import logit_classes, logit_columns, read_oof
from nonet.artifacts.run import Run, file_sha256, write_json, written_whole
from nonet.artifacts.storage import TEMPORARY
from nonet.data.manifest import Dataset
from nonet.data.preprocess.cache import MIN_IMAGES_FOR_WORKERS, worker_pool
from nonet.data.preprocess.corruptions import CORRUPTIONS
from nonet.data.preprocess.crop import Crop
from nonet.data.preprocess.crops import VERSION
from nonet.data.run_images import open_dataset_of
from nonet.errors import DamagedError
from nonet.inference.corrupted_images import (
    CorruptionTask,
    Variant,
    corrupt_and_prepare,
    draw_images,
    image_seed,
)
from nonet.models.accelerators import require_devices
from nonet.models.views import View, get_views
from nonet.progress import progress
from nonet.recipe import Predict, Recipe, load_recipe
from nonet.settings import NO_VIEWS
from nonet.workers import map_in_order, worker_count

if TYPE_CHECKING:
    from nonet.inference.ensemble import Ensemble

logger = logging.getLogger("nonet")

CHUNK_SIZE = 32  # images; each waits in memory in two versions of every crop, in several chunks per worker
_COLUMNS = ["image_id", "label", "patient", "source", "fold"]


@dataclass(frozen=True)
class _Chunk:
    """Images of one fold with the same corruption; the last chunk of a corruption completes its tables."""

    corruption: tuple[str, int]
    view_sets: tuple[str, ...]
    rows: pd.DataFrame
    is_last: bool


def score_corruptions(
    run: str | Path | Run,
    corruptions: Sequence[tuple[str, int]],
    *,
    dataset: str | Path | Dataset | None = None,
    limit: int | None = None,
    views: bool = True,
    seed: int = 0,
    accelerator: str = "auto",
    num_workers: int | None = None,
) -> Path:
    """Compute out-of-fold logits of corrupted images, denoised and not, without and with views.

    Parameters
    ----------
    run : str, path or Run
        A trained run.
    corruptions : sequence of tuple of (str, int)
        (corruption, severity), as `list_corruptions` returns them.
    dataset : path or Dataset, optional
        The run's dataset, if it was moved since training.
    limit : int, optional
        Number of images, drawn by class (see `draw_images`); None or 0 takes all evaluated ones.
    views : bool
        Also score with the recipe's views (dihedral if it has none).
    seed : int
        Random seed of the draw and the corruption.
    accelerator : {"auto", "cpu", "gpu", "cuda", "mps"}
        What to compute on.
    num_workers : int, optional
        Number of processes that corrupt and denoise. Default: one per core if there are enough images.

    Returns
    -------
    Path
        Folder of the tables, each named after its variant, including those of earlier calls for these images and
        weights.

    Raises
    ------
    RunError
        If the run is not fully trained or its dataset is not found.
    DataError
        If an image is not the one that the run was trained on.
    """
    run = Run(run)
    require_devices(accelerator)
    images, recipe, classes, members = _read(run)
    dataset = _open_dataset(run, dataset)
    images = draw_images(images, limit, seed)
    sets = _view_sets(recipe, views)
    folder = _folder(run, recipe, images, seed)
    chunks = list(_chunks(folder, images, corruptions, list(sets)))
    if not chunks:
        logger.info("Every variant is scored already: %s", folder)
        return folder
    views_of_sets = {name: get_views(settings) for name, settings in sets.items()}
    members = [(name, fold) for name, fold in members if fold in set(images["fold"])]
    ensembles = _ensembles(run, recipe, classes, members, accelerator)
    crops = tuple(sorted({crop for ensemble in ensembles.values() for crop in ensemble.crops}))
    settings = tuple(recipe.denoise.model_copy(update={"enabled": enabled}) for enabled in (False, True))
    tasks = (_tasks(chunk, dataset, crops, settings, seed) for chunk in chunks)
    _score(folder, chunks, tasks, ensembles, views_of_sets, num_workers)
    return folder


def _score(
    folder: Path,
    chunks: list[_Chunk],
    tasks: Iterator[list[CorruptionTask]],
    ensembles: dict[int, "Ensemble"],
    view_sets: dict[str, list[View]],
    num_workers: int | None,
) -> None:
    """Corrupt, prepare and score chunk by chunk; write the tables of a corruption after its last chunk."""
    num_left = sum(len(chunk.rows) for chunk in chunks)
    num_processes = worker_count(num_workers) if num_left >= MIN_IMAGES_FOR_WORKERS else 1
    prepared_chunks = closing(
        map_in_order(_prepare_chunk, tasks, num_processes, make_pool=worker_pool, describe_task=_first_and_last)
    )
    parts: dict[Variant, list[pd.DataFrame]] = {}
    with prepared_chunks as prepared, progress(total=num_left, description="corrupted images", unit="images") as bar:
        for chunk, (as_is, denoised, changed) in zip(chunks, prepared):
            ensemble = ensembles[chunk.rows["fold"].iloc[0]]
            for name in chunk.view_sets:
                logits = _logits(ensemble, as_is, denoised, changed, view_sets[name])
                _add(parts, chunk, name, logits, changed, ensemble)
            bar.update(len(chunk.rows))
            if chunk.is_last:
                _write(folder, parts)
                parts.clear()


def _read(run: Run) -> tuple[pd.DataFrame, Recipe, list[str], list[tuple[str, int]]]:
    """Return the evaluated images with fold and hash, the recipe, the classes in the order of the logits, and the
    members (architecture, fold) with out-of-fold logits.
    """
    EnsembleFile.read(run)  # raises if the run is not fully trained
    require_unchanged(run, run.oof, run.manifest)
    oof = read_oof(run.oof)
    manifest = pd.read_parquet(run.manifest, columns=["image_id", "evaluate", "sha256"])
    images = oof.drop_duplicates("image_id")[_COLUMNS].merge(manifest, on="image_id", validate="one_to_one")
    images = images[images["evaluate"].astype(bool) & images["label"].notna()].sort_values("image_id")
    members = sorted(set(zip(oof["architecture"], oof["fold"].astype(int))))
    return images.drop(columns="evaluate").reset_index(drop=True), load_recipe(run.recipe), logit_classes(oof), members


def _open_dataset(run: Run, dataset: str | Path | Dataset | None) -> Dataset:
    """Open the dataset that has the image files; a run has only their names."""
    return open_dataset_of(run) if dataset is None else Dataset.open(dataset)


def _view_sets(recipe: Recipe, views: bool) -> dict[str, Predict]:
    names = [NO_VIEWS]
    if views:
        names.append(recipe.predict.views if recipe.predict.views != NO_VIEWS else "dihedral")
    return {name: recipe.predict.model_copy(update={"views": name}) for name in names}


def _folder(run: Run, recipe: Recipe, images: pd.DataFrame, seed: int) -> Path:
    """Return the folder of this test, and write plan.json, which describes it."""
    members = sorted(run.folder.glob("members/*/fold-*/weights.safetensors"))
    plan = {
        "images": hashlib.sha256(images.to_csv(index=False).encode()).hexdigest(),
        "num_images": len(images),
        "seed": seed,
        "weights": {path.relative_to(run.folder / "members").parent.as_posix(): file_sha256(path) for path in members},
        "denoise": recipe.denoise.model_dump(exclude={"enabled"}),
        "views": recipe.predict.model_dump(exclude={"views"}),
        "strengths": {corruption: about.strengths for corruption, about in CORRUPTIONS.items()},
        "version": VERSION,
    }
    digest = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()
    folder = run.evaluation / "robustness" / digest[:12]
    if not (folder / "plan.json").exists():
        write_json(folder / "plan.json", plan)
    for leftover in folder.glob(f"{TEMPORARY}*"):  # half written by an interrupted call
        leftover.unlink(missing_ok=True)
    return folder


def _chunks(
    folder: Path, images: pd.DataFrame, corruptions: Sequence[tuple[str, int]], view_sets: list[str]
) -> Iterator[_Chunk]:
    """Yield the chunks that are not scored yet, by corruption and then by fold, as each fold has its own members."""
    for corruption in corruptions:
        # Denoised and not denoised are computed together: with the same batches, an interrupted test has the same bits.
        missing = tuple(
            name
            for name in view_sets
            if not all(_is_whole(folder / Variant(*corruption, denoised, name).file_name) for denoised in (False, True))
        )
        if not missing:
            continue
        cut = [
            rows.iloc[start : start + CHUNK_SIZE]
            for _, rows in images.groupby("fold")
            for start in range(0, len(rows), CHUNK_SIZE)
        ]
        for number, rows in enumerate(cut):
            yield _Chunk(corruption, missing, rows, number == len(cut) - 1)


def _is_whole(path: Path) -> bool:
    """Whether a variant's table exists and is intact; a damaged one is removed, to be computed again."""
    if not path.exists():
        return False
    try:
        read_checked_parquet(path)
    except DamagedError as error:
        logger.warning(f"{error.message} It is computed again.")
        path.unlink()
        return False
    return True


def _ensembles(
    run: Run, recipe: Recipe, classes: list[str], members: list[tuple[str, int]], accelerator: str
) -> dict[int, "Ensemble"]:
    """Return fold → ensemble of the members that were not trained on it, all with equal weight."""
    from nonet.inference.ensemble import Ensemble

    entries: dict[int, list[MemberEntry]] = {}
    for name, fold in members:
        entries.setdefault(fold, []).append(MemberEntry(architecture=name, fold=fold, weight=1.0))
    priors = dict.fromkeys(classes, 1 / len(classes))  # of no effect on logits
    return {
        fold: Ensemble(
            run,
            recipe,
            EnsembleFile(classes=classes, members=fold_members, trained_priors=priors),
            accelerator=accelerator,
        )
        for fold, fold_members in entries.items()
    }


def _tasks(
    chunk: _Chunk, dataset: Dataset, crops: tuple[Crop, ...], settings: tuple, seed: int
) -> list[CorruptionTask]:
    return [
        CorruptionTask(
            dataset.image_path(image_id), sha256, *chunk.corruption, image_seed(image_id, seed), crops, settings
        )
        for image_id, sha256 in zip(chunk.rows["image_id"], chunk.rows["sha256"])
    ]


def _first_and_last(tasks: list[CorruptionTask]) -> str:
    return f"{tasks[0].path} to {tasks[-1].path}"


def _prepare_chunk(tasks: list[CorruptionTask]) -> tuple[dict[Crop, np.ndarray], dict[Crop, np.ndarray], np.ndarray]:
    """Return crop → uint8 (n, size, size, 3), not denoised and denoised, and whether denoising changed each, (n,)."""
    pairs = [corrupt_and_prepare(task) for task in tasks]
    as_is, denoised = ({crop: np.stack([pair[i][crop] for pair in pairs]) for crop in pairs[0][0]} for i in (0, 1))
    changed = np.zeros(len(tasks), dtype=bool)
    for crop in as_is:
        changed |= (as_is[crop] != denoised[crop]).any(axis=(1, 2, 3))
    return as_is, denoised, changed


def _logits(
    ensemble: "Ensemble",
    as_is: dict[Crop, np.ndarray],
    denoised: dict[Crop, np.ndarray],
    changed: np.ndarray,
    views: list[View],
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits (members, n, classes), not denoised and denoised; unchanged images are run once."""
    plain = ensemble.member_logits(as_is, views)
    clean = plain.copy()
    if changed.any():
        clean[:, changed] = ensemble.member_logits({crop: batch[changed] for crop, batch in denoised.items()}, views)
    return plain, clean


def _add(
    parts: dict[Variant, list[pd.DataFrame]],
    chunk: _Chunk,
    view_set: str,
    logits: tuple[np.ndarray, np.ndarray],
    changed: np.ndarray,
    ensemble: "Ensemble",
) -> None:
    """Append a chunk's rows to the tables of its two variants: one row per member and image."""
    about = chunk.rows[_COLUMNS].reset_index(drop=True)
    for denoised, all_logits in zip((False, True), logits):
        rows = parts.setdefault(Variant(*chunk.corruption, denoised, view_set), [])
        for member, member_logits in zip(ensemble.members, all_logits, strict=True):
            architecture = member.name.split("/")[0]
            columns = pd.DataFrame(member_logits, columns=logit_columns(ensemble.classes))
            table = about.assign(architecture=architecture, view_set=view_set, changed=changed & denoised)
            rows.append(pd.concat([table, columns], axis=1))


def _write(folder: Path, parts: dict[Variant, list[pd.DataFrame]]) -> None:
    for variant, rows in parts.items():
        with written_whole(folder / variant.file_name) as path:
            pd.concat(rows).to_parquet(path, index=False, write_page_checksum=True)
