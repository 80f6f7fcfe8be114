"""Rejection: the threshold keeps its promise on known cells, survives its files, and refuses what is too little."""

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import zscore

from nonet.artifacts.ensemble_file import EnsembleFile, MemberEntry
from nonet.calibration.ood import SHARES, MemberScore, Rejection, fit_member_score, fit_rejection
from nonet.calibration.ood_scores import PrincipalSpace, nearest_prototype
from nonet.errors import RunError
from nonet.evaluation.bootstrap import Bootstrap
from nonet.evaluation.ood import rejected_out_of_fold, rejection_table
from nonet.evaluation.oof import OutOfFold


def groups(n, per_unit=10):
    return np.array([f"patient {i // per_unit}" for i in range(n)])


def folds(n):
    """Two, of the first half of the images and of the second."""
    return np.arange(n) // max(1, -(-n // 2))


@given(seed=st.integers(0, 99), false_alarm=st.floats(0.01, 0.3), scale=st.floats(0.1, 100))
def test_as_many_known_cells_are_rejected_as_requested(seed, false_alarm, scale):
    score = scale * np.random.default_rng(seed).standard_gamma(2, 2000)
    fitted = fit_rejection(score, groups(2000), folds(2000), false_alarm=false_alarm)
    assert fitted.rejects(fitted.percentile(score)).mean() == pytest.approx(false_alarm, abs=0.005)


finite = st.floats(-99, 99, allow_subnormal=False)


@given(scores=st.lists(finite, min_size=100, max_size=300), asked=st.lists(finite, min_size=2))
def test_a_higher_score_never_has_a_lower_percentile(scores, asked):
    assume(np.std(scores) > 0.1)
    fitted = fit_rejection(np.array(scores), groups(len(scores), 5), folds(len(scores)), false_alarm=0.02)
    percentile = fitted.percentile(np.sort(asked))
    assert (np.diff(percentile) >= 0).all()
    assert ((percentile >= 0) & (percentile <= 1)).all()
    assert fitted.percentile(np.array([1e9])) == 1


@pytest.mark.parametrize(
    "num_images, per_unit, false_alarm, words",
    [(0, 1, 0.02, "0 images"), (99, 5, 0.02, "99 images"), (200, 40, 0.02, "5 patients"), (500, 10, 0.001, "1000 of")],
)
def test_too_little_to_fit_on_rejects_nothing_and_says_so(num_images, per_unit, false_alarm, words):
    fitted = fit_rejection(
        np.arange(num_images), groups(num_images, per_unit), folds(num_images), false_alarm=false_alarm
    )
    assert not fitted.is_fitted
    assert words in fitted.notes[0]
    assert not fitted.rejects(fitted.percentile(np.array([1e9]))).any()


def test_a_member_that_diverged_rejects_nothing():
    features = np.random.default_rng(0).normal(size=(300, 8))
    features[0] = np.nan
    score = fit_member_score(features, features[1:]).score(features[1:])
    fitted = fit_rejection(score, groups(299), folds(299), false_alarm=0.02)
    assert not fitted.is_fitted
    assert "diverged" in fitted.notes[0]


def test_members_that_find_everything_alike_reject_nothing():
    score = fit_member_score(np.ones((300, 8)), np.ones((300, 8))).score(np.ones((300, 8)))
    fitted = fit_rejection(score, groups(300), folds(300), false_alarm=0.02)
    assert not fitted.is_fitted
    assert "same out-of-distribution score" in fitted.notes[0]


def test_no_false_alarm_is_no_rejection():
    fitted = fit_rejection(np.arange(500.0), groups(500), folds(500), false_alarm=0)
    assert not fitted.rejects(fitted.percentile(np.array([1e9]))).any()


ENSEMBLE = EnsembleFile(
    classes=["LY"], members=[MemberEntry(architecture="vit_mini", fold=0, weight=1)], trained_priors={"LY": 1.0}
)


