"""Figures that pages share: what a reader sees of them, from the drawing itself."""

import numpy as np
import pandas as pd
import pytest

from nonet.cells import CELLS, GRANULOPOIESIS, LINEAGE_COLOURS, LYMPHOPOIESIS
from nonet.page.figures import class_counts_figure, sample_figure
from nonet.page.html import inline
from nonet.report.figures import confusion_figure


def boxes(codes):
    """Return the colours of the solid boxes around the lineages of these classes."""
    counts = pd.DataFrame(np.eye(len(codes), dtype=int), index=codes, columns=codes)
    axes = confusion_figure(counts, by_row=False).axes[0]
    return [patch.get_edgecolor() for patch in axes.patches if patch.get_linestyle() in ("-", "solid")]


@pytest.mark.parametrize("codes", [["PMY", "MY", "SNE"], ["EO", "BA"], ["BNE", "SNE", "EO"], ["MMY", "BNE"]])
def test_a_lineage_has_one_colour_whichever_of_its_classes_there_are(codes):
    whole = [code for code, cell in CELLS.items() if cell.lineage == GRANULOPOIESIS]
    assert boxes(codes) == boxes(whole)
    assert boxes(codes) != boxes([code for code, cell in CELLS.items() if cell.lineage == LYMPHOPOIESIS])
    assert {cell.lineage for cell in CELLS.values()} == set(LINEAGE_COLOURS)


def manifest(**counts):
    rows = [(code, "here", code != "EO") for code, number in counts.items() for _ in range(number)]
    return pd.DataFrame(rows, columns=["label", "source", "evaluate"])


def test_counts_are_dots_at_their_place_and_no_length_is_read_off_a_logarithmic_scale():
    axes = class_counts_figure(manifest(PLY=13, SNE=346, EO=40)).axes[0]
    assert not axes.patches  # no bars
    assert axes.get_xscale() == "log"
    drawn = sorted(float(x) for dots in axes.collections for x, _ in dots.get_offsets())
    assert drawn == [13, 40, 346]
    assert sorted(text.get_text() for text in axes.texts) == ["13", "346", "40"]
    low, high = axes.get_xlim()
    assert 0.5 * 13 < low < 13 and high > 346


def test_what_counts_in_the_score_is_filled_and_what_does_not_is_hollow():
    axes = class_counts_figure(manifest(SNE=9, EO=7)).axes[0]
    filled, hollow = axes.collections
    assert (filled.get_facecolor()[0, :3] < 1).any() and (hollow.get_facecolor()[0, :3] == 1).all()


def test_a_row_of_samples_has_a_head_over_each_place():
    images = [np.full((size, size, 3), 90, np.uint8) for size in (224, 96, 64)] * 2
    figure = sample_figure(images, ["LY"] * 3 + ["SNE"] * 3, num_per_class=3, heads=["a", "b\nc", "d"])
    heads = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert heads == ["a", "b\nc", "d"]


def test_a_figure_says_how_wide_it_is_for_narrow_screens_to_scroll_it():
    svg = inline('<svg width="200pt" height="50pt"></svg>', "words")
    assert "--own-width: 200pt" in svg and "max-width: 260pt" in svg
