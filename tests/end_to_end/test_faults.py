"""Faults of a machine in the middle of the work: what is said, and the figures of an undisturbed run afterwards."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import psutil
import pytest

from helpers.processes import interrupt
from nonet.artifacts.run import Run
from nonet.errors import RunError
from nonet.training.launch import train
from nonet.training.member import MemberTraining
from nonet.training.state import read_state

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

#: Trains slowly, so that a test comes in time, and writes no state of itself in the first epoch.
TRAIN = """
import json, sys, time
from pathlib import Path

from nonet.cli.ending import run_for_exit_status
from nonet.recipe import Recipe
from nonet.training.launch import train
from nonet.training.member import MemberTraining

recipe, dataset, out, options = sys.argv[1:]
real = MemberTraining._train_batch

def train_batch(training, rows):
    if training.step >= 2:
        Path(out, f"at work {training.member.fold} {training.fabric.global_rank}").touch()
        time.sleep(0.3)
    return real(training, rows)

MemberTraining._train_batch = train_batch

if __name__ == "__main__":
    options, recipe = json.loads(options), Recipe.model_validate_json(recipe)
    sys.exit(run_for_exit_status(lambda: train(recipe, dataset, out=out, accelerator="cpu", **options)))
"""


@pytest.fixture(scope="module")
def recipe(make_recipe):
    return make_recipe("train.batch_size=2", "train.epochs=1", "train.checkpoint_seconds=1000000")


@pytest.fixture(scope="module")
def undisturbed(recipe, tiny_dataset, tmp_path_factory):
    return train(recipe, tiny_dataset, out=tmp_path_factory.mktemp("undisturbed") / "run", accelerator="cpu")


#: Options of `train`, and the processes that they start: of which fold and rank.
MEMBERS_AT_ONCE = {"devices": 2}, [(0, 0), (1, 0)]
SHARED_MEMBER = {"devices_per_member": 2}, [(0, 0), (0, 1)]


@pytest.fixture
def slow_training(recipe, tiny_dataset, tmp_path):
    """A function of one of these: a command that trains slowly, where, and whether all processes are in step three."""

    def make(options, processes):
        (tmp_path / "script.py").write_text(TRAIN)
        run = Run(tmp_path / "run")
        words = [recipe.model_dump_json(), tiny_dataset.folder, run, json.dumps(options)]
        command = [sys.executable, tmp_path / "script.py", *map(str, words)]
        marks = [run.folder / f"at work {fold} {rank}" for fold, rank in processes]
        return command, run, lambda: all(mark.exists() for mark in marks)

    return make


def assert_same_figures(run, reference):
    for fold in (0, 1):
        resumed, expected = run.member("vit_mini", fold), reference.member("vit_mini", fold)
        assert resumed.weights.read_bytes() == expected.weights.read_bytes()
        assert sorted(p.name for p in resumed.folder.iterdir()) == sorted(p.name for p in expected.folder.iterdir())
    pd.testing.assert_frame_equal(pd.read_parquet(run.oof), pd.read_parquet(reference.oof))
    assert run.ensemble.read_text() == reference.ensemble.read_text()


@pytest.mark.kill
@pytest.mark.parametrize(("name", "how"), [("SIGUSR1", MEMBERS_AT_ONCE), ("SIGTERM", SHARED_MEMBER)])
def test_a_training_that_a_scheduler_stops_has_saved_its_state(
    slow_training, recipe, tiny_dataset, undisturbed, name, how
):
    """In the middle of an epoch; meanwhile, no other process may train the run."""
    number = getattr(signal, name)
    command, run, at_work = slow_training(*how)

    def second_is_refused():
        if not at_work():
            return False
        with pytest.raises(RunError, match="being trained by another process"):
            train(recipe, tiny_dataset, out=run, accelerator="cpu")
        return True

    status, errors = interrupt(command, second_is_refused, number=number, whole_group=False)
    assert (status, errors.count("Run the same command again"), "Traceback" in errors) == (128 + number, 1, False)
    for fold in {fold for fold, _ in how[1]}:
        progress = read_state(run.member("vit_mini", fold), "cpu")["progress"]
        assert progress["epoch"] == 0 and progress["step"] >= 3
    train(recipe, tiny_dataset, out=run, accelerator="cpu")
    if how != SHARED_MEMBER:  # two processes add up gradients in another order
        assert_same_figures(run, undisturbed)


@pytest.mark.kill
def test_a_training_with_a_process_that_is_killed_says_so_and_resumes(slow_training, recipe, tiny_dataset):
    """By the system, say, where memory is short: the others do not wait for it."""
    command, run, at_work = slow_training(*SHARED_MEMBER)
    started = psutil.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        while not at_work():
            assert started.poll() is None, started.communicate()
            time.sleep(0.05)
        ranks = [one for one in started.children(recursive=True) if "spawn_main" in " ".join(one.cmdline())]
        assert len(ranks) == 2
        ranks[1].kill()
        _, errors = started.communicate(timeout=90)
    finally:
        if started.poll() is None:
            started.kill()
    assert (started.returncode, "Traceback" in errors) == (2, False), errors
    assert "was killed" in errors and "same command again" in errors
    assert not psutil.wait_procs(ranks, timeout=60)[1]
    train(recipe, tiny_dataset, out=run, accelerator="cpu")
    assert all(run.member("vit_mini", fold).is_done for fold in (0, 1))


@pytest.fixture
def cells(tiny_dataset, tmp_path):
    """A copy of the 30 images and their table."""
    source = next(iter(tiny_dataset.description["roots"].values()))
    return Path(shutil.copytree(source, tmp_path / "cells"))


def test_images_that_vanish_or_change_between_listing_and_reading(tiny_run, cells, tmp_path, monkeypatch):
    """What is there is predicted; the same call predicts what came back or changed, and ends as if nothing had been."""
    from nonet.inference.folder import PredictionFolder
    from nonet.inference.load import load
    from nonet.inference.predict import predict

    first, second, third = sorted(cells.rglob("*.png"))[:3]
    aside, real = tmp_path / "aside", PredictionFolder.begin

    def begin(folder, plan):
        first.rename(aside)
        shutil.copyfile(second, third)
        real(folder, plan)

    ensemble = load(tiny_run, accelerator="cpu")
    with monkeypatch.context() as patch:
        patch.setattr(PredictionFolder, "begin", begin)
        disturbed = predict(ensemble, cells, out=tmp_path / "out")
    assert (disturbed.num_images, disturbed.num_unreadable, disturbed.num_to_retry) == (30, 1, 1)
    logits = pd.read_parquet(disturbed.folder / "logits.parquet").set_index("image").filter(like="logit_")
    assert logits.loc[str(first)].isna().all() and logits.loc[str(third)].equals(logits.loc[str(second)])
    aside.rename(first)
    again = predict(ensemble, cells, out=tmp_path / "out")
    assert again.num_unreadable == 0
    expected = predict(ensemble, cells, out=tmp_path / "undisturbed")
    for name in ("predictions.csv", "logits.parquet"):
        assert (again.folder / name).read_bytes() == (expected.folder / name).read_bytes()


def test_images_that_vanish_before_a_build_reads_them(cells, tmp_path, monkeypatch):
    from nonet.data import scan
    from nonet.data.build import build_dataset

    image, aside, real = sorted(cells.rglob("*.png"))[0], tmp_path / "aside", scan.describe_images

    def describe(paths, **options):
        if image.exists():
            image.rename(aside)
        return real(paths, **options)

    with monkeypatch.context() as patch:
        patch.setattr(scan, "describe_images", describe)
        disturbed = build_dataset(f"csv:{cells}/cells.csv", tmp_path / "dataset")
    assert len(disturbed.manifest) == 29
    assert "missing" in (tmp_path / "dataset" / "excluded.csv").read_text()
    aside.rename(image)
    again = build_dataset(f"csv:{cells}/cells.csv", tmp_path / "dataset")
    expected = build_dataset(f"csv:{cells}/cells.csv", tmp_path / "undisturbed")
    pd.testing.assert_frame_equal(again.manifest, expected.manifest)


@pytest.fixture
def set_clock(monkeypatch):
    """A function that sets the clock of this process to a year."""

    def set_clock(year):
        seconds = datetime(year, 1, 1, tzinfo=UTC).timestamp()

        class Then(datetime):
            @classmethod
            def now(cls, zone=None):
                return datetime.fromtimestamp(seconds, zone)

        for module in ("time", "tqdm.std"):
            monkeypatch.setattr(f"{module}.time", lambda: seconds)
        monkeypatch.setattr("nonet.artifacts.run.datetime", Then)

    return set_clock


def age(folder, year):
    """Give the files of a folder the times of a year."""
    seconds = datetime(year, 1, 1, tzinfo=UTC).timestamp()
    for path in folder.rglob("*"):
        os.utime(path, (seconds, seconds))


class PulledPlug(BaseException):
    """Not an Exception, so that nothing on the way can catch it by mistake."""


@pytest.mark.training
def test_a_clock_set_back_while_a_training_is_stopped_changes_nothing(
    recipe, tiny_dataset, undisturbed, tmp_path, monkeypatch, set_clock
):
    def end(*_):
        raise PulledPlug

    run = Run(tmp_path / "run")
    set_clock(2150)
    with monkeypatch.context() as patch, pytest.raises(PulledPlug):
        patch.setattr(MemberTraining, "_finish", end)
        train(recipe, tiny_dataset, out=run, accelerator="cpu")
    age(run.folder, 2150)
    set_clock(1971)
    train(recipe, tiny_dataset, out=run, accelerator="cpu")
    assert_same_figures(run, undisturbed)


def test_a_clock_set_back_between_predictions_hides_no_change(tiny_run, cells, tmp_path, set_clock):
    from nonet.inference.load import load
    from nonet.inference.predict import predict

    ensemble = load(tiny_run, accelerator="cpu")
    set_clock(2150)
    age(cells, 2150)
    written = predict(ensemble, cells, out=tmp_path / "out").csv.stat().st_mtime_ns
    set_clock(1971)
    assert predict(ensemble, cells, out=tmp_path / "out").csv.stat().st_mtime_ns == written
    one, other = sorted(cells.rglob("*.png"))[:2]
    shutil.copyfile(other, one)
    os.utime(one, (1, 1))
    again = predict(ensemble, cells, out=tmp_path / "out")
    expected = predict(ensemble, cells, out=tmp_path / "undisturbed")
    assert again.csv.read_bytes() == expected.csv.read_bytes()
