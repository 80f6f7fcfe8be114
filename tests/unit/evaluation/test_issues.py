"""`nonet issues` on a run folder: tables, neighbours, sources and patients, and the report's section."""

import json
import logging
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

import nonet
from helpers.run_folders import make_run
from helpers.sealing import seal
from nonet.artifacts.run import Run
from nonet.cells import in_order_of_maturation
from nonet.errors import DataError
from nonet.evaluation import neighbours
from nonet.evaluation.issues import count_by, find_issues, issues_text
from nonet.evaluation.neighbours import LabelledCells, nearest
from nonet.evaluation.run_data import read_run

NEIGHBOURS = [f"{which}_neighbour_{place}" for which in ("given", "suggested") for place in (1, 2, 3)]


def add_features(run, architecture="swinv2_tiny", size=5, seed=0):
    """Write features of random cells for every fold; return them by image_id."""
    rng = np.random.default_rng(seed)
    oof = pd.read_parquet(run / "oof.parquet").drop_duplicates("image_id")
    everything = {}
    for fold, rows in oof.groupby("fold"):
        features = rng.normal(size=(len(rows), size)).astype(np.float16)
        path = Run(run).member(architecture, fold).features
        arrays = {"mean": np.zeros(size), "axes": np.eye(size)}
        np.savez(path, image_id=rows["image_id"].to_numpy(dtype=str), features=features, **arrays)
        everything |= dict(zip(rows["image_id"], features.astype(np.float32)))
    seal(run)
    return everything


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run", num_images=300, num_patients=12, num_external=20)


def test_issues_are_those_of_the_ensembles_probabilities(run):
    table = nonet.issues(run)
    oof = pd.read_parquet(run / "oof.parquet").query("view_set == 'dihedral'")
    columns = [name for name in oof if name.startswith("logit_")]
    mean = oof.groupby("image_id")[columns].mean()
    codes = [name.removeprefix("logit_") for name in columns]
    labels = oof.drop_duplicates("image_id").set_index("image_id")["label"].loc[mean.index]
    proba = softmax(mean.to_numpy(dtype=float), axis=1)
    expected = nonet.find_label_issues(labels.map(codes.index).to_numpy(), proba)
    assert len(table) > 20
    assert table["image_id"].tolist() == mean.index[expected].tolist()
    assert table["rank"].tolist() == list(range(1, len(table) + 1))
    assert (table["given"] == labels.loc[table["image_id"]].to_numpy()).all()
    assert table["suggested"].tolist() == [codes[k] for k in proba[expected].argmax(axis=1)]
    np.testing.assert_allclose(table["suggested_confidence"], proba[expected].max(axis=1), atol=1e-6)
    assert (table["normalized_margin"] < 0.5).all()
    assert table["normalized_margin"].is_monotonic_increasing
    manifest = pd.read_parquet(run / "manifest.parquet").set_index("image_id").loc[table["image_id"]]
    for column in ("path", "source", "patient"):
        assert table[column].tolist() == manifest[column].tolist()
    assert manifest["evaluate"].all()


def test_files_hold_what_is_returned(run):
    table = nonet.issues(run, rank_by="self_confidence", filter_by="both")
    written = pd.read_csv(Run(run).issues, dtype=dict.fromkeys(NEIGHBOURS, object))
    left_out = [*NEIGHBOURS, "decision", "label", "note"]  # empty, which pandas reads as NaN
    pd.testing.assert_frame_equal(written.drop(columns=left_out), table.drop(columns=left_out), check_dtype=False)
    assert table["self_confidence"].is_monotonic_increasing
    by_patient = pd.read_csv(run / "evaluation" / "issues_by_patient.csv")
    by_source = pd.read_csv(run / "evaluation" / "issues_by_source.csv")
    assert by_patient["issues"].sum() == by_source["issues"].sum() == len(table)
    assert by_patient["images"].sum() == by_source["images"].sum() == 300
    assert (run / "evaluation" / "figures" / "label_issues.svg").read_text().startswith("<svg")


def test_decisions_in_the_list_are_never_written_over(run):
    file = Run(run).issues
    nonet.issues(run)
    empty = pd.read_csv(file, keep_default_na=False)
    assert (empty[["decision", "label", "note"]] == "").all(axis=None)
    nonet.issues(run)
    assert not list(file.parent.glob("issues.decided*"))
    empty.loc[0, ["decision", "note"]] = "drop", "two cells"
    empty.to_csv(file, index=False)
    decided = file.read_bytes()
    nonet.issues(run)
    nonet.evaluate(run, num_resamples=20)
    assert (file.parent / "issues.decided.csv").read_bytes() == decided
    assert not (file.parent / "issues.decided-2.csv").exists()
    file.write_text("no table")
    nonet.issues(run)
    assert (file.parent / "issues.decided-2.csv").read_text() == "no table"


