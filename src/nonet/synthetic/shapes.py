"""Geometry of drawn cells: a canvas in micrometres, smooth noise, distance fields and stamps.

Everything is a NumPy expression over a window of the canvas, and none uses BLAS, so that the same seed gives the same
bytes whatever the number of threads or processes.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

#: The width of the frame at magnification 1. A red cell is 7 µm wide, a promyelocyte 17.
FRAME_UM = 24.0


@dataclass
class Window:
    """A rectangle of a canvas.

    Attributes
    ----------
    rows, columns : slice
        Of the canvas.
    x : ndarray of float32, shape (1, width)
    y : ndarray of float32, shape (height, 1)
        Positions of the pixels in µm from the centre of the frame, y pointing down.
    """

    rows: slice
    columns: slice
    x: np.ndarray
    y: np.ndarray

    def view(self, plane: np.ndarray) -> np.ndarray:
        """Return the part of an array that lies in the window.

        Parameters
        ----------
        plane : ndarray, shape (..., side_px, side_px)

        Returns
        -------
        ndarray, shape (..., height, width)
            A view.
        """
        return plane[..., self.rows, self.columns]


class Canvas:
    """The absorbance of what lies under the microscope.

    Parameters
    ----------
    side_px : int
    magnification : float

    Attributes
    ----------
    absorbance : ndarray of float32, shape (3, side_px, side_px)
        In natural logarithms; 0 is clear.
    """

    def __init__(self, side_px: int, magnification: float = 1.0):
        self.side_px = side_px
        self.width_um = FRAME_UM / magnification
        self.px_per_um = side_px / self.width_um
        self.absorbance = np.zeros((3, side_px, side_px), np.float32)
        self._axis_um = ((np.arange(side_px, dtype=np.float32) + 0.5) / side_px - 0.5) * np.float32(self.width_um)

    def window(self, x_um: float, y_um: float, radius_um: float) -> Window:
        """Return the window that contains a disc, empty where the disc is outside the frame.

        Parameters
        ----------
        x_um, y_um, radius_um : float

        Returns
        -------
        Window
        """
        columns, rows = (self._span(centre, radius_um) for centre in (x_um, y_um))
        return Window(rows, columns, self._axis_um[None, columns], self._axis_um[rows, None])

    def _span(self, centre_um: float, radius_um: float) -> slice:
        centre = (centre_um / self.width_um + 0.5) * self.side_px
        radius = radius_um * self.px_per_um + 1
        return slice(int(np.clip(centre - radius, 0, self.side_px)), int(np.clip(centre + radius + 1, 0, self.side_px)))

    def cover(self, window: Window, alpha: np.ndarray, absorbance: np.ndarray) -> None:
        """Cover what is there with something else.

        Parameters
        ----------
        window : Window
        alpha : ndarray of float, shape (h, w)
            Opacity in 0–1.
        absorbance : ndarray of float, shape (3,) or (3, h, w)
        """
        under = window.view(self.absorbance)
        if absorbance.ndim == 1:
            absorbance = absorbance[:, None, None]
        under += alpha * (absorbance - under)

    def noise(self, rng: np.random.Generator, scale_um: float) -> np.ndarray:
        """Return smooth noise over the whole canvas.

        Parameters
        ----------
        rng : numpy.random.Generator
        scale_um : float

        Returns
        -------
        ndarray of float32, shape (side_px, side_px)
            Mean 0, standard deviation about 1.
        """
        return smooth_noise(rng, self.side_px, max(2, round(self.width_um / scale_um)))


@lru_cache(maxsize=128)
def _spline_weights(side_px: int, num_knots: int) -> tuple[np.ndarray, np.ndarray]:
    position = (np.arange(side_px) + 0.5) / side_px * num_knots
    first = np.floor(position).astype(int)
    t = position - first
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / 6
    return first, weights.astype(np.float32)


def smooth_noise(rng: np.random.Generator, side_px: int, num_knots: int) -> np.ndarray:
    """Return noise that varies over side_px / num_knots pixels: random knots under a cubic B-spline.

    Parameters
    ----------
    rng : numpy.random.Generator
    side_px, num_knots : int

    Returns
    -------
    ndarray of float32, shape (side_px, side_px)
        Mean 0, standard deviation about 1.
    """
    first, weights = _spline_weights(side_px, num_knots)
    knots = rng.standard_normal((num_knots + 3, num_knots + 3), dtype=np.float32)
    tall = sum(weights[k][:, None] * knots[first + k] for k in range(4))
    tall = np.ascontiguousarray(tall.T)
    wide = sum(weights[k][:, None] * tall[first + k] for k in range(4))
    return wide.T * np.float32(1 / 0.48)  # the spline averages neighbours, which reduces the deviation to 0.48


def soft_step(distance_um: np.ndarray, width_um: float) -> np.ndarray:
    """Return a step with a slope across the border.

    Parameters
    ----------
    distance_um : ndarray of float
        Negative inside.
    width_um : float
        Of the slope.

    Returns
    -------
    ndarray of float
        1 inside, 0 outside.
    """
    return np.clip(0.5 - distance_um / np.float32(width_um), 0, 1)


def ellipse_distance(
    window: Window, x_um: float, y_um: float, a_um: float, b_um: float, angle_rad: float
) -> np.ndarray:
    """Return the distance from an ellipse's border to first order.

    Parameters
    ----------
    window : Window
    x_um, y_um : float
        Centre.
    a_um, b_um : float
        Semi-axes.
    angle_rad : float

    Returns
    -------
    ndarray of float32, shape (h, w)
        In µm, negative inside.
    """
    cos, sin = np.float32(np.cos(angle_rad)), np.float32(np.sin(angle_rad))
    dx, dy = window.x - np.float32(x_um), window.y - np.float32(y_um)
    u, v = (cos * dx + sin * dy) / np.float32(a_um), (cos * dy - sin * dx) / np.float32(b_um)
    return (np.sqrt(u * u + v * v) - 1) * np.float32(np.sqrt(a_um * b_um))


def bead_distance(window: Window, beads: np.ndarray) -> np.ndarray:
    """Return the distance from a string of discs.

    Parameters
    ----------
    window : Window
    beads : ndarray of float, shape (num_beads, 3)
        x, y and radius of each disc in µm.

    Returns
    -------
    ndarray of float32, shape (h, w)
        In µm, negative inside.
    """
    distance = np.full((window.y.shape[0], window.x.shape[1]), np.inf, np.float32)
    for x, y, radius in beads.astype(np.float32):
        disc = np.sqrt((window.x - x) ** 2 + (window.y - y) ** 2)
        disc -= radius
        np.minimum(distance, disc, out=distance)
    return distance


def centreline(
    length_um: float, bend_rad: float, s_shape: float, wiggles_rad: np.ndarray, num_points: int
) -> np.ndarray:
    """Return the centreline of a bent nucleus, centred on its mean, with the hollow side towards +y.

    Parameters
    ----------
    length_um : float
        From the first to the last point.
    bend_rad : float
        How far it turns from end to end; π is a U.
    s_shape : float
        0 is a C, 1 is an S.
    wiggles_rad : ndarray of float, shape (num_wiggles,)
        Turns added at equal distances along it.
    num_points : int
        At least 2.

    Returns
    -------
    ndarray of float64, shape (num_points, 2)
        x and y in µm.
    """
    s = np.linspace(-0.5, 0.5, num_points)
    heading = (1 - s_shape) * bend_rad * s + s_shape * 0.5 * bend_rad * np.cos(2 * np.pi * s)
    heading += np.interp(s, np.linspace(-0.5, 0.5, len(wiggles_rad)), wiggles_rad)
    step = length_um / (num_points - 1)
    steps = np.stack([np.cos(heading), np.sin(heading)], axis=1)[:-1] * step
    line = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
    return line - line.mean(axis=0)


def rotate(points: np.ndarray, angle_rad: float) -> np.ndarray:
    """Rotate points about the origin.

    Parameters
    ----------
    points : ndarray of float, shape (n, 2)
    angle_rad : float

    Returns
    -------
    ndarray of float, shape (n, 2)
    """
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    x, y = points[:, 0], points[:, 1]
    return np.stack([cos * x - sin * y, sin * x + cos * y], axis=1)


def stamp_discs(shape: tuple[int, int], x_px: np.ndarray, y_px: np.ndarray, radius_px: np.ndarray) -> np.ndarray:
    """Draw many small discs at once.

    Parameters
    ----------
    shape : tuple of int
        (h, w) of the result.
    x_px, y_px, radius_px : ndarray of float, shape (num_discs,)

    Returns
    -------
    ndarray of float32, shape (h, w)
        1 on a disc, 0 off it, with a slope of one pixel between.
    """
    plane = np.zeros(shape, np.float32)
    if len(x_px) == 0:
        return plane
    reach = int(np.ceil(radius_px.max() + 1))
    offsets = np.arange(-reach, reach + 1)
    columns = np.floor(x_px).astype(int)[:, None] + offsets
    rows = np.floor(y_px).astype(int)[:, None] + offsets
    dx, dy = columns + 0.5 - x_px[:, None], rows + 0.5 - y_px[:, None]
    distance = np.sqrt(dx[:, None, :] ** 2 + dy[:, :, None] ** 2)
    values = np.clip(radius_px[:, None, None] + 0.5 - distance, 0, 1).astype(np.float32)
    inside = ((rows >= 0) & (rows < shape[0]))[:, :, None] & ((columns >= 0) & (columns < shape[1]))[:, None, :]
    flat = rows[:, :, None] * shape[1] + columns[:, None, :]
    np.maximum.at(plane.reshape(-1), flat[inside], values[inside])
    return plane
