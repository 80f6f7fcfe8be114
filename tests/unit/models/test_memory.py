"""Devices whose memory runs out: prediction goes on with fewer images at once, and training says what to do."""

import logging

import numpy as np
import pytest
import torch

from nonet.errors import RunError
from nonet.inference.load import load
from nonet.models.memory import BatchSize, is_out_of_memory
from nonet.models.network import Classifier
from nonet.models.views import dihedral_views
from nonet.training.launch import train


class SmallDevice:
    """Makes networks fail above a number of images, as a GPU does, and counts the images that they get."""

    def __init__(self, monkeypatch):
        self.limit, self.sizes = 64, []
        self.error: type[Exception] = torch.OutOfMemoryError
        whole = Classifier.features

        def features(network, images):
            self.sizes.append(len(images))
            if len(images) > self.limit:
                raise self.error("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return whole(network, images)

        monkeypatch.setattr(Classifier, "features", features)


@pytest.fixture
def small_device(monkeypatch):
    return SmallDevice(monkeypatch)


def outputs(ensemble, paths):
    prepared = [ensemble.prepare(path) for path in paths]
    images = {crop: np.stack([one[crop] for one in prepared]) for crop in ensemble.crops}
    return ensemble.member_outputs(images, dihedral_views())


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_prediction_goes_on_with_what_fits_and_says_so_once(random_run, tiny_dataset, small_device, caplog, error):
    paths = tiny_dataset.paths()[:23]
    ensemble = load(random_run, accelerator="cpu", backend="torch")
    logits, scores = outputs(ensemble, paths)
    small_device.limit, small_device.error = 6, error
    found, found_scores = outputs(ensemble, paths)
    np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found_scores, scores, rtol=1e-4)
    assert [message for message in warnings_of(caplog) if "5 images at once" in message] == warnings_of(caplog)
    assert len(warnings_of(caplog)) == 1  # 23, 11 and 5 were tried by one of the networks
    small_device.sizes.clear()
    outputs(ensemble, paths)
    assert max(small_device.sizes) == 5
    assert len(warnings_of(caplog)) == 1


def test_memory_that_is_too_small_for_one_image_is_an_error(random_run, tiny_dataset, small_device):
    ensemble = load(random_run, accelerator="cpu", backend="torch")
    small_device.limit = 0
    with pytest.raises(RunError, match="single image") as caught:
        ensemble.predict_logits(tiny_dataset.paths()[:5])
    assert small_device.sizes == [5, 2, 1]
    assert caught.value.hint


def test_other_errors_stay_what_they_are(random_run, tiny_dataset, monkeypatch):
    def features(network, images):
        raise RuntimeError("shapes do not match")

    ensemble = load(random_run, accelerator="cpu", backend="torch")
    monkeypatch.setattr(Classifier, "features", features)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        ensemble.predict_logits(tiny_dataset.paths()[:5])


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("num_images", [1, 2, 5, 16, 17])
def test_each_image_is_computed_once_and_in_order(limit, num_images):
    def compute(images):
        if len(images) > limit:
            raise torch.OutOfMemoryError
        return images * 2, images + 1

    batch_size, images = BatchSize(16, torch.device("cpu")), np.arange(num_images)
    for _ in range(2):
        doubled, next_ones = batch_size.run(compute, images)
        assert doubled.tolist() == [2 * i for i in range(num_images)]
        assert next_ones.tolist() == [i + 1 for i in range(num_images)]
    assert 1 <= batch_size.size <= max(limit, 16 if num_images <= limit else limit)


def test_what_pytorch_says_without_memory_is_understood():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**58, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 18.10 GB, max allowed: 18.13 GB)"))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert not is_out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))


@pytest.mark.training
def test_training_says_to_lower_the_batch_and_goes_on_once_there_is_memory(
    tiny_dataset, make_recipe, tmp_path, small_device
):
    recipe = make_recipe("train.epochs=1", "train.batch_size=16")
    small_device.limit = 8
    with pytest.raises(RunError, match=r"train\.batch_size=16") as caught:
        train(recipe, tiny_dataset, out=tmp_path / "run", accelerator="cpu")
    assert "train.batch_size=8" in caught.value.hint
    small_device.limit = 64
    assert train(recipe, tiny_dataset, out=tmp_path / "run", accelerator="cpu").ensemble.exists()
