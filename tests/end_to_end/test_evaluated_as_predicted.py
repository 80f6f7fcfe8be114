"""`evaluate` scores the very decisions of `predict`: its members' weights, its class priors, what it rejects."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from helpers.run_folders import ARCHITECTURES, make_run
from helpers.sealing import seal
from nonet.artifacts.run import Run
from nonet.calibration.calibrate import calibrate
from nonet.calibration.fitting import fit_calibration
from nonet.calibration.labels import label_images
from nonet.calibration.member_weights import mean_over_members
from nonet.calibration.ood import fit_rejection
from nonet.data.run_images import RunImages
from nonet.errors import RunError
from nonet.evaluation.bootstrap import Bootstrap
from nonet.evaluation.ood import rejected_out_of_fold
from nonet.evaluation.oof import align_oof
from nonet.evaluation.results import measure
from nonet.page.numbers import percent
from nonet.report import caveats
from nonet.report.cards import render_cards
from nonet.report.evaluate import evaluate
from nonet.report.report import render_report

FEW = Bootstrap(num_resamples=50)
UNEQUAL = {(name, fold): float((2 * i + fold) % 4) for i, name in enumerate(ARCHITECTURES) for fold in range(3)}
BY_FOLD_2 = {(name, fold): float(fold < 2) for name in ARCHITECTURES for fold in range(3)}


def describe(run, weights=None, **settings):
    """Write ensemble.json with weights and what calibration was asked for; give the run a recipe that has them."""
    names = ", ".join(f'"{name}"' for name in ARCHITECTURES)
    (run / "recipe.toml").write_text(f'name = "paper"\n[models]\narchitectures = [{names}]\n')
    weights = weights or dict.fromkeys(UNEQUAL, 1.0)
    members = [{"architecture": name, "fold": fold, "weight": weight} for (name, fold), weight in weights.items()]
    classes = [name.removeprefix("logit_") for name in pd.read_parquet(run / "oof.parquet") if "logit_" in name]
    description = {
        "format_version": 1,
        "classes": classes,
        "members": members,
        "trained_priors": json.loads((run / "ensemble.json").read_text())["trained_priors"],
    }
    (run / "ensemble.json").write_text(json.dumps(description | {"calibration": {"settings": settings}}))
    seal(run)
    return run


def add_ood_score(run, seed=0):
    """Write each member's OOD score of each image; one image in twelve is far out by all members."""
    oof = pd.read_parquet(run / "oof.parquet")
    rng = np.random.default_rng(seed)
    score = {i: rng.normal() + 4 * (rng.random() < 1 / 12) for i in sorted(set(oof["image_id"]))}
    own = {key: rng.normal(0, 0.3) for key in sorted(set(zip(oof["image_id"], oof["architecture"])))}
    oof["ood_score"] = [score[i] + own[i, a] for i, a in zip(oof["image_id"], oof["architecture"])]
    oof.assign(nucleus=True).to_parquet(run / "oof.parquet")
    seal(run)


def page_of(found):
    """Return the report, its figures left empty."""
    names = ("confusion_counts", "confusion_by_row", "class_counts", "samples", "training_curves")
    drawings = dict.fromkeys((*names, "reliability", "label_issues"), '<svg width="1pt"></svg>')
    return render_report(found, drawings, RunImages(Run("nowhere")))


def weighted(run, weights, columns, view_set="dihedral"):
    """Return the evaluated images' weighted mean of columns, row by row of the table."""
    oof = pd.read_parquet(run / "oof.parquet").query("view_set == @view_set")
    weight = np.array([weights[key] for key in zip(oof["architecture"], oof["fold"])])
    sums = oof[columns].astype(float).mul(weight, axis=0).assign(weight=weight).groupby(oof["image_id"]).sum()
    sums = sums[sums["weight"] > 0]
    about = oof.drop_duplicates("image_id").set_index("image_id").loc[sums.index]
    return about, sums[columns].div(sums["weight"], axis=0).to_numpy()


# Weights


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = make_run(tmp_path_factory.mktemp("runs") / "run", num_images=900)
    add_ood_score(folder)
    return folder


