"""The average of weights against the same done by hand, number by number."""

import pytest
import torch
from torch import nn

from nonet.training.ema import WeightAverage


class One(nn.Module):
    """One weight, one floating-point buffer and one counter."""

    def __init__(self, value=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value], dtype=torch.float64))
        self.register_buffer("running", torch.tensor([value], dtype=torch.float64))
        self.register_buffer("seen", torch.tensor(0))

    def to_value(self, value):
        with torch.no_grad():
            self.weight.fill_(value)
            self.running.fill_(-value)
            self.seen += 1


VALUES = [1.0, 3.0, -2.0, 5.0, 5.0, 0.0] + [7.0] * 300


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("warmup", [False, True])
def test_each_step_is_the_formula(decay, warmup):
    network = One(10.0)
    average = WeightAverage(network, decay=decay, warmup=warmup)
    weight = running = 10.0
    for step, value in enumerate(VALUES):
        network.to_value(value)
        average.update(network)
        d = min(decay, (1 + step) / (10 + step)) if warmup else decay
        weight = d * weight + (1 - d) * value
        running = d * running + (1 - d) * -value
        assert average.network.weight.item() == pytest.approx(weight, rel=1e-12, abs=1e-12)
        assert average.network.running.item() == pytest.approx(running, rel=1e-12, abs=1e-12)
        assert average.network.seen.item() == step + 1


def test_decay_zero_keeps_the_raw_weights():
    network = nn.Linear(7, 5)
    average = WeightAverage(network, decay=0.0)
    for _ in range(3):
        nn.init.normal_(network.weight)
        average.update(network)
        assert torch.equal(average.network.weight, network.weight)


def test_the_average_of_a_step_is_that_of_batch_normalisation_too():
    network = nn.BatchNorm1d(3)
    average = WeightAverage(network, decay=0.75)
    network(torch.randn(8, 3) + 4)
    average.update(network)
    torch.testing.assert_close(average.network.running_mean, 0.25 * network.running_mean)  # it began at 0
    torch.testing.assert_close(average.network.running_var, 0.75 + 0.25 * network.running_var)  # and this at 1
    assert average.network.num_batches_tracked == 1


def test_the_average_neither_learns_nor_drops():
    network = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).train()
    average = WeightAverage(network, decay=0.9)
    assert not average.network.training
    assert not any(p.requires_grad for p in average.network.parameters())
    assert network.training
    assert all(p.requires_grad for p in network.parameters())


def test_state_is_taken_up_where_it_was_left():
    network = One(1.0)
    whole, first = (WeightAverage(network, decay=0.99, warmup=True) for _ in range(2))
    second = None
    for step, value in enumerate(VALUES[:40]):
        network.to_value(value)
        whole.update(network)
        if step < 15:
            first.update(network)
        else:
            if second is None:
                second = WeightAverage(One(99.0), decay=0.99, warmup=True)
                second.load_state_dict(first.state_dict())
            second.update(network)
    assert second.network.weight.item() == whole.network.weight.item()
    assert second.step == whole.step == 40
