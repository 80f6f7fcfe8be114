"""report.html: the evaluation of a run as one self-contained HTML file."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from nonet.cells import GRANULOCYTE_STAGES, class_name, lineage_blocks
from nonet.data.preprocess.corruptions import CORRUPTIONS
from nonet.data.run_images import RunImages
from nonet.data.unknown_types import has_unknown_type
from nonet.evaluation.issues import Issues, commonest
from nonet.evaluation.mistakes import expanded_in_words, mistakes_in_words
from nonet.evaluation.not_measured import NotMeasured
from nonet.evaluation.ood import rejection_words
from nonet.evaluation.oof import ENSEMBLE
from nonet.evaluation.results import Results
from nonet.evaluation.robustness import denoising_rows
from nonet.evaluation.run_data import RunData
from nonet.evaluation.tables import HEADINGS
from nonet.page.html import html_environment, inline
from nonet.page.numbers import number
from nonet.page.numbers import score as score_text
from nonet.report import report_text
from nonet.report.calibration_pages import calibration_values
from nonet.report.caveats import limits, reasons_for_optimism
from nonet.report.issue_pictures import add_pictures
from nonet.settings import NO_VIEWS

_TEMPLATES = Path(__file__).parent / "templates"
#: One or two per section, in the order of the page; the template calls each answer by the name of its function.
_QUESTIONS = (
    report_text.expectation,
    report_text.class_scores,
    report_text.confusions,
    report_text.stage_errors,
    report_text.calibration,
    report_text.rejection,
    report_text.robustness,
    report_text.label_issues,
    report_text.networks,
    report_text.images,
    report_text.training,
)
#: How many of the worst issues, and of the patients with most of them, the report lists; the CSV files have all.
MOST_ISSUES, MOST_PATIENTS = 15, 10
#: Text alternatives of the figures.
_FIGURE_TEXT = {
    "confusion_counts": "Confusion matrix as counts; the numbers are in confusion.csv.",
    "confusion_by_row": "Confusion matrix as percentages of each true class; counts are in confusion.csv.",
    "mistakes": "Mistakes of each group of models by lineage; the numbers are in mistakes.csv.",
    "expanded": "Confusion matrix of all held-out images, including external ones, beside mistakes by group of models; "
    "numbers are in expanded_confusion.csv and expanded_mistakes.csv.",
    "class_counts": "Number of images of each class, as dots on a logarithmic scale.",
    "samples": "Prepared images of each class.",
    "training_curves": "Loss and macro-F1 by epoch for every network.",
    "reliability": "Share of correct predictions by probability, before and after calibration.",
    "label_issues": "Label issues by given and suggested class, beside the confusion matrix; see issues.csv.",
    "robustness": "Macro-F1 against the severity of each corruption; the numbers are in robustness.csv.",
}


def render_report(results: Results, drawings: Mapping[str, str], images: RunImages) -> str:
    """Render the report.

    Parameters
    ----------
    results : Results
        As `nonet.evaluation.results.measure` returns them.
    drawings : mapping of str to str
        Name of a figure → SVG text.
    images : RunImages
        Where the images of the run are, for pictures of the worst label issues.

    Returns
    -------
    str
        HTML.
    """
    pages = html_environment(_TEMPLATES)
    pages.filters.update(interval=_interval)
    return pages.get_template("report.html.j2").render(
        **_page_values(results),
        issues=None if results.issues is None else _issues(results.issues, images),
        answers={question.__name__: question(results) for question in _QUESTIONS},
        figures={name: inline(svg, _FIGURE_TEXT[name]) for name, svg in drawings.items()},
        made_at=datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC"),
    )


def _page_values(results: Results) -> dict:
    """Return the values that the templates use."""
    data, oof, table = results.data, results.data.oof, results.table
    codes = list(results.per_class["code"])
    return {
        "title": data.name,
        "headline": results.headline,
        "accuracy": results.accuracy,
        "blocks": [(views, table[table["views"] == views].to_dict("records")) for views in oof.view_sets],
        "scores": HEADINGS,
        "best": {(views, score): rows[score].max() for views, rows in table.groupby("views") for score in HEADINGS},
        "per_class": results.per_class.to_dict("records"),
        "differences": results.differences.to_dict("records"),
        "classes": [(code, class_name(code)) for code in codes],
        "has_lineages": bool(lineage_blocks(codes)),
        "group": results.group,
        "num_networks": data.num_networks,
        "is_weighted": data.is_weighted,
        "moves_priors": results.moves_priors,
        "num_unknown_patients": oof.num_unknown_patients,
        "final_views": oof.final_view_set,
        "has_views": oof.final_view_set != NO_VIEWS,
        "no_views": NO_VIEWS,
        "ensemble": ENSEMBLE,
        "num_resamples": results.bootstrap.num_resamples,
        "percent": results.percent,
        "seed": results.bootstrap.seed,
        "optimism": reasons_for_optimism(results),
        "limits": limits(results),
        "mistakes": mistakes_in_words(results.mistakes),
        "stage_errors": _stage_rows(results.stage_errors),
        "stages": GRANULOCYTE_STAGES,
        "expanded": None if results.expanded is None else expanded_in_words(results.expanded),
        "corruptions": denoising_rows(results.robustness) if results.robustness is not None else [],
        "about_corruptions": CORRUPTIONS,
        "calibration": calibration_values(results.calibration),
        "rejection": rejection_words(results.rejection, data.calibrate.false_alarm),
        "has_unknown": bool(has_unknown_type(data.manifest).any()),
        "unknown": None if results.unknown is None else results.unknown.to_dict("records"),
        "recipe": data.recipe_text,
        "provenance": _flat(data.provenance),
        "histories": (histories := _history_rows(data)),
        "minutes": sum(row["minutes"] for row in histories),
    }


def _stage_rows(table: pd.DataFrame | NotMeasured) -> list[dict]:
    """Return the rows of the table of stage errors, with errors and intervals as text; none where not measured."""
    if isinstance(table, NotMeasured):
        return []
    rows = table.to_dict("records")
    for row in rows:
        for name, sign in (("signed_error", True), ("absolute_error", False)):
            value, low, high = (number(row[f"{name}{end}"], 2, sign=sign) for end in ("", "_low", "_high"))
            row[name], row[f"{name}_interval"] = value, "–" if low == "–" else f"{low} to {high}"
    return rows


def _issues(issues: Issues, images: RunImages) -> dict:
    """Return the values of the section on label issues."""
    worst = issues.table.head(MOST_ISSUES).astype(object)
    rows = worst.where(worst.notna(), None).to_dict("records")
    return {
        "has_pictures": add_pictures(rows, images),
        "no_pictures": images.problem,
        "num": len(issues.table),
        "num_images": issues.num_images,
        "commonest": commonest(issues),
        "worst": rows,
        "sources": issues.by_source.to_dict("records"),
        "patients": issues.by_patient.head(MOST_PATIENTS).to_dict("records"),
        "compared_by": issues.compared_by,
    }


def _history_rows(data: RunData) -> list[dict]:
    rows = []
    for member, done in sorted(data.done.items()):
        rows.append(
            {
                "name": data.titles.get(member[0], member[0]),
                "fold": member[1],
                "num_epochs": done["epochs"],
                "kept_epoch": done["kept_epoch"],
                "macro_f1": done["val_macro_f1"],
                "minutes": done["seconds"] / 60,
                "note": _note(done),
            }
        )
    return rows


def _note(done: Mapping) -> str:
    """Return a note on a member whose network died, in this attempt or an earlier one."""
    if done["dead"]:
        return f"{done['dead']}: not in the ensemble"
    lost = done["earlier_attempts"]
    return f"attempt {len(lost) + 1}; the previous one {lost[-1]['reason']}" if lost else ""


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


def _interval(row: Mapping, score: str) -> str:
    low, high = row[f"{score}_low"], row[f"{score}_high"]
    return "–" if pd.isna(low) else f"{score_text(low)}–{score_text(high)}"
