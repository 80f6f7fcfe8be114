"""Fitting everything of an ensemble that is fitted out of fold, and writing it to ensemble.json."""

import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.special import softmax

from nonet.artifacts.confusions import REJECTED, KnownConfusions
from nonet.artifacts.ensemble_file import EnsembleFile
from nonet.artifacts.oof import first_rows, logit_columns, read_oof, values_by_architecture
from nonet.artifacts.run import Run
from nonet.calibration.calibrator import Calibration
from nonet.calibration.fitting import HeldOut, fit_calibration
from nonet.calibration.labels import DOUBTFUL, label_images
from nonet.calibration.member_weights import folds_with_weight, mean_over_members, weights_by_image
from nonet.calibration.nucleus_rule import fit_nucleus_rule
from nonet.calibration.ood import fit_rejection
from nonet.cells import UNIDENTIFIED
from nonet.data.folds import patient_or_image
from nonet.recipe import Recipe
from nonet.settings import Calibrate

logger = logging.getLogger("nonet")


def write_calibrated(run: Run, recipe: Recipe, ensemble: EnsembleFile, settings: Calibrate) -> Calibration:
    """Fit everything that is fitted out of fold, and write ensemble.json with it.

    Parameters
    ----------
    run : Run
        With oof.parquet and manifest.parquet.
    recipe : Recipe
        Of the run.
    ensemble : EnsembleFile
        Classes, members and trained priors; the rest is replaced.
    settings : Calibrate
        What to fit.

    Returns
    -------
    Calibration
    """
    held_out, ood_score, notes = _held_out(run, recipe, ensemble)
    rejection = fit_rejection(ood_score, held_out.group, held_out.fold, false_alarm=settings.false_alarm)
    nucleus = fit_nucleus_rule(held_out.nucleus, required=settings.require_nucleus)
    rejected = rejection.rejects(rejection.percentile(ood_score))
    without_nucleus = np.zeros(len(rejected), dtype=bool)
    if held_out.nucleus is not None:
        without_nucleus = nucleus.rejects(held_out.nucleus)
    held_out = replace(held_out, rejected=rejected | without_nucleus)
    fitted = fit_calibration(held_out, settings, ensemble.array(ensemble.trained_priors), ensemble.classes)
    fitted.notes.extend(notes)
    proba = softmax(fitted.apply(held_out.logits), axis=-1)
    labels = label_images(proba, ensemble.classes, fitted, rejected, without_nucleus)
    _confusions(held_out, labels, ensemble.classes).write(run.confusions)
    ensemble.updated(
        **fitted.to_ensemble(ensemble.classes, settings),
        rejection=rejection.to_section(),
        nucleus=nucleus.to_section(),
    ).write(run)
    for note in [*fitted.notes, *rejection.notes, *nucleus.notes]:
        logger.info(note)
    return fitted


def _held_out(run: Run, recipe: Recipe, ensemble: EnsembleFile) -> tuple[HeldOut, np.ndarray, list[str]]:
    """Return the evaluated images' logits, averaged over members by their weights, their OOD scores (n,), and notes.

    Images of a fold whose members all have weight 0 are left out, as they are by `evaluate`.
    """
    classes, weights = ensemble.classes, ensemble.weights
    table, manifest = read_oof(run.oof), pd.read_parquet(run.manifest)
    evaluated = manifest.loc[manifest["evaluate"].astype(bool) & manifest["label"].isin(classes), "image_id"]
    table = table[(table["view_set"] == recipe.predict.views) & table["image_id"].isin(set(evaluated))]
    table = table[table["fold"].isin(folds_with_weight(weights))]
    columns = [*logit_columns(classes), "ood_score", "nucleus"]
    table["ood_score"] = table["ood_score"].fillna(np.inf)  # of a member that has no score: no mean hides it
    table["nucleus"] = table["nucleus"].astype(float)
    first, architectures = first_rows(table), sorted(table["architecture"].unique())
    values = values_by_architecture(table, columns, architectures, first["image_id"].to_numpy())
    means = mean_over_members(values, weights_by_image(weights, architectures, first["fold"].to_numpy()))
    held_out = HeldOut(
        logits=means[:, :-2],
        true=first["label"].map({code: k for k, code in enumerate(classes)}).to_numpy(dtype=np.int64),
        group=patient_or_image(first).to_numpy(dtype=str),
        fold=first["fold"].to_numpy(dtype=np.int64),
        nucleus=None if np.isnan(means[:, -1]).any() else means[:, -1] > 0,  # some member with non-zero weight sees one
    )
    return held_out, means[:, -2], list(_caveats(recipe, first))


def _confusions(held_out: HeldOut, labels: pd.DataFrame, classes: list[str]) -> KnownConfusions:
    """Return what the held-out images are called, as `predict` would call them."""
    outcome = labels["label"].where(labels["reason"].isin(["", DOUBTFUL]), REJECTED)
    true = np.array(classes, dtype=object)[held_out.true]
    return KnownConfusions.from_labels(
        true, outcome.to_numpy(), held_out.group, classes, [*classes, UNIDENTIFIED, REJECTED]
    )


def _caveats(recipe: Recipe, images: pd.DataFrame) -> Iterator[str]:
    if recipe.folds.by == "image":
        yield "Folds are by image, so probabilities and sets promise more than the next patient will keep."
    unknown = int(images["patient"].isna().sum())
    if unknown:
        yield f"The patient of {unknown:,} of {len(images):,} images is unknown; each counts as one by itself."
