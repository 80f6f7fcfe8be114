"""Held-out images corrupted on purpose: by whom they are scored, what is kept, what the tables say."""

import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

import nonet
from helpers.sealing import reseal_json, seal
from nonet.artifacts.run import Run
from nonet.data.preprocess.corruptions import list_corruptions
from nonet.errors import DataError, NonetError, RunError
from nonet.evaluation.bootstrap import Bootstrap
from nonet.evaluation.robustness import (
    CORRUPTION,
    DENOISING,
    VIEWS,
    format_robustness,
    read_robustness,
    robustness_tables,
)
from nonet.inference import corruptions
from nonet.inference.corrupted_images import Variant, draw_images
from nonet.inference.corruptions import score_corruptions

FEW = list_corruptions(["noise", "jpeg"], [1, 4])
WAYS = [(False, "none"), (True, "none"), (False, "dihedral"), (True, "dihedral")]


@pytest.fixture
def run(tiny_run, tmp_path):
    return Run(shutil.copytree(tiny_run.folder, tmp_path / "run"))


@pytest.fixture(scope="module")
def scored(tiny_run, tmp_path_factory):
    """A finished test of robustness; read it, change nothing in it."""
    run = Run(shutil.copytree(tiny_run.folder, tmp_path_factory.mktemp("scored") / "run"))
    return run, score_corruptions(run, FEW, accelerator="cpu")


def tables_of(folder):
    return {path.name: pd.read_parquet(path) for path in sorted(folder.glob("*.parquet"))}


def assert_same_tables(one, other):
    assert one.keys() == other.keys()
    for name in one:
        pd.testing.assert_frame_equal(one[name], other[name], check_exact=True)


def logits_of(table, index=("image_id", "architecture", "view_set")):
    return table.set_index(list(index)).filter(like="logit_").sort_index()


# Which images, seen by whom


def test_clean_images_get_their_out_of_fold_logits(scored):
    run, folder = scored
    oof = logits_of(pd.read_parquet(run.oof))
    assert (oof.std() > 1e-3).all()  # images differ by more than what is allowed below
    for view_set in ("none", "dihedral"):
        ours = logits_of(pd.read_parquet(folder / Variant("none", 0, False, view_set).file_name))
        expected = oof[oof.index.get_level_values("view_set") == view_set]
        pd.testing.assert_frame_equal(ours, expected, atol=1e-5, rtol=0, check_dtype=False)


def test_every_corruption_is_scored_on_all_images(scored):
    run, folder = scored
    tables = tables_of(folder)
    assert set(tables) == {Variant(*corruption, *way).file_name for corruption in FEW for way in WAYS}
    assert {Variant.from_file_name(folder / name).file_name for name in tables} == set(tables)
    images = set(pd.read_parquet(run.oof)["image_id"])
    assert all(set(table["image_id"]) == images and len(table) == len(images) for table in tables.values())


def test_corruption_and_denoising_change_logits(scored):
    tables = {Variant.from_file_name(scored[1] / name): table for name, table in tables_of(scored[1]).items()}
    plain = logits_of(tables[Variant("none", 0, False, "none")])
    mild, strong = (logits_of(tables[Variant("noise", s, False, "none")]) for s in (1, 4))
    assert 0 < (mild - plain).abs().to_numpy().mean() < (strong - plain).abs().to_numpy().mean()
    denoised = tables[Variant("noise", 4, True, "none")]
    assert denoised["changed"].all()
    assert (logits_of(denoised) - strong).abs().to_numpy().max() > 0
    assert not any(table["changed"].any() for variant, table in tables.items() if not variant.denoised)


def test_few_images_are_drawn_by_class_over_patients():
    images = pd.DataFrame(
        {
            "image_id": [f"{i:03d}" for i in range(100)],
            "label": ["LY"] * 60 + ["SNE"] * 37 + ["BA"] * 3,
            "patient": [None if i % 5 == 4 else f"P{i % 5}" for i in range(100)],
        }
    )
    drawn = draw_images(images, 23, seed=0)
    assert drawn["label"].value_counts().to_dict() == {"LY": 10, "SNE": 10, "BA": 3}
    assert drawn["image_id"].is_monotonic_increasing and drawn["image_id"].is_unique
    assert set(drawn[drawn["label"] == "LY"]["patient"].dropna()) == {"P0", "P1", "P2", "P3"}
    pd.testing.assert_frame_equal(drawn, draw_images(images, 23, seed=0))
    assert not drawn.equals(draw_images(images, 23, seed=1))
    assert set(drawn["image_id"]) <= set(draw_images(images, 40, seed=0)["image_id"])
    for everything in (None, 0, 100, 1000):
        assert draw_images(images, everything, seed=0) is images


def test_a_limit_holds_for_every_corruption(run):
    folder = score_corruptions(run, FEW[:2], limit=9, views=False, accelerator="cpu")
    drawn = [sorted(table["image_id"]) for table in tables_of(folder).values()]
    assert len(drawn) == 4 and all(ids == drawn[0] for ids in drawn) and len(drawn[0]) == 9


