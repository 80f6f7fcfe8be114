"""The parts of drawn cells, and fields without a white cell."""

from dataclasses import dataclass

import numpy as np

from nonet.synthetic import dataset, paint
from nonet.synthetic.appearance import PatientAppearance


@dataclass(frozen=True)
class CellMasks:
    """The parts of a drawn cell: masks of shape (size_px, size_px), lobes of the nucleus, maturity from 0 to 1."""

    cell: np.ndarray
    nucleus: np.ndarray
    num_lobes: int
    maturity: float | None


def cell_masks(label, *, seed, size_px=128, maturity=None):
    """Return the parts of the image that `draw_cell` draws for the same arguments."""
    painted, num_lobes, maturity = dataset._draw(label, seed, size_px, None, maturity)
    return CellMasks(painted.cell, painted.nucleus, num_lobes, maturity)


def draw_red_cells(*, seed, size_px=128, patient=None):
    """Draw a field of red cells without a white cell, uint8 (size_px, size_px, 3)."""
    appearance, rng = patient or PatientAppearance(), np.random.default_rng([seed, 0xBED])
    canvas = paint.Canvas(size_px * paint.SUPERSAMPLING, appearance.magnification)
    for red_cell in paint._place_red_cells(appearance, rng, (0.0, 0.0), -np.inf, 0):
        paint._paint_red_cell(canvas, appearance, rng, *red_cell)
    return paint._expose(canvas, appearance, rng)
