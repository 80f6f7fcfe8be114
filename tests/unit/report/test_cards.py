"""model_card.md and datasheet.md: the run's numbers, nothing that was not measured, Markdown that any reader takes."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from sklearn.metrics import accuracy_score

from helpers.pictures import draw_pictures
from helpers.run_folders import NAMES, make_run
from helpers.sealing import seal
from nonet.artifacts.run import Run, write_json
from nonet.data.build import build_dataset
from nonet.data.dataset_record import summarise_dataset
from nonet.page.markdown import bullets, escape, table
from nonet.recipe import load_recipe
from nonet.report.evaluate import evaluate

pytestmark = pytest.mark.usefixtures("without_drawings")

RECORD = {
    "format_version": 1,
    "created": "2026-01-05T10:00:00+00:00",
    "kinds": {"wbcbench": "csv", "acevedo": "acevedo"},
    "notes": ["No image of PLY: the classes are the 12 others."],
    "excluded": [{"source": "acevedo", "reason": "duplicate image", "images": 17}],
    "decisions": {"num_images": 9, "sha256": "a" * 64},
    "checks": {
        "findings": ["Shortcut, size over all sources."],
        "notes": ["Background colour, between patients."],
        "near_duplicates": {"patients differ": 3},
    },
}


def cards(run, **options):
    evaluate(run, num_resamples=20, **options)
    folder = Run(run).evaluation
    return (folder / "model_card.md").read_text("utf-8"), (folder / "datasheet.md").read_text("utf-8")


def section(text, heading):
    """Return what stands under a heading, up to the next of any level."""
    return re.split(r"^#+ ", text.split(f"# {heading}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def assert_renders(text):
    """Every table has as many cells in each row, and none is left as text."""
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert html.count("<table>") == len(re.findall(r"^\| ?:?---", text, flags=re.MULTILINE)) > 0
    for found in re.findall(r"<table>.*?</table>", html, flags=re.DOTALL):
        rows = re.findall(r"<tr>.*?</tr>", found, flags=re.DOTALL)
        assert len({len(re.findall(r"<t[hd]", row)) for row in rows}) == 1 < len(rows), found
    assert "| ---" not in html and "<p>|" not in html
    return html


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A run with a record of its dataset, members that say where their weights were from, and the paper's settings."""
    run = make_run(tmp_path_factory.mktemp("runs") / "full")
    write_json(Run(run).dataset_record, RECORD)
    recipe = load_recipe("paper", ["train.epochs=7", "folds.by=patient"])
    (run / "recipe.toml").write_text(recipe.to_toml())
    for name, licence in zip(NAMES, ("CC-BY-NC-4.0 (no commercial use)", "Apache-2.0", None)):
        for fold in range(3):
            origin = licence and f"{NAMES[name]}: weights from the hub, licence {licence}"
            write_json(Run(run).member(name, fold).done, {"weights_from": origin})
    seal(run)
    return run, *cards(run)


def test_numbers_are_the_runs(full):
    run, card, sheet = full
    scored = pd.read_csv(run / "evaluation" / "table.csv", keep_default_na=False).iloc[-1]
    for score in ("macro_f1", "balanced_accuracy"):
        assert f"{scored[score]:.3f} [{scored[score + '_low']:.3f}, {scored[score + '_high']:.3f}]" in card
    oof = pd.read_parquet(run / "oof.parquet")
    manifest = pd.read_parquet(run / "manifest.parquet")
    final = oof[oof["view_set"] == "dihedral"].groupby("image_id")[[c for c in oof if c.startswith("logit_")]].mean()
    label = manifest.set_index("image_id").loc[final.index, "label"]
    right = accuracy_score(label, final.idxmax(axis=1).str.removeprefix("logit_"))
    assert re.search(rf"100 cells .*\b{100 * right:.0f}\b", card)
    for code, images in manifest[manifest["evaluate"]].groupby("label"):
        others = int((manifest["label"].eq(code) & ~manifest["evaluate"]).sum())
        row = rf"\| {code} \| [a-z ]+ \| {len(images)} \| {images['patient'].nunique()} \| {others} \|"
        assert re.search(row, card) and re.search(row, sheet)


CENTRES = [("0.75", "75 % of the frame"), ("{ swinv2_tiny = 0.5 }", "50 % for swinv2_tiny"), ("1.0", "whole")]


@pytest.mark.slow
@pytest.mark.parametrize("centre, words", CENTRES)
def test_preparation_is_that_of_the_recipe(centre, words, tmp_path):
    run = make_run(tmp_path / "run", num_images=150)
    with (run / "recipe.toml").open("a") as recipe:  # which ends with [models]
        recipe.write(f"centre = {centre}\nimage_size_px = 96\n[denoise]\nenabled = false\n")
    seal(run)
    prepared = section(cards(run)[1], "Preprocessing")
    assert words in prepared and "Not denoised" in prepared and "Resized to 96 px" in prepared


