"""Corrected shares: planted confusions are undone, and the intervals cover new patients."""

import numpy as np
import pytest

from nonet.differential.correction import concentration, correct_shares

RATES = np.array([[0.7, 0.2, 0.0, 0.1], [0.1, 0.8, 0.05, 0.05], [0.05, 0.05, 0.8, 0.1]])


def draw_case(rng, shares, num, rates):
    cells = rng.multinomial(num, shares)
    return sum(rng.multinomial(n, row) for n, row in zip(cells, rates, strict=True))


def covers(corrected, truth):
    bounds = [corrected.sums([k])[1:] for k in range(len(truth))]
    return np.array([low <= share <= high for (low, high), share in zip(bounds, truth, strict=True)])


def draw_patient(rng, precision):
    return np.stack([rng.dirichlet(precision * row + 1e-9) for row in RATES])


def study(rng, precision, num_patients=30, num_cells=60):
    shares = [0.6, 0.3, 0.1]
    return np.stack(
        [
            [
                rng.multinomial(n, row)
                for n, row in zip(rng.multinomial(num_cells, shares), draw_patient(rng, precision), strict=True)
            ]
            for _ in range(num_patients)
        ]
    )


def test_planted_confusions_are_undone():
    confusions = np.stack([np.round(1000 * RATES).astype(int)] * 20)
    truth = np.array([0.5, 0.1, 0.4])
    corrected = correct_shares(np.round(100_000 * truth @ RATES).astype(int), confusions)
    np.testing.assert_allclose(corrected.shares, truth, atol=0.002)
    assert covers(corrected, truth).all()
    np.testing.assert_allclose(corrected.resamples.sum(1), 1)


def test_without_confusion_it_is_what_was_counted():
    confusions = np.stack([np.diag([10_000, 10_000, 10_000])] * 10)
    corrected = correct_shares(np.array([50, 30, 20]), confusions)
    np.testing.assert_allclose(corrected.shares, [0.5, 0.3, 0.2], atol=1e-3)


def test_a_class_without_a_cell_has_an_upper_bound():
    confusions = np.stack([np.diag([100, 100, 100])] * 10)
    corrected = correct_shares(np.array([60, 40, 0]), confusions)
    share, low, high = corrected.sums([2])
    assert share == low == 0 and 0.005 < high < 0.06
    assert corrected.sums([0, 1, 2]) == pytest.approx((1, 1, 1))


@pytest.mark.parametrize("precision", [3, 20])
def test_patients_that_differ_are_noticed(precision):
    estimates = [concentration(study(np.random.default_rng(seed), precision, 60)) for seed in range(20)]
    assert precision / 2 < np.median(estimates) < 2 * precision


def test_intervals_cover_the_shares_of_new_patients():
    rng = np.random.default_rng(0)
    covered = []
    for seed in range(150):
        confusions, truth = study(rng, 15), rng.dirichlet([6, 3, 1])
        counts = draw_case(rng, truth, 200, draw_patient(rng, 15))
        corrected = correct_shares(counts, confusions, seed=seed, num_resamples=200)
        covered.append(covers(corrected, truth))
    assert 0.92 <= np.mean(covered) <= 0.99  # of 450 shares, in 150 cases


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError):
        correct_shares(np.array([1, 2]), np.ones((2, 3, 4), dtype=int))
    with pytest.raises(ValueError):
        correct_shares(np.zeros(4, dtype=int), np.ones((2, 3, 4), dtype=int))
