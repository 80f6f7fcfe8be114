"""`predict_shards` and `predict_shard`: what `predict` says, one row an image; resumed, set aside, never mixed."""

import io
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.folders import everything_in
from helpers.processes import DIES_BEFORE_RENAMING
from nonet.artifacts.csv_files import read_csv, to_csv
from nonet.artifacts.predictions_csv import read_predictions
from nonet.data.shards.formats import FORMATS
from nonet.differential.compare import compare
from nonet.differential.count import count
from nonet.errors import DataError, NonetError, RunError, StorageError, UnreadableNowError
from nonet.inference.predict import predict
from nonet.inference.predict_shard import predict_shard
from nonet.inference.predict_shards import predict_shards
from nonet.inference.reader import Reader
from nonet.inference.sharding import shard_images
from nonet.jobs.tasks import LostError, Outcome


@pytest.fixture(scope="module")
def cells(tiny_dataset, tmp_path_factory):
    """Two cases of 75 images, some of which cannot be read."""
    folder = tmp_path_factory.mktemp("cells")
    paths = tiny_dataset.paths()
    for i in range(150):
        file = folder / f"case {i % 2}" / f"{i:03d}.png"
        file.parent.mkdir(exist_ok=True)
        shutil.copyfile(paths[i % len(paths)], file)
    (folder / "case 0" / "040.png").write_bytes(b"")
    (folder / "case 1" / "041.png").write_bytes(b"not an image")
    cut = folder / "case 1" / "081.png"
    cut.write_bytes(cut.read_bytes()[:100])
    return folder


@pytest.fixture(scope="module")
def shards(cells, tmp_path_factory):
    return shard_images(cells, out=tmp_path_factory.mktemp("shards"), images_per_shard=64, case_from="folder").folder


class ThisProcess:
    """An engine that calls each task at once; those whose names hold a word of `deadly` die."""

    def __init__(self, deadly=()):
        self.deadly, self.called = deadly, []

    def run(self, tasks, needs) -> Generator[Outcome, None, None]:
        for task in reversed(tasks):
            if any(word in task.name for word in self.deadly):
                yield Outcome(task, error=LostError(f"{task.name} was given up."))
                continue
            self.called.append(Path(task.name).name)
            try:
                yield Outcome(task, task.function(*task.arguments))
            except NonetError as error:
                yield Outcome(task, error=error)

    def has_gpus(self):
        return False


@pytest.fixture
def engine(monkeypatch):
    engine = ThisProcess()
    monkeypatch.setattr("nonet.inference.predict_shards.make_engine", lambda *_, **__: engine)
    return engine


@pytest.fixture
def predicted(random_run, shards, engine, tmp_path):
    """Predict the shards; called again, with other options."""

    def predicted(given=shards, run=random_run, out=tmp_path / "out", **options):
        engine.called.clear()
        return predict_shards(run, given, out=out, **{"accelerator": "cpu"} | options)

    return predicted


@pytest.fixture(scope="module")
def plain(random_run, cells, tmp_path_factory):
    """The same images, predicted as images."""
    out = tmp_path_factory.mktemp("plain") / "out"
    return predict(random_run, cells, out=out, case_from="folder", accelerator="cpu")


def table_of(folder):
    return pd.concat(map(pd.read_parquet, sorted(folder.glob("results/*.parquet"))), ignore_index=True)


def as_text(table):
    buffer = io.StringIO()
    to_csv(table, buffer, float_format="%.6f")
    return buffer.getvalue()


@pytest.mark.parametrize("form", FORMATS)
def test_shards_say_what_images_say(predicted, plain, cells, tmp_path, form):
    made = shard_images(cells, out=tmp_path / "shards", format=form, images_per_shard=64, case_from="folder")
    done, table = predicted(made.folder), table_of(tmp_path / "out")
    columns = list(read_predictions(plain.csv))
    assert as_text(table[columns]) == plain.csv.read_text()
    logits = pd.read_parquet(plain.folder / "logits.parquet")
    pd.testing.assert_frame_equal(table[list(logits)], logits)
    assert (done.num_images, done.num_unreadable) == (150, 3)
    assert done.num_unidentified == plain.num_unidentified
    assert done.labels == {label: num for label, num in table["label"].value_counts().sort_index().items() if label}
    assert "150 images, 3 of them unreadable" in str(done)


