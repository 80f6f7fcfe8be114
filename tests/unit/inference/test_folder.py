"""Where `predict` writes: not over a user's files, one at a time; what could not be read now is tried again, alone."""

import importlib
import json
import os
import shutil

import pandas as pd
import pytest
from filelock import FileLock

import nonet.data.images.decode
from helpers.folders import everything_in
from nonet.errors import DataError, RunError, StorageError, UnreadableNowError
from nonet.inference.folder import CHUNK_SIZE
from nonet.inference.load import load
from nonet.inference.predict import predict

NUM_IMAGES = CHUNK_SIZE + 6


@pytest.fixture(scope="module")
def ensemble(random_run):
    return load(random_run, accelerator="cpu")


@pytest.fixture
def cells(tiny_dataset, tmp_path):
    """Two chunks of images."""
    folder, paths = tmp_path / "cells", tiny_dataset.paths()
    folder.mkdir()
    for i in range(NUM_IMAGES):
        shutil.copyfile(paths[i % len(paths)], folder / f"{i:03d}.png")
    return folder


@pytest.fixture
def read(monkeypatch):
    """Names of the files that are read, and a dict name → error that reading them raises."""
    names, errors, read_file = [], {}, nonet.data.images.decode.read_file

    def reading(path, **options):
        name = os.path.basename(path)  # noqa: PTH119
        names.append(name)
        if name in errors:
            raise errors[name]
        return read_file(path, **options)

    monkeypatch.setattr(nonet.data.images.decode, "read_file", reading)
    return names, errors


@pytest.mark.parametrize(
    "files",
    [
        ("parts/000000.parquet",),
        ("predictions.csv", "logits.parquet"),
        ("submission.csv",),
        (".predictions.csv.bak",),
        ("plan.json", "thesis.docx"),
        ("recipe.toml", "provenance.json"),
    ],
)
def test_a_folder_of_the_users_is_refused_before_anything_is_touched(cells, tmp_path, files):
    out = tmp_path / "out"
    for name in files:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text('{"plan": "mine"}')
    before = everything_in(out)
    with pytest.raises(StorageError, match="prediction"):
        predict("a run that is not there", cells, out=out)
    assert everything_in(out) == before


def test_files_beside_a_prediction_outlive_another_one(ensemble, cells, tmp_path):
    out = tmp_path / "out"
    predict(ensemble, cells / "000.png", out=out)
    mine = [".predictions.csv.bak", "notes.txt", "submission.csv", "parts/mine.parquet", "parts/0001.parquet"]
    (out / "parts").mkdir()
    for name in mine:
        (out / name).write_text("mine")
    assert predict(ensemble, cells / "001.png", out=out).num_images == 1
    assert [(out / name).read_text() for name in mine] == ["mine"] * len(mine)


def test_a_submission_that_nonet_did_not_write_is_not_replaced(ensemble, cells, tmp_path):
    out = tmp_path / "out"
    predict(ensemble, cells / "000.png", out=out)
    (out / "submission.csv").write_text("mine")
    (tmp_path / "ids.csv").write_text("ID,labels\n000,\n")
    options = {"format": "wbcbench", "sample_submission": tmp_path / "ids.csv"}
    with pytest.raises(StorageError, match=r"submission\.csv"):
        predict(ensemble, cells / "000.png", out=out, **options)
    assert (out / "submission.csv").read_text() == "mine"


