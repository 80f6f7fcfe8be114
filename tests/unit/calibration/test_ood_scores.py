"""Out-of-distribution scores, against SciPy's and scikit-learn's, and on features with a planted answer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from nonet.calibration.ood_scores import fit_principal_space, fit_prototypes, nearest_prototype


@pytest.fixture(scope="module")
def features():
    """Training features of three classes with one covariance, (240, 12), and others, (30, 12)."""
    rng = np.random.default_rng(0)
    mixing, means, labels = rng.normal(size=(12, 12)), 3 * rng.normal(size=(3, 12)), np.repeat([0, 1, 2], 80)
    return means[labels] + rng.normal(size=(240, 12)) @ mixing, 4 * rng.normal(size=(30, 12))


def test_the_residual_is_what_pca_cannot_reconstruct(features):
    training, others = features
    for num_axes in (1, 4, 11):
        pca = PCA(num_axes).fit(training)
        expected = np.linalg.norm(others - pca.inverse_transform(pca.transform(others)), axis=1)
        np.testing.assert_allclose(fit_principal_space(training, num_axes=num_axes).residual(others), expected)


@given(num_images=st.integers(1, 6), num_axes=st.integers(0, 20))
def test_a_space_of_few_images_still_leaves_something_outside(num_images, num_axes):
    rng = np.random.default_rng(num_images)
    space = fit_principal_space(rng.normal(size=(num_images, 4)), num_axes=num_axes)
    assert space.axes.shape[1] <= min(num_axes, num_images - 1, 3)
    assert (space.residual(rng.normal(size=(5, 4))) > 0).all()


def test_the_nearest_prototype_is_the_nearest_neighbour_among_them(features):
    training, others = features
    prototypes = fit_prototypes(training, num_prototypes=8)
    np.testing.assert_allclose(np.linalg.norm(prototypes, axis=1), 1, rtol=1e-6)
    expected = NearestNeighbors(n_neighbors=1).fit(prototypes).kneighbors(normalize(others))[0][:, 0]
    np.testing.assert_allclose(nearest_prototype(prototypes, others), expected, rtol=1e-4, atol=1e-4)
    assert np.isnan(nearest_prototype(prototypes, np.full((1, 12), np.nan))).all()


def test_prototypes_are_the_directions_there_are(features):
    training, _ = features
    rng = np.random.default_rng(3)
    directions = np.linalg.qr(rng.normal(size=(12, 12)))[0][:3]
    bundles = np.repeat(directions, 50, axis=0) * rng.uniform(1, 9, (150, 1)) + rng.normal(size=(150, 12)) * 0.01
    prototypes = fit_prototypes(bundles, num_prototypes=3)
    assert (np.abs(prototypes @ directions.T).max(0) > 0.999).all()
    assert len(fit_prototypes(training[:5], num_prototypes=32)) == 5
    np.testing.assert_array_equal(fit_prototypes(training), fit_prototypes(training))


def test_features_unlike_those_of_training_are_recognised():
    """Known images vary along four of twelve axes; out-of-distribution ones along others, too."""
    rng = np.random.default_rng(2)
    axes = np.linalg.qr(rng.normal(size=(12, 12)))[0]

    def known(n):
        return rng.normal(size=(n, 4)) @ axes[:4] * 3 + rng.normal(size=(n, 12)) * 0.1

    training, held_out = known(200), known(100)
    others = known(100) + rng.normal(size=(100, 8)) @ axes[4:]
    truth = np.repeat([0, 1], 100)
    residual = fit_principal_space(training, num_axes=4).residual
    assert roc_auc_score(truth, np.concatenate([residual(held_out), residual(others)])) > 0.99
