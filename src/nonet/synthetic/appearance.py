"""How the smear of one patient looks: stain, light, focus and crowding."""

from dataclasses import dataclass

import numpy as np

from nonet.errors import DataError


@dataclass(frozen=True)
class PatientAppearance:
    """What the cells in one patient's smear have in common."""

    blueness: float = 0.0
    """Hue of the stain: positive is bluer, negative redder; -0.16 to 0.16."""
    stain: float = 1.0
    """Strength of the stain, about 0.75 to 1.3."""
    eosin: float = 1.0
    """Strength of the red cells' colour, about 0.6 to 1.4."""
    light: tuple[float, float, float] = (1.0, 0.92, 0.835)
    """Red, green and blue of the empty field, 0-1."""
    gradient: tuple[float, float] = (0.0, 0.0)
    """How much brighter the right border is than the left, and the lower border than the upper."""
    focus_um: float = 0.08
    """Standard deviation of the focus blur."""
    magnification: float = 1.0
    """Above 1, cells look larger."""
    crowding: float = 0.5
    """Density of red cells, 0-1."""
    pallor: float = 0.5
    """Paleness of the centre of red cells, 0-1."""


def patient_appearance(seed: int) -> PatientAppearance:
    """Draw the stain, light and focus of one patient's smear; the same seed gives the same appearance.

    Parameters
    ----------
    seed : int
        0 or more.

    Returns
    -------
    PatientAppearance

    Raises
    ------
    DataError
        When the seed is negative.
    """
    if seed < 0:
        raise DataError(f"seed is {seed}.", "Choose 0 or more.")
    rng = np.random.default_rng([seed, 0x1007])
    warm = rng.normal(0, 0.03)
    brightness = rng.uniform(0.93, 1.0)
    light = np.clip(np.array([1.0, 0.92 - warm / 3, 0.835 - warm]) * brightness, 0.6, 1)
    return PatientAppearance(
        blueness=float(np.clip(rng.normal(0, 0.08), -0.16, 0.16)),
        stain=float(np.clip(rng.normal(1, 0.12), 0.75, 1.3)),
        eosin=float(np.clip(rng.normal(1, 0.2), 0.6, 1.4)),
        light=(float(light[0]), float(light[1]), float(light[2])),
        gradient=(float(rng.normal(0, 0.03)), float(rng.normal(0, 0.03))),
        focus_um=float(rng.uniform(0.03, 0.2)),
        magnification=float(np.clip(rng.normal(1, 0.04), 0.9, 1.1)),
        crowding=float(rng.uniform(0.2, 0.9)),
        pallor=float(rng.uniform(0.25, 0.7)),
    )