def test_links_are_not_followed(ensemble, cells, tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    predict(ensemble, cells / "000.png", out=out)
    elsewhere.mkdir()
    (elsewhere / "000000.parquet").write_text("mine")
    (elsewhere / "table.csv").write_text("mine")
    (out / "parts").symlink_to(elsewhere)
    with pytest.raises(StorageError, match="parts"):
        predict(ensemble, cells / "001.png", out=out)
    (out / "parts").unlink()
    (out / "predictions.csv").unlink()
    (out / "predictions.csv").symlink_to(elsewhere / "table.csv")
    predict(ensemble, cells / "001.png", out=out)
    assert set(everything_in(elsewhere).values()) == {b"mine"}
    assert len(pd.read_csv(out / "predictions.csv")) == 1


def test_a_folder_in_the_place_of_a_file_is_reported_before_hours_of_work(ensemble, cells, tmp_path):
    predict(ensemble, cells / "000.png", out=tmp_path / "out")
    (tmp_path / "out" / "logits.parquet").unlink()
    (tmp_path / "out" / "logits.parquet").mkdir()
    with pytest.raises(StorageError, match=r"logits\.parquet"):
        predict("a run that is not there", cells, out=tmp_path / "out")


def test_two_predictions_do_not_share_a_folder(ensemble, cells, tmp_path):
    out = tmp_path / "out"
    predict(ensemble, cells / "000.png", out=out)
    before = everything_in(out)
    with FileLock(out / ".nonet.lock"), pytest.raises(RunError, match="Another process is predicting into"):
        predict(ensemble, cells, out=out)
    assert everything_in(out) == before


def test_what_could_not_be_read_now_is_predicted_by_the_same_call_and_nothing_else(ensemble, cells, tmp_path, read):
    names, errors = read
    (cells / "003.png").write_bytes(b"damaged")
    errors["002.png"] = UnreadableNowError("002.png could not be read now: Stale file handle.")
    errors["066.png"] = UnreadableNowError("066.png could not be read now: Too many open files.")
    errors["067.png"] = UnreadableNowError("067.png could not be read now: Input/output error.")
    first = predict(ensemble, cells, out=tmp_path / "out")
    assert (first.num_unreadable, first.num_to_retry) == (4, 3)
    table = first.table()
    assert table.loc[[2, 3, 66], "reason"].tolist() == ["could not be read now", "unreadable", "could not be read now"]
    assert "3 of the unreadable" in str(first)
    names.clear()
    del errors["002.png"], errors["066.png"]
    second = predict(ensemble, cells, out=tmp_path / "out")
    assert sorted(names) == ["002.png", "066.png", "067.png"]
    assert (second.num_unreadable, second.num_to_retry) == (2, 1)
    names.clear()
    errors.clear()
    third = predict(ensemble, cells, out=tmp_path / "out")
    assert names == ["067.png"]
    assert (third.num_unreadable, third.num_to_retry) == (1, 0)
    assert not (tmp_path / "out" / "parts").exists()
    names.clear()
    assert predict(ensemble, cells, out=tmp_path / "out") == third
    assert not names  # damage is final
    at_once = predict(ensemble, cells, out=tmp_path / "at once").table()
    pd.testing.assert_frame_equal(third.table(), at_once, atol=1e-5, rtol=0)
    logits = [pd.read_parquet(tmp_path / name / "logits.parquet") for name in ("out", "at once")]
    pd.testing.assert_frame_equal(*logits, atol=1e-5, rtol=0)


def test_an_image_that_is_missing_may_come_later(ensemble, cells, tmp_path, read):
    (cells / "list.csv").write_text("path\n000.png\n001.png\nlater.png\n")
    assert predict(ensemble, cells / "list.csv", out=tmp_path / "out").num_to_retry == 1
    shutil.copyfile(cells / "002.png", cells / "later.png")
    read[0].clear()
    done = predict(ensemble, cells / "list.csv", out=tmp_path / "out")
    assert read[0] == ["later.png"]
    assert done.table()["error"].tolist() == ["", "", ""]


def test_a_prediction_stopped_half_way_tries_again_what_could_not_be_read(ensemble, cells, tmp_path, read, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    names, errors = read
    errors["002.png"] = UnreadableNowError("002.png could not be read now: Permission denied.")
    with monkeypatch.context() as patch:
        patch.setattr(importlib.import_module("nonet.inference.results"), "join", stop)
        with pytest.raises(KeyboardInterrupt):
            predict(ensemble, cells, out=tmp_path / "out")
    names.clear()
    errors.clear()
    assert predict(ensemble, cells, out=tmp_path / "out").num_unreadable == 0
    assert names == ["002.png"]


def test_images_that_are_lost_for_a_while_do_not_cost_what_was_predicted(ensemble, cells, tmp_path):
    (cells / "list.csv").write_text("path\n000.png\n001.png\n")
    done = predict(ensemble, cells / "list.csv", out=tmp_path / "out")
    before = done.csv.read_bytes()
    (cells / "000.png").rename(cells / "away.png")
    with pytest.raises(RunError, match=r"000\.png"):
        predict(ensemble, cells / "list.csv", out=tmp_path / "out")
    assert done.csv.read_bytes() == before
    (cells / "away.png").rename(cells / "000.png")
    assert predict(ensemble, cells / "list.csv", out=tmp_path / "out") == done


def test_other_images_may_follow_what_was_finished_with_some_unread(ensemble, cells, tmp_path, read):
    read[1]["000.png"] = UnreadableNowError("000.png could not be read now: Permission denied.")
    assert predict(ensemble, cells / "000.png", out=tmp_path / "out").num_to_retry == 1
    table = predict(ensemble, cells / "001.png", out=tmp_path / "out").table()
    assert table["image"].tolist() == [str(cells / "001.png")]
    assert not (tmp_path / "out" / "parts").exists()


def test_a_path_that_can_never_be_read_is_final(ensemble, cells, tmp_path):
    (cells / "list.csv").write_text(f"path\n000.png\n{'x' * 300}.png\n")
    done = predict(ensemble, cells / "list.csv", out=tmp_path / "out")
    assert (done.num_unreadable, done.num_to_retry) == (1, 0)
    assert predict(ensemble, cells / "list.csv", out=tmp_path / "out") == done


def test_no_submission_is_made_of_what_may_be_read_later(ensemble, cells, tmp_path, read):
    read[1]["001.png"] = UnreadableNowError("001.png could not be read now: Permission denied.")
    (tmp_path / "ids.csv").write_text("ID,labels\n000,\n001,\n")
    options = {"out": tmp_path / "out", "format": "wbcbench", "sample_submission": tmp_path / "ids.csv"}
    paths = [cells / "000.png", cells / "001.png"]
    with pytest.raises(DataError, match="could not be read now"):
        predict(ensemble, paths, unreadable_label="LY", **options)
    assert not (tmp_path / "out" / "submission.csv").exists()
    read[1].clear()
    predict(ensemble, paths, **options)
    assert json.loads((tmp_path / "out" / "plan.json").read_text())["submission"] is True
    assert len((tmp_path / "out" / "submission.csv").read_text().splitlines()) == 3


def test_names_that_a_spreadsheet_would_run_are_quoted_and_read_back(ensemble, cells, tmp_path, monkeypatch):
    monkeypatch.chdir(cells)
    shutil.copyfile("000.png", "=1+1.png")
    done = predict(ensemble, ["=1+1.png", "000.png"], out=tmp_path / "out")
    assert done.csv.read_text().splitlines()[1].startswith("'=1+1.png,")
    assert done.table()["image"].tolist() == ["=1+1.png", "000.png"]
    assert pd.read_parquet(tmp_path / "out" / "logits.parquet")["image"].tolist() == ["=1+1.png", "000.png"]
    (tmp_path / "ids.csv").write_text("ID,labels\n=1+1,\n")
    options = {"format": "wbcbench", "sample_submission": tmp_path / "ids.csv"}
    predict(ensemble, ["=1+1.png", "000.png"], out=tmp_path / "out", **options)
    assert (tmp_path / "out" / "submission.csv").read_text().splitlines()[1].startswith("=1+1,")


def test_results_that_were_edited_or_damaged_are_kept_and_made_again(ensemble, cells, tmp_path, caplog):
    """A finished prediction is not called finished where its files are no longer those that were written."""
    (tmp_path / "ids.csv").write_text("ID,labels\n000,\n")
    options = {"out": tmp_path / "out", "format": "wbcbench", "sample_submission": tmp_path / "ids.csv"}
    done = predict(ensemble, cells / "000.png", **options)
    names = ("predictions.csv", "logits.parquet", "submission.csv")
    whole = {name: (done.folder / name).read_bytes() for name in names}
    for name in names:
        path = done.folder / name
        aside = path.with_name(f"{path.stem}.changed{path.suffix}")
        path.write_bytes(whole[name][:-3])
        assert predict(ensemble, cells / "000.png", **options) == done
        assert aside.read_bytes() == whole[name][:-3]
        assert aside.name in caplog.text
        if name != "logits.parquet":
            assert path.read_bytes() == whole[name]
    (done.folder / "predictions.csv").write_bytes(b"my notes")
    predict(ensemble, cells / "001.png", out=done.folder)
    assert (done.folder / "predictions.changed-2.csv").read_bytes() == b"my notes"
    before = everything_in(done.folder)
    predict(ensemble, cells / "001.png", out=done.folder)
    assert everything_in(done.folder) == before


@pytest.mark.parametrize("edit", [{"num_unreadable": "a"}, {"pending": 7}, {"num_to_retry": None}, {"files": 3}, None])
def test_a_plan_that_was_edited_or_damaged_is_not_used(ensemble, cells, tmp_path, edit):
    done = predict(ensemble, cells / "000.png", out=tmp_path / "out")
    plan = done.folder / "plan.json"
    plan.write_text("[1, 2" if edit is None else json.dumps(json.loads(plan.read_text()) | edit))
    assert predict(ensemble, cells / "000.png", out=tmp_path / "out") == done
    assert json.loads(plan.read_text())["num_to_retry"] == 0


def test_a_damaged_part_is_predicted_again(ensemble, cells, tmp_path, read):
    names, errors = read
    errors["066.png"] = UnreadableNowError("066.png could not be read now: Input/output error.")
    expected = predict(ensemble, cells, out=tmp_path / "out").table()
    part = tmp_path / "out" / "parts" / "000000.parquet"
    content = bytearray(part.read_bytes())
    content[4:4000] = bytes(3996)  # the footer and the last columns stay readable
    part.write_bytes(content)
    names.clear()
    table = predict(ensemble, cells, out=tmp_path / "out").table()
    assert sorted(names) == sorted(f"{i:03d}.png" for i in [*range(CHUNK_SIZE), 66])
    pd.testing.assert_frame_equal(table, expected)


def test_confusions_that_were_lost_or_damaged_are_copied_again_without_predicting(ensemble, cells, tmp_path):
    """`nonet count` needs them, and its hint is the same prediction again."""
    done = predict(ensemble, cells, out=tmp_path / "out")
    file, written = done.folder / "confusions.csv", done.csv.stat().st_mtime_ns
    whole = file.read_bytes()
    for damage in (file.unlink, lambda: file.write_bytes(b"edited")):
        damage()
        predict(ensemble, cells, out=tmp_path / "out")
        assert file.read_bytes() == whole == ensemble.run.confusions.read_bytes()
    assert (done.folder / "confusions.changed.csv").read_bytes() == b"edited"
    assert done.csv.stat().st_mtime_ns == written
