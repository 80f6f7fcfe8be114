"""Scores by hand, and intervals that behave. scikit-learn's word on the scores is in tests/oracles."""

import numpy as np
import pytest

from nonet.errors import DataError
from nonet.evaluation import bootstrap
from nonet.evaluation.bootstrap import (
    Bootstrap,
    confusions_by_group,
)
from nonet.evaluation.metrics import SCORES, confusion_matrix, macro_f1_score, per_class_scores


def _accuracy(confusion):
    return np.trace(confusion, axis1=-2, axis2=-1) / confusion.sum(axis=(-2, -1))


def test_scores_by_hand():
    confusion = np.array([[3, 1], [2, 4]])
    scores = per_class_scores(confusion)
    np.testing.assert_allclose(scores["precision"], [3 / 5, 4 / 5])
    np.testing.assert_allclose(scores["recall"], [3 / 4, 4 / 6])
    np.testing.assert_allclose(scores["f1"], [6 / 9, 8 / 11])
    np.testing.assert_allclose(scores["specificity"], [4 / 6, 3 / 4])


def test_a_class_without_images_leaves_the_mean_but_taking_an_image_for_it_is_an_error():
    confusion = np.array([[3, 0, 1], [0, 4, 0], [0, 0, 0]])
    assert macro_f1_score(confusion) == pytest.approx((6 / 7 + 1) / 2)


def test_no_image_at_all_gives_nan():
    for score in SCORES.values():
        assert np.isnan(score(np.zeros((3, 3), dtype=int)))


@pytest.mark.parametrize("predicted", [[0, 3], [-1, 0], [0, 1, 2]])
def test_impossible_class_numbers_are_refused(predicted):
    with pytest.raises(DataError):
        confusion_matrix([0, 1], predicted, 3)


def _patients(rng, *, num_patients=40, cells_each=30, spread=0.25):
    """Return true, predicted and patient of cells that are right by patient: some patients are easy, some hard."""
    patient = np.repeat(np.arange(num_patients), cells_each)
    true = rng.integers(3, size=len(patient))
    ease = np.clip(0.7 + spread * rng.standard_normal(num_patients), 0.05, 0.99)[patient]
    right = rng.random(len(patient)) < ease
    return true, np.where(right, true, (true + 1) % 3), patient


def _width(true, predicted, groups, **options):
    confusions = confusions_by_group(true, predicted, groups, 3)
    low, high = Bootstrap(num_resamples=500, **options).intervals(confusions, {"a": _accuracy})["a"]
    return high - low


def test_patients_that_differ_make_intervals_wider_than_images_do():
    true, predicted, patient = _patients(np.random.default_rng(0))
    assert _width(true, predicted, patient) > 2 * _width(true, predicted, np.arange(len(true)))


def test_interval_over_images_is_the_binomial_one():
    rng = np.random.default_rng(1)
    true = np.zeros(1000, dtype=int)
    predicted = (rng.random(1000) < 0.3).astype(int)
    share = (predicted == 0).mean()
    expected = 2 * 1.96 * np.sqrt(share * (1 - share) / 1000)
    assert _width(true, predicted, np.arange(1000)) == pytest.approx(expected, rel=0.12)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """Of 150 samples of 60 patients with a known mean accuracy of 0.7, about 143 intervals hold it."""
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(150):
        ease = rng.beta(7, 3, size=60)
        right = rng.binomial(20, ease)
        confusions = np.zeros((60, 2, 2))
        confusions[:, 0, 0], confusions[:, 0, 1] = right, 20 - right
        low, high = Bootstrap(num_resamples=400).intervals(confusions, {"a": _accuracy})["a"]
        held += low <= 0.7 <= high
    assert 0.88 <= held / 150 <= 0.99


def test_higher_confidence_is_wider_and_holds_the_score():
    true, predicted, patient = _patients(np.random.default_rng(3))
    confusions = confusions_by_group(true, predicted, patient, 3)
    narrow, wide = (Bootstrap(num_resamples=400, confidence=c).intervals(confusions) for c in (0.5, 0.95))
    for name, score in SCORES.items():
        assert wide[name][0] < narrow[name][0] < score(confusions.total()) < narrow[name][1] < wide[name][1]


