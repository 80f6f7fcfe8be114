"""Corruptions: known ones at named severities, from a seed, and the same as what training does to whole batches."""

import numpy as np
import pytest
import scipy.ndimage
import torch
from skimage.metrics import peak_signal_noise_ratio

from nonet.data.preprocess.corruptions import (
    CORRUPTIONS,
    FRAME_PX,
    SEVERITIES,
    blur,
    change_light,
    corrupt,
    line_kernel,
    motion_blur,
)
from nonet.errors import DataError
from nonet.recipe import Augment
from nonet.synthetic.dataset import draw_cell
from nonet.training.augment import Draws, augment

OFF = {f"{name}_probability": 0 for name in ("mixup", "cutmix", "flip", "rotation", "noise", "blur", "motion_blur")} | {
    "brightness": 0,
    "contrast": 0,
}


@pytest.fixture(scope="module")
def cell():
    return draw_cell("MY", seed=5, size_px=180)


@pytest.fixture
def drawn(monkeypatch):
    """Random numbers of a batch of two whose uniform ones are the largest possible."""
    made = Draws(2, torch.device("cpu"), 0)
    monkeypatch.setattr(made, "uniform", lambda low, high: torch.full((2,), float(high)))
    return made


def batch_of(image):
    return torch.from_numpy(np.stack([image, image])).permute(0, 3, 1, 2).float()


def picture_of(batch):
    return batch[1].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_each_severity_corrupts_more(cell, kind):
    """Seen over several seeds, as the direction of a light or movement matters too."""
    damage = [
        np.mean([peak_signal_noise_ratio(cell, corrupt(cell, kind, severity, seed=seed)) for seed in range(4)])
        for severity in SEVERITIES[1:]
    ]
    assert damage == sorted(damage, reverse=True)
    assert damage[0] < 45  # dB: visible
    assert damage[-1] > 5  # and not black


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_the_seed_decides_every_pixel(cell, kind):
    once = corrupt(cell, kind, 3, seed=7)
    assert once.dtype == np.uint8 and once.shape == cell.shape
    assert np.array_equal(once, corrupt(cell.copy(), kind, 3, seed=7))
    alike = [np.array_equal(once, corrupt(cell, kind, 3, seed=seed)) for seed in range(4)]
    assert all(alike) == (kind in ("blur", "jpeg"))  # nothing is random about these


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(96, 96, 3), (61, 40, 3), (8, 9, 3)])
def test_any_frame_will_do_and_the_given_image_stays(kind, shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    kept = image.copy()
    assert corrupt(image, kind, 0, seed=1) is image
    assert corrupt(image, kind, 4, seed=1).shape == shape
    assert np.array_equal(image, kept)


@pytest.mark.parametrize("kind", ["noise", "shot_noise"])
def test_noise_has_the_strength_that_it_says(kind):
    for severity, sigma in zip(SEVERITIES[1:3], CORRUPTIONS[kind].strengths):
        grey = 255 / 4 if kind == "shot_noise" else 128  # a quarter of white has half of white's noise
        image = np.full((200, 200, 3), round(grey), dtype=np.uint8)
        spread = corrupt(image, kind, severity, seed=0).astype(float).std()
        assert spread == pytest.approx(sigma / 2 if kind == "shot_noise" else sigma, rel=0.03)


def test_blur_grows_with_the_frame():
    """A point in a frame of half the side becomes half as wide."""
    for side in (FRAME_PX, FRAME_PX // 2):
        image = np.zeros((side, side, 3), dtype=np.uint8)
        image[side // 2 - 20 : side // 2 + 20] = 255  # a bar, 40 px: its edges are wide as the blur is
        edge = corrupt(image, "blur", 1, seed=0)[:, side // 2, 0].astype(float)
        slope = np.abs(np.diff(edge)).max() / 255
        assert 1 / (slope * (2 * np.pi) ** 0.5) == pytest.approx(3.25 * side / FRAME_PX, rel=0.06)


def test_blur_is_scipys(cell):
    reference = scipy.ndimage.gaussian_filter(cell.astype(float), (2.5, 2.5, 0), mode="mirror", radius=(8, 8, 0))
    np.testing.assert_allclose(blur(cell.astype(np.float32), 2.5), reference, atol=0.01)


def test_motion_blur_is_a_plain_convolution(cell):
    kernel = line_kernel(np.array([0.7]), 6)[0]
    reference = scipy.ndimage.correlate(cell.astype(float), kernel[:, :, None], mode="mirror")
    np.testing.assert_allclose(motion_blur(cell.astype(np.float32), 0.7, 6), reference, atol=0.01)


def test_training_blurs_as_the_tests_do(cell, drawn):
    batch = augment(batch_of(cell), Augment(**OFF | {"blur_probability": 1, "blur_sigma_px": 1.7}), drawn)
    np.testing.assert_allclose(picture_of(batch), blur(cell.astype(np.float32), 1.7), atol=0.02)


def test_training_moves_as_the_tests_do(cell, drawn):
    chosen = Augment(**OFF | {"motion_blur_probability": 1, "motion_blur_px": 9})
    expected = motion_blur(cell.astype(np.float32), np.pi, 4)
    np.testing.assert_allclose(picture_of(augment(batch_of(cell), chosen, drawn)), expected, atol=0.02)


def test_training_lights_as_the_tests_do(cell, drawn):
    batch = augment(batch_of(cell), Augment(**OFF | {"brightness": 0.1, "contrast": 0.2}), drawn)
    values = cell.astype(np.float32)
    expected = change_light(values, values.mean(), gain=1.1, contrast=1.2).clip(0, 255)
    np.testing.assert_allclose(picture_of(batch), expected, atol=0.05)


def test_training_adds_noise_as_the_tests_do(drawn):
    grey = np.full((200, 200, 3), 128, dtype=np.uint8)
    sigma = CORRUPTIONS["noise"].strengths[1]
    batch = augment(batch_of(grey), Augment(**OFF | {"noise_probability": 1, "noise_sigma": sigma}), drawn)
    ours = corrupt(grey, "noise", 2, seed=0)
    assert picture_of(batch).std() == pytest.approx(ours.astype(float).std(), rel=0.02)


@pytest.mark.parametrize(
    ("image", "kind", "severity", "named"),
    [
        (np.zeros((8, 8, 3), np.uint8), "rain", 1, '"rain"'),
        (np.zeros((8, 8, 3), np.uint8), "blur", 5, "severity is 5"),
        (np.zeros((8, 8, 3), np.uint8), "blur", -1, "severity is -1"),
        (np.zeros((8, 8)), "blur", 1, "8-bit RGB"),
        (np.zeros((8, 8, 4), np.uint8), "blur", 1, "(8, 8, 4)"),
    ],
)
def test_what_does_not_suit_is_named(image, kind, severity, named):
    with pytest.raises(DataError) as error:
        corrupt(image, kind, severity, seed=0)
    assert named in str(error.value) and error.value.hint
