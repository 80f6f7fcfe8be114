"""The measures that describe one drawn cell, and the bent string of discs that is its nucleus."""

from dataclasses import dataclass, field

import numpy as np

from nonet.synthetic.shapes import centreline, turned

NUM_BEADS = 36


@dataclass(frozen=True)
class Granules:
    """One kind of granule: how many, how large, which colour, and how much of them shows over the nucleus."""

    count: int
    radius_um: float
    colour: tuple[int, int, int]
    opacity: float
    over_nucleus: float = 0.0


@dataclass(frozen=True)
class Morphology:
    """One cell's measures. Colours are 8-bit RGB as seen under a white light.

    `beads` (num_beads, 3) is the nucleus: x, y and radius of a string of discs, in µm from the cell's centre.
    """

    diameter_um: float
    beads: np.ndarray
    nucleus_colour: tuple[float, ...]
    cytoplasm_colour: tuple[float, ...]
    num_lobes: int = 1
    elongation: float = 1.0
    angle_rad: float = 0.0
    outline_um: float = 0.25  # waviness of the cell's border
    nucleus_outline_um: float = 0.2
    chromatin_um: float = 0.8  # size of the clumps
    chromatin: float = 0.2  # contrast of the clumps
    clumping: float = 0.0  # 0: a fine haze; 1: clumps with clear borders
    clock_face: float = 0.0
    num_nucleoli: int = 0
    nucleolus_um: float = 1.0
    nucleolus: float = 0.5  # how pale
    hof: float = 0.0  # how pale the cytoplasm is beside the nucleus
    hof_xy_um: tuple[float, float] = (0.0, 0.0)
    dark_edge: float = 0.0
    texture: float = 0.06  # of the cytoplasm
    num_vacuoles: int = 0
    num_moulding: int = 0  # red cells that the border gives way to
    folds: float = 0.0
    granules: tuple[Granules, ...] = field(default_factory=tuple)


def draw_nucleus(
    rng: np.random.Generator,
    radius_um: float,
    *,
    length_um: float,
    bend_rad: float = 0.0,
    s_shape: float = 0.0,
    num_lobes: int = 1,
    pinch: float = 0.0,
    eccentric_um: float = 0.0,
    uneven: float = 0.05,
    wiggle_rad: float = 0.0,
) -> tuple[np.ndarray, tuple[float, float], float]:
    """Return the beads, the unit vector from the nucleus towards its hollow side, and the angle of its long axis."""
    line = centreline(length_um, bend_rad, s_shape, wiggle_rad * rng.standard_normal(4).clip(-1.5, 1.5), NUM_BEADS)
    along = np.linspace(0, 1, NUM_BEADS)
    lobe_radius = radius_um * (1 + uneven * rng.standard_normal(max(num_lobes, 2)).clip(-1.5, 1.5))
    radii = np.interp(along, np.linspace(0, 1, len(lobe_radius)), lobe_radius)
    if num_lobes > 1:
        swell = np.abs(np.cos(np.pi * (num_lobes - 1) * along)) ** 1.7
        radii = np.maximum(radii * (1 - pinch * (1 - swell)), 0.42)
    angle = rng.uniform(0, 2 * np.pi)
    hollow = (-np.sin(angle), np.cos(angle))
    line = turned(line, angle) - eccentric_um * np.array(hollow)
    return np.column_stack([line, radii]), hollow, angle
