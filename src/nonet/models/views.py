"""Views: flipped and rotated versions of an image, over which logits are averaged (test-time augmentation, TTA).

Training uses the same ones for out-of-fold logits as prediction does for new images. No torch here: a view is what to
do, and `nonet.models.tensors` does it to tensors.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from nonet.recipe import Predict

Rows = TypeVar("Rows", np.ndarray, list)


@dataclass(frozen=True)
class View:
    """One version of an image: turned, then flipped. By default the image as it is.

    Attributes
    ----------
    quarter_turns : int
        Counter-clockwise, by 90° each.
    angle_rad : float
        A further turn about the centre, by any angle.
    flip : bool
        Whether left and right are exchanged.
    """

    quarter_turns: int = 0
    angle_rad: float = 0.0
    flip: bool = False

    @property
    def is_exact(self) -> bool:
        """Whether pixels only change places."""
        return self.angle_rad == 0

    def of_pixels(self, images: np.ndarray) -> np.ndarray:
        """Return this view of images, without copying them; only for exact views.

        Parameters
        ----------
        images : ndarray, shape (n, s, s, 3)

        Returns
        -------
        ndarray, shape (n, s, s, 3)
        """
        assert self.is_exact, "a turn by any angle mixes pixels: nonet.models.tensors does that"
        images = np.rot90(images, self.quarter_turns, (1, 2)) if self.quarter_turns else images
        return images[:, :, ::-1] if self.flip else images


def no_views() -> list[View]:
    """Return the image unchanged as the only view.

    Returns
    -------
    list of View
    """
    return [View()]


def dihedral_views() -> list[View]:
    """Return the eight flips and quarter turns of a square, exact to the pixel; the unchanged image comes first.

    Returns
    -------
    list of View
    """
    return [View(quarter_turns=turns, flip=flip) for flip in (False, True) for turns in range(4)]


def random_views(num_views: int, seed: int) -> list[View]:
    """Return the unchanged image, then random flips and rotations by any angle, as in the paper.

    A view is the same for every image, so a prediction does not depend on which other images are predicted with it.

    Parameters
    ----------
    num_views : int
        Number of views, the unchanged image among them.
    seed : int
        Seed of angles and flips.

    Returns
    -------
    list of View
    """
    generator = np.random.default_rng(seed)
    drawn = [(generator.uniform(-math.pi, math.pi), bool(generator.integers(2))) for _ in range(num_views - 1)]
    return no_views() + [View(angle_rad=angle, flip=flip) for angle, flip in drawn]


def get_views(settings: Predict) -> list[View]:
    """Return the views of a recipe.

    Parameters
    ----------
    settings : Predict
        The recipe's section.

    Returns
    -------
    list of View
        The unchanged image comes first.
    """
    if settings.views == "dihedral":
        return dihedral_views()
    if settings.views == "random":
        return random_views(settings.num_random_views, settings.seed)
    return no_views()


def batches(array: Rows, batch_size: int) -> Iterator[Rows]:
    """Cut images, their row numbers, or a list into batches.

    Parameters
    ----------
    array : ndarray, shape (n, ...), or list
    batch_size : int
        Largest length of a batch.

    Yields
    ------
    ndarray, shape (at most batch_size, ...), or list
    """
    for start in range(0, len(array), batch_size):
        yield array[start : start + batch_size]
