"""Tasks in other processes: each ends once, with what it returned or why not; a process that dies is replaced."""

import os
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from helpers import tasks as given
from helpers.tasks import die, die_once, environment, fail, sleep, square, warn
from nonet.errors import DataError, NonetError
from nonet.jobs.engines import ENGINES, make_engine, require_engine
from nonet.jobs.local import LocalEngine
from nonet.jobs.on_slurm import SlurmEngine
from nonet.jobs.tasks import LostError, Needs, Task


@pytest.fixture(params=["local", "slurm"])
def engine(request, tmp_path, monkeypatch):
    if request.param == "local":
        return LocalEngine(2)
    monkeypatch.setenv("PYTHONPATH", str(Path(given.__file__).parents[1]), prepend=os.pathsep)
    return SlurmEngine(tmp_path / "logs", 2, {}, cluster="local")


def test_each_task_ends_once_whatever_the_others_do(engine, tmp_path):
    tasks = [Task(f"square {number}", square, (number,)) for number in range(6)]
    tasks += [Task("empty", fail, ("a.png",)), Task("deadly", die), Task("unlucky", die_once, (tmp_path / "marker",))]
    outcomes = list(engine.run(tasks, Needs()))
    assert sorted(one.task.name for one in outcomes) == sorted(task.name for task in tasks)
    by_name = {one.task.name: one for one in outcomes}
    assert [by_name[f"square {number}"].value for number in range(6)] == [0, 1, 4, 9, 16, 25]
    assert isinstance(by_name["empty"].error, DataError)
    assert (by_name["empty"].error.message, by_name["empty"].error.hint) == ("a.png is empty.", "Look at it.")
    assert isinstance(by_name["deadly"].error, LostError)
    assert by_name["unlucky"].value == "alive"


def test_no_tasks(engine):
    assert list(engine.run([], Needs())) == []


def test_what_a_task_logs_is_logged_here(caplog):
    list(LocalEngine().run([Task("warning", warn)], Needs()))
    assert "look here" in caplog.text


def test_a_task_keeps_to_its_share_of_the_machine():
    tasks = [Task(name, environment, (name,)) for name in ("LOKY_MAX_CPU_COUNT", "CUDA_VISIBLE_DEVICES")]
    outcomes = LocalEngine().run(tasks, Needs(devices=2, processors=3))
    assert [one.value for one in outcomes] == ["3", "0,1"]


def test_slots_have_devices_of_their_own(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    tasks = [Task(str(number), environment, ("CUDA_VISIBLE_DEVICES",)) for number in range(2)]
    assert sorted(one.value for one in LocalEngine(2).run(tasks, Needs(devices=1))) == ["4", "5"]


def test_processes_end_when_the_caller_leaves():
    before = set(psutil.Process().children())
    with closing(LocalEngine(2).run([Task("square", square, (2,)), Task("sleep", sleep)], Needs())) as outcomes:
        assert next(outcomes).value == 4
    _, alive = psutil.wait_procs(set(psutil.Process().children()) - before, timeout=30)
    assert not [one for one in alive if "spawn_main" in " ".join(one.cmdline())]


@pytest.mark.parametrize(
    ("on", "options"),
    [
        ("cloud", {}),
        ("local", {"address": "auto"}),
        ("local", {"options": {"partition": "gpu"}}),
        ("slurm", {"address": "auto"}),
    ],
)
def test_what_does_not_fit_an_engine_is_refused(on, options):
    with pytest.raises(NonetError):
        require_engine(on, **options)


@pytest.mark.parametrize("on", ENGINES)
def test_each_engine_is_there(on, tmp_path, monkeypatch):
    monkeypatch.setattr("nonet.jobs.on_slurm.SlurmEngine.run", lambda *arguments: iter(()))
    assert list(make_engine(on, folder=tmp_path).run([], Needs())) == []
