"""Denoising of batches with torch, for a GPU: the same result as `nonet.data.preprocess.denoise` has on the CPU.

No command uses it yet; docs/decisions/0007-denoising-at-speed.md says why.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from nonet.data.preprocess.denoise import estimate_sigma, patch_distance_px
from nonet.data.preprocess.denoise_kernels import EXP_OF_ZERO, EXP_SCALE, LARGEST_DISTANCE, SMALLEST_H2, WEIGHT_OF_SELF
from nonet.recipe import Denoise


def denoise_batch(
    images: Sequence[np.ndarray],
    settings: Denoise,
    *,
    device: torch.device | str,
    sigmas: Sequence[float] | None = None,
    batch_size: int = 32,
) -> list[np.ndarray]:
    """Return the images denoised, those that are clean as they are; single values differ by a grey level at most.

    Parameters
    ----------
    images : sequence of ndarray of uint8, shape (height, width, 3)
        Sizes may differ; images of one size go together.
    settings : Denoise
        The recipe's [denoise] section.
    device : torch.device or str
        Where to work. An image of 368 px needs about 10 MB of its memory.
    sigmas : sequence of float, optional
        Of the noise, in grey levels; by default estimated on the CPU.
    batch_size : int, default 32
        Images at once.

    Returns
    -------
    list of ndarray of uint8, shape (height, width, 3)
        In the order given.
    """
    results = list(images)
    if not settings.enabled:
        return results
    sigmas = [estimate_sigma(image) for image in images] if sigmas is None else sigmas
    alike = defaultdict(list)
    for i, (image, sigma) in enumerate(zip(images, sigmas, strict=True)):
        # A sigma that is not a number is not larger: such an image is left alone too.
        if sigma >= settings.clean_below_sigma:
            alike[image.shape, patch_distance_px(sigma)].append(i)
    for (_, distance), indices in alike.items():
        for start in range(0, len(indices), batch_size):
            batch = indices[start : start + batch_size]
            stacked = torch.from_numpy(np.stack([images[i] for i in batch])).to(device).movedim(-1, 1)
            sigma = torch.tensor([sigmas[i] for i in batch], dtype=torch.float64)
            smooth = non_local_means(
                stacked,
                patch_size_px=settings.patch_size_px,
                patch_distance_px=distance,
                h=settings.strength * sigma,
                sigma=sigma if settings.provide_sigma else torch.zeros_like(sigma),
            )
            pixels = smooth.round_().to(torch.uint8).movedim(1, -1).cpu().numpy()
            for i, image in zip(batch, pixels, strict=True):
                results[i] = image
    return results


def non_local_means(
    images: torch.Tensor, *, patch_size_px: int, patch_distance_px: int, h: torch.Tensor, sigma: torch.Tensor
) -> torch.Tensor:
    """Average each pixel with others whose surroundings look alike, as `preprocess.denoise.non_local_means` does.

    Each shift is a few passes over the whole batch: squared differences, a box filter, weights, and two averages, as
    a pixel is as much like its neighbour as the neighbour is like it.

    Parameters
    ----------
    images : Tensor of uint8, shape (n, 3, height, width)
        On any device.
    patch_size_px : int
        Side of the patches that are compared, at least 2; an even one counts as the next odd one.
    patch_distance_px : int
        How far away they are searched for, at least 1.
    h : Tensor of float64, shape (n,)
        Cut-off of each image, in grey levels.
    sigma : Tensor of float64, shape (n,)
        Noise of each; 0 subtracts nothing from patch distances.

    Returns
    -------
    Tensor of float32, shape (n, 3, height, width)
        Grey levels.
    """
    half, reach = patch_size_px // 2, patch_distance_px
    height, width = images.shape[2:]
    margin = 2 * reach + half
    rows, columns = (_mirrored(size, margin, images.device) for size in (height, width))
    padded = images[:, :, rows][:, :, :, columns].float()
    unit = 3 * (2 * half + 1) ** 2 * (h**2).clamp_min(SMALLEST_H2)
    noise, scale, furthest = (
        value.to(images.device, torch.float32).view(-1, 1, 1, 1)
        for value in (3 * (2 * half) ** 2 * 2 * sigma**2, -EXP_SCALE / unit, LARGEST_DISTANCE * unit)
    )
    nothing = torch.zeros((), dtype=torch.int32, device=images.device)
    total = padded[:, :, margin : margin + height, margin : margin + width] * float(WEIGHT_OF_SELF)
    weight = torch.full_like(total[:, :1], float(WEIGHT_OF_SELF))
    for down, right in _half_of_the_shifts(reach):
        # Every pixel whose shifted partner is in the image or that is in it itself, and its patch around it.
        top, bottom = margin - down, margin + height
        left, end = margin - max(right, 0), margin + width + max(-right, 0)
        here = padded[:, :, top - half + 1 : bottom + half, left - half + 1 : end + half]
        there = padded[:, :, top + down - half + 1 : bottom + down + half, left + right - half + 1 : end + right + half]
        squares = (here - there).square_().sum(1, keepdim=True)
        excess = F.avg_pool2d(squares, 2 * half, stride=1, divisor_override=1).sub_(noise).clamp_min_(0)
        bits = (excess * scale).to(torch.int32).add_(EXP_OF_ZERO)
        weights = torch.where(excess <= furthest, bits, nothing).view(torch.float32)
        first = max(right, 0)
        of_pixels = weights[:, :, down : down + height, first : first + width]
        of_partners = weights[:, :, :height, first - right : first - right + width]
        total.addcmul_(of_pixels, _window(padded, margin + down, margin + right, height, width))
        total.addcmul_(of_partners, _window(padded, margin - down, margin - right, height, width))
        weight.add_(of_pixels).add_(of_partners)
    return total.div_(weight)


def _half_of_the_shifts(reach: int) -> Iterator[tuple[int, int]]:
    """Yield (down, right) of one of each two that are opposite."""
    for down in range(reach + 1):
        for right in range(-reach if down else 1, reach + 1):
            yield down, right


def _mirrored(size: int, margin: int, device: torch.device) -> torch.Tensor:
    """Return which pixel stands at each place of a padded side; torch's own padding refuses margins beyond the size."""
    return torch.from_numpy(np.pad(np.arange(size), margin, mode="reflect")).to(device)


def _window(images: torch.Tensor, top: int, left: int, height: int, width: int) -> torch.Tensor:
    return images[:, :, top : top + height, left : left + width]
