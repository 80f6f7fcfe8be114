"""What an evaluation reads from a run folder."""

import json
import logging
import tomllib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from nonet.calibrate.weights import Weights, member_weights
from nonet.data.manifest import Dataset
from nonet.data.record import record_of
from nonet.errors import DataError, RunError
from nonet.evaluate.oof import OutOfFold, align_oof, logit_classes
from nonet.recipe import Calibrate, Denoise, Loss, Sampling
from nonet.runs import REMAKE, Run
from nonet.train.finish import trained_shares

logger = logging.getLogger("nonet")


@dataclass(frozen=True)
class RunData:
    """A run as its evaluation needs it; what the folder lacks of the optional parts is empty or None.

    `ensemble` is ensemble.json; `trained_shares` the share of each class among the images that training drew; `record`
    what `nonet.data.record` kept of the dataset; `origins` where each architecture's weights were from, with their
    licence: a sentence, None where it began from random numbers, and no entry where no member says. `weights` are the
    members' in the ensemble, None where ensemble.json does not say: then all count alike; `num_not_judged` is how many
    evaluated images all members with a weight were trained on, so that they are not scored.
    """

    name: str
    oof: OutOfFold
    manifest: pd.DataFrame
    recipe_text: str
    recipe: dict
    provenance: dict
    ensemble: dict
    trained_shares: np.ndarray
    histories: dict[tuple[str, int], pd.DataFrame]
    samples: tuple[np.ndarray, np.ndarray] | None
    num_never_held_out: int
    num_not_judged: int = 0
    weights: Weights | None = None
    record: dict | None = None
    origins: dict[str, str | None] = field(default_factory=dict)

    @property
    def titles(self) -> dict[str, str]:
        """How to print an architecture's key."""
        return self.ensemble.get("titles", {})

    @property
    def is_weighted(self) -> bool:
        """Whether some members count more than others."""
        return self.weights is not None and len(set(self.weights.values())) > 1

    @property
    def num_networks(self) -> int:
        """How many networks count in the ensemble."""
        if self.weights is None:
            return sum(self.oof.num_folds.values())
        return sum(weight > 0 for weight in self.weights.values())

    @property
    def temperature(self) -> float:
        """By which the ensemble divides its logits."""
        return float(self.ensemble.get("temperature", 1.0))

    @property
    def calibrate(self) -> Calibrate:
        """The settings that ensemble.json was calibrated with; those of the recipe where it was not."""
        fitted = (self.ensemble.get("calibration") or {}).get("settings")
        return Calibrate.model_validate(fitted or self.recipe.get("calibrate", {}))

    @cached_property
    def evaluated(self) -> pd.DataFrame:
        """The manifest's rows of the images that are scored."""
        return self.manifest[self.manifest["image_id"].isin(set(self.oof.image_id))]

    @cached_property
    def external(self) -> pd.DataFrame:
        """The manifest's rows of the images that are trained on in every fold and never scored."""
        manifest = self.manifest
        return manifest[manifest["label"].notna() & ~manifest["evaluate"].astype(bool) & manifest["split"].ne("test")]

    @property
    def denoise(self) -> Denoise:
        """How images are denoised; of a recipe of another nonet, what this one knows of it."""
        settings = self.recipe.get("denoise", {})
        return Denoise.model_validate({key: settings[key] for key in settings if key in Denoise.model_fields})


def read_run(run: Run) -> RunData:
    """Read a run folder and leave only evaluated images in its out-of-fold table.

    Raises
    ------
    RunError, where oof.parquet, manifest.parquet or folds.csv is missing or cannot be read, or out-of-fold logits
    are incomplete.
    """
    run.require()
    if not run.oof.is_file():
        raise RunError(
            f"{run} has no oof.parquet: its members are not all trained.",
            f'Run "nonet train RECIPE DATASET --out {run}"; it resumes where it stopped.',
        )
    manifest = _read(pd.read_parquet, run.manifest)
    manifest["image_id"] = manifest["image_id"].astype(str)
    folds = _read(pd.read_csv, run.folds, dtype={"image_id": str})
    ensemble, weights = read_ensemble(run)
    table, num_never_held_out = _evaluated_only(_read(pd.read_parquet, run.oof), manifest, folds, run)
    oof = align_oof(table, sorted(logit_classes(table)), weights=weights)
    text = run.recipe.read_text(encoding="utf-8")
    recipe = _read(lambda _: tomllib.loads(text), run.recipe)
    provenance = _read(_read_json, run.provenance, optional=True) or {}
    sampling = Sampling.model_validate(recipe.get("sampling", {}))
    loss = Loss.model_validate(recipe.get("loss", {}))
    refit = bool(recipe.get("models", {}).get("refit_head", False))
    return RunData(
        name=run.folder.resolve().name,
        oof=oof,
        manifest=manifest,
        recipe_text=text,
        recipe=recipe,
        provenance=provenance,
        ensemble=ensemble,
        trained_shares=trained_shares(manifest, folds, oof.classes, sampling, loss, refit=refit),
        histories=_read_histories(run),
        samples=_read(_read_samples, run.samples, optional=True),
        num_never_held_out=num_never_held_out,
        num_not_judged=table["image_id"].nunique() - len(oof.true),
        weights=weights,
        record=_read_record(run, provenance),
        origins=_read_origins(run),
    )