def test_sparse_and_dense_counts_give_the_same_and_so_does_the_order_of_images():
    true, predicted, patient = _patients(np.random.default_rng(4), num_patients=12)
    in_order_of_units = sorted(set(patient), key=str)  # "10" comes before "2"
    cells_of = [patient == number for number in in_order_of_units]
    dense = np.array([confusion_matrix(true[cells], predicted[cells], 3) for cells in cells_of])
    order = np.random.default_rng(5).permutation(len(true))
    results = [
        Bootstrap(num_resamples=50, seed=7).scores(confusions)["macro_f1"]
        for confusions in (
            dense,
            confusions_by_group(true, predicted, patient, 3),
            confusions_by_group(true[order], predicted[order], patient[order], 3),
        )
    ]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_seed_decides_the_resamples():
    true, predicted, patient = _patients(np.random.default_rng(6))
    confusions = confusions_by_group(true, predicted, patient, 3)
    first, again, other = (Bootstrap(num_resamples=30, seed=s).scores(confusions)["macro_f1"] for s in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_chunks_change_nothing(monkeypatch):
    true, predicted, patient = _patients(np.random.default_rng(8))
    confusions = confusions_by_group(true, predicted, patient, 3)
    whole = Bootstrap(num_resamples=30).scores(confusions)["macro_f1"]
    monkeypatch.setattr(bootstrap, "_NUMBERS_PER_CHUNK", 7 * 40)
    np.testing.assert_array_equal(whole, Bootstrap(num_resamples=30).scores(confusions)["macro_f1"])


def test_difference_is_paired():
    """Two rows that share every hard patient differ by far less than each of them varies."""
    rng = np.random.default_rng(9)
    true, first, patient = _patients(rng)
    second = np.where(rng.random(len(true)) < 0.03, true, first)
    confusions = confusions_by_group(true, np.stack([first, second]), patient, 3)
    difference, low, high = Bootstrap(num_resamples=500).differences(confusions, [(1, 0)])[0]
    lows, highs = Bootstrap(num_resamples=500).intervals(confusions)["macro_f1"]
    assert 0 < low < difference < high
    assert high - low < (highs - lows).min() / 4
    (reverse,) = Bootstrap(num_resamples=500).differences(confusions, [(0, 1)])
    assert reverse == pytest.approx((-difference, -high, -low))


def test_a_class_missing_from_a_resample_drops_out_of_its_mean():
    """Class 1 is one patient's and always wrong: resamples without that patient score 1, the others 0.5 or less."""
    confusions = np.zeros((4, 2, 2))
    confusions[:3, 0, 0] = 5
    confusions[3, 1, 0] = 1
    values = Bootstrap(num_resamples=300).scores(confusions)["balanced_accuracy"]
    assert set(values) == {0.0, 0.5, 1.0} or set(values) == {0.5, 1.0}
    assert (values == 1).mean() == pytest.approx((3 / 4) ** 4, abs=0.09)


def test_one_patient_gives_no_interval():
    low, high = Bootstrap(num_resamples=10).intervals(np.ones((1, 3, 3)))["macro_f1"]
    assert np.isnan(low) and np.isnan(high)


@pytest.mark.parametrize("options", [{"confidence": 95}, {"confidence": 0}, {"num_resamples": 0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(DataError):
        Bootstrap(**options)


def test_percentiles_leave_nan_out():
    low, high = Bootstrap(confidence=0.5).interval([[np.nan, np.nan], [1.0, np.nan], [3.0, np.nan]])
    np.testing.assert_allclose(low, [1.5, np.nan])
    np.testing.assert_allclose(high, [2.5, np.nan])


def test_sixty_thousand_images_of_unknown_patients_in_twelve_rows_stay_small():
    rng = np.random.default_rng(10)
    true = rng.integers(13, size=60_000)
    predicted = np.where(rng.random((12, 60_000)) < 0.7, true, rng.integers(13, size=(12, 60_000)))
    confusions = confusions_by_group(true, predicted, np.arange(60_000), 13)
    assert confusions.counts.nnz == 12 * 60_000
    assert Bootstrap(num_resamples=100).scores(confusions)["macro_f1"].shape == (100, 12)
