"""What report and card say of a run, in sentences that its numbers make."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest

from helpers.run_folders import make_run
from helpers.sealing import seal
from nonet.artifacts.run import Run
from nonet.evaluation.bootstrap import Bootstrap
from nonet.evaluation.results import measure
from nonet.evaluation.robustness import Robustness
from nonet.page.numbers import signed
from nonet.report import caveats, report_text
from nonet.report.calibration_pages import calibration_values
from nonet.report.evaluate import evaluate

pytestmark = pytest.mark.usefixtures("without_drawings")


def measured(run):
    return measure(Run(run), bootstrap=Bootstrap(50))


def rewrite(run, change):
    """Change the labels' logits, label or patient of the out-of-fold table by image."""
    oof = pd.read_parquet(run / "oof.parquet")
    change(oof).to_parquet(run / "oof.parquet")
    seal(run)


def predict(oof, rows, code):
    logits = [column for column in oof if column.startswith("logit_")]
    oof.loc[rows, logits] = 0.0
    oof.loc[rows, f"logit_{code}"] = 9.0
    return oof


def numbers(text):
    """Return the numbers of a text in their order; the 1 of F1 is none."""
    return [float(number.replace(",", "")) for number in re.findall(r"(?<![\w.])\d[\d,]*(?:\.\d+)?", text)]


def spread_of_patients(text):
    """Return the numbers of the sentence on how patients differ, or None where there is no such sentence."""
    found = [numbers(sentence) for sentence in text.split(". ")]
    return next((set(some) for some in found if report_text.MIN_IMAGES_OF_PATIENT in some), None)


def with_data(found, **changes):
    return dataclasses.replace(found, data=dataclasses.replace(found.data, **changes))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return measured(make_run(tmp_path_factory.mktemp("runs") / "run", num_images=1500))


def test_the_share_of_cells_of_a_new_patient_and_how_patients_differ(found):
    text, oof = report_text.expectation(found), found.data.oof
    right = found.predicted == oof.true
    assert numbers(text)[:2] == [100, round(100 * right.mean())]
    shares = [right[oof.patient == p].mean() for p in set(oof.patient) if (oof.patient == p).sum() >= 20]
    at_most, at_least = sorted(spread_of_patients(text) - {report_text.MIN_IMAGES_OF_PATIENT, 100})
    for held in (np.array(shares) <= at_most / 100, np.array(shares) >= at_least / 100):
        assert held.mean() >= 0.1 and held.sum() <= 0.1 * len(shares) + 2


@pytest.mark.parametrize(("num_wrong", "shares"), [(0, set()), (20, {0, 100})])
def test_no_patient_has_more_than_all_cells_right_or_fewer_than_none(found, num_wrong, shares):
    oof = found.data.oof
    wrong = np.isin(oof.patient, sorted(set(oof.patient))[:num_wrong])
    logits = np.eye(len(oof.classes))[(oof.true + wrong) % len(oof.classes)]
    named = dataclasses.replace(oof, logits=logits[None, None], view_sets=[oof.final_view_set])
    text = report_text.expectation(with_data(found, oof=named))
    assert spread_of_patients(text) == {report_text.MIN_IMAGES_OF_PATIENT, *shares}


def test_patients_are_not_compared_where_their_cells_are_few(tmp_path):
    text = report_text.expectation(measured(make_run(tmp_path / "run", num_images=200)))
    assert spread_of_patients(text) is None


def test_folds_by_image_are_the_best_to_hope_for(tmp_path):
    assert report_text.expectation(measured(make_run(tmp_path / "run", by="image"))).startswith("At best")


def test_classes_of_few_patients_are_named_with_the_reason(tmp_path):
    run = make_run(tmp_path / "run", classes=["EO", "LY", "SNE"], num_patients=30)
    rewrite(run, lambda oof: oof.assign(patient=oof["patient"].where(oof["label"] != "EO", "P001")))
    found = measured(run)
    num = int((found.data.oof.true == found.data.oof.classes.index("EO")).sum())
    text = report_text.class_scores(found)
    first = text.split(". ")[0]
    assert "EO" in first and numbers(first) == [num, 1]
    assert re.search(r"(LY|SNE) \(F1", text)


def test_pairs_that_are_confused_and_classes_that_are_lost(tmp_path):
    run = make_run(tmp_path / "run", classes=["LY", "MMY", "MY", "SNE"], num_patients=30)

    def change(oof):
        for code in ("LY", "MMY", "SNE"):
            oof = predict(oof, oof["label"] == code, code)
        return predict(oof, oof["label"] == "MY", "MMY")

    rewrite(run, change)
    found = measured(run)
    num = int(found.confusion.loc["MY", "MMY"])
    text = report_text.confusions(found)
    most_often, lost, neighbours = text.split(". ")
    assert re.search(r"\bMY\b.*\bMMY\b", most_often) and numbers(most_often) == [num, 100]
    assert "MY (MMY)" in lost
    assert numbers(neighbours) == [num, 100]