def test_both_render(full):
    _, card, sheet = full
    for text in (card, sheet):
        assert_renders(text)
        assert "esearch use only" in text
    assert "**To be filled in:**" in card and "**To be filled in:**" in sheet


def test_licences_are_those_of_the_weights_and_sources_and_no_other(full):
    _, card, sheet = full
    assert (
        "No commercial use:** pretrained weights of convnextv2\\_tiny" in card or "weights of convnextv2_tiny" in card
    )
    assert "random initialisation" in card
    published, own = section(sheet, "acevedo"), section(sheet, "wbcbench")
    assert "CC BY 4.0" in published and "10.17632/snkd93bnjr.1" in published
    # A CSV whose source bears a published set's name is still the user's own.
    assert "consent" in own and "CC" not in own and "doi" not in own


def test_what_differs_from_the_recipe_is_listed_and_nothing_else(full):
    settings = section(full[1], "Settings")
    assert re.search(r"\| train\.epochs \| 60 \| 7 \|", settings)
    assert re.search(r"\| folds\.by \| image \| patient \|", settings)
    assert len(re.findall(r"^\| ", settings, flags=re.MULTILINE)) == 4  # head, rule, two rows


def test_datasheet_tells_how_the_dataset_was_made(full):
    sheet = full[2]
    assert "| acevedo | duplicate image | 17 |" in sheet
    assert "to 9 images" in sheet and "a" * 64 in sheet
    assert "Shortcut, size over all sources." in sheet and "patients differ: 3 pairs" in sheet
    assert "- Background colour, between patients." in sheet
    assert "No image of PLY" in sheet


@pytest.mark.slow
def test_nothing_is_said_of_what_was_not_measured(tmp_path):
    run = make_run(tmp_path / "run", num_images=60, num_patients=6, num_external=0)
    for done in run.glob("members/*/*/DONE"):
        done.unlink()
    card, sheet = cards(run)
    assert "%" not in section(card, "Calibration")
    assert "Not measured" in section(card, "Calibration")
    assert "Not measured" in section(card, "Robustness to corruptions") and "severity" not in card
    assert "Not measured" in section(card, "What is rejected as an unknown cell type")
    assert "not recorded" in card  # of weights
    assert "dataset_record.json" in sheet and "not checked" in sheet
    for text in (card, sheet):
        assert_renders(text)
        assert "nan" not in text.lower().split()


@pytest.mark.slow
def test_labels_of_ones_own_and_no_patients(tmp_path):
    labels = ["<b>bold</b>", "a|b", "_x_ [y](z)", "1. first", "淋巴细胞"]
    run = make_run(tmp_path / "a|b", classes=labels, num_images=150, num_external=20)
    for file in ("oof.parquet", "manifest.parquet"):
        pd.read_parquet(run / file).assign(patient=None).to_parquet(run / file)
    seal(run)
    for text in cards(run):
        html = assert_renders(text)
        assert "<b>" not in html and "<em>" not in html
        for shown in ("&lt;b&gt;bold&lt;/b&gt;", "a|b", "_x_ [y](z)", "1. first", "淋巴细胞"):
            assert f">{shown}</td>" in html
    assert "patients unknown" in cards(run)[0]


@pytest.mark.slow
def test_class_without_an_evaluated_image(tmp_path):
    run = make_run(tmp_path / "run", classes=["EO", "LY", "SNE"], num_images=150, num_external=30)
    manifest, oof = pd.read_parquet(run / "manifest.parquet"), pd.read_parquet(run / "oof.parquet")
    manifest.loc[manifest["label"] == "EO", "evaluate"] = False
    manifest.to_parquet(run / "manifest.parquet")
    folds = pd.read_csv(run / "folds.csv")
    folds.loc[folds["image_id"].isin(manifest.loc[~manifest["evaluate"], "image_id"]), "fold"] = np.nan
    folds.to_csv(run / "folds.csv", index=False)
    oof[oof["label"] != "EO"].to_parquet(run / "oof.parquet")
    seal(run)
    card, sheet = cards(run)
    assert "EO (eosinophil): no evaluated image" in card
    for text in (card, sheet):
        assert_renders(text)


