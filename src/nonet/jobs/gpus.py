"""How many GPUs there are, asked of the driver, as importing torch takes seconds."""

import ctypes
import sys

from nonet.errors import RunError


def count_gpus() -> int:
    """Return how many GPUs the CUDA driver counts; CUDA_VISIBLE_DEVICES limits them.

    Returns
    -------
    int
        0 without a driver.
    """
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        count = ctypes.c_int()
        found = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
        return count.value if found else 0
    except (OSError, AttributeError):  # no driver
        return 0


def require_gpus(devices: int | None) -> None:
    """Raise RunError if this machine has GPUs, but fewer than `devices`; None is as many as it has."""
    num_gpus = count_gpus()
    if num_gpus and (devices or 0) > num_gpus:
        raise RunError(f"This machine has {num_gpus} GPUs, and `devices` is {devices}.", hint="Give a smaller number.")