# Stopped, gone on with, added to


@pytest.mark.kill
@pytest.mark.parametrize("whole_files", [1, 6])
def test_a_killed_test_resumes_to_the_same_bits(run, scored, monkeypatch, whole_files):
    written, written_whole = [], corruptions.written_whole

    def until_killed(path):
        if len(written) == whole_files:
            raise KeyboardInterrupt
        written.append(path)
        return written_whole(path)

    monkeypatch.setattr(corruptions, "written_whole", until_killed)
    with pytest.raises(KeyboardInterrupt):
        score_corruptions(run, FEW, accelerator="cpu")
    monkeypatch.undo()
    folder = score_corruptions(run, FEW, accelerator="cpu")
    assert folder.name == scored[1].name
    assert_same_tables(tables_of(folder), tables_of(scored[1]))


def test_what_is_scored_is_not_scored_again(scored, monkeypatch):
    monkeypatch.setattr(corruptions, "_ensembles", None)  # whoever needs a network fails
    run, folder = scored
    assert score_corruptions(run, FEW, accelerator="cpu") == folder
    assert score_corruptions(run, FEW[:1], views=False, accelerator="cpu") == folder


@pytest.mark.slow
def test_corruptions_add_up_and_other_images_or_weights_do_not_mix(run, scored):
    folder = score_corruptions(run, FEW[:3], views=False, accelerator="cpu")
    assert score_corruptions(run, FEW, accelerator="cpu") == folder
    assert_same_tables(tables_of(folder), tables_of(scored[1]))
    assert score_corruptions(run, FEW[:1], limit=6, views=False, accelerator="cpu") != folder
    assert score_corruptions(run, FEW[:1], seed=1, views=False, accelerator="cpu") != folder
    one, other, *_ = sorted(run.folder.glob("members/*/*/weights.safetensors"))
    shutil.copy(one, other)
    seal(run.folder)
    assert score_corruptions(run, FEW[:1], views=False, accelerator="cpu") != folder


@pytest.mark.slow
def test_worker_processes_change_nothing(run, scored, monkeypatch):
    monkeypatch.setattr(corruptions, "MIN_IMAGES_FOR_WORKERS", 1)
    folder = score_corruptions(run, FEW, accelerator="cpu", num_workers=2)
    assert_same_tables(tables_of(folder), tables_of(scored[1]))


# Mistakes


def test_a_dataset_that_moved_can_be_named(run, tiny_dataset):
    reseal_json(run.provenance, dataset="gone/away")
    with pytest.raises(RunError, match="gone/away") as error:
        score_corruptions(run, FEW[:1], views=False, accelerator="cpu")
    assert "`dataset`" in error.value.hint
    score_corruptions(run, FEW[:1], views=False, accelerator="cpu", dataset=tiny_dataset.folder)


def test_an_image_that_changed_is_named(run, tiny_dataset, tmp_path):
    first = tiny_dataset.manifest.iloc[0]
    root = next(iter(tiny_dataset.description["roots"].values()))
    moved = nonet.Dataset(tmp_path, tiny_dataset.manifest, tiny_dataset.description, tiny_dataset.excluded)
    moved.description = moved.description | {"roots": dict.fromkeys(moved.description["roots"], str(tmp_path / "p"))}
    shutil.copytree(tiny_dataset.folder / root, tmp_path / "p")
    (tmp_path / "p" / first["path"]).write_bytes(b"another")
    with pytest.raises(DataError, match="is not the file") as error:
        score_corruptions(run, FEW[:1], views=False, accelerator="cpu", dataset=moved)
    assert first["path"] in error.value.message


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"corruptions": ["rain"]}, "rain"),
        ({"severities": [9]}, "9"),
        ({"limit": -3}, "-3"),
        ({"severities": [0]}, "severity above 0"),
        ({"corruptions": []}, "corruption"),
    ],
)
def test_what_there_is_not_is_refused(run, options, named):
    with pytest.raises(NonetError, match=named) as error:
        nonet.evaluate_robustness(run, **options)
    assert error.value.hint
    assert not run.robustness.exists()


# Tables, figure, report


@pytest.fixture(scope="module")
def drawn_conditions(tmp_path_factory):
    """Logits made up: noise hurts, denoising takes half of the harm away, views change nothing."""
    folder = tmp_path_factory.mktemp("variants")
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 90)
    harm, base = rng.normal(size=(90, 3)), rng.normal(size=(90, 3)) * 0.3 + 2 * np.eye(3)[label]
    about = pd.DataFrame(
        {
            "image_id": [f"i{i:02d}" for i in range(90)],
            "label": np.array(["EO", "LY", "SNE"])[label],
            "patient": [f"P{i % 9}" for i in range(90)],
            "source": "s",
            "fold": 0,
            "architecture": "one",
        }
    )
    for kind, severity in list_corruptions(["noise"], [1, 3]):
        for denoised, views in WAYS:
            logits = base + harm * severity * (0.5 if denoised else 1)
            table = about.assign(view_set=views, changed=denoised and severity > 1)
            table[["logit_EO", "logit_LY", "logit_SNE"]] = logits
            table.to_parquet(folder / Variant(kind, severity, denoised, views).file_name, index=False)
    return folder


