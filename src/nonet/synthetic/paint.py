"""Painting drawn cells: red cells and platelets, the white cell over them, the patient's stain and light.

Stain is absorbance (Beer and Lambert): what is on top covers what is below, a patient's stain scales the absorbance,
and at the end light shines through.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from nonet.synthetic.appearance import PatientAppearance
from nonet.synthetic.morphology import Granules, Morphology
from nonet.synthetic.shapes import FRAME_UM, Canvas, Window, bead_distance, ellipse_distance, soft_step, stamp_discs

#: Pixels of the canvas per pixel of the image, in each direction.
SUPERSAMPLING = 2


@dataclass(frozen=True)
class Painted:
    """A painted cell.

    Attributes
    ----------
    image : ndarray of uint8, shape (size_px, size_px, 3)
    cell, nucleus : ndarray of bool, shape (size_px, size_px)
        The masks it was painted from.
    """

    image: np.ndarray
    cell: np.ndarray
    nucleus: np.ndarray


def to_absorbance(colour: tuple[float, ...]) -> np.ndarray:
    """Return the absorbance that turns white light into a colour.

    Parameters
    ----------
    colour : tuple of float
        8-bit RGB.

    Returns
    -------
    ndarray of float32, shape (3,)
    """
    return -np.log(np.asarray(colour, np.float32) / np.float32(255))


def paint(cell: Morphology, appearance: PatientAppearance, size_px: int, rng: np.random.Generator) -> Painted:
    """Paint a white cell in its field.

    Parameters
    ----------
    cell : Morphology
    appearance : PatientAppearance
    size_px : int
    rng : numpy.random.Generator

    Returns
    -------
    Painted
    """
    canvas = Canvas(size_px * SUPERSAMPLING, appearance.magnification)
    x, y = rng.uniform(-1.3, 1.3, size=2)
    field_rng, rng = rng.spawn(2)  # so that the cell does not depend on the patient's field
    reach = cell.diameter_um / 2 * np.sqrt(cell.elongation) + 2.5 * cell.outline_um
    red_cells = _place_red_cells(appearance, field_rng, (x, y), cell.diameter_um, cell.num_moulding)
    for red_cell in red_cells:
        _paint_red_cell(canvas, appearance, field_rng, *red_cell)
    _paint_platelets(canvas, field_rng, (x, y), reach)
    window = canvas.window(x, y, reach)
    window.x, window.y = window.x - np.float32(x), window.y - np.float32(y)
    moulds = [(rx - x, ry - y, r) for rx, ry, r in red_cells[: cell.num_moulding]]
    painter = _CellPainter(canvas, window, cell, rng)
    distance = painter.cell_distance(moulds)
    nucleus = painter.nucleus_distance(distance)
    painter.paint_cytoplasm(distance)
    painter.paint_vacuoles(distance, nucleus)
    painter.paint_nucleus(nucleus)
    for granules in cell.granules:
        painter.paint_granules(granules, distance, nucleus)
    masks = np.zeros((2, canvas.side_px, canvas.side_px), np.float32)
    window.view(masks)[:] = distance < 0, nucleus < 0
    cell_mask, nucleus_mask = _shrink(masks) > 0.5
    return Painted(_expose(canvas, appearance, rng), cell_mask, nucleus_mask)


def _place_red_cells(
    appearance: PatientAppearance,
    rng: np.random.Generator,
    centre: tuple[float, float],
    diameter_um: float,
    num_moulding: int,
) -> list[tuple[float, float, float]]:
    """Return x, y and radius of red cells beside a white cell; those that indent it come first."""
    placed = []
    angle = rng.uniform(0, 2 * np.pi)
    for _ in range(num_moulding):
        radius = rng.normal(3.5, 0.2)
        away = diameter_um / 2 + radius - rng.uniform(1.3, 2.2)
        placed.append((centre[0] + away * np.cos(angle), centre[1] + away * np.sin(angle), radius))
        angle += rng.uniform(1.2, 2.2)
    half = FRAME_UM / 2 / appearance.magnification + 2.5
    for x, y in rng.uniform(-half, half, size=(int(14 + 50 * appearance.crowding), 2)):
        radius = rng.normal(3.5, 0.2)
        away = np.hypot(x - centre[0], y - centre[1]) - diameter_um / 2 - radius
        # Some are slightly under the white cell; red cells hardly overlap one another.
        near = min((np.hypot(x - a, y - b) - r - radius for a, b, r in placed), default=9.0)
        if away > -0.5 and near > (-0.7 if appearance.crowding > 0.6 else 0.1):
            placed.append((x, y, radius))
    return placed


def _paint_red_cell(
    canvas: Canvas, appearance: PatientAppearance, rng: np.random.Generator, x: float, y: float, r: float
) -> None:
    window = canvas.window(x, y, r * 1.2)
    stretch = rng.uniform(1, 1.12)
    distance = ellipse_distance(window, x, y, r * stretch, r / stretch, rng.uniform(0, np.pi))
    depth = -distance / np.float32(r)
    pale = appearance.pallor * rng.uniform(0.6, 1.2) * np.clip((depth - 0.3) / 0.4, 0, 1) ** 1.5
    rim = 1 + 0.12 * np.exp(-(((depth - 0.1) / 0.1) ** 2))
    amount = soft_step(distance, 0.35) * (1 - pale) * rim
    window.view(canvas.absorbance)[:] += (to_absorbance((208, 157, 160)) * appearance.eosin)[:, None, None] * amount


def _paint_platelets(canvas: Canvas, rng: np.random.Generator, centre: tuple[float, float], reach_um: float) -> None:
    """Place a few platelets (purple, granular, 2 to 3 µm) and specks of stain beside the cell."""
    for _ in range(rng.poisson(0.7)):
        x, y = rng.uniform(-11, 11, size=2)
        if np.hypot(x - centre[0], y - centre[1]) < reach_um + 1.5:
            continue
        window = canvas.window(x, y, 2.5)
        radius = rng.uniform(0.8, 1.4)
        distance = ellipse_distance(window, x, y, radius * 1.15, radius / 1.15, rng.uniform(0, np.pi))
        distance += 0.18 * window.view(canvas.noise(rng, 0.9))
        grain = 0.75 + 0.4 * np.clip(window.view(canvas.noise(rng, 0.45)), -1, 1.5)
        canvas.cover(window, 0.85 * soft_step(distance, 0.5), to_absorbance((168, 120, 178))[:, None, None] * grain)
    for _ in range(rng.poisson(0.8)):
        x, y = rng.uniform(-12, 12, size=2)
        window = canvas.window(x, y, 1.0)
        a, b = rng.uniform(0.12, 0.35, size=2)
        speck = soft_step(ellipse_distance(window, x, y, a, b, rng.uniform(0, 3)), 0.25)
        canvas.cover(window, 0.8 * speck, to_absorbance((96, 56, 130)))


class _CellPainter:
    """Paints one white cell within its window of the canvas."""

    def __init__(self, canvas: Canvas, window: Window, cell: Morphology, rng: np.random.Generator):
        self.canvas, self.window, self.cell, self.rng = canvas, window, cell, rng

    def _noise(self, scale_um: float) -> np.ndarray:
        return self.window.view(self.canvas.noise(self.rng, scale_um))

    def _away(self, x: float | np.float32, y: float | np.float32) -> np.ndarray:
        """Return the distance of each pixel from a point, in µm."""
        return np.sqrt((self.window.x - np.float32(x)) ** 2 + (self.window.y - np.float32(y)) ** 2)

    def cell_distance(self, moulds: list[tuple[float, float, float]]) -> np.ndarray:
        a = self.cell.diameter_um / 2 * np.sqrt(self.cell.elongation)
        distance = ellipse_distance(self.window, 0, 0, a, a / self.cell.elongation, self.cell.angle_rad)
        distance += np.float32(self.cell.outline_um) * self._noise(4.5)
        for x, y, radius in moulds:
            hole = self._away(x, y) - np.float32(radius)
            np.maximum(distance, np.float32(-0.1) - hole, out=distance)
        return distance

    def nucleus_distance(self, cell_distance: np.ndarray) -> np.ndarray:
        distance = bead_distance(self.window, self.cell.beads)
        distance += np.float32(self.cell.nucleus_outline_um) * self._noise(2.6)
        return np.maximum(distance, cell_distance + np.float32(0.35))

    def paint_cytoplasm(self, distance: np.ndarray) -> None:
        density = 1 + np.float32(self.cell.texture) * (self._noise(0.7) + np.float32(0.7) * self._noise(2.5))
        density += np.float32(self.cell.dark_edge) * np.exp(np.clip(distance, -9, 0) / np.float32(1.2))
        density += np.float32(0.18) * np.exp(-((distance + np.float32(0.25)) ** 2) / np.float32(0.06))  # the membrane
        if self.cell.hof:
            hx, hy = self.cell.hof_xy_um
            away = (self.window.x - np.float32(hx)) ** 2 + (self.window.y - np.float32(hy)) ** 2
            density *= 1 - np.float32(self.cell.hof) * np.exp(away / np.float32(-2 * 1.5**2))
        colour = to_absorbance(self.cell.cytoplasm_colour)[:, None, None] * np.clip(density, 0.1, None)
        self.canvas.cover(self.window, np.float32(0.96) * soft_step(distance, 0.3), colour)

    def paint_vacuoles(self, distance: np.ndarray, nucleus: np.ndarray) -> None:
        if not self.cell.num_vacuoles:
            return
        place = np.flatnonzero((distance < -0.6) & (nucleus > 0.2))
        cover = self._scatter_discs(place, self.cell.num_vacuoles, self.rng.uniform(0.25, 0.6, self.cell.num_vacuoles))
        self.canvas.cover(self.window, np.float32(0.75) * cover * (nucleus > 0), to_absorbance((242, 236, 246)))

    def paint_nucleus(self, distance: np.ndarray) -> None:
        cell, noise = self.cell, self._noise(self.cell.chromatin_um)
        clumps = np.tanh(np.float32(1.5) * noise) * np.float32(1.2)
        fine = self._noise(0.4) * np.float32(0.3)
        density = 1 + np.float32(cell.chromatin) * ((1 - cell.clumping) * noise + cell.clumping * clumps + fine)
        density += np.float32(0.16) * np.exp(-((distance + np.float32(0.2)) ** 2) / np.float32(0.08))  # the envelope
        if cell.folds:
            crease = np.abs(self._noise(4.0))
            density += np.float32(cell.folds) * np.exp(-((crease / np.float32(0.16)) ** 2))
        if cell.clock_face:
            density += np.float32(cell.clock_face) * self._clock_face(distance)
        tint = to_absorbance(cell.nucleus_colour)[:, None, None] * np.clip(density, 0.3, None)
        for x, y, radius in self._place_nucleoli(distance):
            hole = self._away(x, y) - np.float32(radius)
            rim = np.exp(-((hole - np.float32(0.25)) ** 2) / np.float32(0.06))
            pale = soft_step(hole, 0.5) * np.float32(cell.nucleolus)
            tint = tint * (1 + np.float32(0.22) * rim)
            tint += pale * (to_absorbance((162, 142, 214))[:, None, None] - tint)
        self.canvas.cover(self.window, np.float32(0.97) * soft_step(distance, 0.3), tint)

    def _clock_face(self, distance: np.ndarray) -> np.ndarray:
        """Return clumps like the numerals of a clock: blocks along the rim, one in the middle, pale spokes between."""
        x, y = (np.float32(v) for v in self.cell.beads[:, :2].mean(axis=0))
        dx, dy = self.window.x - x, self.window.y - y
        bent = np.float32(0.9) * self._noise(1.6)  # no two numerals are alike
        spokes = np.cos(int(self.rng.integers(6, 9)) * np.arctan2(dy, dx) + np.float32(self.rng.uniform(0, 6)) + bent)
        ring = np.exp(-((distance + np.float32(0.9)) ** 2) / np.float32(0.9))
        middle = np.exp((dx * dx + dy * dy) / np.float32(-0.8))
        return np.float32(1.5) * ring * np.tanh(2 * spokes) + middle - np.float32(0.25)

    def _place_nucleoli(self, distance: np.ndarray) -> list[tuple[np.float32, np.float32, float]]:
        cell = self.cell
        place = np.flatnonzero(distance < -0.55 * cell.beads[:, 2].max() if cell.num_nucleoli == 1 else distance < -1.5)
        nucleoli: list[tuple[np.float32, np.float32, float]] = []
        for _ in range(6 * cell.num_nucleoli if len(place) else 0):
            row, column = divmod(int(self.rng.choice(place)), distance.shape[1])
            x, y = self.window.x[0, column], self.window.y[row, 0]
            radius = cell.nucleolus_um * self.rng.uniform(0.75, 1.1) * (1 if cell.num_nucleoli == 1 else 0.85)
            if all(np.hypot(x - a, y - b) > r + radius + 0.3 for a, b, r in nucleoli):
                nucleoli.append((x, y, radius))
            if len(nucleoli) == cell.num_nucleoli:
                break
        return nucleoli

    def _scatter_discs(self, place: np.ndarray, count: int, radius_um: np.ndarray) -> np.ndarray:
        """Stamp discs at random pixels of `place` (flat indices)."""
        shape = len(self.window.y), self.window.x.shape[1]
        if len(place) == 0 or count == 0:
            return np.zeros(shape, np.float32)
        rows, columns = np.divmod(self.rng.choice(place, size=count), shape[1])
        return stamp_discs(
            shape, columns + self.rng.random(count), rows + self.rng.random(count), radius_um * self.canvas.px_per_um
        )

    def paint_granules(self, granules: Granules, distance: np.ndarray, nucleus: np.ndarray) -> None:
        inside = distance < -granules.radius_um - 0.1
        if not granules.over_nucleus:
            inside &= nucleus > granules.radius_um * 0.5
        radius = granules.radius_um * self.rng.uniform(0.7, 1.2, granules.count)
        cover = self._scatter_discs(np.flatnonzero(inside), granules.count, radius)
        cover *= np.where(nucleus < 0, np.float32(granules.over_nucleus), np.float32(1)) * np.float32(granules.opacity)
        self.canvas.cover(self.window, cover, to_absorbance(granules.colour))


def _shrink(planes: np.ndarray) -> np.ndarray:
    """Average each SUPERSAMPLING × SUPERSAMPLING block of the last two axes."""
    parts = [
        planes[..., i::SUPERSAMPLING, j::SUPERSAMPLING] for i in range(SUPERSAMPLING) for j in range(SUPERSAMPLING)
    ]
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total / np.float32(len(parts))


def _expose(canvas: Canvas, appearance: PatientAppearance, rng: np.random.Generator) -> np.ndarray:
    """Return what a sensor records of the light through the stain: uint8 (size_px, size_px, 3)."""
    gains = appearance.stain * np.array(
        [1 + appearance.blueness, 1 + abs(appearance.blueness) / 3, 1 - appearance.blueness / 2]
    )
    light = _shrink(np.exp(-canvas.absorbance * gains[:, None, None].astype(np.float32)))
    size_px = light.shape[-1]
    sigma_px = appearance.focus_um * size_px / canvas.width_um
    light = gaussian_filter(light, (0, sigma_px, sigma_px), truncate=3)
    ramp = np.linspace(-0.5, 0.5, size_px, dtype=np.float32)
    shade = 1 + np.float32(appearance.gradient[0]) * ramp[None, :] + np.float32(appearance.gradient[1]) * ramp[:, None]
    light *= 255 * np.array(appearance.light, np.float32)[:, None, None] * shade
    light += rng.normal(0, 0.6, size=light.shape).astype(np.float32)  # sensor noise, as in clean photographs
    return np.ascontiguousarray(np.clip(np.rint(light), 0, 255).astype(np.uint8).transpose(1, 2, 0))
