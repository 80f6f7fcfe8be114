"""Which device and precision a name stands for, on machines that are not this one."""

import platform
import sys

import pytest
import torch
from lightning_fabric.accelerators.mps import MPSAccelerator

from nonet.errors import RunError
from nonet.inference.backends.choice import choose_backend, has_gpu
from nonet.models.device import make_fabric, preferred_memory_format


@pytest.fixture
def mac(monkeypatch):
    """A Mac with Apple silicon, as far as PyTorch and Lightning Fabric can tell."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    MPSAccelerator.is_available.cache_clear()
    yield
    MPSAccelerator.is_available.cache_clear()


@pytest.mark.parametrize("accelerator", ["auto", "gpu", "mps"])
def test_a_mac_computes_on_its_gpu_in_single_precision(mac, accelerator):
    fabric = make_fabric(accelerator=accelerator)
    assert fabric.device.type == "mps"
    assert fabric.strategy.precision.precision == "32-true"
    assert preferred_memory_format(fabric.device) is torch.contiguous_format


def test_the_processor_of_a_mac_is_used_on_request(mac):
    assert make_fabric(accelerator="cpu").device.type == "cpu"


def test_a_mac_predicts_with_pytorch_on_its_gpu(mac, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert has_gpu()
    assert choose_backend("auto", "auto") == "torch"
    assert choose_backend("auto", "cpu") != "torch"


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has it")
def test_an_apple_gpu_elsewhere_is_an_error():
    with pytest.raises(RunError, match="mps"):
        make_fabric(accelerator="mps")
