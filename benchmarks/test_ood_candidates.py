"""The published out-of-distribution scores agree with SciPy, scikit-learn and PyTorch."""

import numpy as np
import pytest
import torch
from ood_candidates import energy_score, fit_class_gaussians, max_logit_score, max_softmax_score, neighbour_score
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize


@pytest.fixture(scope="module")
def features():
    """Training features (240, 12) of three classes with one covariance, their labels, and other features (30, 12)."""
    rng = np.random.default_rng(0)
    mixing, means, labels = rng.normal(size=(12, 12)), 3 * rng.normal(size=(3, 12)), np.repeat([0, 1, 2], 80)
    return means[labels] + rng.normal(size=(240, 12)) @ mixing, labels, 4 * rng.normal(size=(30, 12))


def test_logit_scores_match_torch():
    logits = np.random.default_rng(1).normal(0, 50, (20, 5)).astype(np.float32)
    tensor = torch.from_numpy(logits).double()
    np.testing.assert_allclose(energy_score(logits), -torch.logsumexp(tensor, 1), rtol=1e-12)
    np.testing.assert_allclose(max_softmax_score(logits), 1 - tensor.softmax(1).amax(1), atol=1e-12)
    np.testing.assert_allclose(max_logit_score(logits), -tensor.amax(1))


def test_distances_match_scipy_with_ledoit_wolf_covariance(features):
    training, labels, others = features
    means = np.stack([training[labels == k].mean(0) for k in range(3)])
    precision = LedoitWolf(assume_centered=True).fit(training - means[labels]).precision_
    expected = [[mahalanobis(x, mean, precision) ** 2 for mean in means] for x in others]
    fitted = fit_class_gaussians(training, labels)
    np.testing.assert_allclose(fitted.distances(others), expected, rtol=1e-9)
    np.testing.assert_allclose(fitted.mahalanobis(others), np.min(expected, axis=1), rtol=1e-9)
    total = LedoitWolf().fit(training).precision_
    background = [mahalanobis(x, training.mean(0), total) ** 2 for x in others]
    np.testing.assert_allclose(
        fitted.relative_mahalanobis(others), np.min(expected, axis=1) - background, rtol=1e-6, atol=1e-6
    )


def test_distances_in_principal_axes_match_pca(features):
    training, labels, others = features
    pca = PCA(5).fit(training)
    expected = fit_class_gaussians(pca.transform(training), labels).mahalanobis(pca.transform(others))
    np.testing.assert_allclose(fit_class_gaussians(training, labels, num_axes=5).mahalanobis(others), expected)


def test_neighbour_distance_matches_scikit_learn(features):
    training, _, others = features
    near = NearestNeighbors(n_neighbors=7).fit(normalize(training))
    expected = near.kneighbors(normalize(others))[0][:, 6]
    np.testing.assert_allclose(neighbour_score(training, others, k=7), expected, rtol=1e-4)
    nearest = neighbour_score(training[:3], others, k=50)  # k is capped at the size of the bank
    np.testing.assert_allclose(nearest, neighbour_score(training[:3], others, k=3))
