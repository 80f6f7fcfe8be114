"""benchmarks/gpu.py: the ways that it compares compute the same."""

import gpu
import pytest
import torch


@pytest.fixture(params=gpu.TINY.architectures)
def networks(request):
    """Three networks of an architecture whose blocks all matter: timm begins with some at 0."""
    made = [gpu.make_network(request.param, gpu.TINY, seed) for seed in range(3)]
    for network in made:
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made


IMAGES = 255 * torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_networks_by_vmap_compute_what_they_compute_in_turn(networks):
    expected = gpu.in_turn(networks, IMAGES)
    assert (expected[0] - expected[1]).abs().max() > 1e-2
    torch.testing.assert_close(gpu.by_vmap(networks)(IMAGES), expected, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_a_fixed_position_bias_changes_nothing(networks):
    expected = networks[0](IMAGES)
    gpu.fix_position_bias(networks[0])
    assert torch.equal(networks[0](IMAGES), expected)