def test_no_mistake_no_pair(tmp_path):
    run = make_run(tmp_path / "run", classes=["LY", "SNE"])
    rewrite(run, lambda oof: predict(predict(oof, oof["label"] == "LY", "LY"), oof["label"] == "SNE", "SNE"))
    text = report_text.confusions(measured(run))
    assert text and not numbers(text) and not re.search("LY|SNE", text)


def test_label_issues_are_those_of_the_file(found):
    text = report_text.label_issues(found)
    assert f"{len(found.issues.table):,} of {len(found.data.oof.true):,} labels" in text
    code, num = next(iter(found.issues.table["given"].value_counts().items()))
    assert f"{code} ({num:,})" in text


def test_verdict_on_the_ensemble_follows_the_interval(found):
    row = found.differences.iloc[0]
    text = report_text.networks(found)
    rows = found.differences[found.differences["comparison"].str.startswith("ensemble − ")]
    row = next(row for _, row in rows.iterrows() if row["comparison"].removeprefix("ensemble − ") in text)
    assert row["difference"] == rows["difference"].min()  # the best single one
    word = "better" if row["difference_low"] > 0 else "worse" if row["difference_high"] < 0 else "not significant"
    assert f"({signed(row['difference_low'])} to {signed(row['difference_high'])}), {word}" in text


def test_trust_is_of_the_cross_fitted_measures(found):
    text = report_text.calibration(found)
    overall, doubt = found.calibration.measures.iloc[0], found.calibration.doubt
    after, before = 100 * overall["ece_after"], 100 * overall["ece_before"]
    assert numbers(text)[:2] == [float(f"{after:.1f}"), float(f"{before:.1f}")]
    assert f"{100 * (1 - doubt['share_identified']):.0f} % of the cells" in text


@pytest.mark.parametrize(("before", "after", "worse"), [(0.10, 0.13, True), (0.13, 0.10, False), (0.1, 0.1, False)])
def test_calibration_that_made_it_worse_is_reported_as_such(found, before, after, worse):
    measures = found.calibration.measures.copy()
    measures.loc[measures.index[0], ["ece_before", "ece_after"]] = before, after
    changed = dataclasses.replace(found.calibration, measures=measures)
    text = report_text.calibration(dataclasses.replace(found, calibration=changed))
    assert ("worse" in text) == worse
    assert calibration_values(changed)["worse"][:1] == (["expected calibration error"] if worse else [])


SENTENCE = re.compile(r"[^.;]*(?:\.\d[^.;]*)*[.;]")


def test_no_sentence_mixes_percent_and_fraction_of_cells(found):
    """A share of cells is in percent; F1 and differences of it, which are not shares, are fractions."""
    for text in (report_text.calibration(found), report_text.rejection(found), report_text.label_issues(found)):
        for sentence in SENTENCE.findall(text):
            assert not ("%" in sentence and re.search(r"\b0\.\d", sentence)), sentence
            assert "of 100" not in sentence


@pytest.mark.parametrize(
    ("identified", "said"),
    [
        (0.0, "All cells"),
        (0.004, "More than 99 %"),
        (0.999, "Less than 1 %"),
    ],
)
def test_cells_that_stay_unidentified_are_none_some_or_all(found, identified, said):
    right = np.nan if identified == 0 else 0.75
    doubt = found.calibration.doubt.copy()
    doubt["share_identified"], doubt["accuracy_identified"] = identified, right
    text = report_text.calibration(
        dataclasses.replace(found, calibration=dataclasses.replace(found.calibration, doubt=doubt))
    )
    assert said in text and "nan" not in text
    assert ("75 %" in text) == (identified > 0)


def test_the_report_has_no_share_of_no_cell(tmp_path):
    run = make_run(tmp_path / "run", classes=["EO", "LY", "SNE"], num_images=900)
    with (run / "recipe.toml").open("a") as recipe:
        recipe.write("\n[calibrate]\nmin_confidence = 1.0\n")
    seal(run)
    evaluate(run, num_resamples=20)
    html = (run / "evaluation" / "report.html").read_text(encoding="utf-8")
    assert "All cells" in html
    card = (run / "evaluation" / "model_card.md").read_text(encoding="utf-8")
    assert "nan" not in re.sub(r"<[^>]*>", " ", html).lower().split() and " nan " not in card


