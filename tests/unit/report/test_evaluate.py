"""`evaluate` on a synthetic run folder: files, who counts, errors, and a report that needs no network."""

import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from helpers.run_folders import make_run
from helpers.sealing import seal
from nonet.errors import RunError
from nonet.evaluation.tables import format_table
from nonet.report.evaluate import evaluate


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("runs") / "paper")
    return run, evaluate(run, num_resamples=200)


class _Links(HTMLParser):
    """Collect the text and everything that a browser might fetch."""

    def __init__(self, html):
        super().__init__()
        self.links, self.tags, self.text = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [v for k, v in attributes if k in ("src", "href", "xlink:href", "srcset", "data", "action")]

    def handle_data(self, data):
        self.text.append(data)


def test_every_file_is_written_and_no_temporary_one_is_left(evaluated):
    run, _ = evaluated
    found = sorted(str(path.relative_to(run / "evaluation")) for path in (run / "evaluation").rglob("*.*"))
    drawings = ["class_counts", "confusion_by_row", "confusion_counts", "label_issues", "mistakes", "reliability"]
    drawings += ["samples", "training_curves"]
    issues = ["issues.csv", "issues_by_patient.csv", "issues_by_source.csv"]
    tables = ["calibration.csv", "coverage.csv", "confusion.csv", "differences.csv", *issues, "per_class.csv"]
    tables += ["datasheet.md", "mistakes.csv", "model_card.md", "report.html", "stage_errors.csv", "table.csv"]
    assert found == sorted([f"figures/{name}.svg" for name in drawings] + tables)


def test_table_on_disk_is_the_table_returned(evaluated):
    run, table = evaluated
    pd.testing.assert_frame_equal(pd.read_csv(run / "evaluation" / "table.csv", keep_default_na=False), table)
    assert len(table) == 8
    assert table["name"].tolist()[:4] == ["3 × ConvNeXtV2-Tiny", "3 × DinoBloom-S", "3 × SwinV2-Tiny", "ensemble"]


def test_confusion_on_disk_adds_up(evaluated):
    run, _ = evaluated
    confusion = pd.read_csv(run / "evaluation" / "confusion.csv", index_col="true")
    per_class = pd.read_csv(run / "evaluation" / "per_class.csv").set_index("code")
    assert list(confusion.index) == list(confusion.columns) == list(per_class.index)
    assert confusion.sum(axis=1).tolist() == per_class["images"].tolist()


def test_report_fetches_nothing(evaluated):
    html = (evaluated[0] / "evaluation" / "report.html").read_text()
    page = _Links(html)
    assert all(link.startswith(("data:", "#")) for link in page.links), page.links
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert not re.findall(r"url\(\s*['\"]?(?!#|data:)", html)
    assert "@import" not in html


def test_ids_of_the_figures_are_unique_in_the_page(evaluated):
    html = (evaluated[0] / "evaluation" / "report.html").read_text()
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', html) + re.findall(r"url\(#([^)]+)\)", html)) <= set(ids)


def test_report_holds_the_numbers_of_the_table(evaluated):
    run, table = evaluated
    text = " ".join(_Links((run / "evaluation" / "report.html").read_text()).text)
    for score in ("macro_f1", "balanced_accuracy", "macro_precision", "macro_specificity"):
        for suffix in ("", "_low", "_high"):
            for value in table[score + suffix]:
                assert f"{value:.3f}" in text
    assert "esearch use only" in text


@pytest.mark.slow
@pytest.mark.usefixtures("without_drawings")
def test_external_images_change_nothing_but_the_counts(evaluated, tmp_path):
    _, table = evaluated
    run = make_run(tmp_path / "paper")
    oof = pd.read_parquet(run / "oof.parquet")
    manifest = pd.read_parquet(run / "manifest.parquet")
    stray = manifest[~manifest["evaluate"]].iloc[:30]
    extra = oof.iloc[:30].assign(image_id=stray["image_id"].to_numpy(), label="SNE")
    pd.concat([oof, extra]).to_parquet(run / "oof.parquet")
    seal(run)
    pd.testing.assert_frame_equal(evaluate(run, num_resamples=200), table)


def test_labels_are_escaped_and_may_be_anything(tmp_path):
    labels = ["<b>bold</b>", 'a"b', "$\\frac{x$", "a very long label of some laboratory", "淋巴细胞"]
    run = make_run(tmp_path / "<i>run", classes=labels, num_images=120, num_external=0)
    evaluate(run, num_resamples=20)
    html = (run / "evaluation" / "report.html").read_text()
    assert "<b>bold" not in html and "&lt;b&gt;bold" in html and "<i>run" not in html
    assert "$\\frac{x$" in (run / "evaluation" / "figures" / "class_counts.svg").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("num_classes", [1, 2, 45])
