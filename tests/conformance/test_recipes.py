"""One body for every recipe that comes with nonet."""

import tomllib

import pytest

from nonet.models.backbones import BACKBONES
from nonet.recipe import Recipe, list_recipes, load_recipe
from nonet.training.losses import LOSSES
from nonet.training.sampling import SAMPLERS


@pytest.mark.parametrize("name", list_recipes())
class TestEveryRecipe:
    def test_it_is_called_as_its_file_and_says_what_it_is_for(self, name):
        recipe = load_recipe(name)
        assert recipe.name == name
        assert recipe.description.endswith(".")

    def test_it_is_the_same_when_written_and_read_back(self, name, tmp_path):
        recipe = load_recipe(name)
        (tmp_path / "copy.toml").write_text(recipe.to_toml(), encoding="utf-8")
        assert load_recipe(tmp_path / "copy.toml") == recipe

    def test_every_setting_but_those_left_to_the_network_is_written(self, name):
        written = tomllib.loads(load_recipe(name).to_toml())
        for section, field in Recipe.model_fields.items():
            if hasattr(field.annotation, "model_fields"):
                left_out = set(field.annotation.model_fields) - set(written[section])
                assert left_out <= {"image_size_px"}

    def test_its_networks_loss_and_sampler_exist(self, name):
        recipe = load_recipe(name)
        assert set(recipe.models.architectures) <= set(BACKBONES)
        assert set(recipe.models.weight_files) <= set(recipe.models.architectures)
        assert recipe.loss.name in LOSSES
        assert recipe.sampling.sampler in SAMPLERS

    def test_pretrained_weights_are_requested_only_where_there_are_some(self, name):
        models = load_recipe(name).models
        if models.weights == "pretrained":
            for architecture in models.architectures:
                assert BACKBONES[architecture].hub or BACKBONES[architecture].package