def test_what_is_there_is_not_predicted_again(predicted, engine, tmp_path):
    first = predicted()
    before = everything_in(tmp_path / "out")
    assert len(engine.called) == 3
    assert predicted() == first
    assert engine.called == []
    missing, damaged = (tmp_path / "out" / "results" / f"00000{i}.parquet" for i in (0, 2))
    missing.unlink()
    content = bytearray(damaged.read_bytes())
    content[200] ^= 1
    damaged.write_bytes(content)
    assert predicted() == first
    assert sorted(engine.called) == ["shard-000000.parquet", "shard-000002.parquet"]
    after = everything_in(tmp_path / "out")
    assert {name for name in after if after[name] != before[name]} <= {Path("predictions.json")}
    (tmp_path / "out" / "results" / "000001.json").unlink()
    assert predicted() == first
    assert engine.called == ["shard-000001.parquet"]


def test_another_prediction_is_not_mixed_in(predicted, random_run, shards, cells, tmp_path):
    predicted()
    before = everything_in(tmp_path / "out")
    other_run = shutil.copytree(random_run.folder, tmp_path / "run")
    for options, word in [
        ({"views": 1}, "views"),
        ({"backend": "torch"}, "backend"),
        ({"effort": "auto"}, "effort"),
        ({"given": shards / "shard-000000.parquet"}, "images"),
        ({"run": other_run}, "run"),
    ]:
        with pytest.raises(RunError, match=word):
            predicted(**options)
    with pytest.raises(StorageError, match="prediction of shards"):
        predict(random_run, cells, out=tmp_path / "out", accelerator="cpu")
    assert everything_in(tmp_path / "out") == before


def test_nor_are_shards_mixed_with_images(predicted, plain):
    with pytest.raises(StorageError, match="prediction of images"):
        predicted(out=plain.folder)


def test_a_damaged_shard_is_set_aside_and_the_rest_is_predicted(predicted, shards, tmp_path, caplog):
    copied = shutil.copytree(shards, tmp_path / "shards")
    damaged = copied / "shard-000001.parquet"
    content = damaged.read_bytes()
    damaged.write_bytes(content[:5000] + b"X" + content[5001:])
    (copied / "shard-000002.parquet").rename(tmp_path / "away")
    done = predicted(copied)
    assert sorted(Path(place).name for place in done.set_aside) == ["shard-000001.parquet", "shard-000002.parquet"]
    assert done.num_images == 64 and "2 shards were set aside" in str(done)
    aside = read_csv(tmp_path / "out" / "set_aside.csv")
    assert set(aside["shard"]) == {str(damaged), str(copied / "shard-000002.parquet")}
    assert str(damaged) in caplog.text
    assert "2 shards were set aside" in " ".join(count(done).notes)
    damaged.write_bytes(content)
    (tmp_path / "away").rename(copied / "shard-000002.parquet")
    again = predicted(copied)
    assert again.set_aside == {} and again.num_images == 150
    assert not (tmp_path / "out" / "set_aside.csv").exists()


def test_a_shard_that_kills_its_worker_is_set_aside(predicted, engine, tmp_path):
    engine.deadly = ["000001"]
    done = predicted()
    assert [Path(place).name for place in done.set_aside] == ["shard-000001.parquet"]
    assert done.num_images == 150 - 64
    engine.deadly = []
    assert predicted().num_images == 150
    assert engine.called == ["shard-000001.parquet"]


def test_what_is_wrong_with_all_shards_stops_the_rest(predicted, engine, tmp_path, monkeypatch):
    def full(*_):
        raise StorageError("The disk is full.")

    monkeypatch.setattr("nonet.inference.predict_shards.predict_task", full)
    with pytest.raises(StorageError, match="full"):
        predicted()
    assert len(engine.called) == 1
    assert not (tmp_path / "out" / "predictions.json").exists()


def test_images_that_may_be_readable_later_are_tried_again(predicted, engine, shards, tmp_path, monkeypatch):
    def short_of_memory(task):
        return UnreadableNowError("could not be read now") if task.name.endswith("099.png") else prepare(task)

    from nonet.inference.prepared_input import prepare_or_error as prepare

    with monkeypatch.context() as patch:
        patch.setitem(Reader.__init__.__kwdefaults__, "prepare", short_of_memory)
        done = predicted()
    assert (done.num_to_retry, done.num_unreadable) == (1, 4)
    table = table_of(tmp_path / "out")
    assert table.loc[table["image"].str.endswith("099.png"), "reason"].tolist() == ["could not be read now"]
    assert (predicted().num_to_retry, len(engine.called)) == (0, 1)