def test_what_ensemble_json_keeps_is_what_was_fitted():
    fitted = fit_rejection(np.random.default_rng(0).normal(size=500), groups(500), folds(500), false_alarm=0.05)
    ensemble = ENSEMBLE.updated(rejection=fitted.to_section())
    again = Rejection.from_ensemble(EnsembleFile.model_validate_json(ensemble.model_dump_json()))
    np.testing.assert_array_equal(again.percentile(np.linspace(-5, 5)), fitted.percentile(np.linspace(-5, 5)))
    assert again.false_alarm == 0.05
    assert again.notes == fitted.notes
    assert not Rejection.from_ensemble(ENSEMBLE).is_fitted


@pytest.mark.parametrize(
    "kept",
    [
        "yes",
        {"false_alarm": 2},
        {"false_alarm": "a few"},
        {"false_alarm": None},
        {"false_alarm": 0.1, "quantiles": [1, 2]},
        {"false_alarm": 0.1, "quantiles": "many"},
        {"false_alarm": 0.1, "quantiles": {}},
        {"false_alarm": True},
        {"false_alarm": 0.1, "notes": None},
        {"false_alarm": 0.1, "quantiles": [float("nan")] * len(SHARES)},
        {"false_alarm": 0.1, "quantiles": list(range(len(SHARES)))[::-1]},
    ],
)
def test_an_edited_file_is_checked(kept):
    with pytest.raises(ValueError):
        Rejection.from_ensemble(ENSEMBLE.updated(rejection=kept))


def test_a_members_score_is_standardised_on_what_was_held_out_and_kept_as_it_is(tmp_path):
    rng = np.random.default_rng(0)
    training, held_out = rng.normal(size=(200, 16)), rng.normal(size=(80, 16)) + 0.3
    fitted = fit_member_score(training, held_out)
    assert fitted.score(held_out).mean() == pytest.approx(0, abs=1e-9)
    parts = [fitted.space.residual(held_out), nearest_prototype(fitted.prototypes, held_out)]
    np.testing.assert_allclose(fitted.score(held_out), zscore(parts, axis=1).sum(0), atol=1e-9)
    fitted.write(tmp_path / "ood.npz")
    np.testing.assert_allclose(MemberScore.read(tmp_path / "ood.npz").score(training), fitted.score(training))


def test_what_lies_in_no_direction_of_training_is_out_of_distribution_whatever_its_axes():
    """Known images lie along the sum of four axes. An image that looks like nothing stays in their space, near zero."""
    rng = np.random.default_rng(0)

    def known(n):
        return 10 * np.eye(16)[:4].sum(0) + rng.normal(size=(n, 16)) * np.where(np.arange(16) < 4, 3, 0.1)

    fitted, blank = fit_member_score(known(400), known(200)), np.outer([0.5, -0.5], np.eye(16)[0] - np.eye(16)[1])
    assert (fitted.space.residual(blank) < np.quantile(fitted.space.residual(known(200)), 0.9)).all()
    assert (fitted.score(blank) > np.quantile(fitted.score(known(200)), 0.99)).all()


def test_held_out_images_are_standardised_by_the_other_patients_held_out():
    rng = np.random.default_rng(0)
    training, held_out, group = rng.normal(size=(200, 16)), rng.normal(size=(60, 16)) + 0.3, groups(60, 7)
    fitted = fit_member_score(training, held_out)
    found = fitted.score_held_out(held_out, group)
    parts = np.stack([fitted.space.residual(held_out), nearest_prototype(fitted.prototypes, held_out)])
    for name in set(group):
        own, others = parts[:, group == name], parts[:, group != name]
        expected = ((own - others.mean(1, keepdims=True)) / others.std(1, keepdims=True)).sum(0)
        np.testing.assert_allclose(found[group == name], expected, rtol=1e-9)
    assert np.isnan(fitted.score_held_out(held_out, np.full(60, "patient 1"))).all()


