"""The log-odds of unknown cells, and their part in a member's score."""

import numpy as np
import pytest
from scipy.special import logit
from scipy.stats import zscore
from sklearn.linear_model import LogisticRegression

from nonet.calibration.ood import ODDS_WEIGHT, MemberScore, fit_member_score
from nonet.calibration.unknown_head import UnknownHead


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(n, 12)) for name, n in (("training", 300), ("held out", 120), ("unknown", 60))}


@pytest.fixture
def head(features):
    rng = np.random.default_rng(1)
    return UnknownHead(rng.normal(size=(4, 12)).astype(np.float32), rng.normal(size=4).astype(np.float32))


def test_log_odds_are_those_of_the_probability(features):
    labels = np.arange(300) % 4
    model = LogisticRegression().fit(features["training"], labels)
    head = UnknownHead(model.coef_, model.intercept_)
    expected = logit(model.predict_proba(features["unknown"])[:, -1])
    np.testing.assert_allclose(head.log_odds(features["unknown"]), expected, rtol=1e-6, atol=1e-6)


def test_large_logits_do_not_overflow(head, features):
    assert np.isfinite(head.log_odds(1e4 * features["unknown"])).all()


def test_the_part_of_the_log_odds_is_added_with_its_weight(features, head):
    training, held_out = features["training"], features["held out"]
    with_head, without = fit_member_score(training, held_out, head), fit_member_score(training, held_out)
    added = with_head.score(held_out) - without.score(held_out)
    np.testing.assert_allclose(added, ODDS_WEIGHT * zscore(head.log_odds(held_out)), atol=1e-5)


def test_a_patient_does_not_standardise_itself(features, head):
    """Moving a patient's log-odds moves its own scores, and not the mean and spread that they are measured by."""
    held_out, group = features["held out"], np.repeat([f"P{i}" for i in range(6)], 20)
    score = fit_member_score(features["training"], held_out, head)
    odds = head.log_odds(held_out)
    parts = score.score_held_out(held_out, group) - MemberScore(
        score.space, score.prototypes, score.mean[:2], score.std[:2], score.smallest[:2]
    ).score_held_out(held_out, group)
    for name in np.unique(group):
        own, others = group == name, odds[group != name]
        np.testing.assert_allclose(parts[own], ODDS_WEIGHT * (odds[own] - others.mean()) / others.std(), atol=1e-5)


def test_scores_are_the_same_after_the_file(features, head, tmp_path):
    for one in (head, None):
        score = fit_member_score(features["training"], features["held out"], one)
        score.write(tmp_path / "ood.npz")
        read = MemberScore.read(tmp_path / "ood.npz")
        assert (read.head is None) == (one is None)
        np.testing.assert_array_equal(read.score(features["unknown"]), score.score(features["unknown"]))


def test_a_member_that_diverged_has_no_score(features, head):
    training = np.full_like(features["training"], np.nan)
    score = fit_member_score(training, features["held out"], head)
    assert not np.isfinite(score.score(features["held out"])).any()
