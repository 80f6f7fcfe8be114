"""A run in an object store: the same networks, trained by processes that have no file system in common."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from helpers.runs import require_same_run
from helpers.stores import download, forget, names_in, upload
from nonet.artifacts.run import Run
from nonet.artifacts.stores import Store
from nonet.errors import DataError, RunError, StorageError
from nonet.jobs.tasks import Outcome, call, outcome_of, pack
from nonet.training import all_members
from nonet.training.launch import train

pytestmark = pytest.mark.training

NAMES = ("vit_mini/fold-0", "vit_mini/fold-1")


def stored(url, tmp_path):
    return Run(download(url, tmp_path / "downloaded"))


def test_trained_on_this_machine(bucket, make_recipe, tiny_dataset, tiny_run, tmp_path):
    run = train(make_recipe(), tiny_dataset, out=f"{bucket}/run", accelerator="cpu")
    require_same_run(run, tiny_run)
    require_same_run(stored(f"{bucket}/run", tmp_path), tiny_run)
    assert not [name for name in names_in(bucket) if name.endswith(".lock") or ".nonet-tmp" in name]


class OtherMachines:
    """An engine whose tasks see neither the dataset nor what nonet keeps on this machine."""

    def __init__(self, dataset, cache_home):
        self.hidden, self.cache_home, self.num_tasks = [Path(dataset), Path(cache_home)], cache_home, 0

    def run(self, tasks, needs) -> Generator[Outcome, None, None]:
        packed = [pack(task) for task in tasks]
        for path in self.hidden:
            path.rename(f"{path}.hidden")
        try:
            replies = []
            for number, one in enumerate(packed):
                os.environ["XDG_CACHE_HOME"] = f"{self.cache_home}-{number}"
                replies.append(call(one, {}))
        finally:
            os.environ["XDG_CACHE_HOME"] = str(self.cache_home)
            for path in self.hidden:
                shutil.rmtree(path, ignore_errors=True)
                Path(f"{path}.hidden").rename(path)
        self.num_tasks += len(tasks)
        yield from map(outcome_of, tasks, replies)

    def has_gpus(self):
        return False


@pytest.fixture
def dataset(tiny_dataset, tmp_path):
    return shutil.copytree(tiny_dataset.folder, tmp_path / "dataset")


@pytest.fixture
def elsewhere(monkeypatch, dataset, tmp_path, bucket):
    engine = OtherMachines(dataset, tmp_path / "cache-home")
    monkeypatch.setattr("nonet.training.placement.make_engine", lambda *_, **__: engine)
    # The watcher and the copying of the machine that gave out the tasks would look at what is hidden.
    monkeypatch.setattr("nonet.training.elsewhere.SECONDS_BETWEEN_COPIES", 1e6)
    monkeypatch.setattr("nonet.artifacts.mirror.SECONDS_BETWEEN_COPIES", 1e6)
    return engine


def test_trained_by_machines_without_a_file_system_in_common(
    bucket, make_recipe, dataset, tiny_run, tmp_path, elsewhere
):
    run = train(make_recipe(), dataset, out=f"{bucket}/run", accelerator="cpu", on="ray")
    assert elsewhere.num_tasks == 2
    require_same_run(run, tiny_run)
    require_same_run(stored(f"{bucket}/run", tmp_path), tiny_run)
    assert not [name for name in names_in(bucket) if "prepared" in name or "state" in name]
    train(make_recipe(), dataset, out=f"{bucket}/run", accelerator="cpu", on="ray")
    assert elsewhere.num_tasks == 2


MACHINE = """
import sys

from nonet.artifacts import mirror
from nonet.recipe import Recipe
from nonet.training.launch import train

