import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.data.preprocess.stain import ROMANOWSKY
from nonet.recipe import Augment
from nonet.training.augment import Draws, augment, mix

CPU = torch.device("cpu")
OFF = {
    "mixup_probability": 0,
    "cutmix_probability": 0,
    "flip_probability": 0,
    "rotation_probability": 0,
    "noise_probability": 0,
    "blur_probability": 0,
    "motion_blur_probability": 0,
    "brightness": 0,
    "contrast": 0,
}


def pictures(n=6, size=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 3, size, size), generator=generator).float()


def one_hot(n, classes=4):
    return torch.eye(classes)[torch.arange(n) % classes]


def draws(n, seed=0):
    return Draws(n, CPU, seed)


def smooth(n=4, size=32):
    """Pictures without a hard edge, each another."""
    y, x = torch.meshgrid(torch.arange(size) / size, torch.arange(size) / size, indexing="ij")
    waves = [128 + 90 * torch.sin(2 * math.pi * (x * (k + 1) + y)) for k in range(3 * n)]
    return torch.stack(waves).view(n, 3, size, size)


probability = st.floats(0, 1)
any_settings = st.builds(
    Augment,
    mixup_probability=st.floats(0, 0.5),
    cutmix_probability=st.floats(0, 0.5),
    mixup_alpha=st.floats(0.05, 3),
    cutmix_alpha=st.floats(0.05, 3),
    flip_probability=probability,
    rotation_probability=probability,
    rotation_deg=st.floats(0, 180),
    noise_probability=probability,
    noise_sigma=st.floats(0, 80),
    blur_probability=probability,
    blur_sigma_px=st.floats(0.05, 3),
    motion_blur_probability=probability,
    motion_blur_px=st.sampled_from([3, 5, 7, 9]),
    brightness=st.floats(0, 0.9),
    contrast=st.floats(0, 0.9),
    stain_probability=probability,
    stain_gain=st.floats(0, 0.9),
)


@settings(max_examples=60)
@given(chosen=any_settings, seed=st.integers(0, 2**62), n=st.integers(1, 7))
def test_values_stay_in_range_and_labels_sum_to_one(chosen, seed, n):
    made = draws(n, seed)
    images = augment(pictures(n, 16), chosen, made)
    images, labels = mix(images, one_hot(n), chosen, made)
    assert images.shape == (n, 3, 16, 16)
    assert images.isfinite().all()
    assert images.min() >= 0
    assert images.max() <= 255
    assert labels.shape == (n, 4)
    assert (labels >= 0).all()
    torch.testing.assert_close(labels.sum(1), torch.ones(n))


@settings(max_examples=20)
@given(chosen=any_settings, seed=st.integers(0, 2**62))
def test_the_seed_decides_every_bit(chosen, seed):
    def once():
        made = draws(5, seed)
        return mix(augment(pictures(5, 16), chosen, made), one_hot(5), chosen, made)

    (images, labels), (again, labels_again) = once(), once()
    assert torch.equal(images, again)
    assert torch.equal(labels, labels_again)


def test_another_seed_makes_other_images():
    chosen = Augment()
    assert not torch.equal(augment(pictures(), chosen, draws(6, 1)), augment(pictures(), chosen, draws(6, 2)))


def test_with_all_off_images_stay_as_they_are():
    images = pictures()
    torch.testing.assert_close(augment(images.clone(), Augment(**OFF), draws(6)), images, atol=0.01, rtol=0)
    mixed, labels = mix(images, one_hot(6), Augment(**OFF), draws(6))
    assert torch.equal(mixed, images)
    assert torch.equal(labels, one_hot(6))


def test_the_given_batch_is_not_written_to():
    images, labels = pictures(), one_hot(6)
    images_before, labels_before = images.clone(), labels.clone()
    for seed in range(8):
        for kind in ("mixup", "cutmix"):
            made = draws(6, seed)
            mix(images, labels, Augment(**OFF | {f"{kind}_probability": 1}), made)
        augment(images, Augment(), draws(6, seed))
    assert torch.equal(images, images_before)
    assert torch.equal(labels, labels_before)


def test_flips_alone_give_one_of_four_versions():
    images = pictures(24)
    flipped = augment(images, Augment(**OFF | {"flip_probability": 0.5}), draws(24))
    versions = [images, images.flip(2), images.flip(3), images.flip(2, 3)]
    nearest = torch.stack([(flipped - v).abs().amax((1, 2, 3)) for v in versions]).min(0)
    assert nearest.values.max() < 0.01
    assert set(nearest.indices.tolist()) == {0, 1, 2, 3}


