"""What this machine computes on: device, precision, and settings of the process that make it faster or repeatable."""

import contextlib
import ctypes
import os
import sys

import torch
from lightning_fabric import Fabric

from nonet.errors import RunError
from nonet.workers import num_processors


def make_fabric(*, accelerator: str = "auto", devices: int = 1, precision: str = "auto") -> Fabric:
    """Return Lightning Fabric for one device, or for several processes with the gradients' mean between them.

    precision 'auto' is bf16-mixed on a GPU that has it, else 32-true.

    Raises
    ------
    RunError where the machine has not that accelerator or not so many devices.
    """
    use_few_threads()
    if precision == "auto":
        on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
        precision = "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported() else "32-true"
    strategy = "auto" if devices == 1 else "ddp_spawn"
    try:
        return Fabric(accelerator=accelerator, devices=devices, strategy=strategy, precision=precision)
    except (RuntimeError, ValueError, LookupError) as error:
        raise RunError(
            f"This machine cannot run on {devices} x {accelerator} with precision {precision}: {error}",
            hint='"nonet doctor" lists its devices.',
        ) from error
    except Exception as error:
        if type(error).__name__ != "MisconfigurationException":
            raise
        raise RunError(
            f"This machine cannot run on {devices} x {accelerator}: {error}", hint='"nonet doctor" lists its devices.'
        ) from error


def use_few_threads() -> None:
    """Let torch compute with no more threads than this process has processors: in a container it counts them all."""
    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > num_processors():
        torch.set_num_threads(num_processors())


def preferred_memory_format(device: torch.device) -> torch.memory_format:
    """channels_last is faster for convolutions on CPUs and on GPUs with tensor cores, and harmless elsewhere."""
    return torch.channels_last if device.type in ("cpu", "cuda") else torch.contiguous_format


def make_repeatable() -> None:
    """Make the same seed give the same bits on the same machine.

    On a GPU an operation without a repeatable form warns and goes on; on a CPU it is an error.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by cuBLAS itself; it has no other switch
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    torch.utils.deterministic.fill_uninitialized_memory = False  # a search for sloppy code, paid for at each tensor
    torch.backends.cudnn.benchmark = False


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory instead of giving it back to the system; up to a third faster on a CPU.

    Each step frees and takes again some hundred megabytes; by default every one of them is mapped anew and zeroed.
    """
    if sys.platform != "linux":
        return
    m_mmap_max, m_trim_threshold = -4, -1
    with contextlib.suppress(OSError, AttributeError):  # another C library: nothing to set
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)