mirror.SECONDS_BETWEEN_COPIES = 0.05
train(Recipe.model_validate_json(sys.argv[1]), sys.argv[2], out=sys.argv[3], accelerator="cpu")
"""


@pytest.mark.kill
def test_a_machine_that_is_lost_costs_what_it_had_not_copied(bucket, make_recipe, tiny_dataset, tmp_path):
    """The next one, which has no copy, resumes from the state in the store, and ends with the same bits."""
    recipe, url = make_recipe("train.epochs=40", "train.checkpoint_seconds=0.1"), f"{bucket}/run"
    whole = train(recipe, tiny_dataset, out=tmp_path / "whole", accelerator="cpu")
    (tmp_path / "machine.py").write_text(MACHINE)
    command = [sys.executable, tmp_path / "machine.py", recipe.model_dump_json(), tiny_dataset.folder, url]
    machine = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 120
        while not any(name.endswith("state.pt") for name in names_in(url)):
            assert machine.poll() is None and time.monotonic() < end
    finally:
        machine.kill()
        machine.wait()
    assert not Store(url).state("ensemble.json")
    forget(tmp_path)
    require_same_run(train(recipe, tiny_dataset, out=url, accelerator="cpu"), whole)


def test_members_by_several_commands(bucket, make_recipe, tiny_dataset, tiny_run, tmp_path):
    for name in NAMES:
        run = train(make_recipe(), tiny_dataset, out=f"{bucket}/run", members=[name], accelerator="cpu")
        assert run.ensemble.exists() == (name == NAMES[1])
        if name == NAMES[0]:
            forget(tmp_path)
    require_same_run(run, tiny_run)


def test_two_machines_train_a_member_each_at_the_same_time(bucket, make_recipe, tiny_dataset, tiny_run, monkeypatch):
    """The one that ends last completes the run, though it had begun before the other one's member was there."""
    url, train_here, homes = f"{bucket}/run", all_members.train_here, iter("ab")

    def train_both(job, names, *options):
        if names == [NAMES[0]]:
            train_on_another_machine(NAMES[1])
        return train_here(job, names, *options)

    def train_on_another_machine(name):
        home = os.environ["XDG_CACHE_HOME"]
        os.environ["XDG_CACHE_HOME"] = f"{home}-{next(homes)}"
        try:
            assert not train(make_recipe(), tiny_dataset, out=url, members=[name], accelerator="cpu").ensemble.exists()
        finally:
            os.environ["XDG_CACHE_HOME"] = home

    monkeypatch.setattr(all_members, "train_here", train_both)
    require_same_run(train(make_recipe(), tiny_dataset, out=url, members=[NAMES[0]], accelerator="cpu"), tiny_run)


def test_a_dataset_in_a_store(bucket, make_recipe, tiny_dataset, tiny_run, tmp_path):
    """Its images are where they were, or are not needed, as they were prepared before it was copied."""
    upload(tiny_dataset.folder, f"{bucket}/dataset")
    run = train(make_recipe(), f"{bucket}/dataset", out=tmp_path / "run", accelerator="cpu")
    require_same_run(run, tiny_run)


def test_what_is_in_the_way(bucket, make_recipe, tiny_dataset, tmp_path):
    with pytest.raises(DataError, match=f"{bucket}/nothing-here"):
        train(make_recipe(), f"{bucket}/nothing-here", out=tmp_path / "run", accelerator="cpu")
    with pytest.raises(RunError, match="file system in common"):
        train(make_recipe(), tiny_dataset, out=f"{bucket}/run", accelerator="cpu", on="ray", devices_per_member=2)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    upload(tmp_path / "mine", f"{bucket}/mine")
    with pytest.raises(StorageError, match=r"thesis\.txt"):
        train(make_recipe(), tiny_dataset, out=f"{bucket}/mine", accelerator="cpu")
    assert names_in(bucket) == ["mine/thesis.txt"]


def test_another_recipe_is_refused(bucket, make_recipe, tiny_dataset):
    train(make_recipe(), tiny_dataset, out=f"{bucket}/run", members=[NAMES[0]], accelerator="cpu")
    before = names_in(bucket)
    with pytest.raises(RunError, match=f"{bucket}/run was started with another recipe"):
        train(make_recipe("train.epochs=3"), tiny_dataset, out=f"{bucket}/run", accelerator="cpu")
    assert names_in(bucket) == before
