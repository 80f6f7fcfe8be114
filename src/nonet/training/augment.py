"""Augmentation of whole batches on the device: geometry, stain, light, blur, noise, then mixup or cutmix.

Blur, light and stain are those of `nonet.data.preprocess.corruptions` and `nonet.data.preprocess.stain`, at the size
that the networks see. The random numbers come from one CPU generator (and, for noise, one on the device), seeded for
each batch.
"""

import math

import torch
from torch.nn import functional as F

from nonet.data.preprocess.corruptions import change_light, gaussian_kernel, line_kernel
from nonet.data.preprocess.stain import stain_matrix
from nonet.models.views import turn_and_flip
from nonet.recipe import Augment


class Draws:
    """Random numbers of one batch: `uniform` and `chance` per image, made on the CPU, moved to the device."""

    def __init__(self, num_images: int, device: torch.device, seed: int):
        self.num_images = num_images
        self.device = device
        self.cpu = torch.Generator().manual_seed(seed)
        self.on_device = torch.Generator(device).manual_seed(seed) if device.type != "cpu" else self.cpu

    def uniform(self, low: float, high: float) -> torch.Tensor:
        """One number an image, (n,)."""
        return (torch.rand(self.num_images, generator=self.cpu) * (high - low) + low).to(self.device)

    def chance(self, probability: float) -> torch.Tensor:
        """True with this probability, an image, (n,)."""
        return (torch.rand(self.num_images, generator=self.cpu) < probability).to(self.device)

    def scalar(self) -> float:
        """One number in [0, 1) for the batch."""
        return float(torch.rand((), generator=self.cpu))

    def beta(self, alpha: float) -> float:
        """One number for the batch from Beta(alpha, alpha), as a ratio of gammas drawn by numpy from a torch seed."""
        import numpy as np

        seed = int(torch.randint(2**62, (), generator=self.cpu))
        return float(np.random.default_rng(seed).beta(alpha, alpha))

    def shuffle(self) -> torch.Tensor:
        """A permutation of the batch."""
        return torch.randperm(self.num_images, generator=self.cpu).to(self.device)

    def normal_like(self, images: torch.Tensor) -> torch.Tensor:
        """Standard normal numbers of the images' shape."""
        shape = images.shape
        return torch.randn(shape, generator=self.on_device, device=images.device, dtype=images.dtype)


def augment(images: torch.Tensor, settings: Augment, draws: Draws) -> torch.Tensor:
    """Change each image of a batch at random.

    Parameters
    ----------
    images : float32 (n, 3, s, s) in 0–255.

    Returns
    -------
    The same shape and range.
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
    return turn_and_flip(images, angle, *flips)


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
    """Filter image i with kernel i: (n, c, s, s) and (n, kh, kw), odd sides, mirrored at the border."""
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
    """Mixup or cutmix a batch with itself shuffled, or leave it.

    Parameters
    ----------
    images : (n, 3, s, s).
    labels : (n, classes), rows that sum to 1; so do those returned.
    """
    choice = draws.scalar()
    if choice < settings.mixup_probability:
        share, partner = draws.beta(settings.mixup_alpha), draws.shuffle()
        images = torch.lerp(images[partner], images, share)  # never beyond the two, not even by rounding
    elif choice < settings.mixup_probability + settings.cutmix_probability:
        images, share, partner = _cut(images, draws.beta(settings.cutmix_alpha), draws)
    else:
        return images, labels
    return images, share * labels + (1 - share) * labels[partner]


def _cut(images: torch.Tensor, share: float, draws: Draws) -> tuple[torch.Tensor, float, torch.Tensor]:
    partner, size = draws.shuffle(), images.shape[-1]
    side = size * math.sqrt(1 - share)
    centre_y, centre_x = draws.scalar() * size, draws.scalar() * size
    top, bottom = (round(min(max(centre_y + d, 0), size)) for d in (-side / 2, side / 2))
    left, right = (round(min(max(centre_x + d, 0), size)) for d in (-side / 2, side / 2))
    images = images.clone()
    images[:, :, top:bottom, left:right] = images[partner][:, :, top:bottom, left:right]
    # The rectangle may be cut off by the frame: the share is what is really left.
    return images, 1 - (bottom - top) * (right - left) / size**2, partner