def test_a_run_that_changes_meanwhile_is_not_mixed_in(random_run, predicted, engine, tmp_path):
    run = shutil.copytree(random_run.folder, tmp_path / "run")

    def change_first(tasks, needs, original=engine.run):
        description = json.loads((run / "ensemble.json").read_text())
        (run / "ensemble.json").write_text(json.dumps(description | {"temperature": 7.0}))
        yield from original(tasks, needs)

    engine.run = change_first
    with pytest.raises(RunError, match="changed since"):
        predicted(run=run)


def test_counts_are_those_of_the_images(predicted, plain):
    done = predicted()
    of_shards, of_images = count(done), count(plain)
    assert [case.case for case in of_shards.cases] == ["case 0", "case 1"]
    pd.testing.assert_frame_equal(of_shards.table(), of_images.table())
    with pytest.raises(DataError, match="prediction of shards"):
        compare(done.folder, plain.csv)


def test_a_result_that_was_damaged_since_is_not_counted(predicted):
    done = predicted()
    result = done.folder / "results" / "000001.parquet"
    pq.write_table(pq.read_table(result).slice(1), result)
    with pytest.raises(NonetError, match=r"000001\.parquet"):
        count(done)
    (done.folder / "predictions.json").unlink()
    with pytest.raises(DataError, match="unfinished"):
        count(done)


def test_shards_of_others(predicted, cells, tmp_path):
    files = sorted(cells.rglob("*.png"))[:10]
    rows = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    pq.write_table(pa.table({"image": rows, "label": range(10)}), tmp_path / "train-00000.parquet")
    subprocess.run(["tar", "-cf", tmp_path / "a.tar", "-C", cells, "case 0"], check=True)
    done = predicted([str(tmp_path / "*.parquet"), tmp_path / "a.tar"])
    table = table_of(done.folder)
    assert table["image"].tolist()[:10] == [file.name for file in files]
    assert len(table) == done.num_images == 85


def test_a_shard_without_images(predicted, tmp_path):
    with open(tmp_path / "none.tar", "wb") as file:  # noqa: PTH123
        file.write(bytes(10240))
    done = predicted([tmp_path / "none.tar"])
    assert (done.num_images, done.set_aside) == (0, {})
    assert len(table_of(done.folder)) == 0


def test_one_shard_from_python(random_run, shards, plain, tmp_path):
    """Twice: the second time there is nothing to do."""
    for _ in range(2):
        done = predict_shard(shards / "shard-000001.parquet", out=tmp_path / "x.parquet", run=random_run, views=8)
        assert done == tmp_path / "x.parquet"
    assert pd.read_parquet(done)["image"].tolist() == plain.table()["image"].tolist()[64:128]


@pytest.mark.parametrize("given", ["nowhere", "cells", "mixed", "unfinished"])
def test_what_are_not_shards(predicted, cells, shards, tmp_path, given):
    copied = shutil.copytree(shards, tmp_path / "unfinished")
    (copied / "shards.json").write_text("{}")
    items = {"cells": [cells], "mixed": [shards, cells], "unfinished": [copied]}.get(given, [tmp_path / given])
    with pytest.raises(NonetError):
        predicted(items)
    assert not (tmp_path / "out").exists()


def test_images_and_shards_are_not_confused(random_run, shards, tmp_path):
    with pytest.raises(DataError, match="folder of shards"):
        predict(random_run, shards, out=tmp_path / "out", accelerator="cpu")
    with pytest.raises(DataError, match="folder of shards"):
        shard_images(shards, out=tmp_path / "out")


def test_chunks_are_read_as_they_are_predicted(tmp_path):
    """However many images a shard has, a few chunks of them are in memory."""
    read = []

    class Image:
        path = source = "x"

    def chunks():
        for number in range(50):
            read.append(number)
            yield [Image()]

    with Reader((), None, 1, 1, prepare=lambda task: task.name) as reader:
        taken = reader.read(chunks())
        next(taken)
        assert len(read) <= 4
        assert sum(len(chunk) for chunk in taken) == 49


