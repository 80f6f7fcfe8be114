"""The calibration of a run in the report: its figure, and the values of its section."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nonet.cells import class_name
from nonet.evaluation.calibration import MeasuredCalibration
from nonet.evaluation.not_measured import NotMeasured
from nonet.page.figures import FAINT, PALETTE


def reliability_figure(bins: pd.DataFrame) -> Figure:
    """Draw accuracy against the probability of the best class, before and after calibration.

    Parameters
    ----------
    bins : DataFrame
        Columns when ("before", "after"), images, confidence, accuracy, accuracy_low and accuracy_high.

    Returns
    -------
    Figure
    """
    figure = Figure(figsize=(7.4, 4.9), layout="constrained")
    above, below = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(4, 1))
    for number, when in enumerate(("before", "after")):
        table, colour = bins[bins["when"] == when], PALETTE[1 - number]
        axes, counts = above[number], below[number]
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, linestyle=(0, (3, 2)))
        axes.vlines(table["confidence"], table["accuracy_low"], table["accuracy_high"], color=colour, alpha=0.45)
        size = 8 + 90 * table["images"] / bins["images"].max()
        axes.scatter(table["confidence"], table["accuracy"], size, color=colour, zorder=3, linewidth=0, clip_on=False)
        axes.set(title=f"{when.capitalize()} calibration", xlim=(0, 1), ylim=(0, 1))
        counts.bar(table["confidence"], table["images"], 0.045, color=colour, alpha=0.75)
        counts.set_xlabel("probability of the best class")
    above[0].set_ylabel("share correct")
    below[0].set_ylabel("images")
    return figure


def calibration_values(measured: MeasuredCalibration | NotMeasured | None) -> dict | None:
    """Return the values of the report's section; None without a section."""
    if measured is None:
        return None
    if isinstance(measured, NotMeasured):
        return {"missing": measured.reason}
    overall = measured.measures.iloc[0]
    by_class = measured.measures.iloc[1:].merge(measured.coverage, on=["class", "images"], sort=False)
    worst = measured.coverage.iloc[1:].dropna(subset="coverage").nsmallest(2, "coverage")
    bins = measured.bins.assign(
        confidence=measured.bins["confidence"] * measured.bins["images"],
        accuracy=measured.bins["accuracy"] * measured.bins["images"],
    )
    sums = bins.groupby("when")[["confidence", "accuracy", "images"]].sum()
    mean = {when: float(sums["confidence"][when] / sums["images"][when]) for when in sums.index}
    return {
        "missing": None,
        "settings": measured.settings,
        "temperature": float(np.exp(np.mean(np.log(measured.fitted.temperatures)))),
        "temperature_doubtful": float(np.exp(np.mean(np.log(measured.fitted.temperatures) - measured.fitted.slopes))),
        "overall": overall.to_dict(),
        "mean_confidence": mean,
        "accuracy_before": float(sums["accuracy"]["before"] / sums["images"]["before"]),
        "doubt": measured.doubt.to_dict(),
        "coverage": measured.coverage.iloc[0].to_dict(),
        "worst": worst.to_dict("records"),
        "by_class": [row | {"name": class_name(row["class"])} for row in by_class.to_dict("records")],
        "shift": measured.differences.iloc[0].to_dict(),
        "adapted": measured.differences.iloc[1].to_dict() if len(measured.differences) > 1 else None,
        "worse": [
            name
            for name, key in (("expected calibration error", "ece"), ("Brier score", "brier"))
            if overall[f"{key}_after"] > overall[f"{key}_before"]
        ],
        "moved": any(measured.fitted.strengths),
        "strengths": measured.fitted.strengths,
    }
