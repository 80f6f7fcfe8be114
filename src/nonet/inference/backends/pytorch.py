"""Eager PyTorch: the reference that other backends are compared with, and the only one on a GPU."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import safetensors
import safetensors.torch
import torch
from lightning_fabric import Fabric

from nonet.artifacts.run import Member, Run, repair_hint
from nonet.errors import DamagedError
from nonet.models.device import keep_freed_memory, make_fabric, preferred_memory_format
from nonet.models.memory import BatchSize
from nonet.models.network import Classifier, make_classifier
from nonet.models.tensors import logits_and_features, to_device
from nonet.models.views import View
from nonet.recipe import Recipe


class TorchNetwork:
    """A member's network on a device.

    Parameters
    ----------
    module : Classifier
        On the device of `fabric`, in evaluation mode.
    fabric : Fabric
    batch_size : BatchSize
        How many images it computes at once; shared by the networks of a device.
    """

    def __init__(self, module: Classifier, fabric: Fabric, batch_size: BatchSize):
        self.module, self.fabric, self.batch_size = module, fabric, batch_size

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.fabric.device

    def run(self, images: np.ndarray, views: Sequence[View]) -> tuple[np.ndarray, np.ndarray]:
        """Compute logits and features; see `nonet.inference.backends.choice.Network`.

        Where the device's memory runs out, fewer images are computed at once; see `nonet.models.memory.BatchSize`.
        """
        logits, features = self.batch_size.run(lambda batch: self._compute(batch, views), images)
        return logits, features

    def _compute(self, images: np.ndarray, views: Sequence[View]) -> tuple[np.ndarray, np.ndarray]:
        with self.fabric.autocast():
            logits, features = logits_and_features(self.module, to_device(images, self.device), views)
        return logits.cpu().numpy(), features.cpu().numpy()


class TorchBackend:
    """Runs networks with PyTorch; see `nonet.inference.backends.choice.Backend`.

    Parameters
    ----------
    run : Run
    recipe : Recipe
        Of the run.
    num_classes : int
        Length of the logits.
    accelerator : str
        One of `nonet.models.accelerators.ACCELERATORS`.
    """

    block_size = 64
    blocks_at_once = 1  # each operation uses all processors

    def __init__(self, run: Run, recipe: Recipe, num_classes: int, accelerator: str = "auto"):
        self.run, self.recipe, self.num_classes = run, recipe, num_classes
        self.fabric = make_fabric(accelerator=accelerator, precision=recipe.train.precision)
        self.batch_size = BatchSize(self.block_size, self.fabric.device)
        keep_freed_memory()

    def load(self, members: Sequence[Member]) -> list[TorchNetwork]:
        """Load members' networks from weights.safetensors.

        Parameters
        ----------
        members : sequence of Member

        Returns
        -------
        list of TorchNetwork

        Raises
        ------
        DamagedError
            If a file does not contain the weights of its member.
        """
        return [self._load(member) for member in members]

    def map(self, function: Callable, tasks: Iterable) -> list:
        """Call a function with each task, one after another."""
        return [function(task) for task in tasks]

    def _load(self, member: Member) -> TorchNetwork:
        network, _ = make_classifier(member.architecture, self.recipe.models, self.num_classes, trained=True)
        try:
            network.load_state_dict(safetensors.torch.load_file(member.weights))
        except (RuntimeError, safetensors.SafetensorError) as error:
            raise DamagedError(
                f"{member.weights} does not contain the weights of {member.name}: {str(error).splitlines()[0]}",
                hint=repair_hint(self.run),
            ) from error
        device = self.fabric.device
        network = network.to(device, memory_format=preferred_memory_format(device))
        return TorchNetwork(network.eval().requires_grad_(False), self.fabric, self.batch_size)