@pytest.mark.slow
def test_robustness_is_reported_where_it_was_measured(tmp_path):
    run = make_run(tmp_path / "run", num_images=150)
    (run / "evaluation").mkdir()
    common = {"denoised": True, "views": "none"}
    score = {
        "macro_f1_low": 0.1,
        "macro_f1_high": 0.9,
        "share_changed": 0.5,
        "images": 99,
        "patients": 40,
        "groups": 40,
    }
    scores = [("none", 0, 0.5), ("blur", 1, 0.45), ("blur", 2, 0.125), ("jpeg", 1, 0.5), ("jpeg", 2, 0.5)]
    rows = [{"corruption": k, "severity": s, "macro_f1": f, "confidence": 0.95} | common | score for k, s, f in scores]
    rows += [row | {"denoised": False, "macro_f1": 0.77} for row in rows]
    pd.DataFrame(rows).to_csv(Run(run).robustness, index=False)
    gaps = [("blur", 1, -0.05, 0.01), ("blur", 2, -0.375, -0.3), ("jpeg", 1, 0.0, 0.1), ("jpeg", 2, 0.0, 0.1)]
    damage = {"comparison": "corrupted − clean", "difference_low": -0.5}
    denoising = {"comparison": "denoised − as is", "difference_low": -0.1, "difference": 0.0, "difference_high": 0.1}
    table_of = [
        {"corruption": k, "severity": s, "difference": d, "difference_high": h} | common | damage for k, s, d, h in gaps
    ]
    table_of += [{"corruption": k, "severity": s} | common | denoising for k, s, _, _ in gaps]
    pd.DataFrame(table_of).to_csv(Run(run).robustness_differences, index=False)
    card, _ = cards(run)
    said = section(card, "Robustness to corruptions")
    assert "blur (0.12)" in said and "jpeg (" not in said
    assert "| blur | 0.450 | 0.125 |" in said and "0.77" not in said  # as the run is used: denoised
    assert_renders(card)


# The record of the dataset


@pytest.fixture
def dataset(tmp_path):
    pictures = draw_pictures(tmp_path / "pictures", {"EO": 6, "LY": 12, "SNE": 12})
    listed = pd.read_csv(pictures)
    gone = listed["path"].iloc[0]
    (pictures.parent / gone).unlink()
    decisions = tmp_path / "decisions.csv"
    decisions.write_text(f"path,decision,label,note\n{listed['path'].iloc[1]},drop,,blurred\n")
    return build_dataset(f"mine=csv:{pictures}", tmp_path / "dataset", decisions=decisions)


def test_record_says_what_the_build_did(dataset):
    record = summarise_dataset(dataset)
    assert set(record["kinds"].values()) == {"csv"} and set(record["kinds"]) == set(dataset.manifest["source"])
    counts = {row["reason"]: row["images"] for row in record["excluded"]}
    assert counts == {"missing": 1, "dropped by decision": 1}
    assert record["decisions"]["num_images"] == 1
    assert record["checks"]["findings"] == dataset.description["checks"]
    assert json.loads(json.dumps(record)) == record


@pytest.mark.training
def test_training_keeps_the_record_in_the_run(tiny_run, tiny_dataset):
    assert json.loads(tiny_run.dataset_record.read_text()) == summarise_dataset(tiny_dataset)


def test_a_damaged_record_costs_no_report(tiny_run, tmp_path, caplog):
    run = Run(shutil.copytree(tiny_run.folder, tmp_path / "run"))
    run.dataset_record.write_text("{")
    assert "dataset_record.json" in cards(run)[1]
    assert "dataset_record.json" in caplog.text and "nonet train" in caplog.text


def test_trained_run_has_both(tiny_run, tmp_path):
    run = Run(shutil.copytree(tiny_run.folder, tmp_path / "run"))
    card, sheet = cards(run)
    for text in (card, sheet):
        assert_renders(text)
    assert "random initialisation" in card
    assert "defaults" in card


# Markdown


@pytest.mark.parametrize(
    "text", ["a|b", "*a*", "_a_", "__a__", "`a`", "[a](b)", "<i>", "# a", "- a", "1. a", "&amp;", "a\\b"]
)
def test_escaped_text_is_shown_as_it_is(text):
    html = MarkdownIt("commonmark").enable("table").render(bullets([text]))
    shown = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert html == f"<ul>\n<li>{shown}</li>\n</ul>\n"
    html = MarkdownIt("commonmark").enable("table").render(table(["x"], [[text]], align="l"))
    assert f"<td>{shown}</td>" in html


def test_escaping_twice_is_escaping_once_and_numbers_stay_readable():
    assert escape(escape("a_|b")) == escape("a_|b")
    assert escape("0.713") == "0.713" and escape("train.epochs_a") == "train.epochs_a"
    assert escape("two\nlines") == "two lines"
