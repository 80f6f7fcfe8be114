"""Figures of a run's evaluation as matplotlib Figure objects; shared ones are in `nonet.page.figures`."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from nonet.cells import GRANULOPOIESIS, LINEAGE_COLOURS, lineage_blocks, stages_block
from nonet.data.preprocess.corruptions import CORRUPTIONS
from nonet.evaluation.mistakes import PLACES
from nonet.page.figures import INK, PALETTE, new_figure, short

#: Lineages of true and predicted class → colour in the bars.
_PLACE_COLOURS = dict(zip(PLACES, ("#d7603f", "#e0457b", "#2166ac", "#c9cdd2"), strict=True))
_ANNOTATED_CLASSES = 30  # with more classes, the numbers do not fit into the squares


def confusion_figure(confusion: pd.DataFrame, *, by_row: bool) -> Figure:
    """Draw a confusion matrix with boxes around lineages.

    Parameters
    ----------
    confusion : DataFrame of int, square
        Counts; index (true) and columns (predicted) are class codes in the order to draw.
    by_row : bool
        Show percentages of the true class instead of counts.

    Returns
    -------
    Figure
    """
    side, width, height = _matrix_size([str(code) for code in confusion.index])
    figure, axes = new_figure(width, height)
    _draw_matrix(axes, confusion, side, by_row=by_row)
    axes.set_title("Share of each true class, %" if by_row else "Number of images", pad=10)
    return figure


def mistakes_figure(mistakes: pd.DataFrame) -> Figure:
    """Draw the mistakes of each group of models by lineage, one bar per group.

    Parameters
    ----------
    mistakes : DataFrame
        As `nonet.evaluation.mistakes.mistakes_table` returns it.

    Returns
    -------
    Figure
    """
    figure, axes = new_figure(8.6, 0.95 + 0.36 * len(mistakes))
    _draw_mistakes(axes, mistakes)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def expanded_figure(confusion: pd.DataFrame, mistakes: pd.DataFrame) -> Figure:
    """Draw the confusion of all held-out images, including external ones, beside the mistakes by group of models.

    Parameters
    ----------
    confusion, mistakes : DataFrame
        Of all held-out images, as for `confusion_figure` and `mistakes_figure`.

    Returns
    -------
    Figure
    """
    side, width, height = _matrix_size([str(code) for code in confusion.index])
    figure = Figure(figsize=(width + 4.4, height), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(width, 4.4))
    _draw_matrix(left, confusion, side, by_row=False)
    left.set_title("Ensemble: number of images", pad=10)
    _draw_mistakes(right, mistakes)
    right.set_title("Mistakes by group of models", pad=10)
    right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=1)
    return figure


def _draw_mistakes(axes: Axes, mistakes: pd.DataFrame) -> None:
    start = np.zeros(len(mistakes))
    for column, colour in _PLACE_COLOURS.items():
        counts = mistakes[column].to_numpy(dtype=float)
        if counts.any():
            axes.barh(mistakes["name"], counts, 0.62, left=start, color=colour, label=PLACES[column])
            for y, (left, count) in enumerate(zip(start, counts)):
                if count >= 0.045 * max(mistakes["mistakes"].max(), 1):  # otherwise the number does not fit
                    ink = INK if column == "between" else "white"
                    axes.text(left + count / 2, y, f"{count:,.0f}", ha="center", va="center", fontsize=7, color=ink)
        start += counts
    for y, total in enumerate(mistakes["mistakes"]):
        axes.text(total, y, f"  {total:,}", va="center", fontsize=7.5, weight="bold")
    axes.set(xlim=(0, max(mistakes["mistakes"].max(), 1) * 1.12), ylim=(len(mistakes) - 0.5, -0.5))
    axes.set_xlabel("mistakes")
    axes.tick_params(axis="y", length=0)


def issues_figure(pairs: pd.DataFrame, confusion: pd.DataFrame) -> Figure:
    """Draw the paper's Figure 4: label issues by given and suggested class, beside the confusion of all images.

    Parameters
    ----------
    pairs : DataFrame of int
        Counts of issues; index the given, columns the suggested class, in the order to draw.
    confusion : DataFrame of int
        Counts of images; index the given, columns the predicted class, in the same order.

    Returns
    -------
    Figure
    """
    side, width, height = _matrix_size([str(code) for code in pairs.index])
    figure = Figure(figsize=(2 * width, height), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_matrix(left, pairs, side, by_row=False)
    left.set(xlabel="suggested", ylabel="given label")
    left.set_title("Label issues: number of images", pad=10)
    _draw_matrix(right, confusion, side, by_row=True)
    right.set(ylabel="given label")
    right.set_title("All images: % of given class", pad=10)
    return figure


def training_figure(
    histories: Mapping[tuple[str, int], pd.DataFrame],
    names: Mapping[str, str],
    used_epochs: Mapping[tuple[str, int], int | None],
) -> Figure:
    """Draw loss and held-out macro-F1 by epoch, one line per member, one colour per architecture.

    Parameters
    ----------
    histories : mapping of (str, int) to DataFrame
        (architecture, fold) → columns epoch, train_loss, val_loss and val_macro_f1.
    names : mapping of str to str
        Architecture → name in the legend.
    used_epochs : mapping of (str, int) to int or None
        The epoch whose weights are used, marked by a dot.

    Returns
    -------
    Figure
    """
    figure = Figure(figsize=(9.4, 3.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    colours = dict(zip(sorted({name for name, _ in histories}), PALETTE * 9))
    labelled = set()
    for (name, fold), table in sorted(histories.items()):
        style = {"color": colours[name], "linewidth": 1.1, "alpha": 0.85}
        label = None if name in labelled else names.get(name, name)
        labelled.add(name)
        left.plot(table["epoch"], table["train_loss"], linestyle=(0, (2, 1.5)), **{**style, "alpha": 0.5})
        left.plot(table["epoch"], table["val_loss"], **style)
        right.plot(table["epoch"], table["val_macro_f1"], label=label, **style)
        dot = table[table["epoch"] == used_epochs.get((name, fold))]
        right.plot(dot["epoch"], dot["val_macro_f1"], "o", markersize=4, color=colours[name], markeredgecolor="white")
    left.set(title="Loss: training dotted, held-out solid", xlabel="epoch")
    right.set(title="Macro-F1 on the held-out fold", xlabel="epoch", ylim=(0, 1))
    for axes in (left, right):
        axes.grid(axis="y", color="#e4e6e9", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    left.set_ylim(bottom=0)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=min(4, len(colours)))
    return figure


def robustness_figure(scores: pd.DataFrame) -> Figure:
    """Draw macro-F1 against severity, one panel per corruption, from the clean images on; bands are intervals.

    Parameters
    ----------
    scores : DataFrame
        Columns corruption ("none" for clean images), severity, denoised, views, macro_f1, macro_f1_low, macro_f1_high.

    Returns
    -------
    Figure
    """
    corruptions = [name for name in CORRUPTIONS if name in set(scores["corruption"])]
    num_columns = min(4, max(1, len(corruptions)))
    num_rows = max(1, -(-len(corruptions) // num_columns))
    figure = Figure(figsize=(2.35 * num_columns + 0.6, 2.2 * num_rows + 0.5), layout="constrained")
    panels = figure.subplots(num_rows, num_columns, sharey=True, squeeze=False).ravel()
    variants = sorted(set(zip(scores["views"], scores["denoised"])), key=lambda pair: (pair[0] != "none", *pair))
    labelled = {}
    for panel, (axes, corruption) in enumerate(zip(panels, corruptions)):
        for views, denoised in variants:
            variant = scores[(scores["views"] == views) & (scores["denoised"] == denoised)]
            line = variant[variant["corruption"].isin([corruption, "none"])].sort_values("severity")
            if not (line["corruption"] == corruption).any():
                continue
            colour = PALETTE[int(denoised)]
            # Denoising often changes nothing: the line beneath is drawn thicker, so that both are visible.
            drawn = {
                "color": colour,
                "linewidth": 1.2 if denoised else 2.8,
                "alpha": 1 if denoised else 0.6,
                "linestyle": "-" if views == "none" else (0, (2, 1.2)),
            }
            name = ("denoised" if denoised else "not denoised") + ("" if views == "none" else f", {views} views")
            (labelled[name],) = axes.plot(line["severity"], line["macro_f1"], marker="o", markersize=3, **drawn)
            if views == "none":
                axes.fill_between(
                    line["severity"], line["macro_f1_low"], line["macro_f1_high"], color=colour, alpha=0.13, linewidth=0
                )
        axes.set_title(corruption.replace("_", " "), fontsize=8.5)
        axes.set_xlabel("severity")
        axes.set_xlim(-0.2, max(scores["severity"]) + 0.2)
        if panel % num_columns == 0:
            axes.set_ylabel("macro-F1")
        axes.grid(axis="y", color="#e4e6e9", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_ylim(bottom=0)
    for axes in panels[len(corruptions) :]:
        axes.set_visible(False)
    if labelled:
        figure.legend(labelled.values(), labelled.keys(), loc="outside lower center", ncols=len(labelled))
    return figure


def _matrix_size(codes: list[str]) -> tuple[float, float, float]:
    """Return the side of a matrix of these classes, and its width and height with labels, in inches."""
    side = float(np.clip(0.36 * len(codes), 2.6, 9.0))
    longest = _longest(codes)
    margin = 0.32 + 0.07 * longest
    across = margin if longest > 4 else 0.45
    right = 0.3 if lineage_blocks(codes) else 0.08
    return side, side + margin + right, side + across + 0.3


def _longest(codes: list[str]) -> int:
    return max(len(short(code)) for code in codes)


def _draw_matrix(axes: Axes, table: pd.DataFrame, side: float, *, by_row: bool) -> None:
    """Draw counts, or percentages of each row, as shades with numbers, and boxes around lineages."""
    codes = [str(code) for code in table.index]
    counts = table.to_numpy(dtype=float)
    share = np.divide(counts, counts.sum(axis=1, keepdims=True), out=np.zeros_like(counts), where=counts > 0) * 100
    values = share if by_row else counts
    norm = Normalize(0, 100) if by_row else LogNorm(0.7, max(counts.max(), 10))
    shades = ListedColormap(_blues())
    axes.imshow(np.where(values > 0, values, np.nan), cmap=shades, norm=norm, interpolation="none", aspect="equal")
    size = float(np.clip(72 * side / len(codes) / 3.4, 4.0, 8.5))
    if len(codes) <= _ANNOTATED_CLASSES:
        for (row, column), value in np.ndenumerate(values):
            if counts[row, column] > 0:
                dark = norm(value) > 0.55
                text = _percent(value) if by_row else f"{value:.0f}"
                axes.text(column, row, text, ha="center", va="center", fontsize=size, color="white" if dark else INK)
    _label_matrix(axes, codes, _longest(codes))
    _box_lineages(axes, codes)


def _percent(value: float) -> str:
    return "<1" if value < 1 else f"{value:.0f}"


def _blues() -> np.ndarray:
    """Return shades from near white to deep blue with perceptually even lightness, float (256, 3)."""
    stops = np.array([[243, 247, 251], [190, 214, 234], [105, 165, 210], [40, 105, 170], [12, 47, 100]]) / 255
    at = np.linspace(0, 1, 256)
    return np.stack([np.interp(at, np.linspace(0, 1, len(stops)), stops[:, i]) for i in range(3)], axis=1)


def _label_matrix(axes: Axes, codes: list[str], longest: int) -> None:
    size = float(np.clip(250 / len(codes), 4.5, 8.5))
    labels = [short(code) for code in codes]
    axes.set(xlim=(-0.5, len(codes) - 0.5), ylim=(len(codes) - 0.5, -0.5), autoscale_on=False)
    axes.set_xticks(range(len(codes)), labels, rotation=90 if longest > 4 else 0, fontsize=size)
    axes.set_yticks(range(len(codes)), labels, fontsize=size)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_xticks(np.arange(len(codes) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(codes) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#e9ebee", linewidth=0.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set(visible=True, color="#c9cdd2")


def _box_lineages(axes: Axes, codes: list[str]) -> None:
    for lineage, first, last in lineage_blocks(codes):
        width = last - first + 1
        colour = LINEAGE_COLOURS[lineage]
        box = Rectangle((first - 0.5, first - 0.5), width, width, fill=False, edgecolor=colour, linewidth=1.6)
        box.set(clip_on=False, zorder=5)
        axes.add_patch(box)
        edge = len(codes) - 0.5 + 0.018 * len(codes)
        axes.plot([edge, edge], [first - 0.45, last + 0.45], color=colour, linewidth=1.6, clip_on=False)
        name = axes.text(edge + 0.012 * len(codes), (first + last) / 2, lineage, rotation=270, ha="left", va="center")
        name.set(fontsize=8, color=colour, fontstyle="italic", clip_on=False)
    stages = stages_block(codes)
    if stages is not None:  # stages of maturation, without EO and BA
        corner, width = stages[0] - 0.5, stages[1] - stages[0] + 1
        inner = Rectangle((corner, corner), width, width, fill=False, edgecolor=LINEAGE_COLOURS[GRANULOPOIESIS])
        inner.set(linewidth=1.2, linestyle=(0, (3, 2)), clip_on=False, zorder=6)
        axes.add_patch(inner)
