"""Stain: known answers, and what a change of colours must leave alone."""

import numpy as np
import pytest
from skimage.color import bex_from_rgb, rgb2lab, separate_stains

from nonet.data.preprocess.stain import REFERENCE, ROMANOWSKY, ColourReference, normalise_colours, stain_matrix
from nonet.synthetic.appearance import patient_appearance
from nonet.synthetic.dataset import draw_cell


@pytest.fixture(scope="module")
def cells():
    return [draw_cell("SNE", patient=patient_appearance(seed), seed=seed, size_px=64) for seed in range(3)]


def colours_of(image):
    lab = rgb2lab(image)
    return ColourReference(tuple(lab.mean(axis=(0, 1))), tuple(lab.std(axis=(0, 1))))


def test_normalising_meets_the_reference(cells):
    for cell in cells:
        found = colours_of(normalise_colours(cell, ColourReference((70, 8, 2), (8, 4, 5))))
        assert np.allclose(found.mean, (70, 8, 2), atol=0.3)
        assert np.allclose(found.std, (8, 4, 5), atol=0.3)


def test_normalising_to_its_own_colours_changes_nothing(cells):
    same = normalise_colours(cells[0], colours_of(cells[0]))
    assert np.abs(same.astype(int) - cells[0]).max() <= 1


def test_two_laboratories_come_closer(cells):
    before = [colours_of(cell).mean for cell in cells]
    after = [colours_of(normalise_colours(cell)).mean for cell in cells]
    assert np.ptp(after, axis=0).max() < 0.5 * np.ptp(before, axis=0).max()


def test_an_image_of_one_colour_stays_of_one_colour():
    image = np.full((8, 8, 3), (200, 150, 180), dtype=np.uint8)
    changed = normalise_colours(image)
    assert (changed == changed[0, 0]).all()
    assert np.allclose(colours_of(changed).mean, REFERENCE.mean, atol=0.6)


def test_gains_of_one_leave_densities_as_they_are():
    assert np.allclose(stain_matrix(np.ones((2, 3))), np.eye(3))


def test_a_dye_is_changed_and_the_other_is_not():
    rng = np.random.default_rng(0)
    amounts = rng.uniform(0.1, 0.6, (16, 16, 2))
    image = np.rint(256 * np.exp(-amounts @ ROMANOWSKY[:2]) - 1).astype(np.uint8)
    density = -np.log((image.astype(float) + 1) / 256) @ stain_matrix(np.array([1.5, 1.0, 1.0]))
    changed = np.rint(256 * np.exp(-density) - 1).astype(np.uint8)
    # scikit-image's separation is the reference; its amounts are known up to a factor for each dye.
    before, after = (separate_stains(one, bex_from_rgb) for one in (image, changed))
    assert np.allclose(after[..., 0] / before[..., 0], 1.5, atol=0.12)
    assert np.allclose(after[..., 1] / before[..., 1], 1.0, atol=0.12)
