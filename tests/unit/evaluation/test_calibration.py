"""What `evaluate` says of probabilities and sets: against references, and never on the patients it was fitted on."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.metrics import accuracy_score, brier_score_loss, f1_score, log_loss

from helpers.posteriors import held_out
from helpers.run_folders import make_run
from nonet.calibration.fitting import HeldOut, fit_calibration
from nonet.evaluation.bootstrap import Bootstrap
from nonet.evaluation.calibration import cross_fit, measure_calibration
from nonet.evaluation.not_measured import NotMeasured
from nonet.evaluation.oof import align_oof
from nonet.recipe import Calibrate
from nonet.report.evaluate import evaluate

CLASSES = ["BA", "EO", "LY", "SNE"]
EQUAL = np.full(4, 0.25)
FEW = {"num_resamples": 200}
FEW_RESAMPLES = Bootstrap(**FEW)


def oof_of(h, unknown_patients=False):
    table = pd.DataFrame(
        {
            "image_id": [f"{i:06d}" for i in range(len(h.true))],
            "label": np.array(CLASSES, dtype=object)[h.true],
            "patient": None if unknown_patients else h.group,
            "fold": h.fold,
            "architecture": "vit_mini",
            "view_set": "dihedral",
        }
    )
    return align_oof(table.join(pd.DataFrame(h.logits, columns=[f"logit_{code}" for code in CLASSES])))


def ece_by_hand(confidence, right):
    """Guo et al. 2017, equation 3, bin by bin."""
    total = 0.0
    for k in range(15):
        inside = (confidence > k / 15) & (confidence <= (k + 1) / 15)
        if inside.any():
            total += inside.sum() / len(right) * abs(right[inside].mean() - confidence[inside].mean())
    return total


@pytest.fixture(scope="module")
def measured():
    h = held_out(n=2400, temperature=2.5)
    return h, measure_calibration(oof_of(h), Calibrate(), EQUAL, bootstrap=FEW_RESAMPLES)


def test_scores_before_are_those_of_the_references(measured):
    h, found = measured
    proba, overall = softmax(h.logits, axis=-1), found.measures.iloc[0]
    assert overall["nll_before"] == pytest.approx(log_loss(h.true, proba))
    by_class = found.measures.set_index("class")
    references = [brier_score_loss(h.true == k, proba[:, k]) for k in range(4)]
    for k, code in enumerate(CLASSES):
        assert by_class.loc[code, "brier_before"] == pytest.approx(references[k])
        assert by_class.loc[code, "ece_before"] == pytest.approx(ece_by_hand(proba[:, k], h.true == k))
        assert by_class.loc[code, "mean_probability_before"] == pytest.approx(proba[:, k].mean())
        assert by_class.loc[code, "share"] == pytest.approx((h.true == k).mean())
    assert overall["brier_before"] == pytest.approx(sum(references))
    assert overall["ece_before"] == pytest.approx(ece_by_hand(proba.max(1), proba.argmax(1) == h.true))


def test_scores_after_are_of_what_the_other_folds_taught(measured):
    h, found = measured
    logits = np.empty_like(h.logits)
    for fold in range(3):
        rows = h.fold == fold
        logits[rows] = fit_calibration(h.subset(~rows), Calibrate(), EQUAL, CLASSES).apply(h.logits[rows])
    assert found.measures.iloc[0]["nll_after"] == pytest.approx(log_loss(h.true, softmax(logits, axis=-1)))
    assert found.measures.iloc[0]["ece_after"] < 0.05 < found.measures.iloc[0]["ece_before"]


def test_labels_of_a_fold_do_not_reach_its_own_calibration():
    h = held_out(n=1500, temperature=2.5)
    fold = h.fold == 1
    scrambled = HeldOut(h.logits, np.where(fold, (h.true + 1) % 4, h.true), h.group, h.fold)
    settings = Calibrate(prior_strength="choose")
    first, second = (cross_fit(x, settings, EQUAL, CLASSES) for x in (h, scrambled))
    assert (first.logits[fold] == second.logits[fold]).all()
    assert (first.inside[fold] == second.inside[fold]).all()
    assert (first.shifted[fold] == second.shifted[fold]).all()
    assert (first.adapted[fold] == second.adapted[fold]).all()
    assert not np.allclose(first.logits[~fold], second.logits[~fold])


def test_coverage_and_size_are_counted(measured):
    h, found = measured
    inside, rows = found.fitted.inside, np.arange(len(h.true))
    table = found.coverage.set_index("class")
    assert table.loc["all", "coverage"] == pytest.approx(inside[rows, h.true].mean())
    assert table.loc["all", "set_size"] == pytest.approx(inside.sum(1).mean())
    for k, code in enumerate(CLASSES):
        assert table.loc[code, "coverage"] == pytest.approx(inside[rows, h.true][h.true == k].mean())
        assert table.loc[code, "set_size"] == pytest.approx(inside.sum(1)[h.true == k].mean())
        assert table.loc[code, "coverage_low"] <= table.loc[code, "coverage"] <= table.loc[code, "coverage_high"]
    assert table.loc["all", "coverage"] > 0.87


def test_doubt_is_scored_on_all_and_on_the_identified(measured):
    h, found = measured
    proba = softmax(found.fitted.logits, axis=-1)
    best, named = proba.argmax(1), proba.max(1) >= 0.5
    assert 0.5 < named.mean() < 0.99
    assert found.doubt["share_identified"] == pytest.approx(named.mean())
    assert found.doubt["accuracy_all"] == pytest.approx(accuracy_score(h.true, best))
    assert found.doubt["accuracy_identified"] == pytest.approx(accuracy_score(h.true[named], best[named]))
    assert found.doubt["macro_f1_all"] == pytest.approx(f1_score(h.true, best, average="macro"))
    expected = f1_score(h.true[named], best[named], average="macro")
    assert found.doubt["macro_f1_identified"] == pytest.approx(expected)
    assert found.doubt["accuracy_identified_low"] < found.doubt["accuracy_identified"]


def test_a_class_that_is_never_identified_stays_in_the_mean():
    """Its logits are near a tie, so that no probability reaches 0.5; the others are told well."""
    rng = np.random.default_rng(0)
    true = rng.integers(4, size=1600)
    logits = 4.0 * np.eye(4)[true] + rng.normal(0, 1, (1600, 4))
    logits[true == 3] = 0.01 * rng.normal(size=((true == 3).sum(), 4))
    patient = np.arange(1600) // 40
    h = HeldOut(logits, true, np.array([f"P{p}" for p in patient]), patient % 3)
    found = measure_calibration(oof_of(h), Calibrate(), EQUAL, bootstrap=FEW_RESAMPLES)
    proba = softmax(found.fitted.logits, axis=-1)
    best, named = proba.argmax(1), proba.max(1) >= 0.5
    assert not (true[named] == 3).any()
    expected = f1_score(true[named], best[named], labels=range(4), average="macro", zero_division=0)
    assert found.doubt["macro_f1_identified"] == pytest.approx(expected)
    assert found.doubt["macro_f1_identified_high"] < 0.76


def test_intervals_are_over_patients_and_wider_than_over_images():
    """All cells of a patient alike: 40 patients say far less than 2,000 images."""
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(40), 50)
    right = (rng.random(40) < 0.7)[patient]
    true = rng.integers(4, size=2000)
    logits = 2.0 * np.eye(4)[np.where(right, true, (true + 1) % 4)]
    h = HeldOut(logits, true, np.array([f"P{p}" for p in patient]), patient % 3)
    row = [
        measure_calibration(oof_of(h, unknown), Calibrate(), EQUAL, bootstrap=FEW_RESAMPLES).measures.iloc[0]
        for unknown in (0, 1)
    ]
    widths = [one["brier_before_high"] - one["brier_before_low"] for one in row]
    assert widths[0] > 3 * widths[1]


def test_reliability_bins_hold_every_image_once(measured):
    h, found = measured
    for when, logits in (("before", h.logits), ("after", found.fitted.logits)):
        bins = found.bins[found.bins["when"] == when]
        proba = softmax(logits, axis=-1)
        assert bins["images"].sum() == len(h.true)
        assert np.average(bins["confidence"], weights=bins["images"]) == pytest.approx(proba.max(1).mean())
        assert np.average(bins["accuracy"], weights=bins["images"]) == pytest.approx((proba.argmax(1) == h.true).mean())


def test_a_shift_that_pays_is_a_row_of_its_own_and_a_difference():
    """Training drew by the natural shares, which misses rare classes: equal priors raise macro-F1."""
    natural = np.array([0.9, 0.06, 0.03, 0.01])
    h = held_out(n=6000, priors=natural)
    found = measure_calibration(oof_of(h), Calibrate(prior_strength="choose"), natural, bootstrap=FEW_RESAMPLES)
    raw, moved = h.logits.argmax(1), found.fitted.logits.argmax(1)
    gain = f1_score(h.true, moved, average="macro") - f1_score(h.true, raw, average="macro", zero_division=0)
    assert gain > 0.01
    assert found.differences["difference"][0] == pytest.approx(gain)
    assert found.row["macro_f1"][0] == pytest.approx(f1_score(h.true, moved, average="macro"))
    assert all(strength < 0 for strength in found.fitted.strengths)
    still = measure_calibration(oof_of(h), Calibrate(), natural, bootstrap=FEW_RESAMPLES)
    assert still.row is None
    assert still.differences["difference"][0] == pytest.approx(gain)  # what choosing would give is told all the same


def test_too_few_patients_are_said_and_nothing_is_measured():
    found = measure_calibration(oof_of(held_out(num_patients=12)), Calibrate(), EQUAL, bootstrap=FEW_RESAMPLES)
    assert isinstance(found, NotMeasured)
    assert "8 patients" in found.reason


@pytest.mark.slow
def test_evaluate_writes_tables_figure_and_section(tmp_path):
    run = make_run(tmp_path / "run", num_images=900)
    table = evaluate(run, **FEW)
    assert "ensemble, calibrated" not in set(table["name"])
    coverage = pd.read_csv(run / "evaluation" / "coverage.csv")
    assert coverage["class"].tolist()[0] == "all"
    assert pd.read_csv(run / "evaluation" / "calibration.csv")["ece_after"].notna().all()
    page = (run / "evaluation" / "report.html").read_text()
    assert "<svg" in page[page.index('id="calibration"') :]
    assert (run / "evaluation" / "figures" / "reliability.svg").exists()
    differences = pd.read_csv(run / "evaluation" / "differences.csv")
    assert differences["comparison"].str.contains("class priors").sum() == 2

    kept = json.loads((run / "ensemble.json").read_text())
    (run / "ensemble.json").write_text(json.dumps(kept | {"calibration": {"settings": {"prior_strength": -1.0}}}))
    moved = evaluate(run, **FEW)
    assert moved["name"].iloc[-1] == "ensemble, calibrated"
    assert moved["macro_f1_low"].notna().all()
    assert "ensemble, calibrated" in (run / "evaluation" / "report.html").read_text()


@pytest.mark.slow
def test_too_few_patients_leave_no_tables_of_an_earlier_evaluation(tmp_path):
    run = make_run(tmp_path / "run", num_patients=9)
    (run / "evaluation").mkdir()
    (run / "evaluation" / "coverage.csv").write_text("old")
    evaluate(run, **FEW)
    assert not (run / "evaluation" / "coverage.csv").exists()
    assert "are too few" in (run / "evaluation" / "report.html").read_text()
