"""Training that is killed and started again ends with the bits of one that was not."""

import errno
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from nonet.artifacts.run import Run
from nonet.errors import RunError
from nonet.recipe import Recipe, load_recipe
from nonet.training.launch import train
from nonet.training.member import MemberTraining
from nonet.training.state import DIGEST_SIZE, read_state, write_state

SETTINGS = ("train.checkpoint_seconds=0", "train.epochs=3", "train.keep=best", "train.patience_epochs=3")


@pytest.fixture(scope="module")
def recipe(make_recipe) -> Recipe:
    """State after every step; dropout, mixing and noise, so that every source of random numbers counts."""
    mixing = ["augment.mixup_probability=0.4", "augment.cutmix_probability=0.4"]
    return make_recipe(*SETTINGS, *mixing, "models.head_dropout=0.3", "train.ema_warmup=true")


@pytest.fixture(scope="module")
def uninterrupted(recipe, tiny_dataset, tmp_path_factory) -> Run:
    return train(recipe, tiny_dataset, out=tmp_path_factory.mktemp("whole") / "run", accelerator="cpu")


def assert_same_figures(run: Run, reference: Run):
    for fold in (0, 1):
        resumed, expected = run.member("vit_mini", fold), reference.member("vit_mini", fold)
        assert resumed.weights.read_bytes() == expected.weights.read_bytes()
        assert sorted(p.name for p in resumed.folder.iterdir()) == sorted(p.name for p in expected.folder.iterdir())
    pd.testing.assert_frame_equal(pd.read_parquet(run.oof), pd.read_parquet(reference.oof))
    assert run.ensemble.read_text() == reference.ensemble.read_text()


def assert_same_run(run: Run, reference: Run):
    """Of one recipe: the histories and what DONE says are the same, too."""
    assert_same_figures(run, reference)
    for fold in (0, 1):
        resumed, expected = run.member("vit_mini", fold), reference.member("vit_mini", fold)
        histories = [[json.loads(line) for line in m.history.read_text().splitlines()] for m in (resumed, expected)]
        for line in itertools.chain(*histories):
            del line["seconds"]
        assert histories[0] == histories[1]
        done = [json.loads(m.done.read_text()) for m in (resumed, expected)]
        for facts in done:
            del facts["seconds"], facts["files"]["history.jsonl"], facts["sha256"]
        assert done[0] == done[1]


class PulledPlug(BaseException):
    """Not an Exception, so that nothing on the way can catch it by mistake."""


@pytest.mark.training
@pytest.mark.parametrize("moment", ["before a file is renamed", "after a file is renamed"])
def test_stopped_at_every_file_it_writes(moment, recipe, tiny_dataset, uninterrupted, tmp_path, monkeypatch):
    """Each start gets some files further, and leaves its half-written one lying, as a kill does."""
    real = Path.replace
    budget = [0]

    def replace(self, target):
        budget[0] -= 1
        if budget[0] < 0:
            if moment.startswith("after"):
                real(self, target)
            else:
                self.with_name(f".nonet-tmp.{Path(target).name}.leftovr_").write_bytes(b"half")
            raise PulledPlug
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    # What is not stored between starts, like a member's four last files, must fit into the largest number.
    out, starts, budgets = tmp_path / "run", 0, itertools.cycle([0, 1, 3, 6, 2, 5, 4])
    while True:
        starts, budget[0] = starts + 1, next(budgets)
        assert starts < 200
        try:
            run = train(recipe, tiny_dataset, out=out, accelerator="cpu")
        except PulledPlug:
            continue
        break
    assert starts > 8
    assert_same_run(run, uninterrupted)


SCRIPT = """
import sys
from nonet.recipe import load_recipe
from nonet.training.launch import train

recipe, dataset, out = sys.argv[1:]
train(recipe, dataset, out=out, accelerator="cpu")
"""


@pytest.mark.kill
def test_killed_at_several_moments(recipe, tiny_dataset, uninterrupted, tmp_path):
    """SIGKILL: in the second epoch, and in the second member; the command line's test has the first state."""
    (tmp_path / "tiny.toml").write_text(recipe.to_toml())
    run = Run(tmp_path / "run")
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "tiny.toml"), str(tiny_dataset.folder), str(run)]
    first, second = run.member("vit_mini", 0), run.member("vit_mini", 1)

    def lines():
        return first.history.read_text().count("\n") if first.history.exists() else 0

    moments = [lambda: lines() >= 1 or first.is_done, second.state.exists]
    killed = 0
    for moment in moments:
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            while process.poll() is None and not moment():
                time.sleep(0.001)
        finally:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
        assert process.returncode in (0, -signal.SIGKILL)
    assert killed >= 1  # the second may come too late on a fast machine
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert_same_run(run, uninterrupted)


