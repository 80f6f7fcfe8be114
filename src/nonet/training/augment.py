"""Augmentation of whole batches on the device: geometry, stain, light, blur, noise, then mixup or cutmix.

Blur, light and stain are those of `nonet.data.preprocess.corruptions` and `nonet.data.preprocess.stain`, applied at the
size that the networks see. Random numbers come from one CPU generator (and, for noise, one on the device), seeded for
each batch.
"""

import math

import numpy as np
import torch
from torch.nn import functional as F

from nonet.data.preprocess.corruptions import change_light, gaussian_kernel, line_kernel
from nonet.data.preprocess.stain import stain_matrix
from nonet.models.tensors import rotate_and_flip
from nonet.recipe import Augment


class Draws:
    """Random numbers for one batch, drawn on the CPU and moved to the device.

    The order of the calls is part of what a seed means: another order gives other numbers.

    Parameters
    ----------
    num_images : int
        Images in the batch, n.
    device : torch.device
        Where the numbers are needed.
    seed : int
        Seed of the batch.
    """

    def __init__(self, num_images: int, device: torch.device, seed: int):
        self.num_images = num_images
        self.device = device
        self.cpu = torch.Generator().manual_seed(seed)
        self.on_device = torch.Generator(device).manual_seed(seed) if device.type != "cpu" else self.cpu

    def uniform(self, low: float, high: float) -> torch.Tensor:
        """Draw one number per image.

        Parameters
        ----------
        low, high : float
            Limits.

        Returns
        -------
        Tensor of float32, shape (n,)
        """
        return (torch.rand(self.num_images, generator=self.cpu) * (high - low) + low).to(self.device)

    def chance(self, probability: float) -> torch.Tensor:
        """Draw one decision per image.

        Parameters
        ----------
        probability : float in [0, 1]
            Of True.

        Returns
        -------
        Tensor of bool, shape (n,)
        """
        return (torch.rand(self.num_images, generator=self.cpu) < probability).to(self.device)

    def scalar(self) -> float:
        """Draw one number in [0, 1) for the batch.

        Returns
        -------
        float
        """
        return float(torch.rand((), generator=self.cpu))

    def beta(self, alpha: float) -> float:
        """Draw one number from Beta(alpha, alpha) for the batch, with a NumPy generator seeded by torch's.

        Parameters
        ----------
        alpha : float
            Above 0.

        Returns
        -------
        float
            In [0, 1].
        """
        seed = int(torch.randint(2**62, (), generator=self.cpu))
        return float(np.random.default_rng(seed).beta(alpha, alpha))

    def shuffle(self) -> torch.Tensor:
        """Draw a permutation of the batch.

        Returns
        -------
        Tensor of int64, shape (n,)
        """
        return torch.randperm(self.num_images, generator=self.cpu).to(self.device)

    def normal_like(self, images: torch.Tensor) -> torch.Tensor:
        """Draw standard normal numbers.

        Parameters
        ----------
        images : Tensor
            Gives shape, type and device.

        Returns
        -------
        Tensor
            Of the same shape.
        """
        shape = images.shape
        return torch.randn(shape, generator=self.on_device, device=images.device, dtype=images.dtype)


def augment(images: torch.Tensor, settings: Augment, draws: Draws) -> torch.Tensor:
    """Change each image of a batch at random.

    Parameters
    ----------
    images : Tensor of float32, shape (n, 3, s, s)
        In 0–255.
    settings : Augment
        The recipe's section.
    draws : Draws
        Random numbers of this batch.

    Returns
    -------
    Tensor of float32, shape (n, 3, s, s)
        In 0–255.
    """
    images = _geometry(images, settings, draws)
    images = _stain(images, settings, draws)
    images = _light(images, settings, draws)
    images = _gaussian_blur(images, settings, draws)
    images = _motion_blur(images, settings, draws)
    return _noise(images, settings, draws).clamp_(0, 255)


def _geometry(images: torch.Tensor, settings: Augment, draws: Draws) -> torch.Tensor:
    flips = [torch.where(draws.chance(settings.flip_probability), -1.0, 1.0) for _ in range(2)]
    limit = math.radians(settings.rotation_deg)
    angle = draws.uniform(-limit, limit) * draws.chance(settings.rotation_probability)
    return rotate_and_flip(images, angle, *flips)


def _stain(images: torch.Tensor, settings: Augment, draws: Draws) -> torch.Tensor:
    if not settings.stain_probability:
        return images
    rows = draws.chance(settings.stain_probability).nonzero().squeeze(1)
    low, high = 1 - settings.stain_gain, 1 + settings.stain_gain
    blue, red = draws.uniform(low, high)[rows], draws.uniform(low, high)[rows]
    gains = torch.stack([blue, red, torch.ones_like(blue)], dim=1)
    matrix = torch.from_numpy(stain_matrix(gains.cpu().numpy())).to(images)
    density = -((images[rows].clamp(0, 255) + 1) / 256).log()
    return images.index_copy(0, rows, 256 * (-torch.einsum("nchw,ncd->ndhw", density, matrix)).exp() - 1)


