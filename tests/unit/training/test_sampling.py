from decimal import Decimal, getcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nonet.errors import DataError
from nonet.recipe import Sampling
from nonet.training.sampling import (
    derive_seed,
    draw_epoch,
    effective_number_weights,
    split_batches,
    training_prior,
)

COUNTS = [14, 90, 152, 488, 17354]


def by_the_formula(counts, beta):
    """Equation 3 of Cui et al. in exact fractions of the float beta, then to mean 1 with 50 digits."""
    getcontext().prec = 50
    b = Fraction(beta)
    b = Decimal(b.numerator) / Decimal(b.denominator)
    weights = [(1 - b) / (1 - b**n) for n in counts]
    mean = sum(weights) / len(weights)
    return [float(w / mean) for w in weights]


@pytest.mark.parametrize("beta", [0.5, 0.9, 0.9999, 0.999999, 1 - 1e-12])
def test_weights_are_the_formula_to_twelve_digits(beta):
    np.testing.assert_allclose(effective_number_weights(COUNTS, beta=beta), by_the_formula(COUNTS, beta), rtol=1e-12)


def test_beta_zero_weighs_all_alike():
    np.testing.assert_array_equal(effective_number_weights(COUNTS, beta=0), np.ones(5))


def test_beta_towards_one_weighs_by_one_over_n():
    weights = effective_number_weights(COUNTS, beta=1 - 1e-13)
    np.testing.assert_allclose(weights * COUNTS, (weights * COUNTS)[0], rtol=1e-6)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=13), st.just(0) | st.floats(1e-6, 0.9999999))
def test_weights_average_one_and_fall_with_the_count(counts, beta):
    weights = effective_number_weights(counts, beta=beta)
    assert weights.mean() == pytest.approx(1)
    order = np.argsort(counts)
    assert (np.diff(weights[order]) <= 1e-9 * weights.max()).all()


def test_a_class_without_images_is_named():
    with pytest.raises(DataError, match="PLY"):
        effective_number_weights([3, 0], beta=0.9, names=["LY", "PLY"])
    with pytest.raises(DataError, match=r"\b1\b"):
        effective_number_weights([3, 0], beta=0.9)


def test_rare_classes_are_drawn_about_as_often_as_common_ones():
    labels = np.repeat(np.arange(4), [2000, 500, 60, 10])
    drawn = np.concatenate([draw_epoch(labels, Sampling(), seed=s) for s in range(4)])
    counts = np.bincount(labels[drawn], minlength=4)
    expected = np.array(by_the_formula([2000, 500, 60, 10], 0.9999)) * [2000, 500, 60, 10]
    expected = expected / expected.sum() * len(drawn)
    # Five standard deviations of a count; all four classes expect within 10 % of a quarter.
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()
    assert (np.abs(expected / len(drawn) - 0.25) < 0.025).all()


def test_within_a_class_every_image_is_as_likely():
    labels = np.repeat([0, 1], [40, 400])
    drawn = np.concatenate([draw_epoch(labels, Sampling(), seed=s) for s in range(50)])
    times = np.bincount(drawn, minlength=440)[:40]
    assert (np.abs(times - times.mean()) < 5 * np.sqrt(times.mean())).all()


def test_the_uniform_sampler_passes_each_image_once():
    labels = np.array([0] * 30 + [1] * 3)
    order = draw_epoch(labels, Sampling(sampler="uniform"), seed=3)
    assert sorted(order) == list(range(33))
    assert list(order) != list(range(33))


def test_beta_zero_draws_by_image():
    labels = np.repeat([0, 1], [900, 100])
    drawn = np.concatenate([draw_epoch(labels, Sampling(beta=0), seed=s) for s in range(10)])
    assert labels[drawn].mean() == pytest.approx(0.1, abs=5 * np.sqrt(0.09 / 10000))


def test_a_class_absent_from_the_fold_is_no_hindrance():
    labels = np.array([0, 0, 2, 2, 2])
    assert set(labels[draw_epoch(labels, Sampling(), seed=0)]) <= {0, 2}


@given(st.integers(1, 200), st.integers(2, 40), st.integers(2, 8))
def test_batches_hold_the_order_but_for_a_last_one_too_small(length, batch_size, smallest):
    order = np.arange(length) + 7
    cut = split_batches(order, batch_size, smallest=smallest)
    joined = np.concatenate(cut)
    assert (joined == order[: len(joined)]).all()
    assert all(len(batch) == batch_size for batch in cut[:-1])
    assert len(order) - len(joined) < smallest
    if len(cut) > 1:
        assert len(cut[-1]) >= min(smallest, batch_size)


def test_seeds_differ_by_every_part_and_its_place():
    parts = [(0, "a", 1), (0, "a", 2), (1, "a", 1), (0, "b", 1), (0, "a1"), ("0", "a", 1, ""), (1, "a", 0)]
    seeds = [derive_seed(*p) for p in parts]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= s < 2**63 for s in seeds)
    assert derive_seed(0, "a", 1) == seeds[0]


def test_the_training_prior_of_whole_passes_is_the_share_of_images():
    labels = np.array([0, 0, 0, 2])
    np.testing.assert_allclose(training_prior(labels, 4, Sampling(sampler="uniform")), [0.75, 0, 0.25, 0])
