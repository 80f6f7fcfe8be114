"""Agreement of methods: published figures, scikit-learn, and what the methods promise."""

from itertools import combinations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from nonet.differential.agreement import bland_altman, cohen_kappa, passing_bablok

# Peak expiratory flow of 17 people, first readings by a Wright and a mini Wright meter: Bland and Altman 1986, table 1.
WRIGHT = np.array([494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427])
MINI = np.array([512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451])


def test_kappa_is_scikit_learns():
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 4, 300), rng.integers(0, 4, 300)
    other = np.where(rng.random(300) < 0.6, one, other)
    confusion = np.zeros((4, 4))
    np.add.at(confusion, (one, other), 1)
    assert cohen_kappa(confusion) == pytest.approx(cohen_kappa_score(one, other))
    assert cohen_kappa(np.stack([confusion, np.eye(4)])) == pytest.approx([cohen_kappa(confusion), 1])
    assert np.isnan(cohen_kappa(np.zeros((4, 4))))


def test_bland_and_altman_as_published():
    found = bland_altman(MINI, WRIGHT)
    assert found.bias == pytest.approx(-2.1, abs=0.05)
    assert found.sd == pytest.approx(38.8, abs=0.05)
    assert found.bias_low == pytest.approx(-22.0, abs=0.1)  # published for the bias: -22.0 to 17.8
    assert found.bias_high == pytest.approx(17.8, abs=0.1)
    assert (found.lower + found.upper) / 2 == pytest.approx(found.bias)
    assert found.upper - found.lower == pytest.approx(2 * 1.959964 * found.sd)


def by_definition(x, y):
    """Passing and Bablok 1983, section 3, with loops."""
    slopes = []
    for i, j in combinations(range(len(x)), 2):
        dx, dy = x[i] - x[j], y[i] - y[j]
        if dx == dy == 0:
            continue
        slope = np.inf * np.sign(dy) if dx == 0 else dy / dx
        if slope != -1:
            slopes.append(slope)
    slopes.sort()
    n, shift = len(slopes), sum(slope < -1 for slope in slopes)
    if n % 2:
        return slopes[(n + 1) // 2 + shift - 1]
    return (slopes[n // 2 + shift - 1] + slopes[n // 2 + shift]) / 2


@pytest.mark.parametrize("seed", range(5))
def test_the_line_is_that_of_the_definition(seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 40, 25).astype(float)  # with ties
    y = 1.2 * x + rng.normal(0, 3, 25).round()
    fitted = passing_bablok(x, y)
    assert fitted.slope == pytest.approx(by_definition(x, y))
    assert fitted.intercept == pytest.approx(np.median(y - fitted.slope * x))


def test_the_line_of_equal_methods_is_the_diagonal():
    fitted = passing_bablok(WRIGHT, WRIGHT)
    assert (fitted.slope, fitted.intercept) == (1, 0)


def test_a_known_line_is_found_and_outliers_do_not_move_it():
    x = np.linspace(1, 60, 40)
    y = 3 + 1.5 * x
    y[5], y[30] = 200, -50
    fitted = passing_bablok(x, y)
    assert fitted.slope == pytest.approx(1.5) and fitted.intercept == pytest.approx(3)


def test_exchanging_the_methods_inverts_the_line():
    there, back = passing_bablok(WRIGHT, MINI), passing_bablok(MINI, WRIGHT)
    assert there.slope * back.slope == pytest.approx(1, rel=0.01)
    assert there.slope_low * back.slope_high == pytest.approx(1, rel=0.01)


def test_intervals_cover_the_slope():
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(300):
        truth = rng.uniform(0, 60, 40)
        fitted = passing_bablok(truth + rng.normal(0, 2, 40), truth + rng.normal(0, 2, 40))
        inside.append(fitted.slope_low <= 1 <= fitted.slope_high)
    assert np.mean(inside) > 0.92


def test_too_few_or_equal_cases_give_no_line():
    assert np.isnan(passing_bablok([1, 2, 3], [1, 2, 3]).slope)
    assert np.isnan(passing_bablok(np.zeros(9), np.arange(9)).slope)
    assert np.isnan(bland_altman([1, 2], [1, 3]).bias)
