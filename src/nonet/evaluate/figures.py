"""Figures of a run's evaluation as matplotlib Figure objects, and their SVG text.

No pyplot: its global state is shared between threads, and a figure made here is only ever written to a file.
"""

import io
import re
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from PIL import Image

from nonet.cells import CELLS, in_order_of_maturation, lineage_blocks, name_of

INK, FAINT = "#22262b", "#8a9099"
#: Okabe & Ito's colours, told apart by colour-blind readers too; one an architecture or source.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5b5b5b")
_STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib; laid out with it, shown in the reader's own sans-serif
    "font.size": 8.5,
    "text.parse_math": False,  # a label such as "$x$" is a label
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "svg.fonttype": "none",  # text stays text: it can be searched, copied and read aloud
    "svg.hashsalt": "nonet",  # the same figure gives the same bytes
    "legend.frameon": False,
}
_READERS_FONTS = "'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
_MAX_LABEL = 18
_ANNOTATED_CLASSES = 30  # beyond that many, numbers would not fit their cells


def confusion_figure(confusion: pd.DataFrame, *, by_row: bool) -> Figure:
    """Draw a confusion matrix, true classes down, predicted ones across, lineages boxed.

    Parameters
    ----------
    confusion : counts, square, index and columns the class codes in the order to draw.
    by_row : write each cell as a percentage of the true class's images instead of as a count.
    """
    codes = [str(code) for code in confusion.index]
    counts = confusion.to_numpy(dtype=float)
    share = np.divide(counts, counts.sum(axis=1, keepdims=True), out=np.zeros_like(counts), where=counts > 0) * 100
    values = share if by_row else counts
    norm = Normalize(0, 100) if by_row else LogNorm(0.7, max(counts.max(), 10))
    side = float(np.clip(0.36 * len(codes), 2.6, 9.0))
    longest = max(len(_short(code)) for code in codes)
    margin = 0.32 + 0.07 * longest
    across = margin if longest > 4 else 0.45
    right = 0.3 if lineage_blocks(codes) else 0.08
    figure, axes = _new_figure(side + margin + right, side + across + 0.3)
    shades = ListedColormap(_blues())
    axes.imshow(np.where(values > 0, values, np.nan), cmap=shades, norm=norm, interpolation="none", aspect="equal")
    size = float(np.clip(72 * side / len(codes) / 3.4, 4.0, 8.5))
    if len(codes) <= _ANNOTATED_CLASSES:
        for (row, column), value in np.ndenumerate(values):
            if counts[row, column] > 0:
                dark = norm(value) > 0.55
                text = _percent(value) if by_row else f"{value:.0f}"
                axes.text(column, row, text, ha="center", va="center", fontsize=size, color="white" if dark else INK)
    _label_matrix(axes, codes, longest)
    _box_lineages(axes, codes)
    axes.set_title("Share of each true class, %" if by_row else "Number of images", pad=10)
    return figure