@pytest.mark.kill
def test_the_command_line_resumes_after_a_kill(recipe, tiny_dataset, uninterrupted, tmp_path):
    (tmp_path / "tiny.toml").write_text(recipe.to_toml())
    run = Run(tmp_path / "run")
    words = ["train", str(tmp_path / "tiny.toml"), str(tiny_dataset.folder), "--out", str(run), "--accelerator", "cpu"]
    command = [sys.executable, "-m", "nonet", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None and not run.member("vit_mini", 0).state.exists():
            time.sleep(0.001)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not run.oof.exists()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "nonet evaluate" in done.stdout
    assert_same_run(run, uninterrupted)


@pytest.mark.training
def test_the_state_holds_no_code(recipe, tiny_dataset, tmp_path, monkeypatch):
    """state.pt is read with weights_only, so whatever is in it must be numbers, words and tensors."""
    import torch

    def end(*_):
        raise PulledPlug

    monkeypatch.setattr(MemberTraining, "_finish", end)
    with pytest.raises(PulledPlug):
        train(recipe, tiny_dataset, out=tmp_path / "run", accelerator="cpu")
    content = Run(tmp_path / "run").member("vit_mini", 0).state.read_bytes()
    state = torch.load(io.BytesIO(content[DIGEST_SIZE:]), weights_only=True)
    assert state["progress"]["epoch"] == 3
    assert len(state["history"]) == 3


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


@pytest.mark.training
@pytest.mark.parametrize("broken", ["the last", "the last, cut in half", "the last, of another member", "both"])
def test_a_damaged_state_is_not_trained_on(recipe, tiny_dataset, uninterrupted, tmp_path, monkeypatch, caplog, broken):
    """The one before is used, or training starts from the beginning; the weights are the same either way."""

    def end(*_):
        raise PulledPlug

    run = Run(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(MemberTraining, "_finish", end)
        with pytest.raises(PulledPlug):
            train(recipe, tiny_dataset, out=run, accelerator="cpu")
    member = run.member("vit_mini", 0)
    if broken == "the last, of another member":
        state = read_state(member, "cpu")
        write_state(run.member("vit_mini", 1), state)
        run.member("vit_mini", 1).state.replace(member.state)
    elif broken == "the last, cut in half":
        os.truncate(member.state, member.state.stat().st_size // 2)
    else:
        for path in [member.state, member.previous_state][: 2 if broken == "both" else 1]:
            flip_a_bit(path)
    steps, real = [], MemberTraining._train_batch

    def counted(training, rows):
        steps.append(training.member.fold)
        return real(training, rows)

    monkeypatch.setattr(MemberTraining, "_train_batch", counted)
    train(recipe, tiny_dataset, out=run, accelerator="cpu")
    assert_same_run(run, uninterrupted)
    assert "state.pt" in caplog.text
    assert ("starts from the beginning" in caplog.text) == (broken == "both")
    if broken == "both":
        assert steps.count(0) == steps.count(1) > 3
    else:
        assert steps.count(0) <= 1  # state is written after every step


@pytest.mark.training
def test_a_state_that_cannot_be_read_now_is_kept(recipe, tiny_dataset, tmp_path, monkeypatch):
    def end(*_):
        raise PulledPlug

    run = Run(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(MemberTraining, "_finish", end)
        with pytest.raises(PulledPlug):
            train(recipe, tiny_dataset, out=run, accelerator="cpu")
    state, real = run.member("vit_mini", 0).state, Path.read_bytes

    def refuse(path):
        if path == state:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    before = state.read_bytes()
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(RunError, match="Permission denied"):
        train(recipe, tiny_dataset, out=run, accelerator="cpu")
    monkeypatch.undo()
    assert state.read_bytes() == before


@pytest.mark.training
def test_a_recipe_edited_in_the_run_folder_is_not_believed(recipe, tiny_dataset, uninterrupted, tmp_path):
    run = Run(shutil.copytree(uninterrupted.folder, tmp_path / "run"))
    edited = load_recipe(recipe, ["models.head_dropout=0.2"])
    run.recipe.write_text(edited.to_toml())
    with pytest.raises(RunError, match="recipe"):
        train(edited, tiny_dataset, out=run.folder, accelerator="cpu")


class Asked(BaseException):
    """By a signal, to stop."""


@pytest.fixture
def ask(request):
    """A function that sends this process a signal, whose handler raises Asked."""
    if not hasattr(signal, request.param):
        pytest.skip("a signal of POSIX")
    number = getattr(signal, request.param)

    def handle(number, frame):
        raise Asked

    before = signal.signal(number, handle)
    yield lambda: signal.raise_signal(number)
    assert signal.getsignal(number) is handle
    signal.signal(number, before)


@pytest.mark.training
@pytest.mark.parametrize(
    ("ask", "moment"),
    [
        ("SIGTERM", "in a step"),
        ("SIGTERM", "while the epoch is evaluated"),
        ("SIGTERM", "while the state is written"),
        ("SIGINT", "in a step"),
        ("SIGUSR1", "in a step"),
        ("SIGHUP", "in a step"),
    ],
    indirect=["ask"],
)
def test_asked_to_stop_it_saves_its_state_first(
    moment, ask, make_recipe, recipe, tiny_dataset, uninterrupted, tmp_path, monkeypatch
):
    """No step is computed twice, although the state is otherwise written at the end of an epoch only."""
    recipe = load_recipe(recipe, ["train.checkpoint_seconds=1000000"])
    steps, evaluations, writes, real = [], [], [], MemberTraining.compute_gradients
    real_evaluate, real_write = MemberTraining._evaluate, write_state

    def gradients(training, rows):
        loss = real(training, rows)
        steps.append((training.member.fold, training.epoch, training.step))
        if moment == "in a step" and len(steps) == 2:
            ask()
        return loss

    def evaluate(training):
        logits = real_evaluate(training)
        evaluations.append(training.epoch)
        if moment == "while the epoch is evaluated" and len(evaluations) == 2:
            ask()
        return logits

    def write(member, state):
        writes.append(member)
        if moment == "while the state is written" and len(writes) == 2:
            ask()
        real_write(member, state)

    monkeypatch.setattr(MemberTraining, "compute_gradients", gradients)
    monkeypatch.setattr(MemberTraining, "_evaluate", evaluate)
    monkeypatch.setattr("nonet.training.member.write_state", write)
    run = Run(tmp_path / "run")
    with pytest.raises(Asked):
        train(recipe, tiny_dataset, out=run, accelerator="cpu")
    asked_at = len(steps)
    state = read_state(run.member("vit_mini", 0), "cpu")["progress"]
    _, epoch, step = steps[-1]
    assert (state["epoch"], state["step"]) == ((epoch + 1, 0) if moment.endswith("written") else (epoch, step + 1))
    train(recipe, tiny_dataset, out=run, accelerator="cpu")
    assert len(steps) == len(set(steps)) > asked_at
    assert_same_figures(run, uninterrupted)


@pytest.mark.training
def test_a_signal_whose_handler_returns_stops_nothing(recipe, tiny_dataset, uninterrupted, tmp_path, monkeypatch):
    """Some programs that start others only take note of SIGTERM, and stop them by another signal."""
    heard, real = [], MemberTraining.compute_gradients

    def gradients(training, rows):
        if not heard:
            signal.raise_signal(signal.SIGTERM)
        return real(training, rows)

    monkeypatch.setattr(MemberTraining, "compute_gradients", gradients)
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        run = train(recipe, tiny_dataset, out=tmp_path / "run", accelerator="cpu")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]
    assert_same_run(run, uninterrupted)


@pytest.mark.training
@pytest.mark.parametrize("ask", ["SIGINT"], indirect=True)
def test_a_second_interrupt_does_not_wait(ask, make_recipe, tiny_dataset, tmp_path, monkeypatch):
    """Ctrl-C twice: neither for the end of the step nor for the state."""
    ended, real = [], MemberTraining.compute_gradients

    def gradients(training, rows):
        loss = real(training, rows)
        ask()
        ask()
        ended.append(loss)
        return loss

    monkeypatch.setattr(MemberTraining, "compute_gradients", gradients)
    run = Run(tmp_path / "run")
    with pytest.raises(Asked):
        train(make_recipe(), tiny_dataset, out=run, accelerator="cpu")
    assert not ended and not run.member("vit_mini", 0).state.exists()
