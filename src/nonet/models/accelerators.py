"""The accelerators that training and prediction can run on. No torch here, so a wrong name is an error at once."""

from typing import Literal, get_args

from nonet.errors import RunError, choose_from

Accelerator = Literal["auto", "cpu", "gpu", "cuda", "mps"]
ACCELERATORS: tuple[str, ...] = get_args(Accelerator)


def require_devices(accelerator: str, devices: int = 1) -> None:
    """Check the name of an accelerator and the number of devices, but not whether this machine has them.

    Parameters
    ----------
    accelerator : str
        One of ACCELERATORS. "auto" is the best one available; "gpu" is "cuda" or, on a Mac, "mps".
    devices : int, default 1
        Number of devices.

    Raises
    ------
    RunError
        If the accelerator is unknown, or the number of devices below 1.
    """
    if accelerator not in ACCELERATORS:
        raise RunError(f'Unknown accelerator "{accelerator}".', hint=choose_from(accelerator, ACCELERATORS))
    if devices < 1:
        raise RunError(f"Cannot run on {devices} devices.", hint="Give 1 or more.")
