"""The end of a training: out-of-fold logits joined, the ensemble listed and calibrated. No network is needed for it."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nonet.artifacts.csv_files import read_csv
from nonet.artifacts.integrity import note_checksums, read_done, require_unchanged
from nonet.artifacts.logit_columns import logit_classes, logit_columns
from nonet.artifacts.run import FORMAT_VERSION, Member, Run, write_json, written_whole
from nonet.calibration.calibrator import Calibration
from nonet.calibration.ensemble_file import read_description
from nonet.calibration.fitting import HeldOut, fit_calibration
from nonet.calibration.member_weights import folds_that_count, mean_over_members, member_weights, weights_by_image
from nonet.calibration.nucleus_rule import fit_nucleus_rule
from nonet.calibration.ood import fit_rejection
from nonet.data.folds import patient_or_image
from nonet.errors import RecipeError, RunError
from nonet.recipe import Calibrate, Recipe, Sampling, load_recipe
from nonet.training.repair import set_aside_ensemble
from nonet.training.sampling import drawn_shares

logger = logging.getLogger("nonet")


def finish(run: Run, recipe: Recipe, classes: list[str], titles: dict[str, str], members: Sequence[Member]) -> None:
    """Join the members' out-of-fold logits, and list and calibrate the members that make up the ensemble.

    Members whose network is dead have weight 0, and oof.parquet goes without their rows. Where all are dead, those
    whose logits are numbers count nonetheless, so that there is a report that says so.

    Raises
    ------
    RunError where every network diverged.
    """
    tables = {member: pd.read_parquet(member.oof) for member in members}
    entries = _entries(run, tables)
    set_aside_ensemble(run)
    if run.ensemble.exists():  # it may have been given other weights since
        given = member_weights(read_description(run))
        entries = [e | {"weight": given.get((e["architecture"], e["fold"]), 0.0)} for e in entries]
    counted = [table for e, table in zip(entries, tables.values()) if e["weight"] > 0 or "reason" not in e]
    with written_whole(run.oof) as path:
        pd.concat(counted).to_parquet(path, index=False)
    note_checksums(run, [run.oof], members)
    if run.ensemble.exists():
        return
    description = {"format_version": FORMAT_VERSION, "classes": classes, "titles": titles, "members": entries}
    _write_calibrated(run, recipe, description, recipe.calibrate)


def _entries(run: Run, tables: Mapping[Member, pd.DataFrame]) -> list[dict]:
    """Return each member's entry in ensemble.json: its weight and, where that is 0, the reason."""
    entries = []
    for member in tables:
        dead = read_done(member).get("dead")
        entry = {"architecture": member.architecture, "fold": member.fold, "weight": 0.0 if dead else 1.0}
        entries.append(entry | ({"reason": dead} if dead else {}))
    if any(entry["weight"] for entry in entries):
        return entries
    for entry, table in zip(entries, tables.values()):
        logits = table[logit_columns(logit_classes(table))]
        entry["weight"] = 1.0 if np.isfinite(logits.to_numpy()).all() else 0.0
    first = next(iter(tables))
    if not any(entry["weight"] for entry in entries):
        raise RunError(
            f"No network of {run} can be used: {first.name} {entries[0]['reason']}, and all others failed, too.",
            hint="Train into another --out with a lower optimiser.learning_rate_first, optimiser.warmup_epochs, or "
            "train.precision=32-true.",
        )
    logger.warning(
        f"All {len(entries)} networks of {run} are dead, first {first.name}: it {entries[0]['reason']}. Their "
        "predictions are worth nothing; the report is written nonetheless. Check the labels, lower "
        "optimiser.learning_rate_first, or set optimiser.warmup_epochs."
    )
    return entries


def calibrate(run: str | Path | Run, *, settings: list[str] | None = None) -> Calibration:
    """Fit temperature, class priors and prediction sets on a run's out-of-fold logits; write them to ensemble.json.

    Training does this at its end. Do it again after ensemble.json was given other weights, with other settings, or for
    a run of an older nonet; scores of `evaluate` change only where class priors are moved.

    Parameters
    ----------
    run : a trained run.
    settings : changes to [calibrate], like "calibrate.coverage=0.95". What an earlier call changed stays changed;
        all else is as in the recipe.

    Returns
    -------
    The Calibration. Its notes say what could not be fitted.

    Raises
    ------
    RunError where the run is not trained to the end; RecipeError on settings of another section.
    """
    run = Run(run)
    run.require()
    strangers = [setting for setting in settings or [] if not setting.strip().startswith("calibrate.")]
    if strangers:
        raise RecipeError(
            f'"{strangers[0]}" is no setting of calibration.',
            hint="Those begin with calibrate, like calibrate.coverage=0.95; others take a new training.",
        )
    description = read_description(run)
    require_unchanged(run, run.oof, run.manifest, run.folds)
    recipe = load_recipe(run.recipe, settings)  # a wrong setting is an error before anything is fitted
    earlier = (description.get("calibration") or {}).get("settings") or {}
    changed = recipe.model_copy(update={"calibrate": load_recipe(run.recipe).calibrate.model_copy(update=earlier)})
    return _write_calibrated(run, recipe, description, load_recipe(changed, settings).calibrate)


