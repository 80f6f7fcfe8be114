"""The work of `evaluate`: measuring, drawing, and writing what RUN/evaluation contains."""

import logging
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from nonet.artifacts.csv_files import write_csv
from nonet.artifacts.run import Run, write_text
from nonet.cells import lineage_blocks
from nonet.data.run_images import RunImages
from nonet.evaluation.bootstrap import Bootstrap
from nonet.evaluation.calibration import MeasuredCalibration
from nonet.evaluation.members import dead_words
from nonet.evaluation.not_measured import NotMeasured
from nonet.evaluation.results import Results, measure
from nonet.page.figures import class_counts_figure, sample_figure, svg_text, with_page_style
from nonet.report import figures
from nonet.report.calibration_pages import reliability_figure
from nonet.report.cards import render_cards
from nonet.report.issue_files import FIGURE, draw_issues, issue_tables, keep_decisions
from nonet.report.report import render_report

logger = logging.getLogger("nonet")


def write_evaluation(run: Run, bootstrap: Bootstrap) -> pd.DataFrame:
    """Score a run, write tables, figures, report and cards, and return Table 1; see `nonet.evaluate`."""
    results = measure(run, bootstrap)
    for warning in [results.baseline.words(), *dead_words(results.data)]:
        if warning is not None:
            logger.warning(warning)
    drawings = _draw(results)
    pages = {"report.html": render_report(results, drawings, RunImages(run))} | render_cards(results)
    folder = run.evaluation
    for name, drawing in drawings.items():
        write_text(folder / "figures" / f"{name}.svg", drawing)
    _remove_stale_figures(folder / "figures", drawings)
    keep_decisions(run.issues)
    for name, table in _tables(results).items():
        if table is None:  # one of an earlier evaluation
            (folder / f"{name}.csv").unlink(missing_ok=True)
        else:
            write_csv(folder / f"{name}.csv", table)
    for name, text in pages.items():
        write_text(folder / name, text)
    logger.info("Evaluated %d images. Report: %s", len(results.data.oof.true), folder / "report.html")
    return results.table


def _tables(results: Results) -> dict[str, pd.DataFrame | None]:
    """Return {file stem: table}; None for tables that the run has no data for."""
    expanded, issues = results.expanded, results.issues
    measured = results.calibration if isinstance(results.calibration, MeasuredCalibration) else None
    return {
        "calibration": measured.measures if measured else None,
        "coverage": measured.coverage if measured else None,
        "rejection": _if_measured(results.rejection),
        "unknown_types": results.unknown,
        **(issue_tables(issues) if issues else dict.fromkeys(("issues", "issues_by_source", "issues_by_patient"))),
        "per_class": results.per_class,
        "differences": results.differences,
        "confusion": results.confusion.reset_index(),
        "mistakes": results.mistakes,
        "stage_errors": _if_measured(results.stage_errors),
        "expanded_confusion": expanded.confusion.reset_index() if expanded else None,
        "expanded_mistakes": expanded.mistakes if expanded else None,
        "table": results.table,
    }


def _if_measured(table: pd.DataFrame | NotMeasured) -> pd.DataFrame | None:
    return None if isinstance(table, NotMeasured) else table


def _draw(results: Results) -> dict[str, str]:
    """Return {file stem: SVG text} of every figure that the run has data for."""
    draw, data = with_page_style, results.data
    drawings = {
        "confusion_counts": draw(figures.confusion_figure, results.confusion, by_row=False),
        "confusion_by_row": draw(figures.confusion_figure, results.confusion, by_row=True),
        "class_counts": draw(class_counts_figure, data.manifest),
    }
    if lineage_blocks(list(results.confusion.index)):
        drawings["mistakes"] = draw(figures.mistakes_figure, results.mistakes)
    if results.expanded is not None:
        drawings["expanded"] = draw(figures.expanded_figure, results.expanded.confusion, results.expanded.mistakes)
    if data.samples is not None and len(data.samples[1]):
        drawings["samples"] = draw(sample_figure, *data.samples)
    if data.histories:
        drawings["training_curves"] = draw(
            figures.training_figure,
            data.histories,
            data.titles,
            {name: data.kept_epoch(name) for name in data.histories},
        )
    if isinstance(results.calibration, MeasuredCalibration):
        drawings["reliability"] = draw(reliability_figure, results.calibration.bins)
    if results.robustness is not None:
        drawings["robustness"] = draw(figures.robustness_figure, results.robustness.scores)
    texts = {name: svg_text(figure, name.replace("_", "-")) for name, figure in drawings.items()}
    return texts if results.issues is None else texts | {FIGURE: draw_issues(results.issues)}


def _remove_stale_figures(folder: Path, drawings: Mapping[str, str]) -> None:
    """Remove figures of an earlier evaluation that this one did not draw; other files stay."""
    for path in folder.glob("*.svg"):
        if path.stem not in drawings and _is_nonets(path):
            path.unlink()


def _is_nonets(path: Path) -> bool:
    """Whether `svg_text` wrote a figure: its ids begin with the name of the file."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return text.startswith("<svg") and f'id="{path.stem.replace("_", "-")}-figure_1"' in text
