"""One body for every entry of BACKBONES."""

import pytest
import torch

from nonet.errors import RecipeError, WeightsError
from nonet.models.backbones import BACKBONES, load_pretrained, make_backbone, weights_availability
from nonet.models.grad_cam import grad_cam
from nonet.models.listing import backbone_rows
from nonet.models.network import count_parameters, get_num_features, make_classifier
from nonet.recipe import Models

SMALL = {"dinobloom_small": 56, "swinv2_tiny": 64}  # px; a size that each architecture can take; 64 for the rest


@pytest.mark.parametrize("name", BACKBONES)
class TestEveryBackbone:
    def test_its_facts_are_there(self, name):
        backbone = BACKBONES[name]
        assert backbone.title.strip()
        assert backbone.licence.strip()
        assert backbone.image_size_px >= 16
        assert len(backbone.mean) == len(backbone.std) == 3
        assert all(0 < value < 1 for value in (*backbone.mean, *backbone.std))
        assert not (backbone.hub and backbone.package)

    def test_its_numbers_of_parameters_and_features_are_those_of_the_network(self, name):
        with torch.device("meta"):
            network = make_backbone(name)
            classifier, _ = make_classifier(name, Models(architectures=(name,), weights="none"), 13)
        assert BACKBONES[name].num_parameters == count_parameters(network)
        assert BACKBONES[name].num_features == get_num_features(network)
        listed = next(row for row in backbone_rows() if row["name"] == name)
        assert listed["parameters_M"] == round(count_parameters(classifier) / 1e6, 1)

    def test_it_says_whether_its_weights_are_at_hand(self, name):
        answer = weights_availability(name)
        assert answer == "yes" or answer == "none needed" or answer.startswith("no: ")
        assert (answer == "none needed") == (BACKBONES[name].hub is None and BACKBONES[name].package is None)

    def test_it_takes_its_own_size(self, name):
        with torch.device("meta"):
            network, _ = make_classifier(name, Models(architectures=(name,), weights="none"), 13)
            size = BACKBONES[name].image_size_px
            assert network(torch.empty(2, 3, size, size)).shape == (2, 13)

    def test_its_smallest_size_works_and_a_smaller_one_is_refused(self, name):
        size = BACKBONES[name].smallest_px
        with torch.device("meta"):
            assert make_backbone(name, size)(torch.empty(2, 3, size, size)).shape[0] == 2
        with pytest.raises(RecipeError, match=f"{name} .*8 px"):
            make_backbone(name, 8)

    def test_logits_and_gradients_are_finite(self, name):
        size = SMALL.get(name, 64)
        models = Models(architectures=(name,), weights="none", image_size_px=size, head_widths=(16,))
        network, origin = make_classifier(name, models, 5)
        assert origin is None
        logits = network(torch.rand(2, 3, size, size) * 255)
        assert logits.shape == (2, 5)
        assert logits.isfinite().all()
        logits.square().mean().backward()
        for key, parameter in network.named_parameters():
            assert parameter.grad is not None, f"{key} takes no part, which training over several devices refuses"
            assert parameter.grad.isfinite().all(), key

    def test_where_it_looked_is_a_map_of_the_image(self, name):
        size = SMALL.get(name, 64)
        torch.manual_seed(0)
        models = Models(architectures=(name,), weights="none", image_size_px=size, head_widths=())
        network = make_classifier(name, models, 9)[0].eval()
        image = torch.rand(1, 3, size, size) * 255
        maps, features = zip(*(grad_cam(network, image, number) for number in range(9)))
        for heat in maps:
            assert heat.shape[0] == heat.shape[1] >= 2
            assert heat.min() >= 0 and heat.max() in (0, 1)
        assert max(heat.max() for heat in maps) == 1, "random weights lower some logits everywhere, never all nine"
        assert features[0].shape == (network.num_features,)

    def test_an_image_is_judged_alone(self, name):
        size = SMALL.get(name, 64)
        network = make_backbone(name, size).eval()
        images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            torch.testing.assert_close(network(images)[1:2], network(images[1:2]), atol=1e-4, rtol=1e-3)

    @pytest.mark.slow
    def test_a_file_of_its_own_weights_is_taken_and_one_tensor_less_is_not(self, name, tmp_path):
        from safetensors.torch import load_file, save_file

        size = SMALL.get(name, 64)
        source = make_backbone(name, size)
        file = tmp_path / "weights.safetensors"
        save_file({k: v.contiguous() for k, v in source.state_dict().items()}, file)
        network = make_backbone(name, size)
        origin = load_pretrained(network, name, file)
        assert str(file) in origin
        assert BACKBONES[name].licence in origin
        for key, value in network.state_dict().items():
            assert torch.equal(value, source.state_dict()[key]), key
        state = load_file(file)
        lost = sorted(state)[len(state) // 2]
        del state[lost]
        save_file(state, file)
        with pytest.raises(WeightsError, match="1 missing") as caught:
            load_pretrained(network, name, file)
        assert lost in str(caught.value)


@pytest.mark.parametrize("name", [n for n, one in BACKBONES.items() if not (one.hub or one.package)])
def test_without_weights_to_be_had_it_says_so(name):
    with pytest.raises(RecipeError, match=f"{name} has no pretrained weights"):
        load_pretrained(make_backbone(name), name)
