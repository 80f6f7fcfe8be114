"""Exponential moving average of a network's weights."""

import copy

import torch
from torch import nn


class WeightAverage:
    """ema ← decay · ema + (1 − decay) · weights, after each step, over parameters and floating-point buffers.

    Parameters
    ----------
    network : whose weights are followed; a copy of it is kept as `.network`.
    decay : 0 follows at once; 0.999 remembers about 1,000 steps.
    warmup : use min(decay, (1 + step) / (10 + step)) instead, so that the first, random weights are soon forgotten.
    """

    def __init__(self, network: nn.Module, *, decay: float, warmup: bool = False):
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.warmup = warmup
        self.step = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the weights after one more step."""
        decay = min(self.decay, (1 + self.step) / (10 + self.step)) if self.warmup else self.decay
        self.step += 1
        averages, currents = [], []
        for average, current in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if average.is_floating_point():
                averages.append(average)
                currents.append(current)
            else:
                average.copy_(current)  # counters, such as batches seen
        torch._foreach_lerp_(averages, currents, 1 - decay)

    def state_dict(self) -> dict:
        return {"network": self.network.state_dict(), "step": self.step}

    def load_state_dict(self, state: dict) -> None:
        self.network.load_state_dict(state["network"])
        self.step = state["step"]
