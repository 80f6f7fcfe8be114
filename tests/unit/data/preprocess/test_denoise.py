"""Denoising: the wavelet estimate and non-local means against scikit-image; clean images are left alone."""

import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import pywt
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from skimage.restoration import denoise_nl_means
from skimage.restoration import estimate_sigma as scikit_images_sigma

import nonet.data.preprocess.denoise_kernels
from nonet.data.images.decode import load_rgb
from nonet.data.preprocess.denoise import Part, denoise, estimate_sigma, non_local_means, patch_distance_px
from nonet.synthetic.dataset import draw_cell

PHOTOGRAPHS = Path(__file__).parents[5] / "shared/data"


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


def scikit_images(image, *, patch_size=5, distance, h, sigma=0.0):
    return denoise_nl_means(
        image.astype(np.float64),
        patch_size=patch_size,
        patch_distance=distance,
        h=h,
        sigma=sigma,
        fast_mode=True,
        preserve_range=True,
        channel_axis=-1,
    )


def ours(image, *, patch_size=5, distance, h, sigma=0.0):
    return non_local_means(image, patch_size_px=patch_size, patch_distance_px=distance, h=h, sigma=sigma)


# In grey levels. The issue asks for 1e-3 of the range, 0.255; seen are 2e-4.
CLOSE = {"rtol": 0, "atol": 2e-3}


@pytest.mark.parametrize("provide_sigma", [True, False])
@pytest.mark.parametrize("added", [0, 5, 10, 20, 40])
def test_same_as_scikit_image_on_a_drawn_cell(added, provide_sigma):
    cell = draw_cell("SNE", seed=3, size_px=368)
    noise = np.random.default_rng(added).normal(0, added, cell.shape)
    image = np.clip(np.rint(cell + noise), 0, 255).astype(np.uint8)
    found = estimate_sigma(image)
    options = {"distance": patch_distance_px(found), "h": 0.8 * found, "sigma": found if provide_sigma else 0.0}
    expected = scikit_images(image, **options)
    np.testing.assert_allclose(ours(image, **options), expected, **CLOSE)
    if found < 2:
        assert added == 0
        return
    result = denoise(image, settings(provide_sigma=provide_sigma))
    off = np.abs(result.astype(int) - np.rint(expected).astype(int))
    # A value next to a half rounds to either side.
    assert result.dtype == np.uint8 and off.max() <= 1
    assert np.count_nonzero(off) <= 1e-4 * off.size


@given(
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    patch_size=st.integers(2, 13),
    distance=st.integers(1, 7),
    h=st.floats(0.01, 200),
    sigma=st.floats(0, 60),
    spread=st.integers(0, 255),
    seed=st.integers(0, 99),
)
@effort(max_examples=150, deadline=None)
def test_same_as_scikit_image_whatever_the_size_and_settings(
    height, width, patch_size, distance, h, sigma, spread, seed
):
    # Also smaller than a patch, and flat.
    low = (255 - spread) // 2
    image = np.random.default_rng(seed).integers(low, low + spread + 1, (height, width, 3)).astype(np.uint8)
    options = {"patch_size": patch_size, "distance": distance, "h": h, "sigma": sigma}
    result = ours(image, **options)
    expected = scikit_images(image, **options).reshape(image.shape)  # it drops both sides of a single pixel
    # At the distance from which on weights are zero, one side may just count a patch, of weight 0.007, that the other
    # does not; on such images, where all else has little weight, it shows.
    np.testing.assert_allclose(result, expected, rtol=0, atol=0.255)
    assert result.shape == image.shape and result.dtype == np.float32


@pytest.mark.parametrize("shape", [(97, 61, 3), (64, 64, 3), (30, 101, 3)])
@pytest.mark.parametrize("pattern", ["black", "white", "checks", "stripes", "extremes"])
def test_extreme_values(shape, pattern):
    rows, columns = np.indices(shape[:2])
    image = {
        "black": np.zeros(shape),
        "white": np.full(shape, 255),
        "checks": np.repeat(((rows + columns) % 2 * 255)[..., None], 3, axis=-1),
        "stripes": np.repeat((rows % 3 * 127)[..., None], 3, axis=-1),
        "extremes": np.random.default_rng(0).integers(0, 2, shape) * 255,
    }[pattern].astype(np.uint8)
    for options in ({"distance": 3, "h": 8.0, "sigma": 10.0}, {"distance": 6, "h": 120.0}):
        np.testing.assert_allclose(ours(image, **options), scikit_images(image, **options), **CLOSE)


def test_any_memory_layout():
    image = noisy(20)
    expected = denoise(image, settings())
    locked = image.copy()
    locked.setflags(write=False)
    wide = np.zeros((2 * 96, 2 * 96, 4), np.uint8)
    wide[::2, ::2, :3] = image
    mirrored = np.ascontiguousarray(image[::-1, ::-1])[::-1, ::-1]
    for same in (locked, wide[::2, ::2, :3], mirrored, np.asfortranarray(image)):
        np.testing.assert_array_equal(denoise(same, settings()), expected)


