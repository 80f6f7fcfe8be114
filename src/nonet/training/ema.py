"""Exponential moving average of a network's weights."""

import copy

import torch
from torch import nn


class WeightAverage:
    """Average of a network's weights: ema ← decay · ema + (1 − decay) · weights, after each step.

    Covers parameters and floating-point buffers; other buffers are copied.

    Parameters
    ----------
    network : nn.Module
        Network to be averaged.
    decay : float in [0, 1)
        0 is the current weights; 0.999 averages over about 1,000 steps.
    warmup : bool, default False
        Use min(decay, (1 + step) / (10 + step)) instead, so that the random initial weights are soon forgotten.

    Attributes
    ----------
    network : nn.Module
        A copy that holds the average, in evaluation mode and without gradients.
    """

    def __init__(self, network: nn.Module, *, decay: float, warmup: bool = False):
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.warmup = warmup
        self.step = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Update the average after a step.

        Parameters
        ----------
        network : nn.Module
            The network being trained.
        """
        decay = min(self.decay, (1 + self.step) / (10 + self.step)) if self.warmup else self.decay
        self.step += 1
        averages: list[torch.Tensor] = []
        currents: list[torch.Tensor] = []
        for average, current in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if average.is_floating_point():
                averages.append(average)
                currents.append(current)
            else:
                average.copy_(current)  # counters, like the number of batches seen
        torch._foreach_lerp_(averages, currents, 1 - decay)

    def state_dict(self) -> dict:
        """Return what `load_state_dict` restores.

        Returns
        -------
        dict
        """
        return {"network": self.network.state_dict(), "step": self.step}

    def load_state_dict(self, state: dict) -> None:
        """Restore the average and the number of steps.

        Parameters
        ----------
        state : dict
            From `state_dict`.
        """
        self.network.load_state_dict(state["network"])
        self.step = state["step"]
