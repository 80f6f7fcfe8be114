"""Denoising with torch: the same as on processor cores, whatever the sizes, and clean images as they are."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from nonet.data.preprocess import denoise as on_cores
from nonet.models.denoise import denoise_batch, non_local_means
from nonet.recipe import Denoise
from nonet.synthetic.dataset import draw_cell

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]


def cells(sigmas, size_px=96):
    rng = np.random.default_rng(0)
    drawn = [draw_cell("MO", seed=i, size_px=size_px) for i in range(len(sigmas))]
    noisy = [cell + rng.normal(0, sigma, cell.shape) for cell, sigma in zip(drawn, sigmas)]
    return [np.clip(np.rint(image), 0, 255).astype(np.uint8) for image in noisy]


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("provide_sigma", [True, False])
def test_same_as_on_cores(device, provide_sigma):
    settings = Denoise(provide_sigma=provide_sigma)
    images = [*cells([0, 5, 10, 20, 40, 5]), *cells([10, 0, 20], size_px=75)]
    results = denoise_batch(images, settings, device=device, batch_size=2)
    for image, result in zip(images, results, strict=True):
        expected = on_cores.denoise(image, settings)
        off = np.abs(result.astype(int) - expected)
        assert result.dtype == np.uint8 and off.max() <= 1 and np.count_nonzero(off) <= 1e-3 * off.size


@pytest.mark.parametrize("device", DEVICES)
def test_images_of_one_batch_do_not_mix(device):
    images = cells([10, 10, 10])
    alone = [denoise_batch([image], Denoise(), device=device, sigmas=[9.0])[0] for image in images]
    np.testing.assert_array_equal(denoise_batch(images, Denoise(), device=device, sigmas=[9.0] * 3), alone)


@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    patch_size=st.integers(2, 9),
    distance=st.integers(1, 5),
    h=st.floats(0.0, 100),
    sigma=st.floats(0, 40),
    seed=st.integers(0, 99),
)
@effort(max_examples=60, deadline=None)
def test_same_averages_whatever_the_size_and_settings(height, width, patch_size, distance, h, sigma, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    sizes = {"patch_size_px": patch_size, "patch_distance_px": distance}
    expected = on_cores.non_local_means(image, h=h, sigma=sigma, **sizes)
    batch = torch.from_numpy(image).movedim(-1, 0)[None].expand(2, -1, -1, -1)
    noise, cut_off = torch.tensor([7.0, sigma], dtype=torch.float64), torch.tensor([3.0, h], dtype=torch.float64)
    result = non_local_means(batch, h=cut_off, sigma=noise, **sizes)[1]
    np.testing.assert_allclose(result.movedim(0, -1).numpy(), expected, rtol=0, atol=0.255)


def test_clean_and_switched_off_images_are_left_alone():
    images = cells([0, 20])
    assert denoise_batch(images, Denoise(), device="cpu")[0] is images[0]
    assert denoise_batch(images, Denoise(enabled=False), device="cpu")[1] is images[1]
    assert denoise_batch([], Denoise(), device="cpu") == []
    tiny = np.full((2, 3, 3), 128, np.uint8)
    assert denoise_batch([tiny], Denoise(), device="cpu")[0] is tiny
