"""Reading a run folder for its evaluation."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import ParamSpec, TypeVar

import numpy as np
import pandas as pd

from nonet.artifacts.csv_files import read_csv
from nonet.artifacts.ensemble_file import EnsembleFile, Weights
from nonet.artifacts.integrity import read_done, read_json, reading, require_unchanged, require_whole
from nonet.artifacts.oof import read_oof
from nonet.artifacts.run import Member, Run, repair_hint
from nonet.calibration.calibrator import Calibration
from nonet.calibration.member_weights import folds_with_weight
from nonet.errors import RunError
from nonet.evaluation.oof import OutOfFold, align_oof
from nonet.recipe import Calibrate, Recipe, load_recipe

logger = logging.getLogger("nonet")


P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class RunData:
    """A run as its evaluation needs it; optional parts that the folder lacks are empty or None.

    Attributes
    ----------
    name : str
        Name of the run folder.
    oof : OutOfFold
        The predictions for the evaluated images.
    manifest : DataFrame
        The run's manifest.parquet.
    recipe_text, recipe : str, Recipe
        The run's recipe.toml, as text and as settings.
    provenance : dict
        The run's provenance.json.
    ensemble : EnsembleFile
        The run's ensemble.json.
    histories : dict of (architecture, fold) to DataFrame
        One row per epoch.
    samples : tuple of ndarray, or None
        Small images of the classes, uint8, and their labels.
    num_never_held_out : int
        Images marked to be evaluated that are in no fold.
    num_not_judged : int
        Evaluated images that all members with non-zero weight were trained on: they are not scored.
    weights : Weights or None
        Of the members; None for equal weights.
    record : dict or None
        How the dataset was built, as `nonet.data.dataset_record` stored it.
    origins : dict of str to str or None
        Where each architecture's pretrained weights came from, with their licence; None where training began from
        random numbers, no entry where no member says.
    expanded : OutOfFold or None
        The predictions for all images held out, external ones included; None where none of these was held out.
    done : dict of (architecture, fold) to dict
        The contents of the members' DONE files.
    """

    name: str
    oof: OutOfFold
    manifest: pd.DataFrame
    recipe_text: str
    recipe: Recipe
    provenance: dict
    ensemble: EnsembleFile
    histories: dict[tuple[str, int], pd.DataFrame]
    samples: tuple[np.ndarray, np.ndarray] | None
    num_never_held_out: int
    num_not_judged: int = 0
    weights: Weights | None = None
    record: dict | None = None
    origins: dict[str, str | None] = field(default_factory=dict)
    expanded: OutOfFold | None = None
    done: dict[tuple[str, int], dict] = field(default_factory=dict)

    @property
    def titles(self) -> dict[str, str]:
        """Display names of the architectures."""
        return self.ensemble.titles

    def kept_epoch(self, member: tuple[str, int]) -> int | None:
        """Return the epoch that a member's weights are of.

        Parameters
        ----------
        member : tuple of (str, int)
            Architecture and fold.

        Returns
        -------
        int or None
            None for a member that diverged in its first epoch.
        """
        return self.done[member]["kept_epoch"]

    @property
    def is_weighted(self) -> bool:
        """Whether the weights of the members differ."""
        return self.weights is not None and len(set(self.weights.values())) > 1

    @property
    def num_networks(self) -> int:
        """Number of members with non-zero weight."""
        if self.weights is None:
            return sum(self.oof.num_folds.values())
        return sum(weight > 0 for weight in self.weights.values())

    @property
    def calibration(self) -> Calibration:
        """The ensemble's calibration, fitted on all folds."""
        return Calibration.from_ensemble(self.ensemble)

    @property
    def calibrate(self) -> Calibrate:
        """The settings that ensemble.json was calibrated with, or else those of the recipe."""
        return self.ensemble.calibration.settings or self.recipe.calibrate

    @property
    def trained_priors(self) -> np.ndarray:
        """The share of each class among the images that training drew, ndarray of float64, shape (num_classes,)."""
        return self.ensemble.array(self.ensemble.trained_priors)

    @cached_property
    def evaluated(self) -> pd.DataFrame:
        """The manifest's rows of the images that are scored."""
        return self.manifest[self.manifest["image_id"].isin(set(self.oof.image_id))]

    @cached_property
    def external(self) -> pd.DataFrame:
        """The manifest's rows of the images that are trained on and never scored."""
        manifest = self.manifest
        return manifest[manifest["label"].notna() & ~manifest["evaluate"].astype(bool) & manifest["split"].ne("test")]


