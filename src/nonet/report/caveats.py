"""What the scores of a run do not cover, and why they may be too high: sentences for the report and the model card."""

import pandas as pd

from nonet.calibration.conformal import MIN_GROUPS_OF_CLASS
from nonet.cells import class_name
from nonet.evaluation.members import dead_words
from nonet.evaluation.not_measured import NotMeasured
from nonet.evaluation.results import Results
from nonet.evaluation.tables import FEW_PATIENTS

#: With fewer groups than this, a percentile bootstrap is known to give intervals that are too narrow.
FEW_GROUPS = 20
_WIDE = 0.3  # a score whose F1 interval is wider is uncertain


def hard_to_score(per_class: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return the rows of classes without evaluated images, of those with too few patients, and of uncertain ones.

    An image of an unknown patient counts as a patient of its own, as in the bootstrap.

    Parameters
    ----------
    per_class : DataFrame
        As `nonet.evaluation.tables.per_class_table` returns it.

    Returns
    -------
    absent, few, uncertain : DataFrame
        Rows of `per_class`. few: fewer than `FEW_PATIENTS` patients. uncertain: a wide interval, or few groups.
    """
    absent = per_class["images"] == 0
    few = ~absent & (per_class["groups"] < FEW_PATIENTS)
    small = per_class["groups"] < MIN_GROUPS_OF_CLASS
    uncertain = ~absent & ~few & (small | (per_class["f1_high"] - per_class["f1_low"] > _WIDE))
    return per_class[absent], per_class[few], per_class[uncertain]


def reasons_for_optimism(results: Results) -> list[str]:
    """Return the known reasons why the scores may be too high for the next patient, one sentence each."""
    data, reasons = results.data, []
    if data.recipe.folds.by == "image":
        reasons.append(
            "The folds were made by image: cells of one patient are on both sides of the split, so the networks were "
            "trained on other cells of the patients they are scored on."
        )
    evaluated = data.evaluated
    num_stand_in = int(evaluated["patient_is_standin"].fillna(False).astype(bool).sum())
    if num_stand_in:
        reasons.append(
            f"{num_stand_in:,} of {len(evaluated):,} images have a guessed stand-in for their patient: a real patient "
            "may be on both sides of the split."
        )
    unknown = data.oof.num_unknown_patients
    if unknown:
        reasons.append(
            f"The patients of {unknown:,} of {len(evaluated):,} images are unknown: the bootstrap draws each of these "
            "images on its own, which makes the intervals too narrow, and their patients may be on both sides of the "
            "split."
        )
    return reasons


def limits(results: Results) -> list[str]:
    """Return what the scores do not cover, one sentence each."""
    data, sentences = results.data, dead_words(results.data)
    absent, few, _ = hard_to_score(results.per_class)
    if len(absent):
        sentences.append(
            f"{list_classes(absent)}: no evaluated image. Such a class cannot be scored and is left out of every "
            "mean; an image of another class that is predicted as it counts as an error."
        )
    if len(few):
        sentences.append(
            f"{list_classes(few)}: {_too_few(results.group)}. The scores of such a class describe these cells only, "
            "and its interval says little about the next patient; yet it has the same weight in the means as any other."
        )
    if data.num_never_held_out:
        sentences.append(
            f"{data.num_never_held_out:,} images are marked for evaluation but were never held out (no fold): they "
            "were trained on and are not scored."
        )
    if data.num_not_judged:
        sentences.append(
            f"{data.num_not_judged:,} images are not scored: ensemble.json gives weight 0 to every member that was not "
            "trained on them."
        )
    if isinstance(results.calibration, NotMeasured) and data.calibrate.prior_strength != 0:
        sentences.append(
            "Predictions use prior correction (calibrate.prior_strength); these images are too few to measure it, so "
            "all scores are of the ensemble as trained."
        )
    if not isinstance(results.calibration, NotMeasured) and results.is_stale:
        sentences.append(
            "The calibration in ensemble.json does not match its members and settings. Statements about probabilities, "
            'prediction sets and unidentified cells apply once it is fitted again: run "nonet calibrate RUN".'
        )
    if results.moves_priors and results.robustness is not None:
        sentences.append("Scores of corrupted images are of the ensemble as trained, without prior correction.")
    if data.recipe.train.keep == "best":
        sentences.append(
            "Each network's epoch was chosen by its score on the fold that it is then scored on "
            '(train.keep = "best"), which makes the scores slightly too high.'
        )
    num_groups = len(set(data.oof.group))
    if num_groups < FEW_GROUPS:
        sentences.append(f"The intervals are based on only {num_groups} {results.group}, which makes them too narrow.")
    sentences.append(
        "The intervals cover the choice of patients. They do not cover another laboratory, stain or scanner, wrong "
        "labels, or training again with another seed."
    )
    return sentences


def _too_few(group: str) -> str:
    """Return what a class with too few groups of the bootstrap has."""
    if group == "images":
        return f"fewer than {FEW_PATIENTS} images, patients unknown"
    one_each = "" if group == "patients" else ", an image of unknown patient counted as one"
    return f"images of fewer than {FEW_PATIENTS} patients{one_each}"


def list_classes(classes: pd.DataFrame) -> str:
    """Return codes and names of classes, as in "SNE (segmented neutrophil), LY (lymphocyte)"."""
    return ", ".join(f"{code} ({class_name(code)})" if class_name(code) != code else code for code in classes["code"])
