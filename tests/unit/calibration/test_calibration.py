"""Calibration's arithmetic: known temperatures, priors and coverages are found again; too little is refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, log_loss

from helpers.posteriors import held_out, true_posteriors
from nonet.artifacts.ensemble_file import EnsembleFile, MemberEntry
from nonet.calibration.calibrator import Calibration, normalised_entropy
from nonet.calibration.conformal import fit_thresholds, lowest_probability, own_thresholds, prediction_sets
from nonet.calibration.fitting import (
    HeldOut,
    fit_calibration,
    fit_sloped_temperature,
    fit_temperature,
    negative_log_likelihood,
)
from nonet.calibration.priors import choose_strength, estimate_priors, log_ratio, prior_shift
from nonet.errors import DataError
from nonet.recipe import Calibrate, Sampling
from nonet.training.sampling import draw_epoch, drawn_shares

CLASSES = ["A", "B", "C", "D"]


@given(st.floats(0.1, 10))
def test_the_temperature_that_was_planted_is_found(temperature):
    logits, true = true_posteriors(4000, (0.25, 0.25, 0.25, 0.25))
    assert fit_temperature(logits * temperature, true) == pytest.approx(temperature, rel=0.08)


def test_the_temperature_is_the_likeliest():
    h = held_out(n=500, temperature=3.0)

    def loss(log_temperature):
        return log_loss(h.true, softmax(h.logits / np.exp(log_temperature), axis=-1), labels=range(4))

    best = minimize_scalar(loss, bracket=(0, 1)).x
    assert np.log(fit_temperature(h.logits, h.true)) == pytest.approx(best, abs=1e-3)
    proba = softmax(h.logits, axis=-1)
    assert negative_log_likelihood(h.logits, h.true).mean() == pytest.approx(log_loss(h.true, proba, labels=range(4)))


def uncalibrated(logits, calibration):
    """Return logits that the calibration maps to `logits`: the right multiples of them, by bisection."""
    low, high = np.zeros((len(logits), 1)), np.full((len(logits), 1), 100.0)
    for _ in range(60):
        middle = (low + high) / 2
        is_above = (np.abs(calibration.scale(middle * logits)) > np.abs(logits)).any(axis=1, keepdims=True)
        low, high = np.where(is_above, low, middle), np.where(is_above, middle, high)
    return middle * logits


@pytest.mark.parametrize(("temperature", "slope"), [(1.2, 0.5), (2.0, -0.4), (0.5, 0.0)])
def test_a_slope_that_was_planted_is_found(temperature, slope):
    logits, true = true_posteriors(20_000, (0.4, 0.3, 0.2, 0.1))
    planted = uncalibrated(logits, Calibration(temperature=temperature, entropy_slope=slope))
    found = fit_sloped_temperature(planted, true, np.arange(len(true)))
    assert found == pytest.approx((temperature, slope), abs=0.1)
    again = Calibration(temperature=found[0], entropy_slope=found[1]).apply(planted)
    assert softmax(again, axis=-1) == pytest.approx(softmax(logits, axis=-1), abs=0.03)
    assert (again.argmax(1) == logits.argmax(1)).all()


def test_temperature_and_slope_are_the_likeliest_if_each_patient_counts_the_same():
    h = held_out(n=600, temperature=2.0, num_patients=12)
    group = np.where(np.arange(600) < 400, "P0", h.group)  # one patient with two thirds of the cells
    counts = dict(zip(*np.unique(group, return_counts=True)))
    weight = [1 / counts[name] for name in group]

    def loss(temperature, slope):
        proba = softmax(Calibration(temperature=temperature, entropy_slope=slope).apply(h.logits), axis=-1)
        return log_loss(h.true, proba, labels=range(4), sample_weight=weight)

    temperature, slope = fit_sloped_temperature(h.logits, h.true, group)
    for other in (temperature * 1.02, temperature / 1.02):
        assert loss(temperature, slope) < loss(other, slope)
    for other in (slope + 0.05, slope - 0.05):
        assert loss(temperature, slope) < loss(temperature, other)


def test_entropy_goes_from_a_certain_class_to_none():
    assert normalised_entropy(np.array([[50.0, 0, 0, 0], [3, 3, 3, 3]])) == pytest.approx([0, 1], abs=1e-6)
    expected = scipy_entropy([0.7, 0.2, 0.1], base=3)
    assert normalised_entropy(np.log([0.7, 0.2, 0.1])) == pytest.approx(expected)
    assert normalised_entropy(np.array([[2.0], [5.0]])).tolist() == [0, 0]


def test_logits_that_are_always_right_still_have_a_temperature():
    assert 0 < fit_temperature(np.eye(4)[[0, 1, 2, 3]], np.arange(4)) < 1
    assert np.isfinite(fit_temperature(np.zeros((4, 4)), np.arange(4)))


def test_a_shift_of_full_strength_gives_bayes_rule():
    """Logits of equal priors, moved by 1, are those of the natural priors; moved back by -1 from these, equal again."""
    natural, equal = np.array([0.6, 0.3, 0.08, 0.02]), np.full(4, 0.25)
    logits, _ = true_posteriors(200, equal)
    moved = softmax(logits + prior_shift(1.0, equal, natural), axis=-1)
    expected = softmax(logits, axis=-1) * natural
    assert np.allclose(moved, expected / expected.sum(1, keepdims=True))
    assert np.allclose(softmax(np.log(moved) + prior_shift(-1.0, natural, natural), axis=-1), softmax(logits, axis=-1))
    assert np.allclose(prior_shift(0.0, equal, natural), 0)
    halves = prior_shift(0.5, equal, natural)
    assert np.allclose(2 * halves, prior_shift(1.0, equal, natural))


def test_a_class_that_training_never_drew_is_not_moved_to_infinity():
    assert np.isfinite(prior_shift(1.0, np.array([0.5, 0.5, 0.0]), np.array([0.5, 0.3, 0.2]))).all()


def test_the_strength_towards_equal_priors_is_chosen_where_rare_classes_are_missed():
    natural = np.array([0.9, 0.06, 0.03, 0.01])
    logits, true = true_posteriors(6000, natural)
    strength = choose_strength(logits, true, natural, natural)
    assert strength < 0
    as_trained = f1_score(true, logits.argmax(1), average="macro", zero_division=0)
    moved = (logits + prior_shift(strength, natural, natural)).argmax(1)
    assert f1_score(true, moved, average="macro") > as_trained + 0.02


def test_where_nothing_helps_nothing_is_moved():
    logits = 10 * np.eye(4)[np.arange(40) % 4]
    assert choose_strength(logits, np.arange(40) % 4, np.full(4, 0.25), np.array([0.4, 0.3, 0.2, 0.1])) == 0


@pytest.mark.parametrize("settings", [{"sampler": "uniform"}, {"beta": 0.99}, {"beta": 0.9999}])
def test_the_shares_that_training_draws_are_those_of_its_epochs(settings):
    settings = Sampling(**settings)
    rng = np.random.default_rng(0)
    labels = rng.choice(3, size=900, p=(0.8, 0.15, 0.05))
    fold = np.where(np.arange(900) < 600, np.arange(900) % 2, np.nan)  # a third is trained on in both folds
    drawn = np.zeros(3)
    for held in (0, 1):
        rows = labels[fold != held]
        epochs = [rows[draw_epoch(rows, settings, seed=s)] for s in range(40)]
        drawn += np.bincount(np.concatenate(epochs), minlength=3) / (2 * sum(map(len, epochs)))
    external = np.zeros(900, dtype=bool)
    assert drawn_shares(labels, fold, 3, settings, external) == pytest.approx(drawn, abs=0.01)


@given(seed=st.integers(0, 20))
def test_em_finds_the_priors_of_a_new_sample(seed):
    rng = np.random.default_rng(seed)
    trained, new = np.full(4, 0.25), rng.dirichlet([2, 2, 2, 2])
    logits, _ = true_posteriors(6000, new, separation=2.0, seed=seed)
    proba = softmax(logits - np.log(new), axis=-1)  # what a network of equal priors says of these cells
    assert estimate_priors(proba, trained) == pytest.approx(new, abs=0.03)


def test_em_raises_the_likelihood_and_stays_where_nothing_changed():
    logits, _ = true_posteriors(3000, (0.7, 0.2, 0.05, 0.05))
    proba, start = softmax(logits - np.log([0.7, 0.2, 0.05, 0.05]), axis=-1), np.full(4, 0.25)

    def likelihood(priors):
        return np.log(proba @ (priors / start)).mean()

    steps = [estimate_priors(proba, start, max_iterations=k) for k in range(1, 30)]
    assert (np.diff([likelihood(start), *map(likelihood, steps)]) > 0).all()
    mean = proba.mean(0)  # the same images again: their mean is where EM begins and ends
    assert estimate_priors(proba, mean) == pytest.approx(mean, abs=1e-6)


def test_priors_are_not_estimated_from_a_handful():
    with pytest.raises(DataError, match=r"\b49\b.*\b50\b"):
        estimate_priors(np.full((49, 4), 0.25), np.full(4, 0.25))


def test_a_prior_of_zero_gives_no_infinity():
    assert np.isfinite(log_ratio(np.array([1.0, 0.0]), np.array([0.5, 0.5]))).all()


@given(n=st.integers(1, 200), coverage=st.floats(0.05, 0.95), seed=st.integers(0, 9))
def test_the_threshold_is_conformals_order_statistic(n, coverage, seed):
    p = np.random.default_rng(seed).random(n)
    threshold = lowest_probability(p, coverage)
    needed = (n + 1) * coverage
    reached = (p >= threshold).sum()
    if threshold > 0:
        assert reached >= needed - 1e-6 > reached - 1 - 1e-6  # as many as needed, and not one more
    else:
        assert needed > n


def test_sets_cover_as_often_as_requested_on_new_images():
    fitted_on, new = held_out(seed=1), held_out(n=20_000, seed=2)
    for coverage in (0.8, 0.95):
        thresholds = fit_thresholds(
            softmax(fitted_on.logits, axis=-1), fitted_on.true, fitted_on.group, coverage=coverage
        )
        proba, rows = softmax(new.logits, axis=-1), np.arange(len(new.true))
        reached = (proba >= thresholds)[rows, new.true]
        assert reached.mean() == pytest.approx(coverage, abs=0.02)
        for k in range(4):  # each class, the rare ones too
            assert reached[new.true == k].mean() == pytest.approx(coverage, abs=0.06)
        inside = prediction_sets(proba, thresholds)
        assert inside.sum(1).min() == 1  # none is empty, which can only cover more
        assert (inside[rows, new.true] | ~reached).all()


def test_rejected_cells_count_as_missed_and_the_others_make_up_for_it():
    def with_rejected(h, share):
        return replace(h, rejected=np.random.default_rng(0).random(len(h.true)) < share)

    fitted_on, new = with_rejected(held_out(seed=1), 0.1), with_rejected(held_out(n=20_000, seed=2), 0.1)
    fitted = fit(fitted_on, coverage=0.8)
    inside = prediction_sets(softmax(fitted.apply(new.logits), axis=-1), fitted.thresholds)
    covered = inside[np.arange(len(new.true)), new.true] & ~new.rejected
    assert covered.mean() == pytest.approx(0.8, abs=0.015)


def test_where_more_are_rejected_than_may_be_missed_sets_hold_every_class_and_it_is_said():
    h = held_out(seed=1)
    fitted = fit(replace(h, rejected=np.arange(len(h.true)) % 4 == 0), coverage=0.8)
    assert (fitted.thresholds == 0).all()
    assert any("25.0%" in note for note in fitted.notes)


def test_small_classes_share_a_threshold_and_it_covers_them_together():
    fitted_on, new = (
        held_out(priors=(0.6, 0.38, 0.01, 0.01), seed=1),
        held_out(n=40_000, priors=(0.6, 0.38, 0.01, 0.01), seed=2),
    )
    own = own_thresholds(fitted_on.true, fitted_on.group, 4)
    assert own == [0, 1]
    thresholds = fit_thresholds(softmax(fitted_on.logits, axis=-1), fitted_on.true, fitted_on.group, coverage=0.9)
    assert thresholds[2] == thresholds[3]
    assert len(set(thresholds[:3])) == 3
    small = new.true >= 2
    covered = (softmax(new.logits, axis=-1) >= thresholds)[np.arange(len(new.true)), new.true]
    assert covered[small].mean() == pytest.approx(0.9, abs=0.08)


def test_one_patient_does_not_make_a_threshold_however_many_its_images():
    true, group = np.zeros(500, dtype=int), np.array(["P"] * 500)
    assert own_thresholds(true, group, 2) == []
    assert own_thresholds(true, np.arange(500).astype(str), 2) == [0]


def fit(h, **settings):
    return fit_calibration(h, Calibrate(**settings), np.full(4, 0.25), CLASSES)


def test_a_calibration_is_fitted_and_survives_its_file():
    h = held_out(temperature=2.5)
    fitted = fit(h, prior_strength=-0.5, coverage=0.8, min_confidence=0.6)
    assert fitted.temperature == pytest.approx(2.5, rel=0.15)
    ensemble = EnsembleFile(
        classes=CLASSES,
        members=[MemberEntry(architecture="vit_mini", fold=0, weight=1)],
        trained_priors=dict.fromkeys(CLASSES, 0.25),
    ).updated(**fitted.to_ensemble(CLASSES))
    again = Calibration.from_ensemble(EnsembleFile.model_validate_json(ensemble.model_dump_json()))
    assert again.to_ensemble(CLASSES) == fitted.to_ensemble(CLASSES)
    assert (again.apply(h.logits) == fitted.apply(h.logits)).all()
    assert fitted.class_priors == pytest.approx(softmax(fitted.apply(h.logits), axis=-1).mean(0))
    assert (fitted.coverage, fitted.min_confidence) == (0.8, 0.6)
    assert "3,000 images of 60 patients" in fitted.notes[0]


def test_the_temperature_alone_changes_no_decision_and_full_strength_equals_natural_priors():
    h = held_out(n=20_000, num_patients=400, temperature=0.4)
    assert (fit(h).apply(h.logits).argmax(1) == h.logits.argmax(1)).all()
    equal = HeldOut(
        h.logits - 0.4 * np.log([0.55, 0.3, 0.1, 0.05]), h.true, h.group, h.fold
    )  # as balanced training has it
    moved = softmax(fit(equal, prior_strength=1.0).apply(equal.logits), axis=-1)
    assert moved == pytest.approx(softmax(h.logits / 0.4, axis=-1), abs=0.05)
    assert fit(equal, prior_strength=0.0).bias is None


def test_a_model_of_greatest_likelihood_needs_no_temperature():
    logits, true = true_posteriors(3000, (0.5, 0.3, 0.1, 0.1))
    model = LogisticRegression(C=1e6, max_iter=1000).fit(logits, true)
    assert fit_temperature(model.decision_function(logits), true) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("num_images", "num_patients"), [(99, 60), (3000, 9), (0, 1)])
def test_too_few_are_refused_and_it_is_said(num_images, num_patients):
    fitted = fit(held_out(n=num_images, num_patients=num_patients, temperature=3.0), prior_strength="choose")
    assert (fitted.temperature, fitted.bias, fitted.thresholds, fitted.min_confidence) == (1.0, None, None, 0.0)
    assert "Not calibrated" in fitted.notes[0]
    assert f"{num_images:,} images of" in fitted.notes[0]


def test_logits_that_are_not_finite_are_refused():
    h = held_out()
    h.logits[7, 2] = np.nan
    assert "not finite" in fit(h).notes[0]


def test_switched_off_is_off():
    h = held_out(temperature=3.0)
    fitted = fit(h, temperature=False, min_confidence=0.0)
    assert fitted.temperature == 1
    assert (softmax(fitted.apply(h.logits), axis=-1).max(1) >= fitted.min_confidence).all()