def test_any_number_of_classes(tmp_path, num_classes):
    run = make_run(tmp_path / "run", classes=[f"class {i}" for i in range(num_classes)], num_images=200)
    assert np.isfinite(evaluate(run, num_resamples=20)["macro_f1"]).all()


@pytest.mark.slow
@pytest.mark.usefixtures("without_drawings")
def test_report_warns_where_folds_are_by_image_or_patients_are_stand_ins(tmp_path):
    run = make_run(tmp_path / "run", by="image")
    manifest = pd.read_parquet(run / "manifest.parquet")
    manifest.assign(patient_is_standin=True).to_parquet(run / "manifest.parquet")
    seal(run)
    evaluate(run, num_resamples=20)
    html = (run / "evaluation" / "report.html").read_text()
    assert "The folds were made by image" in html and "stand-in for their patient" in html


@pytest.mark.slow
@pytest.mark.usefixtures("without_drawings")
def test_report_says_where_epochs_were_chosen_on_the_images_scored_and_where_patients_are_few(tmp_path):
    run = make_run(tmp_path / "run", num_images=200, num_patients=7)
    with (run / "recipe.toml").open("a") as recipe:
        recipe.write('\n[train]\nkeep = "best"\n')
    seal(run)
    evaluate(run, num_resamples=20)
    html = (run / "evaluation" / "report.html").read_text()
    assert "train.keep" in html and "only 7 patients" in html


def test_report_does_not_warn_where_patients_are_known(evaluated):
    html = (evaluated[0] / "evaluation" / "report.html").read_text()
    assert "The folds were made by image" not in html and "stand-in for their patient" not in html


@pytest.mark.slow
@pytest.mark.usefixtures("without_drawings")
def test_images_of_unknown_patients_become_groups_of_their_own(tmp_path):
    run = make_run(tmp_path / "run", num_images=300)
    oof = pd.read_parquet(run / "oof.parquet")
    oof.assign(patient=None).to_parquet(run / "oof.parquet")
    seal(run)
    table = evaluate(run, num_resamples=20)
    assert (table["patients"] == 0).all() and (table["groups"] == 300).all()
    assert "patients unknown" in (run / "evaluation" / "report.html").read_text()


@pytest.mark.slow
def test_without_history_and_samples_the_report_says_so(tmp_path):
    run = make_run(tmp_path / "run", num_images=200)
    evaluate(run, num_resamples=20)
    (run / "samples.npz").unlink()
    for path in run.glob("members/*/*/history.jsonl"):
        path.unlink()
    evaluate(run, num_resamples=20)
    html = (run / "evaluation" / "report.html").read_text()
    assert "no sample images" in html and "no training history" in html
    assert not (run / "evaluation" / "figures" / "samples.svg").exists()


def test_missing_oof_says_what_to_run(tmp_path):
    with pytest.raises(RunError, match="nonet train"):
        evaluate(tmp_path)


def test_missing_image_of_one_architecture_is_counted(tmp_path):
    run = make_run(tmp_path / "run", num_images=200)
    oof = pd.read_parquet(run / "oof.parquet")
    gone = oof["image_id"].isin(["cell-00003", "cell-00007"]) & (oof["architecture"] == "dinobloom_s")
    oof[~gone].to_parquet(run / "oof.parquet")
    seal(run)
    with pytest.raises(RunError, match=r"2 of 200 .* dinobloom_s.*cell-00003"):
        evaluate(run)


def test_image_missing_everywhere_is_counted(tmp_path):
    run = make_run(tmp_path / "run", num_images=200)
    oof = pd.read_parquet(run / "oof.parquet")
    oof[oof["image_id"] != "cell-00003"].to_parquet(run / "oof.parquet")
    seal(run)
    with pytest.raises(RunError, match=r"1 of 200 .* cell-00003"):
        evaluate(run)


def test_logits_that_are_not_finite_name_the_image(tmp_path):
    run = make_run(tmp_path / "run", num_images=200)
    oof = pd.read_parquet(run / "oof.parquet")
    oof.loc[oof["image_id"] == "cell-00011", "logit_SNE"] = np.nan
    oof.to_parquet(run / "oof.parquet")
    seal(run)
    with pytest.raises(RunError, match="cell-00011"):
        evaluate(run)
    assert not (run / "evaluation").exists()


def test_broken_file_is_named(tmp_path):
    run = make_run(tmp_path / "run", num_images=200)
    (run / "provenance.json").write_text("{")
    with pytest.raises(RunError, match=r"provenance\.json"):
        evaluate(run)


def test_terminal_table_is_aligned(evaluated):
    lines = format_table(evaluated[1]).splitlines()
    assert len(lines) == 9 and "macro-F1" in lines[0]
    start = lines[0].index("macro-F1")
    assert all(re.match(r"0\.\d{3} \[0\.\d{3}, 0\.\d{3}\]", line[start:]) for line in lines[1:])


@pytest.mark.slow
def test_evaluation_needs_no_torch():
    code = "import sys, nonet.report.evaluation_files; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
