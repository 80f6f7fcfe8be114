"""Exact intervals against SciPy's, one by one."""

import numpy as np
import pytest
from scipy.stats import binomtest

from nonet.differential.intervals import clopper_pearson, rate_interval


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("total", [1, 2, 7, 100, 400])
def test_same_as_scipy(total, confidence):
    counts = np.unique(np.linspace(0, total, 12).astype(int))
    low, high = clopper_pearson(counts, total, confidence)
    expected = [binomtest(int(k), total).proportion_ci(confidence, method="exact") for k in counts]
    np.testing.assert_allclose(low, [each.low for each in expected], atol=1e-12)
    np.testing.assert_allclose(high, [each.high for each in expected], atol=1e-12)


def test_nothing_counted_says_nothing():
    assert tuple(map(float, clopper_pearson(0, 0))) == (0, 1)


@pytest.mark.parametrize(("count", "total", "confidence"), [(-1, 5, 0.95), (6, 5, 0.95), (1, 5, 0), (1, 5, 1)])
def test_impossible_counts_are_refused(count, total, confidence):
    with pytest.raises(ValueError):
        clopper_pearson(count, total, confidence)


def test_it_covers_the_truth_as_often_as_promised():
    rng = np.random.default_rng(0)
    for share in (0.01, 0.2, 0.6):
        low, high = clopper_pearson(rng.binomial(200, share, size=4000), 200)
        assert ((low <= share) & (share <= high)).mean() >= 0.95 - 0.01


def test_a_rate_covers_the_truth_and_can_exceed_one():
    rng = np.random.default_rng(1)
    for rate in (0.05, 1.5):
        low, high = rate_interval(rng.poisson(100 * rate, size=4000), rng.poisson(100, size=4000))
        assert ((low <= rate) & (rate <= high)).mean() >= 0.95 - 0.01
    assert rate_interval(0, 10)[0] == 0
    assert np.isinf(rate_interval(3, 0)[1])