def test_the_ensemble_is_the_mean_by_the_weights_of_its_file(run):
    found = measure(Run(describe(run, UNEQUAL)), FEW)
    classes = found.data.oof.classes
    for view_set in ("none", "dihedral"):
        about, logits = weighted(run, UNEQUAL, [f"logit_{code}" for code in classes], view_set)
        best = np.array(classes)[logits.argmax(1)]
        row = found.table.query("architecture == 'ensemble' and views == @view_set").iloc[0]
        assert row["macro_f1"] == pytest.approx(f1_score(about["label"], best, average="macro"))
    assert found.accuracy[0] == pytest.approx(accuracy_score(about["label"], best))
    np.testing.assert_allclose(found.data.oof.final_logits, logits)
    _, ood_score = weighted(run, UNEQUAL, ["ood_score"])
    np.testing.assert_allclose(found.data.oof.ood_score, ood_score[:, 0])
    assert found.data.num_networks == sum(weight > 0 for weight in UNEQUAL.values())


def test_calibrate_and_evaluate_take_the_same_mean(run):
    describe(run, UNEQUAL)
    fitted = calibrate(run, settings=["calibrate.temperature=false"])
    logits = measure(Run(run), FEW).data.oof.final_logits
    np.testing.assert_allclose(fitted.class_priors, softmax(logits, axis=1).mean(0), rtol=1e-12)


def test_equal_weights_of_any_size_change_no_bit(run):
    oof = pd.read_parquet(run / "oof.parquet")
    plain = align_oof(oof)
    for size in (1.0, 2.0):
        same = align_oof(oof, weights=dict.fromkeys(UNEQUAL, size))
        assert (same.logits.mean(axis=1) == same.ensemble_logits).all()
        assert (same.final_logits == plain.final_logits).all()
        assert (same.ood_score == plain.ood_score).all()


def test_a_member_of_zero_weight_does_not_take_part():
    values = np.array([[[1.0], [np.nan]], [[3.0], [5.0]]])
    assert mean_over_members(values, np.array([[1.0, 0.0], [3.0, 2.0]])).tolist() == [[2.5], [5.0]]


def test_images_that_no_member_of_weight_can_judge_are_left_out_and_it_is_said(run):
    found = measure(Run(describe(run, BY_FOLD_2)), FEW)
    num = int((pd.read_csv(run / "folds.csv")["fold"] == 2).sum())
    assert set(found.data.oof.fold) == {0, 1}
    assert found.data.num_not_judged == num == 900 - len(found.data.oof.true)
    assert any(text.startswith(f"{num:,} images") for text in caveats.limits(found))
    assert f"{900 - num} images" in calibrate(run).notes[0]


def test_weights_that_leave_nothing_to_score_say_what_to_do(run):
    oof = pd.read_parquet(run / "oof.parquet")
    with pytest.raises(RunError) as caught:
        align_oof(oof[oof["fold"] == 2], weights=BY_FOLD_2)
    assert "fold 2" in caught.value.hint


@pytest.mark.parametrize("weight", [-1.0, float("nan"), "much", None])
def test_weights_that_cannot_be_are_refused(run, weight):
    describe(run, UNEQUAL | {(ARCHITECTURES[0], 0): weight})
    with pytest.raises(RunError, match=r"ensemble\.json"):
        evaluate(run, num_resamples=50)


def test_a_calibration_of_other_weights_is_said(run):
    """Predictions have ensemble.json's; what is measured is what calibrating again would give."""
    stale = "does not match its members and settings"
    describe(run)
    assert stale in " ".join(caveats.limits(measure(Run(run), FEW)))
    calibrate(run)
    assert stale not in " ".join(caveats.limits(measure(Run(run), FEW)))
    kept = json.loads((run / "ensemble.json").read_text())
    for member in kept["members"]:
        member["weight"] = UNEQUAL[member["architecture"], member["fold"]]
    (run / "ensemble.json").write_text(json.dumps(kept))
    assert stale in " ".join(caveats.limits(measure(Run(run), FEW)))


# Class priors and rejection


