"""Grad-CAM of a linear head on pooled maps is the class activation map, which needs no gradient."""

import numpy as np
import pytest
import torch

from nonet.models.grad_cam import grad_cam
from nonet.models.network import make_classifier
from nonet.recipe import Models


def network_of(name, size_px, classes=5):
    torch.manual_seed(0)
    models = Models(architectures=(name,), weights="none", image_size_px=size_px, head_widths=())
    return make_classifier(name, models, classes)[0].eval()


def image_of(size_px, seed=0):
    return torch.rand(1, 3, size_px, size_px, generator=torch.Generator().manual_seed(seed)) * 255


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_class_activation_map_of_a_linear_head(seed):
    """Zhou et al., CVPR 2016: the maps weighted by the head's weights, as pooling is a mean."""
    network, image = network_of("efficientnet_lite0", 96), image_of(96, seed)
    heat, features = grad_cam(network, image, 3)
    with torch.no_grad():
        maps = network.backbone.forward_features((image - network.mean) / network.std)[0]
        expected = torch.relu(torch.einsum("chw,c->hw", maps, network.head[0].weight[3]))
        np.testing.assert_allclose(features, network.features(image)[0].numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(heat, (expected / expected.max()).numpy(), atol=1e-4)


def test_the_logits_of_the_network_are_left_as_they_were():
    network, image = network_of("vit_mini", 64), image_of(64)
    with torch.no_grad():
        before = network(image)
    grad_cam(network, image, 0)
    with torch.inference_mode():
        assert torch.equal(network(image), before)
    assert all(parameter.grad is None for parameter in network.parameters())