def _evaluated_only(
    table: pd.DataFrame, manifest: pd.DataFrame, folds: pd.DataFrame, run: Run
) -> tuple[pd.DataFrame, int]:
    """Return the rows of evaluated images, and how many evaluated images were never held out."""
    table = table.assign(image_id=table["image_id"].astype(str))
    images = pd.Index(manifest["image_id"].to_numpy(dtype=object))
    if not images.is_unique:
        raise RunError(f"{run.manifest} has {images[images.duplicated()][0]} twice.", "Copy the run folder anew.")
    row = images.get_indexer(table["image_id"].to_numpy(dtype=object))  # of the manifest
    strangers = table[row < 0]
    if len(strangers):
        raise RunError(
            f"{strangers['image_id'].nunique()} images of {run.oof} are not in the run's manifest, first "
            f"{strangers['image_id'].iloc[0]}.",
            "The two files come from different runs. Train into a fresh folder.",
        )
    marked = (manifest["evaluate"].astype(bool) & manifest["label"].notna()).to_numpy()
    expected = marked & images.isin(folds.loc[folds["fold"].notna(), "image_id"].to_numpy(dtype=object))
    table = table[marked[row]]
    absent = sorted(images[expected & ~np.isin(np.arange(len(images)), row)])
    if absent and len(table):
        raise RunError(
            f"{len(absent)} of {expected.sum()} evaluated images have no out-of-fold logits at all, first {absent[0]}.",
            f'Run "nonet train RECIPE DATASET --out {run}" again: it completes what is missing.',
        )
    return table, int(marked.sum() - expected.sum())


def read_ensemble(run: Run) -> tuple[dict, Weights | None]:
    """Return ensemble.json, and its members' weights; {} and None where it is not there or lists no member.

    Raises
    ------
    RunError, saying what is wrong with them: people may edit the file.
    """
    description = _read(_read_json, run.ensemble, optional=True) or {}
    if not isinstance(description, dict):
        raise RunError(f"{run.ensemble} holds no table.", REMAKE)
    if "members" not in description:
        return description, None
    try:
        return description, member_weights(description)
    except (KeyError, TypeError, ValueError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else f"cannot be read: {error}"
        raise RunError(f"{run.ensemble} {what}.", REMAKE) from error


def _read_histories(run: Run) -> dict[tuple[str, int], pd.DataFrame]:
    histories = {}
    for path in sorted(run.folder.glob("members/*/fold-*/history.jsonl")):
        fold = path.parent.name.removeprefix("fold-")
        lines = path.read_text(encoding="utf-8").splitlines()
        if lines and fold.isdigit():
            table = _read(lambda _, lines=lines: pd.DataFrame([json.loads(line) for line in lines]), path)
            histories[path.parent.parent.name, int(fold)] = table
    return histories


def _read_record(run: Run, provenance: dict) -> dict | None:
    """Return what the run keeps of its dataset's making; of a run of an earlier nonet, what the dataset says, if it is
    still where it was and as it was.
    """
    if run.dataset_record.is_file():
        return _read(_read_json, run.dataset_record)
    try:
        dataset = Dataset.open(provenance["dataset"])
        same = dataset.fingerprint() == provenance["fingerprints"]["manifest"]
        return record_of(dataset) if same else None
    except (KeyError, DataError):
        return None


def _read_origins(run: Run) -> dict[str, str | None]:
    """Return where the weights of each architecture were from; members of one that say different are joined."""
    found: dict[str, list] = {}
    for path in sorted(run.folder.glob("members/*/fold-*/DONE")):
        done = _read(_read_json, path)
        if "weights_from" in done:
            found.setdefault(path.parent.parent.name, []).append(done["weights_from"])
    return {
        name: "; ".join(dict.fromkeys(origin or "random numbers" for origin in origins)) if any(origins) else None
        for name, origins in found.items()
    }


def _read_json(path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def _read_samples(path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path, allow_pickle=False) as samples:
        return samples["image"], samples["label"].astype(str)


def _read(reader, path, *, optional: bool = False, **options):
    if not path.is_file():
        if optional:
            logger.info("%s is missing; the report goes without.", path)
            return None
        raise RunError(f"{path} is missing.", "A run folder is copied as a whole.")
    try:
        return reader(path, **options)
    except (OSError, ValueError, KeyError) as error:
        raise RunError(
            f"{path} cannot be read: {error}",
            'Copy the run folder anew, or run the same "nonet train" again.',
        ) from error
