"""A Ray cluster of three nodes on this machine that loses workers, a node and its driver: the run is the same."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from helpers import tasks
from helpers.runs import require_same_run, require_same_weights
from nonet.inference.predict_shards import predict_shards
from nonet.inference.sharding import shard_images
from nonet.jobs.on_ray import RayEngine, import_ray
from nonet.jobs.on_slurm import SlurmEngine
from nonet.jobs.tasks import LostError, Needs, Task
from nonet.training.launch import train

pytestmark = [pytest.mark.training, pytest.mark.kill]

MB = 2**20


class Nodes:
    """Three nodes of one processor; their processes see the tests' helpers."""

    def __init__(self):
        from ray.cluster_utils import Cluster

        small = {"object_store_memory": 80 * MB, "num_cpus": 1}
        self.cluster = Cluster(initialize_head=True, head_node_args=small | {"include_dashboard": False})
        self.others = [self.cluster.add_node(**small) for _ in range(2)]
        self.small = small

    def find(self, processes):
        """Return a node that is not the head and runs one of these processes; None if there is none."""
        parents = {process.ppid() for process in processes if process.is_running()}
        for node in self.others:
            if parents & {info.process.pid for info in node.all_processes["raylet"]}:
                return node
        return None

    def kill(self, node):
        """Kill a node and all its processes at once, as a power cut would."""
        self.others.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)

    def add(self):
        self.others.append(self.cluster.add_node(**self.small))