def test_a_rotation_keeps_a_picture_that_looks_alike_from_all_sides():
    size = 33
    y, x = torch.meshgrid(torch.arange(size) - 16.0, torch.arange(size) - 16.0, indexing="ij")
    disc = (128 + 100 * torch.cos((x**2 + y**2).sqrt() / 5)).expand(4, 3, size, size)
    turned = augment(disc, Augment(**OFF | {"rotation_probability": 1}), draws(4))
    inside = x**2 + y**2 < 14**2
    torch.testing.assert_close(turned[..., inside], disc[..., inside], atol=2, rtol=0)


def test_rotations_change_other_pictures():
    images = smooth()
    assert (augment(images, Augment(**OFF | {"rotation_probability": 1}), draws(4)) - images).abs().max() > 10


def test_brightness_multiplies_each_image_by_one_number():
    images = smooth() / 2  # nothing reaches the end of the range
    ratio = augment(images, Augment(**OFF | {"brightness": 0.3}), draws(4)) / images
    factor = ratio.mean((1, 2, 3))
    torch.testing.assert_close(ratio, factor.view(-1, 1, 1, 1).expand_as(ratio), atol=1e-3, rtol=1e-3)
    assert (factor > 0.7).all()
    assert (factor < 1.3).all()
    assert factor.std() > 0.01


def test_contrast_keeps_the_mean_and_scales_the_deviation():
    images = smooth() / 2 + 50
    changed = augment(images, Augment(**OFF | {"contrast": 0.3}), draws(4))
    torch.testing.assert_close(changed.mean((1, 2, 3)), images.mean((1, 2, 3)), atol=0.01, rtol=0)
    factor = changed.std((1, 2, 3)) / images.std((1, 2, 3))
    assert (factor > 0.7).all()
    assert (factor < 1.3).all()
    assert factor.std() > 0.01


def test_gaussian_blur_is_scipys():
    images, sigma_px = pictures(5, 40), 1.4
    settings_ = Augment(**OFF | {"blur_probability": 1, "blur_sigma_px": sigma_px})
    blurred = augment(images, settings_, draws(5)).numpy()
    margin = 6
    inside = (slice(None), slice(margin, -margin), slice(margin, -margin))
    for image, result in zip(images.numpy(), blurred):
        # The width is drawn: it is searched among widths, and there the filter must be scipy's.
        widths = np.linspace(0.1, sigma_px, 400)
        references = [scipy.ndimage.gaussian_filter(image, (0, s, s), radius=(0, 5, 5))[inside] for s in widths]
        error = min(np.abs(result[inside] - reference).max() for reference in references)
        assert error < 0.7  # a step between widths is worth this much
        assert np.abs(result[inside] - image[inside]).max() > 1 or error < 1e-3


def test_blur_of_a_known_width_is_scipys_everywhere(monkeypatch):
    images = pictures(2, 40)
    made = draws(2)
    # The largest of everything: only the blur's width matters where the rest is off.
    monkeypatch.setattr(made, "uniform", lambda low, high: torch.full((2,), high))
    blurred = augment(images, Augment(**OFF | {"blur_probability": 1, "blur_sigma_px": 1.5}), made)
    reference = scipy.ndimage.gaussian_filter(images.numpy(), (0, 0, 1.5, 1.5), mode="mirror", radius=(0, 0, 5, 5))
    np.testing.assert_allclose(blurred.numpy(), reference, atol=0.02)


def test_motion_blur_preserves_the_mean_and_an_even_picture():
    chosen = Augment(**OFF | {"motion_blur_probability": 1, "motion_blur_px": 7})
    even = torch.full((3, 3, 32, 32), 77.0)
    torch.testing.assert_close(augment(even, chosen, draws(3)), even, atol=1e-3, rtol=0)
    dot = torch.zeros(8, 3, 32, 32)
    dot[:, :, 16, 16] = 250
    smeared = augment(dot, chosen, draws(8))
    torch.testing.assert_close(smeared.sum((2, 3)), torch.full((8, 3), 250.0), atol=0.05, rtol=0)


