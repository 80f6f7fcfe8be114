"""Denoising: the wavelet estimate and non-local means against their definitions; clean images are left alone."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import pywt
from skimage.restoration import denoise_nl_means

from nonet.data.denoise import denoise, estimate_sigma, patch_distance_px
from nonet.data.images import load_rgb

PHOTOGRAPHS = Path(__file__).parents[2] / "shared/data"


def settings(**changes):
    values = {"enabled": True, "clean_below_sigma": 2.0, "patch_size_px": 5, "strength": 0.8, "provide_sigma": True}
    return SimpleNamespace(**values | changes)


def scene(size=96):
    rows, columns = np.mgrid[:size, :size] / size
    disc = ((rows - 0.5) ** 2 + (columns - 0.5) ** 2 < 0.08)[..., None]
    return np.where(disc, [110, 60, 140], [225, 200, 205]) + (20 * rows)[..., None]


def noisy(sigma, seed=0):
    noise = np.random.default_rng(seed).normal(0, sigma, (96, 96, 3))
    return np.clip(np.rint(scene() + noise), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("sigma", [5, 10, 20])
def test_sigma_is_found_in_grey_levels(sigma):
    assert estimate_sigma(noisy(sigma)) == pytest.approx(sigma, rel=0.1)


def test_sigma_is_donoho_and_johnstones():
    image = noisy(12)
    by_hand = []
    for channel in range(3):
        _, (_, _, diagonal) = pywt.dwt2(image[..., channel].astype(float), "db2")
        by_hand.append(np.median(np.abs(diagonal[diagonal != 0])) / 0.6744897501960817)
    assert estimate_sigma(image) == pytest.approx(np.mean(by_hand), rel=1e-6)


@pytest.mark.parametrize(
    ("sigma", "distance"), [(0.0, 1), (1.0, 1), (2.0, 1), (4.0, 2), (10.0, 3), (20.0, 4), (36.0, 6)]
)
def test_patch_distance_is_the_root_of_sigma(sigma, distance):
    assert patch_distance_px(sigma) == distance
    assert isinstance(patch_distance_px(np.float64(sigma)), int)


def test_clean_image_is_left_alone_bit_for_bit():
    image = scene().astype(np.uint8)
    np.testing.assert_array_equal(denoise(image, settings()), image)


def test_noisy_image_is_left_alone_when_switched_off():
    np.testing.assert_array_equal(denoise(noisy(20), settings(enabled=False)), noisy(20))


def test_threshold_is_obeyed():
    image = noisy(5)
    np.testing.assert_array_equal(denoise(image, settings(clean_below_sigma=9.0)), image)
    assert (denoise(image, settings()) != image).any()


@pytest.mark.parametrize("provide_sigma", [True, False])
@pytest.mark.parametrize("sigma", [4, 12, 30])
def test_same_as_scikit_image_in_grey_levels(sigma, provide_sigma):
    image = noisy(sigma)
    found = estimate_sigma(image)
    expected = denoise_nl_means(
        image.astype(np.float64),
        patch_size=5,
        patch_distance=max(1, int(np.floor(np.sqrt(found) + 0.5))),
        h=0.8 * found,
        sigma=found if provide_sigma else 0.0,
        fast_mode=True,
        preserve_range=True,
        channel_axis=-1,
    )
    result = denoise(image, settings(provide_sigma=provide_sigma))
    assert result.dtype == np.uint8
    # Ours computes in float32 and rounds to whole grey levels.
    assert np.abs(result.astype(float) - expected).max() < 0.5 + 0.01


def test_denoising_comes_nearer_to_the_truth():
    def error(image):
        return np.abs(image.astype(float) - scene()).mean()

    assert error(denoise(noisy(20), settings())) < 0.5 * error(noisy(20))


def test_input_is_not_changed():
    image = noisy(20)
    denoise(image, settings())
    np.testing.assert_array_equal(image, noisy(20))


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning:skimage")
@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 3, 3), (5, 4, 3)])
def test_tiny_and_flat_images_survive(shape):
    image = np.full(shape, 128, np.uint8)
    np.testing.assert_array_equal(denoise(image, settings()), image)


@pytest.mark.skipif(not PHOTOGRAPHS.exists(), reason="needs the shared photographs")
def test_photographs_are_clean():
    files = sorted(PHOTOGRAPHS.glob("*/*/*.jpg"))[::200]
    sigmas = [estimate_sigma(load_rgb(file)) for file in files]
    assert 0.2 <= np.median(sigmas) <= 1.1
