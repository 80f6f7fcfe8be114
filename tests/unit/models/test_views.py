import math

import numpy as np
import pytest
import torch
from torch import nn

from nonet.models.tensors import logits_over_views, rotate_and_flip, see, to_device
from nonet.models.views import batches, dihedral_views, get_views, no_views, random_views
from nonet.recipe import Predict

CPU = torch.device("cpu")


def pictures(n=3, size=16, seed=0):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 255


class RingSums(nn.Module):
    """A toy that flips and turns cannot change: sums over squares around the centre."""

    def forward(self, images):
        size = images.shape[-1]
        half = torch.arange(size) - (size - 1) / 2
        ring = torch.maximum(half.abs()[:, None], half.abs()[None, :])
        return torch.stack([(images.mean(1) * (ring == r)).sum((1, 2)) for r in ring.unique()], 1)


def test_the_eight_views_are_those_of_numpy_and_distinct():
    images = pictures()
    array = images.numpy()
    expected = [np.rot90(array, turns, (2, 3)) for turns in range(4)]
    expected += [np.flip(turned, 3) for turned in expected]
    made = [see(images, view).numpy() for view in dihedral_views()]
    assert len(made) == 8
    for result, reference in zip(made, expected):
        np.testing.assert_array_equal(result, reference)
    assert len({view.tobytes() for view in made}) == 8
    np.testing.assert_array_equal(made[0], array)


def test_views_of_pixels_are_views_of_tensors():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    for view in dihedral_views():
        expected = see(to_device(pixels, CPU), view).numpy().transpose(0, 2, 3, 1)
        np.testing.assert_array_equal(view.of_pixels(pixels), expected)


def test_an_invariant_network_gives_the_same_over_views():
    images = pictures()
    alone = logits_over_views(RingSums(), images, no_views())
    torch.testing.assert_close(logits_over_views(RingSums(), images, dihedral_views()), alone, rtol=1e-5, atol=0.1)


def test_logits_are_the_mean_over_views():
    images, network = pictures(), nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4))
    views = dihedral_views()
    with torch.no_grad():
        expected = torch.stack([network(see(images, view)) for view in views]).double().mean(0).float()
    torch.testing.assert_close(logits_over_views(network, images, views), expected)


def test_the_first_random_view_is_the_image_as_it_is():
    images = pictures()
    views = random_views(8, seed=0)
    assert len(views) == 8
    assert torch.equal(see(images, views[0]), images)
    assert all((see(images, view) - images).abs().max() > 1 for view in views[1:])


def test_random_views_follow_the_seed_and_not_the_company():
    images = pictures(5)
    for view, again, other in zip(random_views(5, 3)[1:], random_views(5, 3)[1:], random_views(5, 4)[1:]):
        assert torch.equal(see(images, view), see(images, again))
        assert not torch.equal(see(images, view), see(images, other))
        torch.testing.assert_close(see(images, view)[2:3], see(images[2:3], view), atol=1e-3, rtol=0)


@pytest.mark.parametrize("size", [16, 17])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("flip_x", [1.0, -1.0])
@pytest.mark.parametrize("flip_y", [1.0, -1.0])
def test_quarter_turns_and_flips_are_exact(size, turns, flip_x, flip_y):
    images = pictures(2, size)
    angle = torch.full((2,), turns * math.pi / 2)
    made = rotate_and_flip(images, angle, torch.full((2,), flip_x), torch.full((2,), flip_y))
    expected = torch.rot90(images, turns, (2, 3))
    expected = expected.flip(3) if flip_x < 0 else expected
    expected = expected.flip(2) if flip_y < 0 else expected
    torch.testing.assert_close(made, expected, atol=0.02, rtol=0)  # of 255; neighbours differ by 85 on average


def test_a_turn_there_and_back_is_the_image():
    y, x = torch.meshgrid(torch.linspace(-2, 2, 40), torch.linspace(-2, 2, 40), indexing="ij")
    image = (128 + 60 * torch.sin(x + 2 * y)).expand(1, 3, 40, 40)
    one = torch.ones(1)
    there = rotate_and_flip(image, torch.full((1,), 0.7), one, one)
    back = rotate_and_flip(there, torch.full((1,), -0.7), one, one)
    inside = (x**2 + y**2) < 1.7**2
    assert (there - image).abs().max() > 20
    torch.testing.assert_close(back[..., inside], image[..., inside], atol=1.0, rtol=0)


def test_each_image_has_its_own_angle():
    images = pictures(2)
    one = torch.ones(2)
    made = rotate_and_flip(images, torch.tensor([0.0, math.pi / 2]), one, one)
    torch.testing.assert_close(made[0], images[0], atol=0.02, rtol=0)
    torch.testing.assert_close(made[1], torch.rot90(images[1], 1, (1, 2)), atol=0.02, rtol=0)


@pytest.mark.parametrize("views, count", [("none", 1), ("dihedral", 8), ("random", 5)])
def test_a_recipe_says_how_many_views(views, count):
    assert len(get_views(Predict(views=views, num_random_views=5))) == count


def test_batches_cut_everything_once():
    cut = list(batches(np.arange(10), 4))
    assert [len(b) for b in cut] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate(cut), np.arange(10))


def test_pixels_keep_their_places_on_the_device():
    array = np.random.default_rng(0).integers(0, 256, (2, 5, 6, 3), dtype=np.uint8)
    made = to_device(array, CPU)
    assert made.dtype == torch.float32
    np.testing.assert_array_equal(made.numpy(), array.transpose(0, 3, 1, 2))
