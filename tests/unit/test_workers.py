"""Processes that share work: results in order, ended at once where the caller leaves, a death named."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing

import psutil
import pytest

from helpers.processes import kill_at_work
from nonet.errors import DataError
from nonet.workers import Workers, map_in_order, map_in_threads

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


def work(task):
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "sleep":
        time.sleep(600)
    return task


def interrupt_me(_):
    os.kill(os.getpid(), signal.SIGINT)
    return "alive"


def test_results_come_in_order():
    with closing(map_in_order(work, range(20), 2)) as results:
        assert list(results) == list(range(20))


def test_a_process_that_dies_is_reported_with_its_task():
    with (
        pytest.raises(DataError, match=r'task "die"'),
        closing(map_in_order(work, ["a", "die"], 2, describe_task=lambda task: f'task "{task}"')) as results,
    ):
        assert next(results) == "a"
        list(results)


def test_who_leaves_early_waits_for_no_task():
    """Six tasks of ten minutes each: at work, and waiting."""
    before = set(psutil.Process().children())
    with closing(map_in_order(work, ["a", *["sleep"] * 6], 2)) as results:
        assert next(results) == "a"
    assert not [
        child for child in set(psutil.Process().children()) - before if "spawn_main" in " ".join(child.cmdline())
    ]


@pytest.mark.kill
def test_workers_end_with_a_process_that_is_killed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import pathlib, time\n"
        "from nonet.workers import Workers\n"
        "if __name__ == '__main__':\n"
        "    pool = Workers(2)\n"
        "    for task in ('a', 'b'):\n"
        f"        pool.submit(pathlib.Path({str(tmp_path)!r}, task).touch).result()\n"
        "        pool.submit(time.sleep, 600)\n"
        "    time.sleep(600)\n"
    )
    workers, alive = kill_at_work(script, (tmp_path / "b").exists)
    assert len(workers) >= 2 and not alive


@pytest.mark.parametrize("map_tasks", [map_in_order, map_in_threads])
def test_tasks_are_handed_out_as_results_are_taken(map_tasks):
    taken = []

    def tasks():
        for number in range(60):
            taken.append(number)
            yield -number

    with closing(map_tasks(abs, tasks(), 2)) as results:
        assert next(results) == 0 and len(taken) <= 9
        assert list(results) == list(range(1, 60))


def test_threads_that_are_left_early_begin_nothing_more():
    done = []
    with closing(map_in_threads(done.append, range(1000), 2)) as results:
        next(results)
    assert len(done) <= 10 and set(done) <= set(range(10))


HANGING = """
import os, signal, threading
from contextlib import closing
from nonet import workers
from nonet.cli.ending import leave, run_for_exit_status

def hang(task):
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait()

def command():
    with closing(workers.map_in_threads(hang, ["a"], 1)) as results:
        next(results)

workers._LEFT_SECONDS = 0.1
leave(run_for_exit_status(command))
"""


@pytest.mark.kill
def test_a_command_that_is_stopped_does_not_wait_for_threads_that_hang(tmp_path):
    """As they do that read from a network drive which is gone."""
    done = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=60)
    assert done.returncode == 143, done.stderr
    assert "Run the same command again" in done.stderr


def test_an_error_in_a_thread_arrives_in_its_place():
    with closing(map_in_threads(lambda n: 1 / n, [4, 2, 0, 1], 2)) as results:
        assert [next(results), next(results)] == [0.25, 0.5]
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_workers_do_not_see_ctrl_c():
    with Workers(1) as pool:
        assert pool.submit(interrupt_me, 0).result() == "alive"