def test_the_temperature_of_the_ensemble_counts(run):
    cold = nonet.issues(run)
    description = json.loads((run / "ensemble.json").read_text())
    (run / "ensemble.json").write_text(json.dumps(description | {"temperature": 2.0}))
    warm = nonet.issues(run)
    both = cold.merge(warm, on="image_id")
    assert len(both) > 20
    assert (both["suggested_confidence_y"] < both["suggested_confidence_x"]).all()


def test_without_features_there_are_no_neighbours_and_the_log_says_so(run, caplog):
    with caplog.at_level(logging.INFO, logger="nonet"):
        table = nonet.issues(run)
    assert table[NEIGHBOURS].isna().all(axis=None)
    assert "no features" in caplog.text


def test_neighbours_are_the_nearest_undoubted_images_of_the_class_in_the_fold(run):
    features = add_features(run)
    table = nonet.issues(run)
    oof = pd.read_parquet(run / "oof.parquet").drop_duplicates("image_id").set_index("image_id")
    undoubted = oof.drop(index=table["image_id"])
    for row in table.to_dict("records"):
        for which in ("given", "suggested"):
            fold = oof.loc[row["image_id"], "fold"]
            examples = undoubted[(undoubted["fold"] == fold) & (undoubted["label"] == row[which])].index
            distance = [np.linalg.norm(features[i] - features[row["image_id"]]) for i in examples]
            expected = [examples[k] for k in np.argsort(distance)[:3]]
            found = [row[f"{which}_neighbour_{k}"] for k in (1, 2, 3)]
            assert found[: len(expected)] == expected
            assert pd.isna(found[len(expected) :]).all()


def test_features_of_the_best_architecture_are_compared(run):
    for architecture in ("convnextv2_tiny", "swinv2_tiny"):
        add_features(run, architecture)
    assert find_issues(Run(run), read_run(Run(run))).compared_by == "swinv2_tiny"  # the better one, see make_run
    Run(run).member("swinv2_tiny", 1).features.unlink()
    assert find_issues(Run(run), read_run(Run(run))).compared_by == "convnextv2_tiny"


def test_damaged_features_cost_their_folds_neighbours_and_no_more(run, caplog):
    add_features(run)
    whole = nonet.issues(run)
    Run(run).member("swinv2_tiny", 2).features.write_bytes(b"PK\x03\x04 cut short")
    table = nonet.issues(run)
    assert "fold-2/features.npz" in caplog.text.replace("\\", "/")
    fold = pd.read_parquet(run / "oof.parquet").drop_duplicates("image_id").set_index("image_id")["fold"]
    hit = fold.loc[table["image_id"]].to_numpy() == 2
    assert table["image_id"].tolist() == whole["image_id"].tolist()
    assert table.loc[hit, NEIGHBOURS].isna().all(axis=None) and hit.any()
    pd.testing.assert_frame_equal(table[~hit], whole[~hit])


def test_nearest_in_blocks_is_nearest(monkeypatch):
    rng = np.random.default_rng(0)
    asked, examples = rng.normal(size=(37, 4)), rng.normal(size=(11, 4))
    distance = np.linalg.norm(asked[:, None] - examples, axis=2)
    monkeypatch.setattr(neighbours, "_NUMBERS_AT_ONCE", 50)
    np.testing.assert_array_equal(nearest(asked, examples, 3), np.argsort(distance, axis=1)[:, :3])
    np.testing.assert_array_equal(nearest(asked, examples[:1], 3), [[0, -1, -1]] * 37)
    np.testing.assert_array_equal(nearest(asked, examples[:0], 3), [[-1, -1, -1]] * 37)


def test_a_new_cell_is_like_the_held_out_cells_that_its_features_point_to(run):
    features = add_features(run)
    nonet.issues(run)
    data = read_run(Run(run))
    cells = LabelledCells(Run(run), data)
    assert cells.architecture == "swinv2_tiny"
    in_doubt = set(pd.read_csv(run / "evaluation" / "issues.csv")["image_id"])
    oof = pd.read_parquet(run / "oof.parquet").drop_duplicates("image_id").set_index("image_id")
    evaluated = [image for image in data.oof.image_id if image not in in_doubt]
    new = np.random.default_rng(1).normal(size=5)
    new /= np.linalg.norm(new)
    # With no mean and no rotation, features are compared as they are; one member per fold saw none of its images.
    distance = {image: np.square(features[image] - new).sum() for image in evaluated}
    expected = sorted(evaluated, key=distance.get)[:4]
    found = cells.nearest({f"swinv2_tiny/fold-{fold}": 7 * new for fold in range(3)}, 4)
    assert [cell.image_id for cell in found] == expected
    assert [cell.label for cell in found] == oof.loc[expected, "label"].tolist()
    np.testing.assert_allclose(
        [cell.similarity for cell in found], [1 - distance[one] / 2 for one in expected], rtol=1e-3
    )
    only = cells.nearest({"swinv2_tiny/fold-1": new, "convnextv2_tiny/fold-0": new})
    assert {oof.loc[cell.image_id, "fold"] for cell in only} == {1}
    assert cells.nearest({}) == []


