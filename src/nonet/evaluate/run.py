"""`nonet evaluate`: from a run's out-of-fold logits to Table 1, figures and a report."""

import logging
from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import pandas as pd

from nonet.data.degrade import KINDS
from nonet.evaluate import figures
from nonet.evaluate.calibration import MeasuredCalibration, measure_calibration
from nonet.evaluate.calibration_pages import reliability_figure, write_calibration
from nonet.evaluate.issues import FIGURE, Issues, draw_issues, find_issues, write_issues
from nonet.evaluate.oof import ENSEMBLE
from nonet.evaluate.reading import RunData, read_run
from nonet.evaluate.rejection import measure_rejection, write_rejection
from nonet.evaluate.report import render_report
from nonet.evaluate.robustness import Robustness, read_robustness
from nonet.evaluate.tables import confusion_table, difference_table, per_class_table, table_1
from nonet.page.figures import class_counts_figure, in_house_style, sample_figure, svg_text
from nonet.runs import Run, write_text

logger = logging.getLogger("nonet")


def evaluate(
    run: str | PathLike | Run,
    *,
    num_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Score a run on its held-out images and write tables, figures and a report.

    Only images that the manifest marks `evaluate` count, each predicted by the members that never saw it.

    Parameters
    ----------
    run : the run's folder.
    num_resamples, confidence, seed : of the bootstrap over patients (over images where patients are unknown).

    Returns
    -------
    Table 1, as `table_1` describes it, with a row "ensemble, calibrated" where class priors are moved. In
    RUN/evaluation: table.csv, per_class.csv, differences.csv, confusion.csv (the ensemble's counts, rows true),
    calibration.csv, coverage.csv and rejection.csv (where there are enough patients), what `issues` writes,
    figures/*.svg and report.html, which needs no network. What `evaluate_robustness` left there is in the report too.

    Raises
    ------
    RunError, where out-of-fold logits are missing, incomplete or not finite.
    """
    run = Run(run)
    data = read_run(run)
    names = data.titles
    options = {"num_resamples": num_resamples, "confidence": confidence, "seed": seed}
    table = table_1(data.oof, names=names, **options)
    per_class = per_class_table(data.oof, **options)
    differences = difference_table(data.oof, names=names, **options)
    calibration = measure_calibration(data.oof, data.calibrate, data.trained_shares, **options)
    if isinstance(calibration, MeasuredCalibration):
        differences = pd.concat([differences, calibration.differences], ignore_index=True)
        table = pd.concat([table, calibration.row], ignore_index=True)
    rejection = measure_rejection(data.oof, data.calibrate.false_alarm, **options)
    confusion = confusion_table(data.oof.confusions(data.oof.final_view_set, ENSEMBLE).total(), data.oof.classes)
    robustness = read_robustness(run)
    issues = find_issues(run, data) if len(data.oof.classes) > 1 else None
    drawings = _draw(data, confusion, calibration, names, robustness, issues)
    parts = {"robustness": robustness, "calibration": calibration, "rejection": rejection, "issues": issues}
    report = render_report(data, table, per_class, differences, drawings, names=names, **parts, **options)
    folder = run.evaluation
    write_calibration(folder, calibration)
    write_rejection(folder, rejection)
    for name, drawing in drawings.items():
        write_text(folder / "figures" / f"{name}.svg", drawing)
    write_text(folder / "per_class.csv", per_class.to_csv(index=False))
    write_text(folder / "differences.csv", differences.to_csv(index=False))
    write_text(folder / "confusion.csv", confusion.to_csv())
    write_text(folder / "table.csv", table.to_csv(index=False))
    if issues is not None:
        write_issues(run, issues)
    write_text(folder / "report.html", report)
    _remove_stale_figures(folder / "figures", drawings)
    logger.info("Evaluated %d images. Report: %s", len(data.oof.true), folder / "report.html")
    return table


def _draw(
    data: RunData,
    confusion: pd.DataFrame,
    calibration: MeasuredCalibration | str,
    names: Mapping[str, str] | None,
    robustness: Robustness | None,
    issues: Issues | None,
) -> dict[str, str]:
    """Return {file stem: SVG text} of every figure that the run has the data for."""
    draw = in_house_style
    drawings = {
        "confusion_counts": draw(figures.confusion_figure, confusion, by_row=False),
        "confusion_by_row": draw(figures.confusion_figure, confusion, by_row=True),
        "class_counts": draw(class_counts_figure, data.manifest),
    }
    if data.samples is not None and len(data.samples[1]):
        drawings["samples"] = draw(sample_figure, *data.samples)
    if data.histories:
        drawings["training_curves"] = draw(figures.training_figure, data.histories, names)
    if isinstance(calibration, MeasuredCalibration):
        drawings["reliability"] = draw(reliability_figure, calibration.bins)
    if robustness is not None:
        titles = {kind: kind.replace("_", " ") for kind in KINDS}
        drawings["robustness"] = draw(figures.robustness_figure, robustness.scores, titles)
    texts = {name: svg_text(figure, name.replace("_", "-")) for name, figure in drawings.items()}
    return texts if issues is None else texts | {FIGURE: draw_issues(issues)}


def _remove_stale_figures(folder: Path, drawings: Mapping[str, str]) -> None:
    """Remove an earlier evaluation's figures that this one did not draw."""
    for path in folder.glob("*.svg"):
        if path.stem not in drawings:
            path.unlink()