def rejection_of(shares, images=100):
    table = pd.DataFrame({"class": list(shares), "share": list(shares.values()), "images": images})
    return table.assign(rejected=(table["share"] * images).round().astype(int))


def test_nothing_is_most_of_what_is_rejected_where_nothing_is(found):
    text = report_text.rejection(dataclasses.replace(found, rejection=rejection_of({"all": 0.0, "EO": 0.0, "LY": 0.0})))
    assert numbers(text) == [100, 2] and not re.search("EO|LY", text)
    text = report_text.rejection(
        dataclasses.replace(found, rejection=rejection_of({"all": 0.05, "EO": 0.01, "LY": 0.04}))
    )
    assert "LY (4.0 %)" in text and "EO" not in text
    text = report_text.rejection(dataclasses.replace(found, rejection=rejection_of({"all": 0.05, "LY": 0.05})))
    assert numbers(text) == [5.0, 2] and "LY" not in text


def corrupted(rows):
    """Findings on corruptions without views: (corruption, severity, macro-F1, upper end of its difference)."""
    common = {"denoised": False, "views": "none"}
    scores = [{"corruption": "none", "severity": 0, "macro_f1": 0.5}]
    scores += [{"corruption": kind, "severity": severity, "macro_f1": f1} for kind, severity, f1, _ in rows]
    gaps = [
        {"corruption": k, "severity": s, "difference": f1 - 0.5, "difference_low": f1 - 0.6, "difference_high": high}
        for k, s, f1, high in rows
    ]
    return Robustness(
        pd.DataFrame(scores).assign(**common), pd.DataFrame(gaps).assign(comparison="corrupted − clean", **common)
    )


def test_corruptions_are_judged_at_the_highest_severity_tested(found):
    mild = corrupted([("blur", 1, 0.49, 0.01), ("jpeg", 1, 0.5, 0.02)])
    text = report_text.robustness(dataclasses.replace(found, robustness=mild))
    assert numbers(text) == [0.5, 1] and not re.search("blur|jpeg", text)


def test_each_corruption_is_judged_at_its_own_highest_severity(found):
    rows = [("blur", 1, 0.45, -0.01), ("blur", 2, 0.25, -0.2), ("jpeg", 4, 0.5, 0.1), ("shot_noise", 4, 0.375, -0.1)]
    text = report_text.robustness(dataclasses.replace(found, robustness=corrupted(rows)))
    assert "2 of blur, 4 of shot noise, 4 of jpeg" in text
    assert "blur (0.25), shot noise (0.38)" in text and "jpeg (" not in text


def test_a_class_of_one_image_of_unknown_patient_cannot_be_judged(tmp_path):
    run = make_run(tmp_path / "run", classes=["EO", "LY", "MO", "SNE"], num_images=300)

    def change(oof):
        oof = oof.assign(patient=None)
        for code, num in (("EO", 1), ("MO", 5)):
            kept = oof.loc[oof["label"] == code, "image_id"].drop_duplicates().sort_values().iloc[:num]
            oof["label"] = oof["label"].mask((oof["label"] == code) & ~oof["image_id"].isin(kept), "LY")
            oof = predict(oof, oof["label"] == code, code)
        return oof

    rewrite(run, change)
    found = measured(run)
    text = report_text.class_scores(found)
    assert "EO: 1 image" in text.split(". ")[0]
    assert re.search(r"MO \(5 images, F1 .*\d", text)
    assert re.search(r"(LY|SNE) \(F1", text)
    limit = next(sentence for sentence in caveats.limits(found) if sentence.startswith("EO (eosinophil): "))
    assert "3 images" in limit


def test_many_images_of_one_patient_are_not_judged_for_one_more_of_an_unknown(tmp_path):
    run = make_run(tmp_path / "run", classes=["EO", "LY", "SNE"], num_patients=30)

    def change(oof):
        of_class = oof["label"] == "EO"
        oof = oof.assign(patient=oof["patient"].mask(of_class, "P001"))
        return oof.assign(patient=oof["patient"].mask(oof["image_id"] == oof.loc[of_class, "image_id"].min(), None))

    rewrite(run, change)
    found = measured(run)
    assert re.search(r"\bEO: \d+ images", report_text.class_scores(found).split(". ")[0])
    limit = next(sentence for sentence in caveats.limits(found) if sentence.startswith("EO (eosinophil): "))
    assert "3 patients" in limit


def test_curves_of_refitted_networks_are_said_to_be_of_the_heads_before(found):
    assert "refitted" not in report_text.training(found)
    models = found.data.recipe.models.model_copy(update={"refit_head": True})
    refitted = found.data.recipe.model_copy(update={"models": models})
    assert "refitted" in report_text.training(with_data(found, recipe=refitted))
