"""The measures that describe one drawn cell, and the bent string of discs that is its nucleus."""

from dataclasses import dataclass, field

import numpy as np

from nonet.synthetic.shapes import centreline, rotate

NUM_BEADS = 36


@dataclass(frozen=True)
class Granules:
    """One kind of granule.

    Attributes
    ----------
    count : int
    radius_um : float
    colour : tuple of int
        8-bit RGB.
    opacity : float in [0, 1]
    over_nucleus : float in [0, 1]
        Opacity over the nucleus, as a share.
    """

    count: int
    radius_um: float
    colour: tuple[int, int, int]
    opacity: float
    over_nucleus: float = 0.0


@dataclass(frozen=True)
class Morphology:
    """The measures of one cell. Colours are 8-bit RGB as seen in white light; strengths are 0 (none) to 1."""

    diameter_um: float
    beads: np.ndarray
    """The nucleus, shape (num_beads, 3): x, y and radius of a string of discs, in µm from the cell's centre."""
    nucleus_colour: tuple[float, ...]
    cytoplasm_colour: tuple[float, ...]
    num_lobes: int = 1
    elongation: float = 1.0
    angle_rad: float = 0.0
    outline_um: float = 0.25
    """Waviness of the cell's border."""
    nucleus_outline_um: float = 0.2
    """Waviness of the nucleus's border."""
    chromatin_um: float = 0.8
    """Size of chromatin clumps."""
    chromatin: float = 0.2
    """Contrast of chromatin clumps."""
    clumping: float = 0.0
    """0 is a fine haze, 1 clumps with clear borders."""
    clock_face: float = 0.0
    """Strength of the clock-face pattern of plasma cells."""
    num_nucleoli: int = 0
    nucleolus_um: float = 1.0
    """Radius of a nucleolus."""
    nucleolus: float = 0.5
    """Paleness of nucleoli."""
    hof: float = 0.0
    """Paleness of the cytoplasm beside the nucleus."""
    hof_xy_um: tuple[float, float] = (0.0, 0.0)
    dark_edge: float = 0.0
    """How much darker the border of the cytoplasm is."""
    texture: float = 0.06
    """Contrast of the cytoplasm."""
    num_vacuoles: int = 0
    num_moulding: int = 0
    """Red cells that indent the cell's border."""
    folds: float = 0.0
    """Strength of folds in the nucleus."""
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
    """Draw a nucleus as a string of discs.

    Parameters
    ----------
    rng : numpy.random.Generator
    radius_um : float
        Of the discs.
    length_um : float
        From the centre of the first disc to that of the last.
    bend_rad : float
        How far the string turns from end to end; π is a U.
    s_shape : float
        0 is a C, 1 is an S.
    num_lobes : int
    pinch : float
        How narrow the string is between lobes; 1 is a thread.
    eccentric_um : float
        Distance from the cell's centre, away from the hollow side.
    uneven : float
        Relative standard deviation of the lobes' radii.
    wiggle_rad : float
        Standard deviation of random turns.

    Returns
    -------
    beads : ndarray of float64, shape (num_beads, 3)
        x, y and radius of each disc, in µm.
    hollow : tuple of float
        Unit vector from the nucleus towards its hollow side.
    angle : float
        Of the long axis, in radians.
    """
    line = centreline(length_um, bend_rad, s_shape, wiggle_rad * rng.standard_normal(4).clip(-1.5, 1.5), NUM_BEADS)
    along = np.linspace(0, 1, NUM_BEADS)
    lobe_radius = radius_um * (1 + uneven * rng.standard_normal(max(num_lobes, 2)).clip(-1.5, 1.5))
    radii = np.interp(along, np.linspace(0, 1, len(lobe_radius)), lobe_radius)
    if num_lobes > 1:
        swell = np.abs(np.cos(np.pi * (num_lobes - 1) * along)) ** 1.7
        radii = np.maximum(radii * (1 - pinch * (1 - swell)), 0.42)
    angle = rng.uniform(0, 2 * np.pi)
    hollow = (-np.sin(angle), np.cos(angle))
    line = rotate(line, angle) - eccentric_um * np.array(hollow)
    return np.column_stack([line, radii]), hollow, angle
