"""Figures shared by several pages, as matplotlib Figure objects, and their SVG text in the style of the pages.

Without pyplot, whose global state is shared between threads: figures made here are only written to files.
"""

import io
import re
import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from PIL import Image

from nonet.cells import class_name, in_order_of_maturation

INK, FAINT = "#22262b", "#8a9099"
#: Okabe & Ito's colours, which colour-blind readers can distinguish; one per architecture or source.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5b5b5b")
_STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: used for layout; shown in the reader's own sans-serif
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


def class_counts_figure(manifest: pd.DataFrame) -> Figure:
    """Draw the number of labelled images of each class, split by source and by whether they count in the score.

    Dots, not bars: counts span three decades and need a logarithmic scale, on which the length of a bar depends on
    where the scale begins.

    Parameters
    ----------
    manifest : DataFrame
        Columns label, source and evaluate (bool); rows without a label are ignored.

    Returns
    -------
    Figure
    """
    labelled = manifest[manifest["label"].notna()]
    codes = in_order_of_maturation(labelled["label"].astype(str).unique())
    groups = _count_groups(labelled)
    spacing = 0.75 / len(groups)
    figure, axes = new_figure(6.4, 0.9 + len(codes) * max(0.26, 0.15 * len(groups) + 0.08))
    least, most = np.inf, 1
    for place, (label, colour, evaluated, rows) in enumerate(groups):
        counts = rows["label"].astype(str).value_counts().reindex(codes, fill_value=0)
        least, most = min(least, counts[counts > 0].min()), max(most, counts.max())
        at = np.arange(len(codes)) + (place - (len(groups) - 1) / 2) * spacing
        there = counts.to_numpy() > 0
        fill = colour if evaluated else "white"
        axes.scatter(counts[there], at[there], 26, fill, edgecolors=colour, linewidths=1.2, label=label, zorder=3)
        for y, count in zip(at[there], counts[there]):
            axes.annotate(f"{count:,}", (count, y), (6, 0), textcoords="offset points", va="center", fontsize=6.8)
    axes.set_xscale("log")
    axes.set_xlim(least / 1.6, most * 1.9)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(codes)), [short(code) for code in codes])
    axes.set_ylim(len(codes) - 0.4, -0.6)
    axes.grid(axis="y", color="#dcdfe3", linewidth=0.6, linestyle=(0, (1, 2)))
    axes.grid(axis="x", color="#e9ebee", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("images (logarithmic scale)")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def sample_figure(
    images: Sequence[np.ndarray], labels: Sequence[str], *, num_per_class: int = 6, heads: Sequence[str] = ()
) -> Figure:
    """Draw a few images of each class, one row per class.

    Parameters
    ----------
    images : sequence of ndarray of uint8, shape (height, width, 3)
        n images.
    labels : sequence of str
        Their n class codes.
    num_per_class : int
        Images in a row.
    heads : sequence of str
        Titles of the columns, of up to three lines.

    Returns
    -------
    Figure
    """
    names = np.asarray(labels).astype(str)
    codes = in_order_of_maturation(set(names))
    num_columns = 2 if len(codes) > 4 else 1
    num_rows = -(-len(codes) // num_columns)
    head_in = 0.44 if heads else 0.0
    height_in = 0.59 * num_rows + head_in
    figure = Figure(figsize=(4.7 * num_columns, height_in))
    # One Axes in inches for all strips: making one takes 10 ms, and there may be dozens of classes.
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    name_width, top = 0.285, 1 - head_in / height_in
    for place, code in enumerate(codes):
        column, row = divmod(place, num_rows)
        strip = _strip([images[i] for i in np.flatnonzero(names == code)[:num_per_class]], num_per_class)
        left = column / num_columns
        height = top / num_rows
        bottom = top - (row + 1) * height
        x, room = 4.7 * (column + name_width), 4.7 * (0.98 - name_width)
        side = min(room / num_per_class, height * 0.94 * height_in)
        y = height_in * (bottom + height * 0.47) - side / 2
        axes.imshow(strip, interpolation="none", extent=(x, x + num_per_class * side, y, y + side), aspect="equal")
        if row == 0:
            for number, head in enumerate(heads):
                place_of_head = (x + (number + 0.47) * side, y + 1.06 * side)
                axes.text(*place_of_head, head, ha="center", va="bottom", fontsize=5.8, linespacing=1.15)
        middle = bottom + height * 0.47
        name = class_name(code)
        figure.text(left + 0.005, middle, short(code), weight="bold", va="bottom" if name != code else "center")
        if name != code:
            figure.text(left + 0.005, middle, name, va="top", fontsize=7.2, color="#5a6068")
    axes.set(xlim=(0, 4.7 * num_columns), ylim=(0, height_in))  # each strip has set them to its own extent
    return figure


def svg_text(figure: Figure, prefix: str) -> str:
    """Return a figure as SVG text whose ids begin with `prefix`, so that several can be in one page."""
    stream = io.StringIO()
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the reader's fonts draw it, not ours
        figure.savefig(stream, format="svg", metadata=no_metadata)
    text = stream.getvalue()
    text = text[text.index("<svg") :].replace("'DejaVu Sans'", _READERS_FONTS)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', text)
    return re.sub(r'(href="#|url\(#)', rf"\1{prefix}-", text)


def with_page_style(draw, *args, **kwargs):
    """Call a drawing function with the fonts and colours of the pages."""
    with rc_context(_STYLE):
        return draw(*args, **kwargs)


def new_figure(width_in: float, height_in: float) -> tuple[Figure, Axes]:
    """Return a Figure of this size in inches, with constrained layout, and its only Axes."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    return figure, figure.subplots()


def short(label: str) -> str:
    """Return a label, shortened for an axis."""
    label = str(label)
    return label if len(label) <= _MAX_LABEL else label[: _MAX_LABEL - 1] + "…"


def _count_groups(labelled: pd.DataFrame) -> list[tuple[str, str, bool, pd.DataFrame]]:
    """Return (legend, colour, evaluated, rows) for each source and use; more than four sources are merged."""
    sources = labelled["source"].astype(str).value_counts().index.tolist()  # the largest gets the first colour
    groups = []
    for evaluated, use in ((True, "evaluated"), (False, "training only")):
        rows = labelled[labelled["evaluate"].astype(bool) == evaluated]
        parts = rows.groupby(rows["source"].astype(str)) if len(sources) <= 4 else [("all sources", rows)]
        for source, part in parts:
            colour = PALETTE[sources.index(source) if source in sources else 0]
            if len(part):
                groups.append((f"{source}, {use}", colour, evaluated, part))
    return groups


def _strip(images: list[np.ndarray], num_places: int, *, side_px: int = 104, gap_px: int = 6) -> np.ndarray:
    """Put images side by side on white, each `side_px` high and wide."""
    strip = np.full((side_px, num_places * side_px, 3), 255, dtype=np.uint8)
    inner = side_px - gap_px
    for place, image in enumerate(images):
        # Small images are enlarged with visible pixels: they are what the network gets.
        how = Image.Resampling.LANCZOS if min(image.shape[:2]) >= inner else Image.Resampling.BOX
        small = Image.fromarray(np.ascontiguousarray(image)).resize((inner, inner), how)
        start = place * side_px
        strip[gap_px // 2 : gap_px // 2 + inner, start : start + inner] = np.asarray(small)
    return strip