def as_predicted(found, settings):
    """Return predict's table for each fold, by a calibration and a rejection fitted on the other folds."""
    oof, parts = found.data.oof, []
    held_out = replace(oof.held_out, rejected=rejected_out_of_fold(oof, settings.false_alarm))
    for fold in range(3):
        here = oof.fold == fold
        others = held_out.subset(~here)
        fitted = fit_calibration(others, settings, found.data.trained_priors, oof.classes)
        rejection = fit_rejection(
            oof.ood_score[~here], oof.group[~here], oof.fold[~here], false_alarm=settings.false_alarm
        )
        rejected = rejection.rejects(rejection.percentile(oof.ood_score[here]))
        proba = softmax(fitted.apply(oof.final_logits[here]), axis=1)
        parts.append(
            label_images(proba, oof.classes, fitted, rejected, np.zeros(len(rejected), dtype=bool)).set_index(
                np.flatnonzero(here)
            )
        )
    return pd.concat(parts).sort_index()


@pytest.fixture(scope="module")
def moved(run):
    asked = {"prior_strength": 0.5, "false_alarm": 0.1, "min_confidence": 0.3}
    return measure(Run(describe(run, **asked)), FEW)


@pytest.fixture(scope="module")
def predictions(moved):
    return as_predicted(moved, moved.data.calibrate)


def test_the_best_class_is_the_one_that_predict_calls_best(moved, predictions):
    codes = np.array(moved.data.oof.classes)
    true, best = codes[moved.data.oof.true], predictions["best"].to_numpy(dtype=str)
    assert (best != codes[moved.data.oof.final_logits.argmax(1)]).mean() > 0.01  # it does move
    assert (codes[moved.predicted] == best).all()
    assert moved.headline["macro_f1"] == pytest.approx(f1_score(true, best, average="macro", labels=codes))
    assert moved.accuracy[0] == pytest.approx(accuracy_score(true, best))
    order = list(moved.confusion.index)
    assert (moved.confusion.to_numpy() == confusion_matrix(true, best, labels=order)).all()
    assert moved.per_class["f1"].tolist() == pytest.approx(f1_score(true, best, average=None, labels=order))
    assert moved.issues.confusion.equals(moved.confusion)
    assert "Prior correction is on" in page_of(moved)


def test_an_issue_has_the_confidence_that_predict_gives(moved, predictions):
    place = {image: i for i, image in enumerate(moved.data.oof.image_id)}
    rows = predictions.iloc[[place[image] for image in moved.issues.table["image_id"]]]
    assert len(rows) > 20
    assert moved.issues.table["suggested"].tolist() == rows["best"].tolist()
    np.testing.assert_allclose(moved.issues.table["suggested_confidence"], rows["confidence"])


def test_sets_and_doubt_are_of_what_predict_rejects(moved, predictions):
    true = np.array(moved.data.oof.classes)[moved.data.oof.true]
    sets = predictions["set"].str.split("|").map(lambda one: [code for code in one if code])
    holds = np.array([code in one for code, one in zip(true, sets)])
    named = predictions["label"] != "unidentified"
    rejected = predictions["reason"] == "unknown cell type"
    assert 0.03 < rejected.mean() < 0.3 and (~named).mean() > rejected.mean()
    table = moved.calibration.coverage.set_index("class")
    assert table.loc["all", "coverage"] == pytest.approx(holds.mean())
    assert table.loc["all", "set_size"] == pytest.approx(sets.map(len).mean())
    assert table.loc["all", "empty"] == pytest.approx(rejected.mean())
    assert table.loc["SNE", "coverage"] == pytest.approx(holds[true == "SNE"].mean())
    doubt = moved.calibration.doubt
    assert doubt["share_rejected"] == pytest.approx(rejected.mean())
    assert doubt["share_identified"] == pytest.approx(named.mean())
    assert doubt["accuracy_identified"] == pytest.approx((predictions["best"] == true)[named].mean())
    share = percent(named.mean())
    for text in (page_of(moved), render_cards(moved)["model_card.md"]):
        assert share in text and "count as not covered" in text


def test_without_rejection_every_set_has_a_class(run):
    found = measure(Run(describe(run, false_alarm=0.0)), FEW)
    assert (found.calibration.coverage["empty"].dropna() == 0).all()
    assert found.calibration.doubt["share_rejected"] == 0
    assert "count as not covered" not in page_of(found)


def test_prior_correction_that_cannot_be_measured_is_reported(tmp_path):
    few = make_run(tmp_path / "run", num_images=200, num_patients=12)
    found = measure(Run(describe(few, prior_strength=-1.0)), FEW)
    assert (found.predicted == found.data.oof.final_logits.argmax(1)).all()
    assert any("as trained" in text for text in caveats.limits(found))
