"""The morphology of each class in haematological terms, in micrometres and colours.

`morphology` makes the random choices of one cell: how large it is, how its nucleus is bent, how coarse its chromatin
is. The stages of granulopoiesis share one function of a continuous maturity, so that a late myelocyte is an early
metamyelocyte. Painting is done by `nonet.synthetic.paint`.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from nonet.cells import GRANULOCYTE_STAGES
from nonet.synthetic.morphology import Granules, Morphology, draw_nucleus


def _mix(t: float, knots: tuple[float, ...], colours: tuple[tuple[int, ...], ...]) -> tuple[float, ...]:
    return tuple(float(np.interp(t, knots, channel)) for channel in zip(*colours))


def _granulocyte(rng: np.random.Generator, maturity: float) -> Morphology:
    """Draw a granulocyte of a maturity from 0 (youngest promyelocyte) to 1 (most mature segmented neutrophil)."""
    stage = 5 * maturity
    centres = (0.5, 1.5, 2.5, 3.5, 4.5)

    def at(*values: float) -> float:
        """Interpolate between values at the middle of each stage."""
        return float(np.interp(stage, centres, values))

    mean_diameter = at(17.2, 15.2, 14.3, 13.4, 13.0)
    diameter = mean_diameter * rng.normal(1, 0.04)
    num_lobes = int(rng.choice([2, 3, 4, 5], p=[0.2, 0.42, 0.28, 0.1]))
    lobed = float(np.clip((stage - 3.45) / 0.85, 0, 1))
    lobe_radius, spacing = {2: (2.85, 6.7), 3: (2.35, 5.6), 4: (2.05, 4.9), 5: (1.8, 4.4)}[num_lobes]
    lobe_bend = {2: 0.8, 3: 2.4, 4: 3.9, 5: 4.7}[num_lobes] * rng.uniform(0.85, 1.1)
    radius = np.interp(stage, (0.5, 1.5, 2.5, 3.3, 4), (6.3, 4.7, 3.35, 2.05, 1.85))
    length = np.interp(stage, (0.5, 1.5, 2.5, 3.3, 4), (1.0, 2.0, 5.2, 11.0, 12.0))
    bend = np.interp(stage, (0.5, 1.5, 2.2, 2.8, 3.5), (0.0, 0.3, 1.9, 2.6, 3.2)) * rng.uniform(0.8, 1.2)
    s_shape = float(rng.random() < 0.25) * np.clip(stage - 2.9, 0, 1) * (1 - lobed) * rng.uniform(0.6, 1)
    beads, hollow, angle = draw_nucleus(
        rng,
        ((1 - lobed) * radius + lobed * lobe_radius) * diameter / mean_diameter,
        length_um=(1 - lobed) * length + lobed * spacing * (num_lobes - 1),
        bend_rad=(1 - lobed) * bend + lobed * lobe_bend,
        s_shape=s_shape,
        num_lobes=num_lobes if lobed > 0 else 1,
        pinch=lobed,
        eccentric_um=at(1.3, 1.7, 1.3, 0.5, 0.3) * rng.uniform(0.5, 1.3),
        uneven=0.05 + 0.07 * lobed,
        wiggle_rad=0.15 + 0.35 * lobed,
    )
    # A long lobed nucleus that would extend beyond the cell's border is scaled down as a whole.
    beads *= min(1.0, (diameter / 2 - 0.5) / np.max(np.hypot(beads[:, 0], beads[:, 1]) + beads[:, 2]))
    hof_um = at(4.2, 3.6, 2.6, 0.5, 0)
    return Morphology(
        diameter_um=diameter,
        beads=beads,
        num_lobes=num_lobes if lobed > 0.5 else 1,
        nucleus_colour=_mix(
            stage, centres, ((134, 76, 168), (112, 62, 152), (96, 54, 140), (84, 48, 130), (76, 44, 124))
        ),
        cytoplasm_colour=_mix(
            stage, centres, ((134, 140, 206), (184, 168, 210), (216, 188, 208), (236, 204, 212), (240, 208, 212))
        ),
        elongation=rng.uniform(1, 1.15),
        angle_rad=angle,
        outline_um=0.25,
        nucleus_outline_um=float(np.interp(stage, (0.5, 2, 4), (0.25, 0.25, 0.22))),
        chromatin_um=at(0.6, 0.8, 0.95, 1.0, 1.05),
        chromatin=at(0.15, 0.22, 0.27, 0.31, 0.34),
        clumping=at(0.0, 0.35, 0.6, 0.8, 1.0),
        num_nucleoli=int(rng.integers(1, 4)) if stage < rng.uniform(0.8, 1.2) else 0,
        nucleolus_um=1.15,
        nucleolus=0.42,
        hof=at(0.6, 0.35, 0.15, 0, 0),
        hof_xy_um=(float(hollow[0] * hof_um), float(hollow[1] * hof_um)),
        dark_edge=at(0.3, 0.15, 0.05, 0, 0),
        granules=_neutrophil_granules(rng, stage),
    )


def _neutrophil_granules(rng: np.random.Generator, stage: float) -> tuple[Granules, ...]:
    """Azurophilic granules disappear after the promyelocyte; fine lilac specific ones appear in the myelocyte."""
    azurophilic = int(np.interp(stage, (0, 0.7, 1.5, 2.5), (120, 130, 36, 0)) * rng.uniform(0.7, 1.3))
    specific = int(np.interp(stage, (0.8, 1.7, 3, 5), (0, 90, 130, 130)) * rng.uniform(0.7, 1.3))
    return (
        Granules(specific, 0.17, (196, 132, 178), 0.55),
        Granules(azurophilic, 0.3, (128, 20, 104), 0.8, over_nucleus=0.45),
    )


def _eosinophil(rng: np.random.Generator) -> Morphology:
    num_lobes = int(rng.choice([2, 3], p=[0.85, 0.15]))
    radius, spacing = {2: (2.75, 6.0), 3: (2.15, 5.0)}[num_lobes]
    beads, _, angle = draw_nucleus(
        rng,
        radius,
        length_um=spacing * (num_lobes - 1),
        bend_rad={2: 0.7, 3: 2.2}[num_lobes] * rng.uniform(0.8, 1.3),
        num_lobes=num_lobes,
        pinch=rng.uniform(0.85, 1),
        eccentric_um=rng.uniform(0.6, 2.0),
        uneven=0.08,
    )
    return Morphology(
        diameter_um=rng.normal(13.8, 0.6),
        beads=beads,
        num_lobes=num_lobes,
        nucleus_colour=(84, 50, 132),
        cytoplasm_colour=(238, 190, 186),
        elongation=rng.uniform(1, 1.12),
        angle_rad=angle,
        chromatin_um=1.1,
        chromatin=0.26,
        clumping=0.9,
        nucleus_outline_um=0.2,
        granules=(
            Granules(int(rng.uniform(110, 170)), 0.46, (206, 88, 92), 0.75),
            Granules(int(rng.uniform(60, 110)), 0.4, (232, 138, 128), 0.8, over_nucleus=0.06),
        ),
    )


def _basophil(rng: np.random.Generator) -> Morphology:
    beads, _, angle = draw_nucleus(
        rng,
        rng.uniform(2.6, 3.1),
        length_um=rng.uniform(4.8, 6.0),
        bend_rad=rng.uniform(0.4, 1.6),
        num_lobes=2,
        pinch=rng.uniform(0.35, 0.75),
        eccentric_um=rng.uniform(0, 1.0),
        uneven=0.1,
    )
    return Morphology(
        diameter_um=rng.normal(12.2, 0.6),
        beads=beads,
        num_lobes=2,
        nucleus_colour=(100, 56, 144),
        cytoplasm_colour=(206, 176, 208),
        elongation=rng.uniform(1, 1.15),
        angle_rad=angle,
        outline_um=0.3,
        chromatin=0.14,
        granules=(
            Granules(int(rng.uniform(45, 85)), 0.58, (58, 20, 96), 0.85, over_nucleus=0.7),
            Granules(int(rng.uniform(40, 80)), 0.36, (84, 26, 112), 0.8, over_nucleus=0.6),
        ),
    )


def _monocyte(rng: np.random.Generator) -> Morphology:
    beads, hollow, angle = draw_nucleus(
        rng,
        rng.uniform(3.3, 4.1),
        length_um=rng.uniform(6.0, 9.0),
        bend_rad=rng.uniform(1.3, 2.9),
        s_shape=rng.choice([0, 0.5], p=[0.8, 0.2]),
        num_lobes=3,
        pinch=rng.uniform(0.05, 0.3),
        eccentric_um=rng.uniform(0.4, 1.6),
        uneven=0.12,
    )
    return Morphology(
        diameter_um=rng.normal(16.4, 0.8),
        beads=beads,
        nucleus_colour=(124, 88, 166),
        cytoplasm_colour=(172, 164, 206),
        elongation=rng.uniform(1.02, 1.3),
        angle_rad=angle + rng.uniform(-0.5, 0.5),
        outline_um=0.6,
        nucleus_outline_um=0.35,
        chromatin_um=0.65,
        chromatin=0.26,
        clumping=0.2,
        hof=0.15,
        hof_xy_um=(hollow[0] * 3, hollow[1] * 3),
        texture=0.11,
        num_vacuoles=int(rng.integers(2, 13)),
        folds=rng.uniform(0.35, 0.6),
        granules=(Granules(int(rng.uniform(20, 70)), 0.15, (140, 90, 160), 0.5),),
    )


def _blast(rng: np.random.Generator) -> Morphology:
    diameter = rng.normal(14.8, 1.1)
    length = rng.uniform(0.4, 1.6)
    radius = diameter / 2 * rng.uniform(0.82, 0.88) - length / 4
    beads, hollow, angle = draw_nucleus(
        rng, radius, length_um=length, eccentric_um=rng.uniform(0.2, 0.9), bend_rad=rng.uniform(0, 0.6)
    )
    return Morphology(
        diameter_um=diameter,
        beads=beads,
        nucleus_colour=(138, 84, 172),
        cytoplasm_colour=(126, 124, 206),
        elongation=rng.uniform(1, 1.14),
        angle_rad=angle,
        outline_um=0.4,
        nucleus_outline_um=0.35,
        chromatin_um=0.5,
        chromatin=0.12,
        num_nucleoli=int(rng.integers(1, 5)),
        nucleolus_um=1.25,
        nucleolus=0.7,
        hof=0.2,
        hof_xy_um=(hollow[0] * radius, hollow[1] * radius),
        dark_edge=0.25,
    )


def _lymphocyte(rng: np.random.Generator) -> Morphology:
    diameter = rng.normal(9.8, 0.7)
    beads, _, angle = draw_nucleus(
        rng,
        diameter / 2 * rng.uniform(0.78, 0.88),
        length_um=rng.uniform(0.2, 1.0),
        eccentric_um=rng.uniform(0.1, 0.7),
        bend_rad=rng.uniform(0, 1.0),
    )
    return Morphology(
        diameter_um=diameter,
        beads=beads,
        nucleus_colour=(78, 42, 126),
        cytoplasm_colour=(170, 178, 226),
        elongation=rng.uniform(1, 1.12),
        angle_rad=angle,
        outline_um=0.2,
        chromatin_um=1.1,
        chromatin=0.25,
        clumping=0.8,
        granules=(Granules(int(rng.integers(0, 5)), 0.22, (140, 40, 120), 0.6),),
    )


def _variant_lymphocyte(rng: np.random.Generator) -> Morphology:
    diameter = rng.normal(16.2, 1.2)
    beads, hollow, _ = draw_nucleus(
        rng,
        rng.uniform(3.7, 4.5),
        length_um=rng.uniform(0.8, 3.0),
        eccentric_um=rng.uniform(0.5, 2.2),
        bend_rad=rng.uniform(0, 1.2),
    )
    return Morphology(
        diameter_um=diameter,
        beads=beads,
        nucleus_colour=(98, 58, 148),
        cytoplasm_colour=(174, 182, 230),
        elongation=rng.uniform(1.05, 1.35),
        angle_rad=rng.uniform(0, np.pi),
        outline_um=0.75,
        nucleus_outline_um=0.3,
        chromatin_um=0.95,
        chromatin=0.2,
        clumping=0.5,
        num_nucleoli=int(rng.random() < 0.25),
        nucleolus_um=0.9,
        nucleolus=0.3,
        hof=0.2,
        hof_xy_um=(hollow[0] * 3.5, hollow[1] * 3.5),
        dark_edge=rng.uniform(0.6, 1.1),
        num_moulding=int(rng.integers(2, 5)),
    )


def _prolymphocyte(rng: np.random.Generator) -> Morphology:
    diameter = rng.normal(12.9, 0.6)
    beads, _, angle = draw_nucleus(
        rng,
        diameter / 2 * rng.uniform(0.68, 0.76),
        length_um=rng.uniform(0.2, 1.0),
        eccentric_um=rng.uniform(0.3, 1.0),
    )
    return Morphology(
        diameter_um=diameter,
        beads=beads,
        nucleus_colour=(96, 54, 146),
        cytoplasm_colour=(166, 172, 224),
        elongation=rng.uniform(1, 1.12),
        angle_rad=angle,
        chromatin_um=0.95,
        chromatin=0.22,
        clumping=0.7,
        num_nucleoli=1,
        nucleolus_um=1.6,
        nucleolus=0.75,
    )


def _plasma_cell(rng: np.random.Generator) -> Morphology:
    radius, eccentric = rng.uniform(3.4, 3.9), rng.uniform(2.4, 3.2)
    beads, hollow, angle = draw_nucleus(rng, radius, length_um=rng.uniform(0.1, 0.7), eccentric_um=eccentric)
    return Morphology(
        diameter_um=rng.normal(13.8, 0.8),
        beads=beads,
        nucleus_colour=(94, 54, 142),
        cytoplasm_colour=(104, 100, 188),
        elongation=rng.uniform(1.15, 1.4),
        angle_rad=angle + np.pi / 2,
        outline_um=0.35,
        chromatin_um=1.2,
        chromatin=0.16,
        clumping=0.5,
        clock_face=rng.uniform(0.24, 0.36),
        hof=rng.uniform(0.6, 0.8),
        hof_xy_um=(hollow[0] * (radius + 0.9 - eccentric), hollow[1] * (radius + 0.9 - eccentric)),
        texture=0.1,
        num_vacuoles=int(rng.integers(0, 3)),
    )


_OTHERS: dict[str, Callable[[np.random.Generator], Morphology]] = {
    "EO": _eosinophil,
    "BA": _basophil,
    "MO": _monocyte,
    "BL": _blast,
    "LY": _lymphocyte,
    "VLY": _variant_lymphocyte,
    "PLY": _prolymphocyte,
    "PC": _plasma_cell,
}


def draw_maturity(label: str, rng: np.random.Generator) -> float | None:
    """Draw the maturity of a cell of a class.

    A stage is a fifth of the range. The distribution is normal around its middle and extends by 0.05 into both
    neighbours, so about one cell in ten is beyond a border, as stages are in a real smear.

    Parameters
    ----------
    label : str
        Class code.
    rng : numpy.random.Generator

    Returns
    -------
    float in [0, 1], or None
        None where the class is not a stage of granulopoiesis.
    """
    if label not in GRANULOCYTE_STAGES:
        return None
    middle = 0.2 * GRANULOCYTE_STAGES.index(label) + 0.1
    return float(np.clip(middle + np.clip(rng.normal(0, 0.062), -0.15, 0.15), 0, 1))


def morphology(label: str, rng: np.random.Generator, maturity: float | None) -> Morphology:
    """Draw the measures of one cell.

    Parameters
    ----------
    label : str
        Class code.
    rng : numpy.random.Generator
    maturity : float or None
        Of the stages of granulopoiesis; None for other classes.

    Returns
    -------
    Morphology
    """
    cell = _granulocyte(rng, maturity) if maturity is not None else _OTHERS[label](rng)
    return replace(
        cell,
        nucleus_colour=_tinted(cell.nucleus_colour, rng),
        cytoplasm_colour=_tinted(cell.cytoplasm_colour, rng),
    )


def _tinted(colour: tuple[float, ...], rng: np.random.Generator) -> tuple[float, ...]:
    """Vary a colour like a stain: its amount by 8 %, its hue by 4 %."""
    absorbance = -np.log(np.array(colour) / 255) * rng.normal(1, 0.08) * rng.normal(1, 0.04, size=3)
    return tuple(255 * np.exp(-absorbance))
