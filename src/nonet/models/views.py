"""Views: flipped and rotated versions of an image, over which logits are averaged (test-time augmentation, TTA).

Training uses the same ones for out-of-fold logits as prediction does for new images.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import nn

from nonet.models.device import preferred_memory_format
from nonet.models.network import Classifier
from nonet.recipe import Predict

#: From images (n, 3, s, s) to images of the same shape.
View = Callable[[torch.Tensor], torch.Tensor]


def no_views() -> list[View]:
    """Return the image unchanged as the only view.

    Returns
    -------
    list of View
    """
    return [lambda images: images]


def dihedral_views() -> list[View]:
    """Return the eight flips and quarter turns of a square, exact to the pixel; the unchanged image comes first.

    Returns
    -------
    list of View
    """

    def view(turns: int, flip: bool) -> View:
        def apply(images: torch.Tensor) -> torch.Tensor:
            images = torch.rot90(images, turns, (2, 3)) if turns else images
            return images.flip(3) if flip else images

        return apply

    return [view(turns, flip) for flip in (False, True) for turns in range(4)]


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

    def view(angle_rad: float, flip: bool) -> View:
        def apply(images: torch.Tensor) -> torch.Tensor:
            angle = torch.full((len(images),), angle_rad, device=images.device)
            sign = torch.full((len(images),), -1.0 if flip else 1.0, device=images.device)
            return rotate_and_flip(images, angle, sign, torch.ones_like(sign))

        return apply

    drawn = [(generator.uniform(-math.pi, math.pi), bool(generator.integers(2))) for _ in range(num_views - 1)]
    return no_views() + [view(angle, flip) for angle, flip in drawn]


def rotate_and_flip(
    images: torch.Tensor, angle_rad: torch.Tensor, flip_x: torch.Tensor, flip_y: torch.Tensor
) -> torch.Tensor:
    """Rotate and flip each image about its centre, mirroring at the border.

    Parameters
    ----------
    images : Tensor of float, shape (n, c, s, s)
    angle_rad : Tensor of float, shape (n,)
        In radians.
    flip_x, flip_y : Tensor of float, shape (n,)
        -1 flips, +1 does not.

    Returns
    -------
    Tensor of float, shape (n, c, s, s)
    """
    cos, sin = torch.cos(angle_rad), torch.sin(angle_rad)
    zero = torch.zeros_like(cos)
    rows = [torch.stack([cos * flip_x, -sin * flip_y, zero], 1), torch.stack([sin * flip_x, cos * flip_y, zero], 1)]
    theta = torch.stack(rows, 1).to(images.dtype)
    grid = nn.functional.affine_grid(theta, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


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


def batches(array: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Cut images, or their row numbers, into batches.

    Parameters
    ----------
    array : ndarray, shape (n, ...)
    batch_size : int
        Largest length of a batch.

    Yields
    ------
    ndarray, shape (at most batch_size, ...)
    """
    for start in range(0, len(array), batch_size):
        yield array[start : start + batch_size]


def to_device(images: np.ndarray, device: torch.device) -> torch.Tensor:
    """Copy images to a device, in the memory format in which convolutions are fast there.

    Parameters
    ----------
    images : ndarray of uint8, shape (n, s, s, 3)
    device : torch.device

    Returns
    -------
    Tensor of float32, shape (n, 3, s, s)
        In 0–255.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(images)).to(device, non_blocking=True).permute(0, 3, 1, 2)
    return tensor.to(torch.float32, memory_format=preferred_memory_format(device))


@torch.inference_mode()
def logits_over_views(network: nn.Module, images: torch.Tensor, views: Sequence[View]) -> torch.Tensor:
    """Average logits over views.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode.
    images : Tensor of float32, shape (n, 3, s, s)
        In 0–255.
    views : sequence of View
        At least one.

    Returns
    -------
    Tensor of float32, shape (n, classes)
    """
    total = network(views[0](images)).float()
    for view in views[1:]:
        total = total + network(view(images)).float()
    return total / len(views)


@torch.inference_mode()
def logits_and_features(
    network: Classifier, images: torch.Tensor, views: Sequence[View]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Average logits over views, and return the features of the first view as well.

    Features are computed in single precision even under autocast, as those are that the out-of-distribution score was
    fitted to.

    Parameters
    ----------
    network : Classifier
        In evaluation mode.
    images : Tensor of float32, shape (n, 3, s, s)
        In 0–255.
    views : sequence of View
        The unchanged image comes first.

    Returns
    -------
    logits : Tensor of float32, shape (n, classes)
    features : Tensor of float32, shape (n, num_features)
    """
    with torch.autocast(images.device.type, enabled=False):
        features = network.features(views[0](images))
    total = network.head(features).float()
    for view in views[1:]:
        total = total + network(view(images)).float()
    return total / len(views), features.float()