def test_a_fold_of_a_single_patient_rejects_nothing_and_says_so():
    group = np.where(folds(400) == 0, "patient 1", groups(400))
    fitted = fit_rejection(np.random.default_rng(0).normal(size=400), group, folds(400), false_alarm=0.02)
    assert not fitted.is_fitted
    assert "fold 0" in fitted.notes[0] and "single patient" in fitted.notes[0]


def out_of_fold(ood_score, group, fold):
    n = len(group)
    return OutOfFold(
        classes=["A"],
        view_sets=["none"],
        architectures=["one"],
        num_folds={"one": len(set(fold))},
        image_id=np.arange(n).astype(str),
        true=np.zeros(n, dtype=int),
        patient=group,
        group=group,
        fold=fold,
        logits=np.zeros((1, 1, n, 1)),
        ood_score=ood_score,
    )


def test_the_measured_share_is_that_of_patients_who_have_no_part_in_it():
    """Few patients who differ much: the measured share of false alarms is that which fresh patients see.

    Each simulated run has three folds of six patients with a level of their own, and a member a fold. A fresh patient
    is scored by a member with the threshold of the other folds, as a held-out one is. Where held-out images are
    standardised by their own patient's, too, more of fresh patients' cells are rejected than is shown.
    """
    rng, per_patient, false_alarm = np.random.default_rng(0), 20, 0.05
    space, prototypes = PrincipalSpace(np.zeros(3), np.zeros((3, 0))), np.eye(3)[:1]
    group, fold = groups(18 * per_patient, per_patient), np.arange(18 * per_patient) // (6 * per_patient)

    def features(num_patients):
        level = rng.normal((5, 0, 0), (0.8, 0.5, 0.5), (num_patients, 3))
        return np.repeat(level, per_patient, axis=0) + rng.normal(0, 0.2, (num_patients * per_patient, 3))

    def member(held_out):
        parts = np.stack([space.residual(held_out), nearest_prototype(prototypes, held_out)])
        return MemberScore(space, prototypes, parts.mean(1), parts.std(1), np.full(2, 1e-9))

    shown, true = {"others": [], "own": []}, {"others": [], "own": []}
    for _ in range(150):
        known, new = features(18), features(40)
        members = [member(known[fold == k]) for k in range(3)]
        scores = {
            "others": [members[k].score_held_out(known[fold == k], group[fold == k]) for k in range(3)],
            "own": [members[k].score(known[fold == k]) for k in range(3)],
        }
        for way, of_folds in scores.items():
            score = np.concatenate(of_folds)
            shown[way].append(rejected_out_of_fold(out_of_fold(score, group, fold), false_alarm).mean())
            for k in range(3):
                others = fold != k
                fitted = fit_rejection(score[others], group[others], fold[others], false_alarm=false_alarm)
                true[way].append(fitted.rejects(fitted.percentile(members[k].score(new))).mean())
    bias = {way: np.mean(shown[way]) - np.mean(true[way]) for way in shown}
    assert bias["own"] < -0.01
    assert -0.003 < bias["others"] < 0.015  # by five others instead of six: shown a little too high, never too low
    assert np.mean(true["others"]) < np.mean(true["own"])


def rounded(features):
    """As bfloat16 keeps numbers: eight binary digits."""
    bits = np.ascontiguousarray(features, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).view(np.float32)


@pytest.mark.parametrize("spread", [0.0, 1e-5, 1e-3, 1.0])
def test_features_that_hardly_vary_do_not_decide(spread):
    """Known cells lie in one plane but for a spread of the length given; half precision moves a cell at most."""
    rng = np.random.default_rng(0)
    middle, axes = rng.normal(4, 1, size=32), rng.normal(size=(2, 32)) / 10

    def known(n):
        return (middle + rng.normal(size=(n, 2)) @ axes + spread * rng.normal(size=(n, 32))).astype(np.float32)

    training, held_out, new = known(600), known(300), known(100)
    member = fit_member_score(training, held_out)
    fitted = fit_rejection(member.score_held_out(held_out, groups(300)), groups(300), folds(300), false_alarm=0.02)
    rejected = [fitted.rejects(fitted.percentile(member.score(x))) for x in (new, rounded(new))]
    assert (rejected[0] != rejected[1]).sum() <= 1