def training_figure(
    histories: Mapping[tuple[str, int], pd.DataFrame], names: Mapping[str, str] | None = None
) -> Figure:
    """Draw loss and validation macro-F1 by epoch, one line a member, one colour an architecture.

    Parameters
    ----------
    histories : {(architecture, fold): table with epoch, train_loss, val_loss, val_macro_f1 and best}.
    """
    figure = Figure(figsize=(9.4, 3.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    colours = dict(zip(sorted({name for name, _ in histories}), PALETTE * 9))
    labelled = set()
    for (name, _), table in sorted(histories.items()):
        style = {"color": colours[name], "linewidth": 1.1, "alpha": 0.85}
        label = None if name in labelled else (names or {}).get(name, name)
        labelled.add(name)
        left.plot(table["epoch"], table["train_loss"], linestyle=(0, (2, 1.5)), **{**style, "alpha": 0.5})
        left.plot(table["epoch"], table["val_loss"], **style)
        right.plot(table["epoch"], table["val_macro_f1"], label=label, **style)
        best = table[table["best"].astype(bool)].tail(1)
        right.plot(best["epoch"], best["val_macro_f1"], "o", markersize=4, color=colours[name], markeredgecolor="white")
    left.set(title="Loss: training dotted, held-out solid", xlabel="epoch")
    right.set(title="Macro-F1 on the held-out fold", xlabel="epoch", ylim=(0, 1))
    for axes in (left, right):
        axes.grid(axis="y", color="#e4e6e9", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    left.set_ylim(bottom=0)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=min(4, len(colours)))
    return figure


def class_counts_figure(manifest: pd.DataFrame) -> Figure:
    """Draw the number of labelled images of each class, split by source and by whether they count in the score.

    Parameters
    ----------
    manifest : columns label, source and evaluate (bool); rows without a label are left out.
    """
    labelled = manifest[manifest["label"].notna()]
    codes = in_order_of_maturation(labelled["label"].astype(str).unique())
    groups = _count_groups(labelled)
    height = 0.75 / len(groups)
    figure, axes = _new_figure(8.6, 0.9 + len(codes) * max(0.26, 0.15 * len(groups) + 0.08))
    most = 1
    for place, (label, colour, evaluated, rows) in enumerate(groups):
        counts = rows["label"].astype(str).value_counts().reindex(codes, fill_value=0)
        most = max(most, counts.max())
        at = np.arange(len(codes)) + (place - (len(groups) - 1) / 2) * height
        style = {"color": colour} if evaluated else {"color": "white", "edgecolor": colour, "hatch": "//////"}
        axes.barh(at, np.maximum(counts, 0.5), height * 0.9, left=0, label=label, linewidth=0.7, **style)
        for y, count in zip(at, counts):
            text = f"{count:,}" if count or len(groups) == 1 else ""
            axes.text(max(count, 0.5) * 1.08, y, text, va="center", fontsize=6.8, color=INK)
    axes.set_xscale("log")
    axes.set_xlim(0.5, most * 1.9)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else ""))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(codes)), [_short(code) for code in codes])
    axes.set_ylim(len(codes) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("images (logarithmic scale)")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def sample_figure(images: np.ndarray, labels: Sequence[str], *, num_per_class: int = 6) -> Figure:
    """Draw a few prepared images of each class, one row a class.

    Parameters
    ----------
    images : uint8 array (n, h, w, 3), as the networks get them.
    labels : n class codes.
    """
    labels = np.asarray(labels).astype(str)
    codes = in_order_of_maturation(set(labels))
    num_columns = 2 if len(codes) > 4 else 1
    num_rows = -(-len(codes) // num_columns)
    figure = Figure(figsize=(4.7 * num_columns, 0.59 * num_rows))
    name_width = 0.285
    for place, code in enumerate(codes):
        column, row = divmod(place, num_rows)
        strip = _strip([images[i] for i in np.flatnonzero(labels == code)[:num_per_class]], num_per_class)
        left, width = column / num_columns, 1 / num_columns
        bottom, height = 1 - (row + 1) / num_rows, 1 / num_rows
        axes = figure.add_axes((left + width * name_width, bottom, width * (0.98 - name_width), height * 0.94))
        axes.imshow(strip, interpolation="none", aspect="equal", extent=(0, num_per_class, 0, 1))
        axes.set_anchor("W")
        axes.axis("off")
        middle = bottom + height * 0.47
        name = name_of(code)
        figure.text(left + 0.005, middle, _short(code), weight="bold", va="bottom" if name != code else "center")
        if name != code:
            figure.text(left + 0.005, middle, name, va="top", fontsize=7.2, color="#5a6068")
    return figure


def robustness_figure(scores: pd.DataFrame, about: Mapping[str, str]) -> Figure:
    """Draw macro-F1 against severity, a panel a kind, with intervals as bands; each begins at the undamaged images.

    Parameters
    ----------
    scores : kind ("none" for the undamaged), severity, denoised, views, macro_f1, macro_f1_low and macro_f1_high.
    about : {kind: title}, in the order of the panels.
    """
    kinds = [kind for kind in about if kind in set(scores["kind"])]
    num_columns = min(4, max(1, len(kinds)))
    num_rows = max(1, -(-len(kinds) // num_columns))
    figure = Figure(figsize=(2.35 * num_columns + 0.6, 2.2 * num_rows + 0.5), layout="constrained")
    panels = figure.subplots(num_rows, num_columns, sharey=True, squeeze=False).ravel()
    ways = sorted(set(zip(scores["views"], scores["denoised"])), key=lambda way: (way[0] != "none", *way))
    labelled = {}
    for place, (axes, kind) in enumerate(zip(panels, kinds)):
        for views, denoised in ways:
            of_way = scores[(scores["views"] == views) & (scores["denoised"] == denoised)]
            line = of_way[of_way["kind"].isin([kind, "none"])].sort_values("severity")
            if not (line["kind"] == kind).any():
                continue
            colour = PALETTE[int(denoised)]
            # Denoising often changes nothing: what is beneath is drawn broad, so that both are seen.
            drawn = {
                "color": colour,
                "linewidth": 1.2 if denoised else 2.8,
                "alpha": 1 if denoised else 0.6,
                "linestyle": "-" if views == "none" else (0, (2, 1.2)),
            }
            name = ("denoised" if denoised else "as it is") + ("" if views == "none" else f", {views} views")
            (labelled[name],) = axes.plot(line["severity"], line["macro_f1"], marker="o", markersize=3, **drawn)
            if views == "none":
                axes.fill_between(
                    line["severity"], line["macro_f1_low"], line["macro_f1_high"], color=colour, alpha=0.13, linewidth=0
                )
        axes.set_title(about[kind], fontsize=8.5)
        axes.set_xlabel("severity")
        axes.set_xlim(-0.2, max(scores["severity"]) + 0.2)
        if place % num_columns == 0:
            axes.set_ylabel("macro-F1")
        axes.grid(axis="y", color="#e4e6e9", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_ylim(bottom=0)
    for axes in panels[len(kinds) :]:
        axes.set_visible(False)
    if labelled:
        figure.legend(labelled.values(), labelled.keys(), loc="outside lower center", ncols=len(labelled))
    return figure


def svg_text(figure: Figure, prefix: str) -> str:
    """Return a figure as SVG text whose ids begin with `prefix`, so that several fit into one page."""
    stream = io.StringIO()
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the reader's fonts draw it, not ours
        figure.savefig(stream, format="svg", metadata=no_metadata)
    text = stream.getvalue()
    text = text[text.index("<svg") :].replace("'DejaVu Sans'", _READERS_FONTS)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', text)
    return re.sub(r'(href="#|url\(#)', rf"\1{prefix}-", text)


def in_house_style(draw, *args, **kwargs):
    """Call one of the functions above, or one that calls it, with the fonts and colours of the report."""
    with rc_context(_STYLE):
        return draw(*args, **kwargs)


def _new_figure(width_in: float, height_in: float):
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    return figure, figure.subplots()


def _short(label: str) -> str:
    label = str(label)
    return label if len(label) <= _MAX_LABEL else label[: _MAX_LABEL - 1] + "…"


def _percent(value: float) -> str:
    return "<1" if value < 1 else f"{value:.0f}"


def _blues() -> np.ndarray:
    """Return shades from near white to a deep blue, even in lightness to the eye, (256, 3)."""
    stops = np.array([[243, 247, 251], [190, 214, 234], [105, 165, 210], [40, 105, 170], [12, 47, 100]]) / 255
    at = np.linspace(0, 1, 256)
    return np.stack([np.interp(at, np.linspace(0, 1, len(stops)), stops[:, i]) for i in range(3)], axis=1)


def _label_matrix(axes, codes: list[str], longest: int) -> None:
    size = float(np.clip(250 / len(codes), 4.5, 8.5))
    labels = [_short(code) for code in codes]
    axes.set(xlim=(-0.5, len(codes) - 0.5), ylim=(len(codes) - 0.5, -0.5), autoscale_on=False)
    axes.set_xticks(range(len(codes)), labels, rotation=90 if longest > 4 else 0, fontsize=size)
    axes.set_yticks(range(len(codes)), labels, fontsize=size)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_xticks(np.arange(len(codes) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(codes) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#e9ebee", linewidth=0.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set(visible=True, color="#c9cdd2")


def _box_lineages(axes, codes: list[str]) -> None:
    for lineage, first, last in lineage_blocks(codes):
        width = last - first + 1
        colour = CELLS[codes[first + 1]].colour
        box = Rectangle((first - 0.5, first - 0.5), width, width, fill=False, edgecolor=colour, linewidth=1.6)
        box.set(clip_on=False, zorder=5)
        axes.add_patch(box)
        edge = len(codes) - 0.5 + 0.018 * len(codes)
        axes.plot([edge, edge], [first - 0.45, last + 0.45], color=colour, linewidth=1.6, clip_on=False)
        style = {"fontsize": 8, "color": colour, "fontstyle": "italic", "clip_on": False}
        middle = (first + last) / 2
        axes.text(edge + 0.012 * len(codes), middle, lineage, rotation=270, ha="left", va="center", **style)


def _count_groups(labelled: pd.DataFrame) -> list[tuple[str, str, bool, pd.DataFrame]]:
    """Return (legend, colour, evaluated, rows) for each source and use; sources are joined where there are many."""
    sources = labelled["source"].astype(str).value_counts().index.tolist()  # the largest gets the first colour
    groups = []
    for evaluated, use in ((True, "evaluated"), (False, "trained on, not scored")):
        rows = labelled[labelled["evaluate"].astype(bool) == evaluated]
        parts = rows.groupby(rows["source"].astype(str)) if len(sources) <= 4 else [("all sources", rows)]
        for source, part in parts:
            colour = PALETTE[sources.index(source) if source in sources else 0]
            if len(part):
                groups.append((f"{source}, {use}", colour, evaluated, part))
    return groups


def _strip(images: list[np.ndarray], num_places: int, *, side_px: int = 104, gap_px: int = 6) -> np.ndarray:
    """Put images side by side on white, each `side_px` high and wide, and fill up with white."""
    strip = np.full((side_px, num_places * side_px, 3), 255, dtype=np.uint8)
    inner = side_px - gap_px
    for place, image in enumerate(images):
        small = Image.fromarray(np.ascontiguousarray(image)).resize((inner, inner), Image.Resampling.LANCZOS)
        start = place * side_px
        strip[gap_px // 2 : gap_px // 2 + inner, start : start + inner] = np.asarray(small)
    return strip
