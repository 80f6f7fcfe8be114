"""Images as tensors: copied to a device, turned and flipped, and passed through a network."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from nonet.models.device import preferred_memory_format
from nonet.models.network import Classifier
from nonet.models.views import View


def see(images: torch.Tensor, view: View) -> torch.Tensor:
    """Return a view of images.

    Parameters
    ----------
    images : Tensor of float, shape (n, c, s, s)
    view : View

    Returns
    -------
    Tensor of float, shape (n, c, s, s)
    """
    if not view.is_exact:
        angle = torch.full((len(images),), view.angle_rad, device=images.device)
        sign = torch.full((len(images),), -1.0 if view.flip else 1.0, device=images.device)
        return rotate_and_flip(images, angle, sign, torch.ones_like(sign))
    images = torch.rot90(images, view.quarter_turns, (2, 3)) if view.quarter_turns else images
    return images.flip(3) if view.flip else images


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
    total = network(see(images, views[0])).float()
    for view in views[1:]:
        total = total + network(see(images, view)).float()
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
        features = network.features(see(images, views[0]))
    total = network.head(features).float()
    for view in views[1:]:
        total = total + network(see(images, view)).float()
    return total / len(views), features.float()
