"""The report of an evaluation: one HTML file that needs no network."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from nonet.cells import lineage_blocks, name_of
from nonet.data.degrade import KINDS
from nonet.evaluate.calibration import MeasuredCalibration
from nonet.evaluate.calibration_pages import calibration_words
from nonet.evaluate.issues import Issues, commonest
from nonet.evaluate.oof import ENSEMBLE, NO_VIEWS
from nonet.evaluate.reading import RunData
from nonet.evaluate.rejection import rejection_words
from nonet.evaluate.robustness import Robustness, denoising_rows
from nonet.evaluate.tables import FEW_PATIENTS, HEADINGS
from nonet.page.html import environment, inline

_TEMPLATES = Path(__file__).parent / "templates"
#: From fewer units than this a percentile bootstrap is known to give intervals that are too narrow.
FEW_UNITS = 20
#: How many of the worst issues, and of the patients with most of them, the report lists; files have all.
MOST_ISSUES, MOST_PATIENTS = 15, 10
#: Where a figure needs words of its own for those who do not see it.
_FIGURE_TEXT = {
    "confusion_counts": "Confusion matrix as counts; the numbers are in confusion.csv.",
    "confusion_by_row": "Confusion matrix as percentages of each true class; counts are in confusion.csv.",
    "class_counts": "Bar chart of the number of images of each class.",
    "samples": "Prepared images of each class.",
    "training_curves": "Loss and macro-F1 by epoch for every network.",
    "reliability": "Share of right calls by probability, before and after calibration.",
    "label_issues": "Label issues by given and suggested class, beside the confusion matrix; see issues.csv.",
    "robustness": "Macro-F1 against the severity of each kind of damage; the numbers are in robustness.csv.",
}


def render_report(
    data: RunData,
    table: pd.DataFrame,
    per_class: pd.DataFrame,
    differences: pd.DataFrame,
    drawings: Mapping[str, str],
    *,
    names: Mapping[str, str] | None = None,
    robustness: Robustness | None = None,
    calibration: MeasuredCalibration | str | None = None,
    rejection: pd.DataFrame | str | None = None,
    issues: Issues | None = None,
    num_resamples: int,
    confidence: float,
    seed: int,
) -> str:
    """Return the report as HTML text.

    Parameters
    ----------
    data : the run. table, per_class, differences : as `nonet.evaluate.tables` makes them.
    drawings : {name: SVG text}.
    robustness : of the run, where it was tested. calibration, rejection : as `measure_calibration` and
        `measure_rejection` return them. issues : its label issues.
    """
    pages = environment(_TEMPLATES)
    pages.filters.update(interval=_interval, signed=_signed)
    oof = data.oof
    headline = table[(table["architecture"] == ENSEMBLE) & (table["views"] == oof.final_view_set)].iloc[0]
    return pages.get_template("report.html.j2").render(
        title=data.name,
        headline=headline,
        blocks=[(views, table[table["views"] == views].to_dict("records")) for views in oof.view_sets],
        scores=HEADINGS,
        best={(views, score): rows[score].max() for views, rows in table.groupby("views") for score in HEADINGS},
        per_class=per_class.to_dict("records"),
        differences=differences.to_dict("records"),
        figures={name: inline(svg, _FIGURE_TEXT[name]) for name, svg in drawings.items()},
        classes=[(code, name_of(code)) for code in per_class["code"]],
        has_lineages=bool(lineage_blocks(list(per_class["code"]))),
        unit=_unit(data),
        num_networks=sum(oof.num_folds.values()),
        num_unknown_patients=oof.num_unknown_patients,
        final_views=oof.final_view_set,
        has_views=oof.final_view_set != NO_VIEWS,
        no_views=NO_VIEWS,
        ensemble=ENSEMBLE,
        num_resamples=num_resamples,
        percent=f"{100 * confidence:g}",
        seed=seed,
        optimism=reasons_for_optimism(data),
        limits=limits(data, per_class),
        weakest=_weakest(per_class),
        mistakes=_mistakes(data),
        damages=denoising_rows(robustness) if robustness is not None else [],
        kinds=KINDS,
        calibration=calibration_words(calibration),
        rejection=rejection_words(rejection, data.calibrate.false_alarm),
        issues=_issues(issues) if issues is not None else None,
        recipe=data.recipe_text,
        provenance=_flat(data.provenance),
        histories=_history_rows(data, names),
        made_at=datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC"),
    )


def reasons_for_optimism(data: RunData) -> list[str]:
    """Say why the scores look better than the next patient's would, a sentence each; empty where none is known."""
    reasons = []
    if data.recipe.get("folds", {}).get("by") == "image":
        reasons.append(
            "The folds were made by image: cells of one patient lie on both sides of the split, so the networks had "
            "seen other cells of the patients they are scored on."
        )
    evaluated = data.evaluated
    num_stand_in = int(evaluated["patient_is_standin"].fillna(False).astype(bool).sum())
    if num_stand_in:
        reasons.append(
            f"{num_stand_in:,} of {len(evaluated):,} images have a stand-in for their patient, guessed and not "
            "known: a patient may lie on both sides of the split."
        )
    unknown = data.oof.num_unknown_patients
    if unknown:
        reasons.append(
            f"The patients of {unknown:,} of {len(evaluated):,} images are unknown: each of these images is drawn "
            "by itself in the bootstrap, which makes the intervals too narrow, and its patient may lie on "
            "both sides of the split."
        )
    return reasons