# --- The command line, and processes of its own --------------------------------------------------------------------


@pytest.mark.slow
def test_a_process_that_has_processes_ends_with_its_work(random_run, cells, tmp_path):
    """The images are enough for readers in processes of their own, two shards one after the other."""
    table = tmp_path / "cells.csv"
    for number in range(4):
        shutil.copytree(cells, tmp_path / f"copy {number}")
    files = sorted(tmp_path.glob("copy */*/*.png"))
    table.write_text("path\n" + "".join(f"{file.relative_to(tmp_path)}\n" for file in files))
    made = shard_images(table, out=tmp_path / "shards", images_per_shard=300)
    words = ["predict", random_run, made.folder, "--out", tmp_path / "out", "--accelerator", "cpu", "--workers", "2"]
    ended = subprocess.run([sys.executable, "-m", "nonet", *words], capture_output=True, text=True, timeout=240)
    assert (ended.returncode, ended.stdout.split()[:2]) == (0, ["600", "images,"]), ended.stderr
    assert "resource_tracker" not in ended.stderr


@pytest.mark.slow
def test_from_the_command_line_by_a_process_of_its_own(nonet, random_run, shards, plain, tmp_path):
    out = tmp_path / "out"
    status, said, _ = nonet("predict", random_run, shards, "--out", out, "--accelerator", "cpu", "--workers", 1)
    assert status == 0 and "150 images" in said
    assert as_text(table_of(out)[list(read_predictions(plain.csv))]) == plain.csv.read_text()
    status, said, _ = nonet("count", out)
    assert status == 0 and "case 1" in said


def test_options_that_cannot_be(refused, random_run, shards, cells, tmp_path):
    for words in (["--case", "S-7"], ["--split", "test"], ["--adapt-priors"], ["--format", "wbcbench"]):
        assert words[0] in refused("predict", random_run, shards, "--out", tmp_path / "out", *words)
    for words in (["--on", "ray"], ["--on", "slurm"], ["--devices", 2], ["--job", "partition=gpu"]):
        said = refused("predict", random_run, cells, "--out", tmp_path / "out", *words)
        assert words[0] in said and "nonet data shard" in said
    for words in (["--address", "auto"], ["--job", "partition=gpu"], ["--job", "gpu"], ["--devices", 0]):
        refused("predict", random_run, shards, "--out", tmp_path / "out", *words)
    assert not (tmp_path / "out").exists()


def test_set_aside_is_exit_status_1(nonet, random_run, shards, engine, tmp_path):
    engine.deadly = ["000001"]
    words = ("predict", random_run, shards, "--out", tmp_path / "out", "--accelerator", "cpu")
    status, said, _ = nonet(*words)
    assert status == 1 and "set_aside.csv" in said
    engine.deadly = []
    assert nonet(*words)[0] == 0


KILLED_AT = (
    DIES_BEFORE_RENAMING
    + """
from nonet.inference import predict_shards
from nonet.jobs.tasks import Outcome

class ThisProcess:
    def run(self, tasks, needs):
        for task in tasks:
            yield Outcome(task, task.function(*task.arguments))

    def has_gpus(self):
        return False

run, shards, out, _ = sys.argv[1:]
predict_shards.make_engine = lambda *_, **__: ThisProcess()
nonet.predict_shards(run, shards, out=out, accelerator="cpu")
"""
)


@pytest.mark.kill
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_at_any_moment_the_same_call_resumes(random_run, shards, predicted, engine, tmp_path):
    """Kills just before a file gets its name: a result, the index."""
    out = tmp_path / "out"
    for last in ("000001.parquet", "000001.json", "predictions.json"):
        command = [sys.executable, "-c", KILLED_AT, str(random_run), str(shards), str(out), last]
        killed = subprocess.run(command, capture_output=True, text=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert not (out / "predictions.json").exists()
    done = predicted()
    assert engine.called == []  # all results were there
    whole = predicted(out=tmp_path / "whole")
    assert (done.num_images, done.labels) == (150, whole.labels)
    pd.testing.assert_frame_equal(table_of(out), table_of(tmp_path / "whole"))
    assert not list((out / "results").glob(".nonet-tmp.*"))
