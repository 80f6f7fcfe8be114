import numpy as np
import torch

from nonet.models.network import make_classifier
from nonet.training.features import compute_features


def test_the_head_makes_logits_of_the_features_whatever_the_batch(make_recipe):
    network, _ = make_classifier("vit_mini", make_recipe().models, 3)
    network.eval()
    images = np.random.default_rng(0).integers(0, 256, size=(11, 16, 16, 3), dtype=np.uint8)
    rows = np.array([7, 2, 2, 10, 0])
    features = compute_features(network, images, rows, device=torch.device("cpu"), batch_size=2)
    assert features.dtype == np.float32
    with torch.no_grad():
        logits = network(torch.from_numpy(images[rows]).permute(0, 3, 1, 2).float()).numpy()
        np.testing.assert_allclose(network.head(torch.from_numpy(features)).numpy(), logits, atol=1e-5)
    whole = compute_features(network, images, rows, device=torch.device("cpu"))
    np.testing.assert_allclose(features, whole, atol=1e-5)
    assert compute_features(network, images, rows[:0], device=torch.device("cpu")).shape == (0, features.shape[1])
