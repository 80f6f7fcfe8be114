"""One image looked at closely: the members' probabilities are those that prediction averages."""

import numpy as np
import pytest
from scipy.special import softmax

import nonet
from nonet.inference.inspection import inspect
from nonet.models.views import get_views


@pytest.fixture(scope="module")
def ensemble(random_run):
    return nonet.load(random_run, accelerator="cpu")


def pixels(seed=0, shape=(40, 52)):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_members_vote_as_they_do_in_prediction(ensemble):
    views = get_views(ensemble.recipe.predict)
    found = inspect(ensemble, pixels(), ensemble.classes[0], views)
    assert found.members == [member.name for member in ensemble.members]
    np.testing.assert_allclose(found.proba.sum(axis=1), 1)
    # The logits of the ensemble are the weighted mean of the members' logits, calibrated.
    logits = np.log(found.proba)
    mean = softmax(np.tensordot(ensemble.member_weights, logits, axes=1))
    np.testing.assert_allclose(mean, ensemble.predict_proba([pixels()])[0], atol=1e-5)


def test_the_map_lies_over_the_image_and_tells_its_parts_apart(ensemble):
    views = get_views(ensemble.recipe.predict)
    maps = [inspect(ensemble, pixels(), code, views).heat for code in ensemble.classes]
    for heat in maps:
        assert heat.shape == (40, 52)
        assert heat.min() >= 0 and heat.max() <= 1
    assert max(heat.max() for heat in maps) == 1
    assert max(heat.std() for heat in maps) > 0.01


def test_features_are_those_of_each_member(ensemble):
    found = inspect(ensemble, pixels(), ensemble.classes[0], get_views(ensemble.recipe.predict))
    assert set(found.features) == set(found.members)
    widths = {member.name: (ensemble.torch_networks[member.name].module.num_features,) for member in ensemble.members}
    assert {name: feature.shape for name, feature in found.features.items()} == widths


def test_looking_changes_no_prediction(ensemble):
    before = ensemble.predict_logits([pixels(1)])
    inspect(ensemble, pixels(1), ensemble.classes[0], get_views(ensemble.recipe.predict))
    np.testing.assert_array_equal(ensemble.predict_logits([pixels(1)]), before)