@given(
    height=st.integers(1, 40), width=st.integers(1, 40), sigma=st.integers(0, 60), level=st.sampled_from([0, 128, 255])
)
@effort(max_examples=100, deadline=None)
def test_sigma_is_scikit_images(height, width, sigma, level):
    noise = np.random.default_rng(sigma).normal(level, sigma, (height, width, 3))
    image = np.clip(np.rint(noise), 0, 255).astype(np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of frames too small for wavelets
        expected = scikit_images_sigma(image.astype(np.float64), channel_axis=-1, average_sigmas=True)
    assert estimate_sigma(image) == pytest.approx(expected, rel=1e-12, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("height", [*range(1, 10), 40, 41])
@pytest.mark.parametrize("width", [*range(1, 10), 40, 41])
def test_wavelet_details_are_pywavelets_to_the_last_bit(height, width):
    # Most of it is flat, so that rounding decides what is zero.
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    image[: height // 2] = 201
    planes = np.pad(image, ((3, 3), (3, 3), (0, 0)), mode="symmetric").transpose(2, 0, 1).copy()
    expected = [np.abs(pywt.dwt2(channel.astype(np.float64), "db2")[1][2]) for channel in image.transpose(2, 0, 1)]
    np.testing.assert_array_equal(nonet.data.preprocess.denoise_kernels.diagonal_details(planes), expected)


@given(
    height=st.integers(4, 60),
    width=st.integers(4, 60),
    corner=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    size=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    patch_size=st.integers(2, 13),
    sigma=st.floats(2, 60),
    extremes=st.booleans(),
)
@effort(max_examples=100, deadline=None)
def test_a_part_is_denoised_to_the_bits_of_the_whole(height, width, corner, size, patch_size, sigma, extremes):
    rng = np.random.default_rng(height)
    image = rng.integers(0, 2, (height, width, 3)) * 255 if extremes else rng.normal(128, sigma, (height, width, 3))
    image = np.clip(image, 0, 255).astype(np.uint8)
    top, left = int(corner[0] * (height - 1)), int(corner[1] * (width - 1))
    part = Part(top, left, 1 + int(size[0] * (height - top - 1)), 1 + int(size[1] * (width - left - 1)))
    inside = (slice(top, top + part.height), slice(left, left + part.width))
    options = settings(patch_size_px=patch_size)
    whole = denoise(image, options, sigma=sigma)
    partly = denoise(image, options, sigma=sigma, part=part)
    np.testing.assert_array_equal(partly[inside], whole[inside])
    if patch_size < 10:
        partly[inside] = image[inside]
        np.testing.assert_array_equal(partly, image)


def test_nothing_alike_leaves_the_image():
    image = noisy(20)
    np.testing.assert_allclose(ours(image, distance=3, h=0.0), image, rtol=1e-6)
    np.testing.assert_array_equal(denoise(image, settings(clean_below_sigma=0.0), sigma=0.0), image)


def test_compiles_where_no_folder_can_be_written(monkeypatch):
    def refuse(function, *, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return function

    monkeypatch.setattr(nonet.data.preprocess.denoise_kernels.numba, "njit", refuse)
    assert nonet.data.preprocess.denoise_kernels.compiled(len) is len


@pytest.mark.slow
def test_another_process_compiles_nothing(tmp_path):
    look = (
        "from nonet.data.preprocess.denoise import warm_up\n"
        "from nonet.data.preprocess import denoise_kernels as kernels\n"
        "warm_up()\n"
        "names = ('copy_planes', 'diagonal_details', 'values_near_median', 'non_local_means')\n"
        "stats = [getattr(kernels, name).stats for name in names]\n"
        "print(*[(sum(s.cache_hits.values()), sum(s.cache_misses.values())) for s in stats])\n"
    )

    def answer():
        environment = {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": ":".join(filter(None, sys.path))}
        done = subprocess.run([sys.executable, "-c", look], env=environment, capture_output=True, text=True, check=True)
        return done.stdout.split("\n")[0]

    assert answer() == "(0, 1) (0, 1) (0, 1) (0, 1)"
    assert answer() == "(1, 0) (1, 0) (1, 0) (1, 0)"


def test_denoising_comes_nearer_to_the_truth():
    def error(image):
        return np.abs(image.astype(float) - scene()).mean()

    assert error(denoise(noisy(20), settings())) < 0.5 * error(noisy(20))


def test_input_is_not_changed():
    image = noisy(20)
    denoise(image, settings())
    np.testing.assert_array_equal(image, noisy(20))


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 3, 3), (5, 4, 3)])
def test_tiny_and_flat_images_survive(shape):
    image = np.full(shape, 128, np.uint8)
    np.testing.assert_array_equal(denoise(image, settings()), image)


@pytest.mark.skipif(not PHOTOGRAPHS.exists(), reason="needs the shared photographs")
def test_photographs_are_clean():
    files = sorted(PHOTOGRAPHS.glob("*/*/*.jpg"))[::200]
    sigmas = [estimate_sigma(load_rgb(file)) for file in files]
    assert 0.2 <= np.median(sigmas) <= 1.1