def test_scores_are_those_of_scikit_learn(drawn_conditions):
    scores = robustness_tables(drawn_conditions, bootstrap=Bootstrap(200)).scores
    assert len(scores) == 12
    for row in scores.itertuples():
        table = pd.read_parquet(
            drawn_conditions / Variant(row.corruption, row.severity, row.denoised, row.views).file_name
        )
        called = np.array(["EO", "LY", "SNE"])[table.filter(like="logit_").to_numpy().argmax(1)]
        assert row.macro_f1 == pytest.approx(f1_score(table["label"], called, average="macro"))
        assert row.macro_f1_low <= row.macro_f1 <= row.macro_f1_high
        assert row.share_changed == float(row.denoised and row.severity > 1)
    assert set(scores["images"]) == {90} and set(scores["patients"]) == {9}


def test_differences_are_paired_and_say_what_helps(drawn_conditions):
    found = robustness_tables(drawn_conditions, bootstrap=Bootstrap(200))
    value = found.scores.set_index(["corruption", "severity", "denoised", "views"])["macro_f1"]
    by_name = dict(iter(found.differences.groupby("comparison")))
    assert {name: len(rows) for name, rows in by_name.items()} == {DENOISING: 6, VIEWS: 6, CORRUPTION: 8}
    for row in by_name[DENOISING].itertuples():
        assert row.denoised
        gap = (
            value[row.corruption, row.severity, True, row.views] - value[row.corruption, row.severity, False, row.views]
        )
        assert row.difference == pytest.approx(gap)
    helped = by_name[DENOISING].query("severity == 3 and views == 'none'").iloc[0]
    assert helped["difference_low"] > 0
    assert (by_name[VIEWS][["difference", "difference_low", "difference_high"]] == 0).all(axis=None)
    assert (by_name[CORRUPTION].query("severity == 3")["difference_high"] < 0).all()


def test_members_have_the_weights_that_they_have_in_predictions(drawn_conditions, tmp_path):
    """A second architecture is always wrong; without weight it changes nothing, with all of it everything."""
    for file in drawn_conditions.glob("*.parquet"):
        table = pd.read_parquet(file)
        wrong = table.assign(architecture="two")
        wrong[["logit_EO", "logit_LY", "logit_SNE"]] = -100 * table.filter(like="logit_").to_numpy()
        pd.concat([table, wrong]).to_parquet(tmp_path / file.name)
    alone = robustness_tables(drawn_conditions, bootstrap=Bootstrap(20))
    pd.testing.assert_frame_equal(
        robustness_tables(tmp_path, weights={("one", 0): 2.0}, bootstrap=Bootstrap(20)).scores, alone.scores
    )
    assert (
        robustness_tables(tmp_path, bootstrap=Bootstrap(20)).scores["macro_f1"].max() < alone.scores["macro_f1"].min()
    )


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(RunError, match="no logits"):
        robustness_tables(tmp_path)


@pytest.mark.slow
def test_table_figure_and_report_come_of_one_call(run):
    found = nonet.evaluate_robustness(
        run, limit=12, corruptions=["jpeg", "blur"], severities=[2], num_resamples=50, accelerator="cpu"
    )
    assert list(found.scores["corruption"].unique()) == ["none", "blur", "jpeg"]
    kept = read_robustness(run)
    pd.testing.assert_frame_equal(kept.scores, found.scores, check_dtype=False)
    pd.testing.assert_frame_equal(kept.differences, found.differences, check_dtype=False)
    assert "denoised, dihedral views" in (run.evaluation / "figures" / "robustness.svg").read_text(encoding="utf-8")
    for _ in range(2):  # the section stays when the run is evaluated again
        nonet.evaluate(run, num_resamples=50)
        report = (run.evaluation / "report.html").read_text(encoding="utf-8")
        assert "12 of the held-out images" in report
    assert (run.evaluation / "figures" / "robustness.svg").exists()
    lines = format_robustness(found).splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["none", "0"], ["blur", "2"], ["jpeg", "2"]]
    assert lines[0].count("as is") == lines[0].count("denoised") == 2


def test_a_report_without_it_says_nothing_of_it(run):
    nonet.evaluate(run, num_resamples=50)
    assert "When images are worse" not in (run.evaluation / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_scores_of_clean_images_alone_are_not_a_robustness_test(run, drawn_conditions):
    found = robustness_tables(drawn_conditions, bootstrap=Bootstrap(20))
    run.evaluation.mkdir(exist_ok=True)
    found.scores.query("severity == 0").to_csv(run.robustness, index=False)
    found.differences.query("severity == 0").to_csv(run.robustness_differences, index=False)
    nonet.evaluate(run, num_resamples=20)
    report = (run.evaluation / "report.html").read_text(encoding="utf-8")
    assert "nonet evaluate RUN --robustness" in report