def test_motion_blur_draws_a_thin_line_through_the_pixel():
    dot = torch.zeros(8, 3, 32, 32)
    dot[:, :, 16, 16] = 250
    smeared = augment(dot, Augment(**OFF | {"motion_blur_probability": 1, "motion_blur_px": 7}), draws(8))[:, 0]
    for image in smeared.double():
        weights = image / image.sum()
        y, x = torch.meshgrid(torch.arange(32.0) - 16, torch.arange(32.0) - 16, indexing="ij")
        covariance = torch.tensor([[(weights * a * b).sum() for a in (x, y)] for b in (x, y)])
        across, along = torch.linalg.eigvalsh(covariance)
        assert along > 2  # the variance of a line of 5 points; of 7 it is 4, less where the angle cuts its ends
        assert across < 0.5
        assert image[y.abs() + x.abs() > 6].max() == 0


def test_noise_has_no_bias_and_at_most_the_largest_sigma():
    grey = torch.full((64, 3, 24, 24), 128.0)
    noisy = augment(grey, Augment(**OFF | {"noise_probability": 1, "noise_sigma": 10}), draws(64)) - grey
    sigmas = noisy.std((1, 2, 3))
    assert noisy.mean().abs() < 0.1
    assert sigmas.max() < 10.5
    assert sigmas.mean() == pytest.approx(5, abs=1.5)  # uniform on 0–10


def test_mixup_is_one_blend_with_a_partner():
    images, labels = pictures(6), torch.eye(6)
    mixed, soft = mix(images, labels, Augment(**OFF | {"mixup_probability": 1, "mixup_alpha": 1.0}), draws(6, 5))
    # The soft labels say who was blended with whom, and how much; the images must agree.
    torch.testing.assert_close(mixed, torch.einsum("ij,jchw->ichw", soft, images), atol=1e-3, rtol=0)
    shares = soft.diagonal()[soft.diagonal() < 1]
    assert len(shares)
    torch.testing.assert_close(shares, shares[:1].expand_as(shares))


@pytest.mark.parametrize("seed", range(12))
def test_cutmix_labels_are_the_areas_really_there(seed):
    n, size = 6, 20
    images = torch.arange(n).float().view(n, 1, 1, 1).expand(n, 3, size, size).clone()
    cut, soft = mix(images, torch.eye(n), Augment(**OFF | {"cutmix_probability": 1}), draws(n, seed))
    area = torch.stack([(cut[:, 0] == k).float().mean((1, 2)) for k in range(n)], 1)
    torch.testing.assert_close(soft, area)
    from_partner = cut[:, 0] != torch.arange(n).view(n, 1, 1)
    for mask in from_partner:
        rows, columns = mask.any(1), mask.any(0)
        assert mask.sum() == rows.sum() * columns.sum()  # one rectangle
    assert torch.equal(cut[:, 0], cut[:, 2])


def test_mixing_comes_as_often_as_asked():
    settings_ = Augment(**OFF | {"mixup_probability": 0.15, "cutmix_probability": 0.15})
    images = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 3, 8, 8).clone()
    mixup = cutmix = 0
    for seed in range(1500):
        mixed, soft = mix(images, torch.eye(2), settings_, draws(2, seed))
        if not torch.equal(soft, torch.eye(2)):
            blended = bool(((mixed > 0) & (mixed < 1)).any())
            mixup, cutmix = mixup + blended, cutmix + (not blended)
    # A shuffle of two leaves both in place half of the time: 0.075 of 1500 are seen, 112 ± 10.
    assert 70 < mixup < 160
    assert 70 < cutmix < 160


def test_stain_changes_each_dye_by_a_factor_within_its_range():
    rng = np.random.default_rng(0)
    amounts = rng.uniform(0.2, 0.5, (8, 16, 16, 2))
    images = 256 * np.exp(-amounts @ ROMANOWSKY[:2]) - 1
    batch = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    changed = augment(batch, Augment(**OFF, stain_probability=1, stain_gain=0.3), draws(8))
    density = -np.log((changed.permute(0, 2, 3, 1).double().numpy() + 1) / 256)
    factors = (density @ np.linalg.inv(ROMANOWSKY))[..., :2] / amounts
    means = factors.mean((1, 2))
    assert np.allclose(factors, means[:, None, None], atol=1e-3)
    assert (means >= 0.7 - 1e-3).all()
    assert (means <= 1.3 + 1e-3).all()
    assert np.ptp(means, axis=0).min() > 0.1


def test_no_stain_gain_changes_nothing():
    changed = augment(pictures(), Augment(**OFF, stain_probability=1, stain_gain=0), draws(6))
    torch.testing.assert_close(changed, pictures(), atol=1e-2, rtol=0)