def read_run(run: Run) -> RunData:
    """Read a run folder, with only evaluated images in its out-of-fold table.

    Parameters
    ----------
    run : Run
        The run folder.

    Returns
    -------
    RunData
        What an evaluation needs.

    Raises
    ------
    RunError
        If ensemble.json, oof.parquet, manifest.parquet or folds.csv is missing, damaged or unreadable, or out-of-fold
        logits are incomplete.
    """
    run.require()
    ensemble = EnsembleFile.read(run)
    weights = ensemble.weights
    provenance = require_unchanged(run, run.oof, run.manifest, run.folds)
    hint = repair_hint(run)
    with reading(run.manifest, hint=hint):
        manifest = pd.read_parquet(run.manifest)
        manifest["image_id"] = manifest["image_id"].astype(str)
    with reading(run.folds, hint=hint):
        folds = read_csv(run.folds, dtype={"image_id": str})
    with reading(run.oof, hint=hint):
        table = read_oof(run.oof)
        table, expanded, counts = _held_out(table, manifest, folds, run, folds_with_weight(weights))
    oof = align_oof(table, ensemble.classes, weights=weights)
    with reading(run.recipe, hint=hint):
        text = run.recipe.read_text(encoding="utf-8")
    dones = _read_dones(run, provenance)
    return RunData(
        name=run.folder.resolve().name,
        oof=oof,
        manifest=manifest,
        recipe_text=text,
        recipe=load_recipe(run.recipe),
        provenance=provenance,
        ensemble=ensemble,
        histories=_read_histories(run, dones),
        samples=_optional(_read_samples, run),
        num_never_held_out=counts["never_held_out"],
        num_not_judged=counts["not_judged"],
        weights=weights,
        record=_optional(_read_record, run),
        origins=_origins(dones),
        expanded=None if expanded is None else align_oof(expanded, ensemble.classes, weights=weights),
        done={(member.architecture, member.fold): done for member, done in dones.items()},
    )


def _held_out(
    table: pd.DataFrame, manifest: pd.DataFrame, folds: pd.DataFrame, run: Run, judged: set[int]
) -> tuple[pd.DataFrame, pd.DataFrame | None, dict[str, int]]:
    """Return the rows of evaluated images; of all images held out, None where no external one was; and how many
    evaluated images were never held out, and how many are held out in a fold none of whose members counts.

    `judged` are the other folds.
    """
    images = pd.Index(manifest["image_id"].to_numpy(dtype=object))
    if not images.is_unique:
        raise RunError(f"{run.manifest} has {images[images.duplicated()][0]} twice.", "Copy the run folder anew.")
    row = images.get_indexer(table["image_id"].to_numpy(dtype=object))  # of the manifest
    unexpected = table[row < 0]
    if len(unexpected):
        raise RunError(
            f"{unexpected['image_id'].nunique()} images of {run.oof} are not in the run's manifest, first "
            f"{unexpected['image_id'].iloc[0]}.",
            "The two files come from different runs. Train into a fresh folder.",
        )
    labelled = manifest["label"].notna().to_numpy()
    marked = manifest["evaluate"].to_numpy(dtype=bool) & labelled
    of_fold = folds[folds["fold"].notna()]
    held_out, due = (
        labelled & images.isin(fold_rows["image_id"].to_numpy(dtype=object))
        for fold_rows in (of_fold, of_fold[of_fold["fold"].isin(judged)])
    )
    evaluated = table[marked[row]]
    for what, expected in (("evaluated", marked & due), ("external", ~marked & due)):
        absent = sorted(images[expected & ~np.isin(np.arange(len(images)), row)])
        if absent and len(evaluated):
            raise RunError(
                f"{len(absent)} of {expected.sum()} {what} images have no out-of-fold logits, first {absent[0]}.",
                f'Run "nonet train RECIPE DATASET --out {run}" again: it completes what is missing.',
            )
    expanded = table[(marked | held_out)[row]] if (held_out & ~marked).any() else None
    counts = {"never_held_out": (marked & ~held_out).sum(), "not_judged": (marked & held_out & ~due).sum()}
    return evaluated, expanded, {name: int(count) for name, count in counts.items()}


def _read_histories(run: Run, dones: dict[Member, dict]) -> dict[tuple[str, int], pd.DataFrame]:
    """Return the table of epochs by (architecture, fold), without members whose history is damaged."""
    histories = {}
    for member, done in dones.items():
        table = _optional(_read_history, member, done)
        if table is not None and len(table):
            histories[member.architecture, member.fold] = table
    return histories


def _read_history(member: Member, done: dict) -> pd.DataFrame:
    require_whole(member.history, done["files"].get(member.history.name), hint=repair_hint(member.run))
    lines = member.history.read_text(encoding="utf-8").splitlines()
    return pd.DataFrame([json.loads(line) for line in lines])


def _read_dones(run: Run, provenance: dict) -> dict[Member, dict]:
    """Return the contents of the members' DONE files, without unreadable ones: only the report needs them."""
    members = run.members(tuple(provenance["architectures"]), provenance["num_folds"])
    dones = {member: _optional(read_done, member) for member in members}
    return {member: done for member, done in dones.items() if done is not None}


def _read_record(run: Run) -> dict:
    """Return the run's record of how its dataset was built."""
    require_unchanged(run, run.dataset_record)
    return read_json(run.dataset_record, hint=repair_hint(run))


def _origins(dones: dict[Member, dict]) -> dict[str, str | None]:
    """Return where each architecture's weights came from; differing members are joined by semicolons."""
    by_architecture: dict[str, list] = {}
    for member, done in dones.items():
        by_architecture.setdefault(member.architecture, []).append(done["weights_from"])
    return {
        name: "; ".join(dict.fromkeys(origin or "random numbers" for origin in origins)) if any(origins) else None
        for name, origins in by_architecture.items()
    }


def _read_samples(run: Run) -> tuple[np.ndarray, np.ndarray]:
    require_unchanged(run, run.samples)
    with reading(run.samples, hint=repair_hint(run)), np.load(run.samples, allow_pickle=False) as samples:
        return samples["image"], samples["label"].astype(str)


def _optional(reader: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T | None:
    """Call a reader; return None, with a warning, where the file is missing, damaged or unreadable."""
    try:
        return reader(*arguments, **options)
    except RunError as error:
        logger.warning("%s The report leaves it out. %s", error.message, error.hint or "")
        return None
