"""What to do where a device's memory runs out: pass fewer images through a network at once, and say so."""

import logging
from collections.abc import Callable

import numpy as np
import torch

from nonet.errors import RunError

logger = logging.getLogger("nonet")

#: Part of what is said where memory runs out, where it isn't torch.OutOfMemoryError: by MPS, cuBLAS and cuDNN, and
#: PyTorch on a CPU.
_PHRASES = ("out of memory", "_ALLOC_FAILED", "DefaultCPUAllocator")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether an error of PyTorch says that memory ran out.

    Parameters
    ----------
    error : RuntimeError

    Returns
    -------
    bool
    """
    return isinstance(error, torch.OutOfMemoryError) or any(phrase in str(error) for phrase in _PHRASES)


def free_memory(device: torch.device) -> None:
    """Give back what PyTorch keeps of a device's memory: a smaller batch needs pieces of other sizes.

    Parameters
    ----------
    device : torch.device
    """
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


class BatchSize:
    """The number of images that a device computes at once, halved where its memory runs out.

    Parameters
    ----------
    size : int
        To begin with.
    device : torch.device
        Named in messages.
    """

    def __init__(self, size: int, device: torch.device):
        self.size, self.device = size, device

    def run(self, compute: Callable[[np.ndarray], tuple[np.ndarray, ...]], images: np.ndarray) -> list[np.ndarray]:
        """Compute images, in batches that fit.

        Parameters
        ----------
        compute : callable
            Takes some images, and returns arrays with a row for each.
        images : ndarray, shape (n, ...)
            At least one.

        Returns
        -------
        list of ndarray
            What `compute` returns, of all images.

        Raises
        ------
        RunError
            If memory runs out with a single image.
        """
        parts: list[tuple[np.ndarray, ...]] = []
        done, size = 0, min(self.size, len(images))
        while done < len(images):
            result = self._try(compute, images[done : done + size])
            if result is None:
                size = self._halved(min(size, len(images) - done))
                continue
            if size < min(self.size, len(images)):  # said once, with what fits, not for each try
                logger.warning(f"Memory ran out on {self.device}: from now on {size} images at once, not {self.size}.")
                self.size = size
            parts.append(result)
            done += size
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]

    def _try(
        self, compute: Callable[[np.ndarray], tuple[np.ndarray, ...]], images: np.ndarray
    ) -> tuple[np.ndarray, ...] | None:
        """Return None where memory runs out. What the error's traceback holds is free again once this returns."""
        try:
            return compute(images)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        return None

    def _halved(self, size: int) -> int:
        free_memory(self.device)
        if size == 1:
            elsewhere = "" if self.device.type == "cpu" else ', or give `accelerator="cpu"`'
            raise RunError(
                f"Memory ran out on {self.device} with a single image.",
                hint=f"End other programs that use its memory{elsewhere}.",
            )
        return size // 2
