"""Device and precision, and settings of the process that make computing on this machine faster or repeatable."""

import contextlib
import ctypes
import os
import sys
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import Strategy

from nonet.errors import RunError
from nonet.workers import num_processors


def make_fabric(
    *,
    accelerator: str = "auto",
    devices: int | list[int] = 1,
    precision: str = "auto",
    strategy: Strategy | None = None,
) -> Fabric:
    """Set up Lightning Fabric: one process, or several that average their gradients.

    Parameters
    ----------
    accelerator : str, default "auto"
        One of `nonet.models.accelerators.ACCELERATORS`.
    devices : int or list of int, default 1
        Number of devices, one process each; or which devices.
    precision : str, default "auto"
        As Lightning Fabric names them. "auto" is bf16-mixed on a GPU that supports it, otherwise 32-true.
    strategy : Strategy, optional
        How processes work together that something else has started. Default: Fabric starts them.

    Returns
    -------
    Fabric

    Raises
    ------
    RunError
        If this machine does not have the accelerator, so many devices, or the precision.
    """
    use_few_threads()
    if precision == "auto":
        on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
        precision = "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported() else "32-true"
    try:
        return Fabric(
            accelerator=accelerator,
            devices=devices,
            strategy=strategy or ("auto" if devices == 1 else "ddp_spawn"),
            precision=cast(Any, precision),  # checked by Fabric
        )
    except Exception as error:
        is_expected = isinstance(error, (RuntimeError, ValueError, LookupError))
        if not is_expected and type(error).__name__ != "MisconfigurationException":
            raise
        raise RunError(
            f"This machine cannot run on {devices} x {accelerator} with precision {precision}: {error}",
            hint='"nonet doctor" lists its devices.',
        ) from error


def use_few_threads() -> None:
    """Limit torch's threads to the processors of this process; in a container torch counts those of the machine.

    OMP_NUM_THREADS, where it is set, takes precedence.
    """
    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > num_processors():
        torch.set_num_threads(num_processors())


def preferred_memory_format(device: torch.device) -> torch.memory_format:
    """Return the memory format in which convolutions are fast.

    Parameters
    ----------
    device : torch.device

    Returns
    -------
    torch.memory_format
        channels_last on CPUs and CUDA GPUs.
    """
    return torch.channels_last if device.type in ("cpu", "cuda") else torch.contiguous_format


def make_repeatable() -> None:
    """Make the same seed give the same bits on the same machine.

    An operation without a deterministic implementation is an error on a CPU; where there is a GPU it only warns.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by cuBLAS itself; it has no other switch
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    # A debugging aid of deterministic mode, which costs time at each tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory instead of returning it to the system; training on a CPU is up to a third faster.

    Each step frees and allocates some hundred megabytes, which by default are mapped and zeroed each time.
    """
    if sys.platform != "linux":
        return
    m_mmap_max, m_trim_threshold = -4, -1
    with contextlib.suppress(OSError, AttributeError):  # another C library: nothing to set
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)
