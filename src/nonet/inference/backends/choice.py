"""Which program runs the networks. No torch here, so a wrong name is an error at once, and some need none at all."""

import importlib.util
import platform
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from nonet.errors import RunError, choose_from
from nonet.jobs.gpus import count_gpus
from nonet.models.accelerators import ACCELERATORS

if TYPE_CHECKING:
    import numpy as np

    from nonet.artifacts.run import Member, Run
    from nonet.models.views import View
    from nonet.recipe import Recipe

#: As people name them; "auto" is the fastest one that this machine has.
BackendName = Literal["auto", "torch", "openvino", "openvino-int8"]
BACKEND_NAMES: tuple[str, ...] = get_args(BackendName)


class Network(Protocol):
    """A member's network as a backend runs it; may be called by several threads at once."""

    def run(self, images: "np.ndarray", views: "Sequence[View]") -> "tuple[np.ndarray, np.ndarray]":
        """Compute logits and features.

        Parameters
        ----------
        images : ndarray of uint8, shape (n, s, s, 3)
        views : sequence of View
            Logits are averaged over them.

        Returns
        -------
        logits : ndarray of float32, shape (n, num_classes)
        features : ndarray of float32, shape (n, num_features)
            Of the first view, in single precision.
        """
        ...


class Backend(Protocol):
    """A program that runs networks.

    Attributes
    ----------
    block_size : int
        How many images to give a network at a time.
    blocks_at_once : int
        How many blocks to ask for at once, so that all processors have work until the last ones.
    """

    block_size: int
    blocks_at_once: int

    def load(self, members: "Sequence[Member]") -> Sequence[Network]:
        """Load members' networks."""
        ...

    def map(self, function: Callable, tasks: Iterable) -> list:
        """Call a function, which runs a network, with each task; in as many threads as the backend wants."""
        ...


def _make_torch(run: "Run", recipe: "Recipe", num_classes: int, accelerator: str) -> Backend:
    from nonet.inference.backends.pytorch import TorchBackend

    return TorchBackend(run, recipe, num_classes, accelerator)


def _make_openvino(run: "Run", recipe: "Recipe", num_classes: int, accelerator: str) -> Backend:
    from nonet.inference.backends.openvino_cpu import OpenVinoBackend

    return OpenVinoBackend(run, recipe, num_classes)


def _make_openvino_int8(run: "Run", recipe: "Recipe", num_classes: int, accelerator: str) -> Backend:
    from nonet.inference.backends.openvino_cpu import OpenVinoBackend

    return OpenVinoBackend(run, recipe, num_classes, form="openvino-int8")


@dataclass(frozen=True)
class BackendEntry:
    """What is known of a backend before it is imported."""

    make: Callable[..., Backend]
    """Sets it up; called with the arguments of `make_backend`."""
    package: str
    """Import name of the package that it needs."""
    accelerators: tuple[str, ...] = ("auto", "cpu")
    """Accelerators for which it may be chosen."""


#: PyTorch runs on any accelerator. OpenVINO runs on CPUs, in single precision or in int8.
BACKENDS = {
    "torch": BackendEntry(_make_torch, package="torch", accelerators=ACCELERATORS),
    "openvino": BackendEntry(_make_openvino, package="openvino"),
    "openvino-int8": BackendEntry(_make_openvino_int8, package="openvino"),
}


def choose_backend(backend: str, accelerator: str) -> str:
    """Return the backend that a name stands for on this machine.

    Parameters
    ----------
    backend : str
        "auto" or a key of BACKENDS. "auto" is OpenVINO in single precision on a CPU, and otherwise PyTorch.
    accelerator : str
        One of `nonet.models.accelerators.ACCELERATORS`.

    Returns
    -------
    str
        Key of BACKENDS.

    Raises
    ------
    RunError
        If the name is unknown, the backend does not run on the accelerator, or its package is missing.
    """
    if backend == "auto":
        on_gpu = accelerator not in ("auto", "cpu") or (accelerator == "auto" and has_gpu())
        return "torch" if on_gpu or not _is_installed("openvino") else "openvino"
    if backend not in BACKENDS:
        raise RunError(f'Unknown backend "{backend}".', hint=choose_from(backend, BACKEND_NAMES))
    entry = BACKENDS[backend]
    if accelerator not in entry.accelerators:
        raise RunError(
            f"The backend {backend} runs on CPUs only, and `accelerator` is {accelerator}.",
            hint="Leave one of them out.",
        )
    if not _is_installed(entry.package):
        raise RunError(f"The backend {backend} needs the package {entry.package}.", hint=f"pip install {entry.package}")
    return backend


def make_backend(name: str, run: "Run", recipe: "Recipe", num_classes: int, accelerator: str) -> Backend:
    """Set up a backend.

    Parameters
    ----------
    name : str
        Key of BACKENDS.
    run : Run
        Whose members it will load.
    recipe : Recipe
        Of the run.
    num_classes : int
        Length of the logits.
    accelerator : str
        One of `nonet.models.accelerators.ACCELERATORS`.

    Returns
    -------
    Backend
    """
    return BACKENDS[name].make(run, recipe, num_classes, accelerator)


def has_gpu() -> bool:
    """Whether this machine seems to have a GPU that PyTorch can use, found without importing torch.

    Returns
    -------
    bool
        True on a Mac with Apple silicon, and where the CUDA driver counts at least one device.
    """
    return platform.machine() == "arm64" if sys.platform == "darwin" else count_gpus() > 0


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
