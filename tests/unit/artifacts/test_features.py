"""Reduced features keep which images look alike, and place new images among them."""

import numpy as np

from nonet.artifacts.features import Features


def cosine(a, b):
    return a @ b.T / np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))


def features_of_rank(rank, num, seed=0):
    axes = np.random.default_rng(0).normal(size=(rank, 100))
    return (np.random.default_rng(seed).normal(size=(num, rank)) @ axes).astype(np.float32)


def names(num):
    return np.array([f"image {i}" for i in range(num)])


def test_distances_are_those_of_the_directions():
    features = features_of_rank(6, 200)
    scales = np.random.default_rng(1).uniform(0.1, 10, size=(200, 1))
    reduced = Features.fit(names(200), features * scales).reduced
    assert reduced.shape == (200, 64)
    distance = np.square(reduced[:, None] - reduced).sum(axis=2)
    np.testing.assert_allclose(distance, 2 - 2 * cosine(features, features), atol=5e-3)


def test_a_member_that_diverged_has_features_of_zero():
    assert Features.fit(names(3), np.full((3, 8), np.nan, dtype=np.float32)).reduced.tolist() == [[0] * 8] * 3


def test_new_images_are_as_similar_as_their_angles_say_also_after_storing(tmp_path):
    features, new = features_of_rank(6, 200), features_of_rank(6, 5, seed=2)
    fitted = Features.fit(names(200), features)
    fitted.write(tmp_path / "features.npz")
    stored = Features.read(tmp_path / "features.npz")
    assert stored.image_id.tolist() == names(200).tolist()
    for one, expected in zip(new, cosine(new, features)):
        np.testing.assert_allclose(fitted.similarity(one), expected, atol=2e-3)
        np.testing.assert_allclose(stored.similarity(3 * one), expected, atol=5e-3)


def test_what_no_held_out_image_differs_in_makes_a_new_image_less_similar():
    features = features_of_rank(6, 200)
    fitted = Features.fit(names(200), features, max_components=6)
    other = features[0] + 100 * np.random.default_rng(3).normal(size=100)
    np.testing.assert_allclose(fitted.similarity(other), cosine(other[None], features)[0], atol=0.02)