def _write_calibrated(run: Run, recipe: Recipe, description: dict, settings: Calibrate) -> Calibration:
    classes = description["classes"]
    manifest, folds = pd.read_parquet(run.manifest), read_csv(run.folds, dtype={"image_id": str})
    held_out, notes = _held_out(run, recipe, description, manifest)
    shares = trained_shares(manifest, folds, classes, recipe.sampling, refit=recipe.models.refit_head)
    fitted = fit_calibration(held_out, settings, shares, classes)
    fitted.notes.extend(notes)
    rejection = fit_rejection(held_out.ood_score, held_out.group, held_out.fold, false_alarm=settings.false_alarm)
    nucleus = fit_nucleus_rule(held_out.nucleus, required=settings.require_nucleus)
    kept = description | fitted.describe(classes) | {"rejection": rejection.describe(), "nucleus": nucleus.describe()}
    kept["calibration"]["settings"] = settings.model_dump()
    write_json(run.ensemble, kept)
    for note in [*fitted.notes, *rejection.notes, *nucleus.notes]:
        logger.info(note)
    return fitted


def trained_shares(
    manifest: pd.DataFrame,
    folds: pd.DataFrame,
    classes: Sequence[str],
    sampling: Sampling,
    *,
    refit: bool = False,
) -> np.ndarray:
    """Return the class priors that a run's members learned, (C,): the shares that training drew, as `drawn_shares`.

    Heads that were refitted learned equal ones.
    """
    rows = manifest.set_index("image_id").reindex(folds["image_id"])
    label, external = rows["label"], rows["evaluate"].eq(False).to_numpy()
    known = label.isin(classes).to_numpy()
    number = label[known].map({code: k for k, code in enumerate(classes)}).to_numpy(dtype=np.int64)
    fold = folds["fold"].to_numpy(dtype=float)[known]
    drawn = drawn_shares(number, fold, len(classes), sampling, external[known])
    learned = (drawn > 0).astype(np.float64) if refit else drawn
    return learned / learned.sum()


def _held_out(run: Run, recipe: Recipe, description: dict, manifest: pd.DataFrame) -> tuple[HeldOut, list[str]]:
    """Return the evaluated images' logits, averaged over members by their weights, and what is to be said of them.

    Images of a fold without a member that counts are left out, as they are from `evaluate`.
    """
    classes, weights = description["classes"], member_weights(description)
    table = pd.read_parquet(run.oof)
    evaluated = manifest.loc[manifest["evaluate"].astype(bool) & manifest["label"].isin(classes), "image_id"]
    table = table[(table["view_set"] == recipe.predict.views) & table["image_id"].isin(set(evaluated))]
    table = table[table["fold"].isin(folds_that_count(weights))]
    columns = [*logit_columns(classes), "ood_score", "nucleus"]
    # Infinite where a member, of a nonet that did not know of rejection, cannot say: no mean over the others hides it.
    table["ood_score"] = table["ood_score"].fillna(np.inf) if "ood_score" in table else np.inf
    table["nucleus"] = table["nucleus"].astype(float) if "nucleus" in table else np.nan
    first = table.drop_duplicates("image_id").sort_values("image_id")
    of_each = dict(list(table.set_index("image_id").groupby("architecture")[columns]))
    values = np.empty((len(of_each), len(first), len(columns)))
    for number, rows in enumerate(of_each.values()):
        values[number] = rows.reindex(first["image_id"]).to_numpy(dtype=np.float64)  # NaN of a dead member
    means = mean_over_members(values, weights_by_image(weights, list(of_each), first["fold"].to_numpy()))
    held_out = HeldOut(
        logits=means[:, :-2],
        true=first["label"].map({code: k for k, code in enumerate(classes)}).to_numpy(dtype=np.int64),
        group=patient_or_image(first).to_numpy(dtype=str),
        fold=first["fold"].to_numpy(dtype=np.int64),
        ood_score=means[:, -2],
        nucleus=None if np.isnan(means[:, -1]).any() else means[:, -1] > 0,  # some member that counts sees one
    )
    return held_out, _caveats(recipe, first)


def _caveats(recipe: Recipe, images: pd.DataFrame) -> list[str]:
    caveats = []
    if recipe.folds.by == "image":
        caveats.append("Folds are by image, so probabilities and sets promise more than the next patient will keep.")
    unknown = int(images["patient"].isna().sum())
    if unknown:
        caveats.append(
            f"The patient of {unknown:,} of {len(images):,} images is unknown; each counts as one by itself."
        )
    return caveats
