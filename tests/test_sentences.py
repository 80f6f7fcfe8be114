"""What report and card say of a run, in sentences that its numbers make."""

import re

import numpy as np
import pandas as pd
import pytest
from test_report import make_run

from nonet.evaluate import sentences
from nonet.evaluate.measured import measure
from nonet.runs import Run


def measured(run):
    return measure(Run(run), num_resamples=50)


def rewrite(run, change):
    """Change the labels' logits, label or patient of the out-of-fold table by image."""
    oof = pd.read_parquet(run / "oof.parquet")
    change(oof).to_parquet(run / "oof.parquet")


def predict(oof, rows, code):
    logits = [column for column in oof if column.startswith("logit_")]
    oof.loc[rows, logits] = 0.0
    oof.loc[rows, f"logit_{code}"] = 9.0
    return oof


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return measured(make_run(tmp_path_factory.mktemp("runs") / "run", num_images=1500))


def test_a_new_patient_is_told_the_share_of_cells_and_how_patients_differ(found):
    text, oof = sentences.expectation(found), found.data.oof
    right = found.predicted == oof.true
    assert text.startswith(f"Of 100 cells of a new patient, expect about {100 * right.mean():.0f} ")
    shares = [right[oof.patient == p].mean() for p in set(oof.patient) if (oof.patient == p).sum() >= 20]
    low, high = np.quantile(shares, [0.1, 0.9])
    assert f"one in ten has fewer than {100 * low:.0f} of 100 right, one in ten more than {100 * high:.0f}" in text


def test_patients_are_not_compared_where_their_cells_are_few(tmp_path):
    text = sentences.expectation(measured(make_run(tmp_path / "run", num_images=200)))
    assert "one in ten" not in text


def test_folds_by_image_are_the_best_to_hope_for(tmp_path):
    assert sentences.expectation(measured(make_run(tmp_path / "run", by="image"))).startswith("At best, of 100 cells")


def test_classes_of_few_patients_are_named_with_the_reason(tmp_path):
    run = make_run(tmp_path / "run", classes=["EO", "LY", "SNE"], num_patients=30)
    rewrite(run, lambda oof: oof.assign(patient=oof["patient"].where(oof["label"] != "EO", "P001")))
    found = measured(run)
    num = int((found.data.oof.true == found.data.oof.classes.index("EO")).sum())
    text = sentences.judgement(found)
    assert text.startswith(f"Cannot be judged: EO: {num} images of 1 patient.")
    assert "EO is told" not in text and re.search(r"Of the others, (LY|SNE) is told best", text)


def test_pairs_that_are_confused_and_classes_that_are_lost(tmp_path):
    run = make_run(tmp_path / "run", classes=["LY", "MMY", "MY", "SNE"], num_patients=30)

    def change(oof):
        for code in ("LY", "MMY", "SNE"):
            oof = predict(oof, oof["label"] == code, code)
        return predict(oof, oof["label"] == "MY", "MMY")

    rewrite(run, change)
    found = measured(run)
    num = int(found.confusion.loc["MY", "MMY"])
    text = sentences.confusions(found)
    assert text.startswith(f"Most often: MY taken for MMY ({num:,} cells, 100 % of MY).")
    assert "one and the same other class: MY (MMY)." in text
    assert f"Of {num:,} mistakes 100 % are between neighbouring stages" in text


def test_no_mistake_no_pair(tmp_path):
    run = make_run(tmp_path / "run", classes=["LY", "SNE"])
    rewrite(run, lambda oof: predict(predict(oof, oof["label"] == "LY", "LY"), oof["label"] == "SNE", "SNE"))
    assert sentences.confusions(measured(run)) == "No cell was taken for another class."


def test_doubted_labels_are_those_of_the_file(found):
    text = sentences.doubted_labels(found)
    assert f"Look first at {len(found.issues.table):,} of {len(found.data.oof.true):,} labels" in text
    code, num = next(iter(found.issues.table["given"].value_counts().items()))
    assert f"most are labelled {code} ({num:,})" in text


def test_verdict_on_the_ensemble_follows_the_interval(found):
    row = found.differences.iloc[0]
    text = sentences.networks(found)
    rows = found.differences[found.differences["comparison"].str.startswith("ensemble − ")]
    row = next(row for _, row in rows.iterrows() if row["comparison"].removeprefix("ensemble − ") in text)
    assert row["difference"] == rows["difference"].min()  # the best single one
    word = "better" if row["difference_low"] > 0 else "worse" if row["difference_high"] < 0 else "not settled"
    assert f"({sentences.signed(row['difference_low'])} to {sentences.signed(row['difference_high'])}), {word}" in text


def test_trust_is_of_the_cross_fitted_measures(found):
    text = sentences.trust(found)
    overall, doubt = found.calibration.measures.iloc[0], found.calibration.doubt
    assert f"calibration error {overall['ece_after']:.3f}; {overall['ece_before']:.3f} before" in text
    assert text.split(". ")[1].startswith(f"{100 * (1 - doubt['share_identified']):.0f} of 100 cells stay unidentified")
