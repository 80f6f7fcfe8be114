"""Members one by one, in several processes, and by an engine: the same networks as of one process after another."""

import os
from pathlib import Path

import pytest

import nonet
from helpers import tasks
from helpers.runs import require_same_run
from nonet.artifacts.storage import exclusive_lock
from nonet.errors import BusyError, NonetError, StorageError
from nonet.jobs.on_slurm import SlurmEngine
from nonet.training.launch import train

pytestmark = pytest.mark.training

NAMES = ("vit_mini/fold-0", "vit_mini/fold-1")


@pytest.fixture
def slurm(monkeypatch):
    """Slurm's jobs are processes of this machine."""
    monkeypatch.setenv("PYTHONPATH", str(Path(tasks.__file__).parents[1]), prepend=os.pathsep)
    monkeypatch.setattr(
        "nonet.training.placement.make_engine",
        lambda on, **options: SlurmEngine(options["folder"], options["num_slots"], {}, cluster="local"),
    )


def test_members_one_by_one_complete_a_run(make_recipe, tiny_dataset, tiny_run, tmp_path):
    for name in reversed(NAMES):
        run = train(make_recipe(), tiny_dataset, out=tmp_path / "run", members=[name], accelerator="cpu")
        assert run.member("vit_mini", 1).is_done
        assert run.ensemble.exists() == run.member("vit_mini", 0).is_done == (name == NAMES[0])
    require_same_run(run, tiny_run)


def test_two_processes_train_two_members(make_recipe, tiny_dataset, tiny_run, tmp_path):
    run = train(make_recipe(), tiny_dataset, out=tmp_path / "run", accelerator="cpu", devices=2)
    require_same_run(run, tiny_run)


def test_members_as_jobs_of_slurm(make_recipe, tiny_dataset, tiny_run, tmp_path, slurm):
    run = train(make_recipe(), tiny_dataset, out=tmp_path / "run", accelerator="cpu", on="slurm")
    require_same_run(run, tiny_run)
    assert list((run.folder / "jobs").glob("*.out"))


def test_what_another_process_trains_is_left_to_it(make_recipe, tiny_dataset, tmp_path):
    run = train(make_recipe(), tiny_dataset, out=tmp_path / "run", members=[NAMES[1]], accelerator="cpu")
    member = run.member("vit_mini", 0)
    for options in ({}, {"devices": 2}, {"members": [NAMES[0]]}):
        with exclusive_lock(member.lock, "", ""), pytest.raises(BusyError, match="vit_mini/fold-0"):
            train(make_recipe(), tiny_dataset, out=run, accelerator="cpu", **options)
        assert not member.is_done
    assert not run.ensemble.exists()
    train(make_recipe(), tiny_dataset, out=run, accelerator="cpu")
    assert run.ensemble.exists()


def test_a_second_training_of_the_whole_run_is_refused(make_recipe, tiny_dataset, tiny_run, tmp_path):
    run = nonet.Run(tmp_path / "run")
    run.folder.mkdir()
    with exclusive_lock(run.lock, "", ""), pytest.raises(BusyError):
        train(make_recipe(), tiny_dataset, out=run, accelerator="cpu")


def test_an_error_of_one_member_is_raised_when_the_others_are_done(make_recipe, tiny_dataset, tmp_path):
    """A file in the way of the first one's folder: nothing of it can be written."""
    run = nonet.Run(tmp_path / "run")
    (tmp_path / "run" / "members" / "vit_mini").mkdir(parents=True)
    (tmp_path / "run" / ".nonet.json").write_text('{"written_by": "nonet", "kind": "run"}')
    (tmp_path / "run" / "members" / "vit_mini" / "fold-0").write_text("in the way")
    with pytest.raises(StorageError, match="fold-0"):
        train(make_recipe(), tiny_dataset, out=run, accelerator="cpu", devices=2)
    assert run.member("vit_mini", 1).is_done


@pytest.mark.parametrize(
    "options",
    [
        {"members": ["vit_mini/fold-2"]},
        {"members": ["vit_maxi/fold-0"]},
        {"devices": 3, "devices_per_member": 2},
        {"devices": 0},
        {"devices_per_member": 0},
        {"on": "cloud"},
        {"address": "auto"},
        {"job": {"partition": "gpu"}},
    ],
)
def test_what_cannot_be_is_refused(make_recipe, tiny_dataset, tmp_path, options):
    with pytest.raises(NonetError):
        train(make_recipe(), tiny_dataset, out=tmp_path / "run", accelerator="cpu", **options)
    assert not nonet.Run(tmp_path / "run").has_members