def test_the_file_is_no_larger_for_more_images(tmp_path):
    rng = np.random.default_rng(0)
    for n in (100, 5000):
        fit_member_score(rng.normal(size=(n, 16)), rng.normal(size=(n, 16))).write(tmp_path / f"{n}.npz")
    assert (tmp_path / "100.npz").stat().st_size == (tmp_path / "5000.npz").stat().st_size


@pytest.mark.parametrize("damage", ["absent", "cut", "other"])
def test_a_file_that_is_not_whole_is_named(tmp_path, damage):
    file = tmp_path / "ood.npz"
    fit_member_score(np.eye(8), np.eye(8)).write(file)
    if damage == "absent":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:200])
    else:
        np.savez(file, something=np.zeros(3))
    with pytest.raises(RunError, match=r"ood\.npz"):
        MemberScore.read(file)


@pytest.fixture
def held_out():
    """600 images of 60 patients in three folds; class B spreads twice as far as A."""
    rng = np.random.default_rng(0)
    true = rng.integers(2, size=600)
    group = np.array([f"patient {i // 10}" for i in range(600)])
    return OutOfFold(
        classes=["A", "B"],
        view_sets=["none"],
        architectures=["one"],
        num_folds={"one": 3},
        image_id=np.arange(600).astype(str),
        true=true,
        patient=group,
        group=group,
        fold=np.arange(600) // 10 % 3,
        logits=np.zeros((1, 1, 600, 2)),
        ood_score=rng.normal(size=600) * (1 + true),
    )


def test_each_fold_is_rejected_by_the_threshold_of_the_others(held_out):
    # A fold with much higher scores than the others is rejected whole: no threshold of its own hides it.
    moved = dataclasses.replace(held_out, ood_score=held_out.ood_score + 100 * (held_out.fold == 1))
    rejected = rejected_out_of_fold(moved, 0.05)
    assert rejected[held_out.fold == 1].all()
    assert not rejected[held_out.fold != 1].any()


def test_the_table_counts_what_is_rejected_by_class(held_out):
    rejected = rejected_out_of_fold(held_out, 0.05)
    table = rejection_table(held_out, rejected, bootstrap=Bootstrap(200)).set_index("class")
    for code, rows in (("all", np.full(600, True)), ("A", held_out.true == 0), ("B", held_out.true == 1)):
        row = table.loc[code]
        assert (row["images"], row["rejected"]) == (rows.sum(), rejected[rows].sum())
        assert row["share"] == pytest.approx(rejected[rows].mean())
        assert row["share_low"] <= row["share"] <= row["share_high"]
    assert table.loc["B", "share"] > table.loc["A", "share"]
    assert table.loc["all", "share"] == pytest.approx(0.05, abs=0.02)


def test_a_run_without_scores_says_why(held_out):
    assert "ood.npz" in rejected_out_of_fold(dataclasses.replace(held_out, ood_score=None), 0.02).reason
    assert "false_alarm" in rejected_out_of_fold(held_out, 0.0).reason
    few = dataclasses.replace(held_out, group=np.char.add("patient ", (np.arange(600) % 2).astype(str)))
    assert "too few" in rejected_out_of_fold(few, 0.02).reason


def test_a_run_of_one_class_has_a_table_too(held_out):
    one = dataclasses.replace(held_out, classes=["A"], true=np.zeros(600, dtype=int), logits=held_out.logits[..., :1])
    rejected = rejected_out_of_fold(one, 0.05)
    table = rejection_table(one, rejected, bootstrap=Bootstrap(50)).set_index("class")
    assert list(table.index) == ["all", "A"]
    assert table["share"].tolist() == pytest.approx([rejected.mean()] * 2)
    assert (table["share_low"] < rejected.mean()).all() and (table["share_high"] > rejected.mean()).all()
