"""Predictions no better than a constant: said first, in report, card and log, and no label is doubted by them."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

import nonet
from helpers.run_folders import make_run
from nonet.artifacts.integrity import note_checksums
from nonet.artifacts.run import Run
from nonet.errors import RunError
from nonet.evaluation.bootstrap import confusions_by_group
from nonet.evaluation.majority_baseline import measure_majority_baseline

CODES = ["EO", "LY", "SNE"]
ISSUE_FILES = ("issues.csv", "issues_by_source.csv", "issues_by_patient.csv", "figures/label_issues.svg")


def baseline_of(true, predicted, group, **options):
    return measure_majority_baseline(confusions_by_group(true, predicted, group, len(CODES)), CODES, **options)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def true(rng):
    return rng.choice(3, size=900, p=[0.1, 0.2, 0.7])


@pytest.fixture
def group(rng):
    return rng.integers(30, size=900)


def test_it_is_what_a_constant_scores(true, group, rng):
    predicted = np.where(rng.random(900) < 0.5, true, rng.integers(3, size=900))
    baseline = baseline_of(true, predicted, group)
    constant = np.full(900, 2)
    assert (baseline.commonest, baseline.num_classes) == ("SNE", 3)
    for pair, score in (
        (baseline.accuracy, accuracy_score),
        (baseline.balanced_accuracy, balanced_accuracy_score),
        (baseline.macro_f1, lambda t, p: f1_score(t, p, average="macro", zero_division=0)),
    ):
        assert pair == pytest.approx((score(true, predicted), score(true, constant)))
    assert baseline.gain[0] == pytest.approx(balanced_accuracy_score(true, predicted) - 1 / 3)
    assert 0 < baseline.gain[1] < baseline.gain[0] < baseline.gain[2]


def test_constants_and_guesses_have_learned_nothing(true, group, rng):
    for number in range(3):
        baseline = baseline_of(true, np.full(900, number), group)
        assert baseline.nothing_learned and "chance" in baseline.words()
    for share in ([1 / 3] * 3, [0.1, 0.2, 0.7], [0.01, 0.01, 0.98]):
        assert baseline_of(true, rng.choice(3, size=900, p=share), group).nothing_learned


def test_weak_predictions_have_learned_something_though_a_constant_is_right_more_often(true, group, rng):
    predicted = np.where(rng.random(900) < 0.4, true, rng.integers(3, size=900))
    baseline = baseline_of(true, predicted, group)
    assert not baseline.nothing_learned and baseline.is_below
    assert re.search(r"SNE .*\b7\d\b", baseline.words())


def test_good_predictions_need_no_words(true, group, rng):
    predicted = np.where(rng.random(900) < 0.9, true, rng.integers(3, size=900))
    assert baseline_of(true, predicted, group).words() is None


def test_one_class_alone_has_no_baseline_to_beat(group):
    assert baseline_of(np.ones(900, int), np.ones(900, int), group).words() is None


def test_from_one_patient_the_score_itself_decides(true, rng):
    group = np.zeros(900)
    assert baseline_of(true, np.full(900, 2), group).nothing_learned
    assert not baseline_of(true, true, group).nothing_learned


@pytest.fixture
def run(tmp_path):
    return Run(make_run(tmp_path / "run", num_images=400))


def with_logits(run, make):
    """Replace the logits by what `make` gives for (n, C): those of networks that know nothing."""
    oof = pd.read_parquet(run.oof)
    columns = [column for column in oof if column.startswith("logit_")]
    oof[columns] = make(oof[columns].shape).astype(np.float32)
    oof.to_parquet(run.oof)
    note_checksums(run, [run.oof])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["constant", "noise"])
def test_report_card_and_log_say_it_first_and_no_label_is_doubted(kind, run, rng, caplog):
    nonet.evaluate(run, num_resamples=100)
    assert all((run.evaluation / name).exists() for name in ISSUE_FILES)
    if kind == "constant":
        with_logits(run, lambda shape: np.tile(rng.normal(size=shape[1]), (shape[0], 1)))
    else:
        with_logits(run, lambda shape: rng.normal(size=shape))
    caplog.clear()
    nonet.evaluate(run, num_resamples=100)
    told = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    html, card = ((run.evaluation / name).read_text() for name in ("report.html", "model_card.md"))
    first = html[html.index('<p class="answer">') + len('<p class="answer">') :]
    (words,) = [text for text in told if first.startswith(text)]
    paragraphs = [text for text in card.split("\n\n") if not text.startswith(("#", "**"))]
    assert paragraphs[0].startswith(words.split(":")[0])
    for page in (html, card):
        assert "wrong label" in page and not re.search(r"labels \(\d", page)
    assert not any((run.evaluation / name).exists() for name in ISSUE_FILES)
    with pytest.raises(RunError, match="labels"):
        nonet.issues(run)


@pytest.mark.slow
def test_networks_that_know_something_say_nothing_of_it(run, caplog):
    nonet.evaluate(run, num_resamples=100)
    assert not [r for r in caplog.records if r.levelname == "WARNING" and "chance" in r.getMessage()]
    assert "chance" not in json.dumps((run.evaluation / "report.html").read_text().split("<h2>")[1])