def _light(images: torch.Tensor, settings: Augment, draws: Draws) -> torch.Tensor:
    gain = draws.uniform(1 - settings.brightness, 1 + settings.brightness).view(-1, 1, 1, 1)
    contrast = draws.uniform(1 - settings.contrast, 1 + settings.contrast).view(-1, 1, 1, 1)
    mean = images.mean((1, 2, 3), keepdim=True)
    return change_light(images, mean, gain=gain, contrast=contrast)


def _gaussian_blur(images: torch.Tensor, settings: Augment, draws: Draws) -> torch.Tensor:
    chosen, sigma = draws.chance(settings.blur_probability), draws.uniform(0.1, settings.blur_sigma_px)
    rows = chosen.nonzero().squeeze(1)
    if not len(rows):
        return images
    radius = max(1, math.ceil(3 * settings.blur_sigma_px))
    kernel = torch.from_numpy(gaussian_kernel(sigma[rows].cpu().numpy(), radius)).to(images)
    blurred = _filter_each(images[rows], kernel[:, None, :])
    return images.index_copy(0, rows, _filter_each(blurred, kernel[:, :, None]))


def _motion_blur(images: torch.Tensor, settings: Augment, draws: Draws) -> torch.Tensor:
    chosen, angle = draws.chance(settings.motion_blur_probability), draws.uniform(0, math.pi)
    rows = chosen.nonzero().squeeze(1)
    if not len(rows):
        return images
    kernel = torch.from_numpy(line_kernel(angle[rows].cpu().numpy(), settings.motion_blur_px // 2)).to(images)
    return images.index_copy(0, rows, _filter_each(images[rows], kernel))


def _filter_each(images: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """Filter image i of (n, c, s, s) with kernel i of (n, kh, kw), whose sides are odd; mirror at the border."""
    n, c, height, width = images.shape
    kh, kw = kernels.shape[1:]
    padded = F.pad(images, (kw // 2, kw // 2, kh // 2, kh // 2), mode="reflect")
    weight = kernels.repeat_interleave(c, 0).unsqueeze(1)
    flat = padded.reshape(1, n * c, *padded.shape[2:])
    return F.conv2d(flat, weight, groups=n * c).view(n, c, height, width)


def _noise(images: torch.Tensor, settings: Augment, draws: Draws) -> torch.Tensor:
    chosen, sigma = draws.chance(settings.noise_probability), draws.uniform(0, settings.noise_sigma)
    rows = chosen.nonzero().squeeze(1)
    if not len(rows):
        return images
    noisy = images[rows]
    return images.index_copy(0, rows, noisy + draws.normal_like(noisy) * sigma[rows].view(-1, 1, 1, 1))


def mix(
    images: torch.Tensor, labels: torch.Tensor, settings: Augment, draws: Draws
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix a batch with a shuffled copy of itself (mixup or cutmix), or leave it unchanged.

    Parameters
    ----------
    images : Tensor of float32, shape (n, 3, s, s)
    labels : Tensor of float32, shape (n, classes)
        Rows sum to 1.
    settings : Augment
        The recipe's section.
    draws : Draws
        Random numbers of this batch.

    Returns
    -------
    images : Tensor of float32, shape (n, 3, s, s)
    labels : Tensor of float32, shape (n, classes)
        Mixed in the same proportion as the images; rows sum to 1.

    References
    ----------
    Zhang et al., mixup: Beyond empirical risk minimization, ICLR 2018. Yun et al., CutMix, ICCV 2019.
    """
    choice = draws.scalar()
    if choice < settings.mixup_probability:
        share, partner = draws.beta(settings.mixup_alpha), draws.shuffle()
        images = torch.lerp(images[partner], images, share)  # stays between the two even with rounding
    elif choice < settings.mixup_probability + settings.cutmix_probability:
        images, share, partner = _cut(images, draws.beta(settings.cutmix_alpha), draws)
    else:
        return images, labels
    return images, share * labels + (1 - share) * labels[partner]


def _cut(images: torch.Tensor, share: float, draws: Draws) -> tuple[torch.Tensor, float, torch.Tensor]:
    """Return images with a rectangle of their partners', the share of each image left, and the partners' rows."""
    partner, size = draws.shuffle(), images.shape[-1]
    side = size * math.sqrt(1 - share)
    centre_y, centre_x = draws.scalar() * size, draws.scalar() * size
    top, bottom = (round(min(max(centre_y + d, 0), size)) for d in (-side / 2, side / 2))
    left, right = (round(min(max(centre_x + d, 0), size)) for d in (-side / 2, side / 2))
    images = images.clone()
    images[:, :, top:bottom, left:right] = images[partner][:, :, top:bottom, left:right]
    # The frame may cut off part of the rectangle, so the share is that of the pixels actually left.
    return images, 1 - (bottom - top) * (right - left) / size**2, partner