def limits(data: RunData, per_class: pd.DataFrame) -> list[str]:
    """Say what the scores do not cover, one sentence each."""
    found = []
    absent = per_class[per_class["images"] == 0]
    if len(absent):
        found.append(
            f"{_listed(absent)}: no evaluated image. Such a class cannot be judged and is left out of every mean; "
            "an image of another class taken for it counts as an error."
        )
    few = per_class[(per_class["images"] > 0) & (per_class["patients"].fillna(FEW_PATIENTS) < FEW_PATIENTS)]
    if len(few):
        found.append(
            f"{_listed(few)}: images of fewer than {FEW_PATIENTS} patients. The scores of such a class describe "
            "these patients, and its interval says little about the next one; yet it weighs as much in the means "
            "as any other."
        )
    if data.num_never_held_out:
        found.append(
            f"{data.num_never_held_out:,} images are marked to be evaluated but were never held out (no fold): "
            "they were trained on and are not scored."
        )
    if data.recipe.get("train", {}).get("keep") == "best":
        found.append(
            "Each network's epoch was chosen by its score on the fold it is then scored on "
            '(train.keep = "best"), which flatters it a little.'
        )
    num_units = len(set(data.oof.unit))
    if num_units < FEW_UNITS:
        found.append(f"The intervals rest on {num_units} {_unit(data)} only; from so few they come out too narrow.")
    found.append(
        "The intervals cover the choice of patients. They do not cover another laboratory, stain or scanner, wrong "
        "labels, or a second training with another seed."
    )
    return found


def _weakest(per_class: pd.DataFrame) -> list[dict]:
    """Return the classes with the lowest F1, at most three."""
    return per_class.dropna(subset="f1").nsmallest(3, "f1").to_dict("records")


def _mistakes(data: RunData) -> list[dict]:
    """Return the commonest confusions of the ensemble, at most five: true, predicted, count and share of the true."""
    oof = data.oof
    counts = oof.confusions(oof.final_view_set, ENSEMBLE).total()
    images = counts.sum(axis=1)
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    places = [np.unravel_index(i, wrong.shape) for i in np.argsort(-wrong, axis=None, kind="stable")[:5]]
    return [
        {
            "true": oof.classes[i],
            "predicted": oof.classes[j],
            "count": int(wrong[i, j]),
            "share": wrong[i, j] / images[i],
        }
        for i, j in places
        if wrong[i, j]
    ]


def _issues(issues: Issues) -> dict:
    """Return what the section on label issues shows."""
    worst = issues.table.head(MOST_ISSUES).astype(object)
    return {
        "num": len(issues.table),
        "num_images": issues.num_images,
        "commonest": commonest(issues),
        "worst": worst.where(worst.notna(), None).to_dict("records"),
        "sources": issues.by_source.to_dict("records"),
        "patients": issues.by_patient.head(MOST_PATIENTS).to_dict("records"),
        "compared_by": issues.compared_by,
    }


def _unit(data: RunData) -> str:
    unknown = data.oof.num_unknown_patients
    if unknown == 0:
        return "patients"
    return "images" if unknown == len(data.oof.true) else "patients, and images whose patient is unknown"


def _history_rows(data: RunData, names: Mapping[str, str] | None) -> list[dict]:
    rows = []
    for (architecture, fold), table in sorted(data.histories.items()):
        best = table[table["best"].astype(bool)].tail(1)
        rows.append(
            {
                "name": (names or {}).get(architecture, architecture),
                "fold": fold,
                "num_epochs": len(table),
                "best_epoch": int(best["epoch"].iloc[0]) if len(best) else None,
                "macro_f1": float(best["val_macro_f1"].iloc[0]) if len(best) else float("nan"),
                "minutes": float(table["seconds"].sum()) / 60 if "seconds" in table else float("nan"),
            }
        )
    return rows


def _flat(values: Mapping, prefix: str = "") -> list[tuple[str, str]]:
    """Return a nested dict as (dotted key, text) pairs."""
    pairs = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{prefix}{key}.")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            pairs.append((f"{prefix}{key}", text))
    return pairs


def _listed(classes: pd.DataFrame) -> str:
    return ", ".join(classes["code"].astype(str))


def _interval(row: Mapping, score: str) -> str:
    low, high = row[f"{score}_low"], row[f"{score}_high"]
    return "–" if pd.isna(low) else f"{low:.3f}–{high:.3f}"


def _signed(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:+.3f}".replace("-", "−")
