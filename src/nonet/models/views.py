"""Views: flipped and rotated versions of an image, over which a network's logits are averaged.

Training uses them for out-of-fold logits and prediction for new images, so that both see a cell alike.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import nn

from nonet.models.device import preferred_memory_format
from nonet.models.network import Classifier
from nonet.recipe import Predict

View = Callable[[torch.Tensor], torch.Tensor]


def no_views() -> list[View]:
    """The image as it is."""
    return [lambda images: images]


def dihedral_views() -> list[View]:
    """The eight flips and quarter turns of a square, exact to the pixel; the image as it is comes first."""

    def view(turns: int, flip: bool) -> View:
        def apply(images: torch.Tensor) -> torch.Tensor:
            images = torch.rot90(images, turns, (2, 3)) if turns else images
            return images.flip(3) if flip else images

        return apply

    return [view(turns, flip) for flip in (False, True) for turns in range(4)]


def random_views(num_views: int, seed: int) -> list[View]:
    """The image as it is, then num_views - 1 random flips and rotations by any angle, as in the paper.

    A view is the same for every image, so that a prediction does not depend on what else is predicted with it.
    """
    generator = np.random.default_rng(seed)

    def view(angle_rad: float, flip: bool) -> View:
        def apply(images: torch.Tensor) -> torch.Tensor:
            angle = torch.full((len(images),), angle_rad, device=images.device)
            sign = torch.full((len(images),), -1.0 if flip else 1.0, device=images.device)
            return turn_and_flip(images, angle, sign, torch.ones_like(sign))

        return apply

    drawn = [(generator.uniform(-math.pi, math.pi), bool(generator.integers(2))) for _ in range(num_views - 1)]
    return no_views() + [view(angle, flip) for angle, flip in drawn]


def turn_and_flip(
    images: torch.Tensor, angle_rad: torch.Tensor, flip_x: torch.Tensor, flip_y: torch.Tensor
) -> torch.Tensor:
    """Rotate and flip each image about its centre, mirroring at the border.

    Parameters
    ----------
    images : float (n, c, s, s).
    angle_rad, flip_x, flip_y : (n,); the flips are +1 (as it is) or -1.
    """
    cos, sin = torch.cos(angle_rad), torch.sin(angle_rad)
    zero = torch.zeros_like(cos)
    rows = [torch.stack([cos * flip_x, -sin * flip_y, zero], 1), torch.stack([sin * flip_x, cos * flip_y, zero], 1)]
    theta = torch.stack(rows, 1).to(images.dtype)
    grid = nn.functional.affine_grid(theta, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def views_of(settings: Predict) -> list[View]:
    """Return the views that a recipe's [predict] section asks for."""
    if settings.views == "dihedral":
        return dihedral_views()
    if settings.views == "random":
        return random_views(settings.num_random_views, settings.seed)
    return no_views()


def batches(array: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Cut images, or their row numbers, into arrays of at most batch_size."""
    for start in range(0, len(array), batch_size):
        yield array[start : start + batch_size]


def to_device(images: np.ndarray, device: torch.device) -> torch.Tensor:
    """uint8 (n, s, s, 3) in memory → float32 (n, 3, s, s) in 0–255 on the device, laid out as convolutions like it."""
    tensor = torch.from_numpy(np.ascontiguousarray(images)).to(device, non_blocking=True).permute(0, 3, 1, 2)
    return tensor.to(torch.float32, memory_format=preferred_memory_format(device))


@torch.inference_mode()
def logits_over_views(network: nn.Module, images: torch.Tensor, views: Sequence[View]) -> torch.Tensor:
    """Mean logits (n, classes), float32, of images (n, 3, s, s) over the views."""
    total = None
    for view in views:
        logits = network(view(images)).float()
        total = logits if total is None else total + logits
    return total / len(views)


@torch.inference_mode()
def logits_and_features(
    network: Classifier, images: torch.Tensor, views: Sequence[View]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean logits (n, classes) over the views, and features (n, f) of the first, the image as it is; float32.

    The features are computed in single precision under autocast, too: what rejection compares them with was.
    """
    with torch.autocast(images.device.type, enabled=False):
        features = network.features(views[0](images))
    total = network.head(features).float()
    for view in views[1:]:
        total = total + network(view(images)).float()
    return total / len(views), features.float()