@pytest.fixture(scope="module")
def nodes(s3_server):  # its address is in the environment that nodes get
    ray = import_ray()
    before = os.environ.get("PYTHONPATH")
    folders = [str(Path(tasks.__file__).parents[1]), *([before] if before else [])]
    os.environ["PYTHONPATH"] = os.pathsep.join(folders)
    try:
        nodes = Nodes()
        ray.init(nodes.cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        yield nodes
    finally:
        ray.shutdown()
        nodes.cluster.shutdown()
        os.environ.pop("PYTHONPATH") if before is None else os.environ.__setitem__("PYTHONPATH", before)


def repeat_until_true(act, seconds=120):
    """Do something again and again in a thread, until it returns a true value; return the thread."""

    def watch():
        end = time.monotonic() + seconds
        while not act() and time.monotonic() < end:
            time.sleep(0.02)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_each_task_ends_once_whatever_the_others_do(nodes, tmp_path):
    given = [Task(f"square {number}", tasks.square, (number,)) for number in range(6)]
    given += [
        Task("empty", tasks.fail, ("a.png",)),
        Task("deadly", tasks.die),
        Task("unlucky", tasks.die_once, (tmp_path / "marker",)),
    ]
    outcomes = {one.task.name: one for one in RayEngine().run(given, Needs())}
    assert len(outcomes) == len(given)
    assert [outcomes[f"square {number}"].value for number in range(6)] == [0, 1, 4, 9, 16, 25]
    assert outcomes["empty"].error.message == "a.png is empty."
    assert isinstance(outcomes["deadly"].error, LostError)
    assert outcomes["unlucky"].value == "alive"


def test_members_on_ray_are_those_of_one_process(nodes, make_recipe, tiny_dataset, tiny_run, tmp_path, monkeypatch):
    """Its processes are in another folder than this one."""
    monkeypatch.chdir(tmp_path)
    Path("data").symlink_to(tiny_dataset.folder)
    require_same_run(train(make_recipe(), "data", out="run", accelerator="cpu", on="ray"), tiny_run)


def require_same_results(one, other):
    for file in sorted((other / "results").glob("*.parquet")):
        pd.testing.assert_frame_equal(pd.read_parquet(one / "results" / file.name), pd.read_parquet(file))


def test_shards_on_ray_and_slurm_say_what_this_machine_says(nodes, random_run, tiny_dataset, tmp_path, monkeypatch):
    """Slurm's jobs are processes of this machine."""
    monkeypatch.chdir(tmp_path)
    shards = shard_images(tiny_dataset.paths(), out="shards", images_per_shard=10).folder
    options = {"accelerator": "cpu", "num_workers": 1}
    here = predict_shards(random_run, shards, out="here", **options)
    assert here.num_images == len(tiny_dataset.paths())
    on_ray = predict_shards(random_run, shards, out="ray", on="ray", **options)
    require_same_results(on_ray.folder, here.folder)
    monkeypatch.setattr(
        "nonet.inference.predict_shards.make_engine",
        lambda on, **given: SlurmEngine(given["folder"], 2, {}, cluster="local"),
    )
    on_slurm = predict_shards(random_run, shards, out="slurm", on="slurm", **options)
    require_same_results(on_slurm.folder, here.folder)


def test_a_member_over_workers_of_two_nodes(nodes, make_recipe, tiny_dataset, tmp_path):
    """As over two processes of one machine."""
    recipe = make_recipe("train.epochs=1")
    shared = {"accelerator": "cpu", "devices_per_member": 2, "members": ["vit_mini/fold-0"]}
    here = train(recipe, tiny_dataset, out=tmp_path / "here", **shared)
    require_same_weights(train(recipe, tiny_dataset, out=tmp_path / "run", on="ray", **shared), here)


def pids_training(run):
    """Processes that hold the lock of a member."""
    locks = {str(lock) for lock in (run / "members").glob("*/.*.lock")}
    found = []
    for process in psutil.process_iter():
        try:
            if locks & {file.path for file in process.open_files()}:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


LONG = ("train.epochs=40", "train.checkpoint_seconds=0.2")


@pytest.fixture(scope="module")
def long_run(make_recipe, tiny_dataset, tmp_path_factory):
    """What an undisturbed training of LONG gives."""
    return train(make_recipe(*LONG), tiny_dataset, out=tmp_path_factory.mktemp("long") / "run", accelerator="cpu")


def begun(run):
    """Processes that train members which have a state on disk."""
    if not list(run.glob("members/*/fold-*/state.pt")):
        return []
    return [process for process in pids_training(run) if process.pid != os.getpid()]


@pytest.mark.parametrize("what", ["worker", "node"])
def test_what_is_lost_while_training_changes_nothing(nodes, make_recipe, tiny_dataset, long_run, tmp_path, what):
    out, killed = tmp_path / "run", []

    def kill():
        processes = begun(out)
        if what == "worker" and processes:
            killed.append(processes[0].kill())
        if what == "node" and (node := nodes.find(processes)):
            killed.append(nodes.kill(node))
        return killed

    thread = repeat_until_true(kill)
    run = train(make_recipe(*LONG), tiny_dataset, out=out, accelerator="cpu", on="ray")
    thread.join()
    assert killed
    if what == "node":
        nodes.add()
    require_same_run(run, long_run)


def test_a_worker_is_lost_whose_run_is_in_a_store(nodes, bucket, make_recipe, tiny_dataset, long_run):
    """The next worker, in a folder of its own, goes on from what was copied to the store, or begins again."""
    killed = []

    def kill():
        workers = [process for process in psutil.process_iter() if _has_a_state_in_a_temporary_folder(process)]
        killed.extend(process.kill() for process in workers[:1])
        return killed

    thread = repeat_until_true(kill)
    run = train(make_recipe(*LONG), tiny_dataset, out=f"{bucket}/run", accelerator="cpu", on="ray")
    thread.join()
    assert killed
    require_same_run(run, long_run)


def _has_a_state_in_a_temporary_folder(process):
    try:
        open_files = [Path(file.path) for file in process.open_files()]
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
    locks = [path for path in open_files if path.name == ".fold-0.lock" and path.parents[3].name.startswith("nonet-")]
    return process.pid != os.getpid() and any((lock.parent / "fold-0" / "state.pt").exists() for lock in locks)


DRIVER = """
import sys

from nonet.recipe import Recipe
from nonet.training.launch import train

train(Recipe.model_validate_json(sys.argv[1]), sys.argv[2], out=sys.argv[3], accelerator="cpu", on="ray")
"""


def test_a_driver_that_is_killed_is_started_again(nodes, make_recipe, tiny_dataset, long_run, tmp_path):
    out, recipe = tmp_path / "run", make_recipe(*LONG)
    (tmp_path / "driver.py").write_text(DRIVER)
    command = [sys.executable, tmp_path / "driver.py", recipe.model_dump_json(), tiny_dataset.folder, out]
    environment = os.environ | {"RAY_ADDRESS": nodes.cluster.address}
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        end = time.monotonic() + 120
        while not list(out.glob("members/*/fold-*/state.pt")):
            assert driver.poll() is None and time.monotonic() < end
            time.sleep(0.05)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    psutil.wait_procs(pids_training(out), timeout=60)  # Ray ends the tasks of a driver that is gone
    assert not (out / "ensemble.json").exists()
    require_same_run(train(recipe, tiny_dataset, out=out, accelerator="cpu", on="ray"), long_run)
