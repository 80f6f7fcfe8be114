"""What a training or a prediction may be asked to run on. No torch here: a wrong name is an error at once."""

from typing import Literal, get_args

from nonet.errors import RunError, did_you_mean

Accelerator = Literal["auto", "cpu", "gpu", "cuda", "mps"]
ACCELERATORS: tuple[str, ...] = get_args(Accelerator)


def require_devices(accelerator: str, devices: int = 1) -> None:
    """Raise RunError where there is no such accelerator, or no device at all; whether this machine has it is not said.

    Parameters
    ----------
    accelerator : "auto" takes the best there is; "gpu" is "cuda" or, on a Mac, "mps".
    devices : how many of them.
    """
    if accelerator not in ACCELERATORS:
        raise RunError(
            f'There is no accelerator "{accelerator}".',
            hint=f"{did_you_mean(accelerator, ACCELERATORS)}Choose from {', '.join(ACCELERATORS)}.",
        )
    if devices < 1:
        raise RunError(f"{devices} devices cannot train.", hint="Give 1 or more.")
