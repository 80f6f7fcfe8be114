"""One body for every entry of SAMPLERS."""

import numpy as np
import pytest

from nonet.errors import DataError, RecipeError
from nonet.recipe import Sampling
from nonet.training.sampling import SAMPLERS, draw_epoch, draw_probabilities, get_sampler

LABELS = np.repeat([0, 2, 3], [900, 90, 10])  # no image of class 1


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(RecipeError, match="unifrom") as caught:
        get_sampler("unifrom")
    assert 'Did you mean "uniform"' in caught.value.hint
    assert all(name in caught.value.hint for name in SAMPLERS)


@pytest.mark.parametrize("name", SAMPLERS)
class TestEverySampler:
    def test_every_image_has_the_probability_of_its_class(self, name):
        probability = draw_probabilities(LABELS, Sampling(sampler=name))
        assert probability.sum() == pytest.approx(1)
        assert (probability > 0).all()
        for k in np.unique(LABELS):
            assert np.ptp(probability[k == LABELS]) == 0

    def test_rare_classes_are_not_drawn_less_often_than_by_image(self, name):
        probability = draw_probabilities(LABELS, Sampling(sampler=name))
        assert probability[LABELS == 3][0] >= probability[LABELS == 2][0] >= probability[LABELS == 0][0]

    def test_an_epoch_has_as_many_draws_as_images_and_its_seed_determines_it(self, name):
        first, again, other = (draw_epoch(LABELS, Sampling(sampler=name), seed=seed) for seed in (1, 1, 2))
        assert len(first) == len(LABELS)
        assert set(first) <= set(range(len(LABELS)))
        assert (first == again).all()
        assert (first != other).any()

    def test_external_images_are_drawn_in_proportion_to_their_weight(self, name):
        labels, external = np.zeros(100, dtype=int), np.arange(100) < 50
        settings = Sampling(sampler=name, external_weight=0.25)
        drawn = np.concatenate([draw_epoch(labels, settings, seed=s, external=external) for s in range(100)])
        assert external[drawn].mean() == pytest.approx(0.2, abs=0.01)  # 0.25 to 1
        never = Sampling(sampler=name, external_weight=0)
        assert not external[draw_epoch(labels, never, seed=0, external=external)].any()
        with pytest.raises(DataError, match="external_weight"):
            draw_probabilities(labels, never, np.ones(100, dtype=bool))
