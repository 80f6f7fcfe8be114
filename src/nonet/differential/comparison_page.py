"""The page of a comparison: agreement, and a panel per class for each way of comparing methods."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nonet.cells import class_colour
from nonet.differential.agreement import MIN_CASES
from nonet.differential.shares import RESEARCH_USE
from nonet.page.figures import FAINT, INK, svg_text, with_page_style
from nonet.page.html import html_environment, inline

if TYPE_CHECKING:
    from nonet.differential.comparison import Comparison

_TEMPLATES = Path(__file__).parent / "templates"
_COLUMNS = 4
_SIDE_IN = 2.1

#: Draws a class's panel: axes, reference and predicted shares in per cent, the class's row of `methods`, colour.
Panel = Callable[[Axes, np.ndarray, np.ndarray, pd.Series, str], None]


def render_comparison(comparison: "Comparison", *, title: str, confidence: float) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    comparison : Comparison
    title : str
        Of the page.
    confidence : float
        Of the intervals.

    Returns
    -------
    str
    """
    num_cases = comparison.shares["case"].nunique()
    figures: dict[str, Markup] = {}
    if num_cases >= MIN_CASES:
        words = {"line": "Shares by the ensemble against shares by the person", "limits": "Differences against means"}
        panels: dict[str, Panel] = {"line": _draw_line, "limits": _draw_limits}
        for name, panel in panels.items():
            figure = with_page_style(panels_figure, comparison, panel)
            figures[name] = inline(svg_text(figure, name), f"{words[name]}, one panel per class.")
    return (
        html_environment(_TEMPLATES)
        .get_template("comparison.html.j2")
        .render(
            title=title,
            agreement=comparison.agreement.to_dict("records"),
            per_class=comparison.per_class.to_dict("records"),
            methods=comparison.methods.to_dict("records"),
            notes=comparison.notes,
            num_cases=num_cases,
            min_cases=MIN_CASES,
            confidence=confidence,
            class_colour=class_colour,
            figures=figures,
            research_use=RESEARCH_USE,
            made_at=datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC"),
        )
    )


def panels_figure(comparison: "Comparison", draw: Panel) -> Figure:
    """Draw a panel for each class that either count has.

    Parameters
    ----------
    comparison : Comparison
    draw : callable
        Draws one panel.

    Returns
    -------
    Figure
    """
    present = comparison.shares.groupby("code", sort=False)[["reference", "predicted"]].sum().sum(axis=1) > 0
    codes = list(present.index[present])
    rows = -(-len(codes) // _COLUMNS)
    figure = Figure(figsize=(_COLUMNS * _SIDE_IN, rows * _SIDE_IN), layout="constrained")
    methods = comparison.methods.set_index("code")
    for place, code in enumerate(codes):
        axes = figure.add_subplot(rows, _COLUMNS, place + 1)
        part = comparison.shares[comparison.shares["code"] == code]
        shares = part["reference"].to_numpy(), part["predicted"].to_numpy()
        draw(axes, *shares, methods.loc[code], class_colour(str(code)))
        axes.set_title(code)
    return figure


def _draw_line(axes: Axes, reference: np.ndarray, predicted: np.ndarray, method: pd.Series, colour: str) -> None:
    end = max(1.0, 1.08 * max(reference.max(), predicted.max()))
    axes.plot([0, end], [0, end], color=FAINT, linewidth=0.7, linestyle=(0, (3, 3)))
    axes.scatter(reference, predicted, s=14, color=colour, edgecolor=INK, linewidth=0.4, zorder=3)
    if np.isfinite(method["slope"]):
        axes.plot(
            [0, end], [method["intercept"], method["intercept"] + method["slope"] * end], color=INK, linewidth=0.9
        )
    axes.set(xlim=(0, end), ylim=(0, end), xlabel="person, %", ylabel="ensemble, %", aspect="equal")


def _draw_limits(axes: Axes, reference: np.ndarray, predicted: np.ndarray, method: pd.Series, colour: str) -> None:
    mean, difference = (reference + predicted) / 2, predicted - reference
    axes.axhline(0, color=FAINT, linewidth=0.7, linestyle=(0, (3, 3)))
    axes.axhline(method["bias"], color=INK, linewidth=0.9)
    for limit in (method["lower"], method["upper"]):
        axes.axhline(limit, color=INK, linewidth=0.7, linestyle=(0, (5, 2)))
    axes.scatter(mean, difference, s=14, color=colour, edgecolor=INK, linewidth=0.4, zorder=3)
    reach = 1.15 * max(abs(difference).max(), abs(method["lower"]), abs(method["upper"]), 0.5)
    axes.set(ylim=(-reach, reach), xlim=(0, max(1.0, 1.05 * mean.max())), xlabel="mean, %", ylabel="difference, points")