def test_without_features_no_labelled_cell_is_near(run):
    cells = LabelledCells(Run(run), read_run(Run(run)))
    assert cells.architecture is None
    assert cells.nearest({"swinv2_tiny/fold-0": np.ones(5)}) == []


def test_a_patient_with_more_issues_than_its_classes_explain_stands_out():
    rng = np.random.default_rng(0)
    patient = np.repeat(np.array([f"P{i}" for i in range(20)] + [None], dtype=object), 100)
    given = rng.integers(2, size=len(patient))
    given[patient == "P3"] = 1  # of the doubtful class alone: many issues, as many as expected
    is_issue = rng.random(len(patient)) < np.where(given == 1, 0.3, 0.02)
    is_issue[patient == "P7"] |= rng.random(100) < 0.3
    table = count_by(patient, given, is_issue).set_index("name")
    assert len(table) == 20
    assert table.index[0] == "P7"
    assert table.index[table["note"] != ""].tolist() == ["P7"]
    assert table.loc["P3", "expected"] == pytest.approx(30, abs=6)
    others = (patient != "P3") & (patient != None) & (given == 1)  # noqa: E711
    assert table.loc["P3", "expected"] == pytest.approx(100 * is_issue[others].mean())


def test_a_lone_source_and_a_class_that_only_one_has_are_compared_with_nothing():
    given, is_issue = np.array([0, 0, 1, 1]), np.array([True, False, True, True])
    lone = count_by(np.array(["a"] * 4, dtype=object), given, is_issue)
    assert np.isnan(lone.loc[0, "expected"])
    assert (lone.loc[0, "issues"], lone.loc[0, "note"]) == (3, "")
    two = count_by(np.array(["a", "a", "b", "b"], dtype=object), given, is_issue).set_index("name")
    assert two["expected"].to_dict() == {"a": 1, "b": 2}
    assert count_by(np.array([None] * 4, dtype=object), given, is_issue).empty


@pytest.mark.slow
def test_evaluate_finds_them_too_and_the_report_shows_them(run):
    nonet.evaluate(run, num_resamples=20)
    table, report = pd.read_csv(Run(run).issues), (run / "evaluation" / "report.html").read_text()
    assert f"{len(table)} of 300 labels" in report
    assert table.loc[0, "image_id"] in report
    svg = (run / "evaluation" / "figures" / "label_issues.svg").read_text()
    in_order = in_order_of_maturation({*table["given"], *table["suggested"]})
    for text in ("given label", "suggested", "granulopoiesis", *in_order):
        assert f">{text}<" in svg


@pytest.mark.slow
def test_unknown_patients_are_a_dash_in_the_report_and_in_no_table_of_patients(run):
    for file in ("oof.parquet", "manifest.parquet"):
        pd.read_parquet(run / file).assign(patient=None).to_parquet(run / file)
    seal(run)
    nonet.evaluate(run, num_resamples=20)
    report = (run / "evaluation" / "report.html").read_text()
    section = report[report.index('id="issues"') : report.index('id="counts"')]
    assert "<td>–</td>" in section
    assert not re.search(r"\bnan\b", section, re.IGNORECASE)
    assert pd.read_csv(run / "evaluation" / "issues_by_patient.csv").empty


@pytest.mark.slow
def test_a_run_without_any_issue_is_evaluated(run):
    table = pd.read_parquet(run / "oof.parquet")
    columns = [name for name in table if name.startswith("logit_")]
    table[columns] = 9.0 * (table["label"].to_numpy()[:, None] == [name.removeprefix("logit_") for name in columns])
    table.to_parquet(run / "oof.parquet")
    seal(run)
    assert nonet.issues(run).empty
    assert "300" in issues_text(find_issues(Run(run), read_run(Run(run))))
    nonet.evaluate(run, num_resamples=20)
    assert "300 labels" in (run / "evaluation" / "report.html").read_text()


def test_a_trained_member_keeps_features_of_the_images_held_out(tiny_run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(tiny_run, copy)
    folds = pd.read_csv(tiny_run.folds)
    for fold in (0, 1):
        with np.load(tiny_run.member("vit_mini", fold).features) as file:
            assert sorted(file["image_id"]) == sorted(folds.loc[folds["fold"] == fold, "image_id"])
            assert np.isfinite(file["features"]).all()
            assert file["features"].std() > 0
    table = nonet.issues(copy, filter_by="predicted_neq_given")  # two epochs: there are mistakes
    assert len(table)
    assert table[NEIGHBOURS].notna().any(axis=None)


def test_an_unknown_filter_is_refused(run):
    with pytest.raises(DataError, match="by_luck"):
        nonet.issues(run, filter_by="by_luck")
