"""Processes that share work: results in order, ended at once where the caller leaves, a death named."""

import os
import signal
import sys
import time
from contextlib import closing

import psutil
import pytest

from nonet.errors import DataError
from nonet.workers import Workers, map_in_order

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


def test_workers_do_not_see_ctrl_c():
    with Workers(1) as pool:
        assert pool.submit(interrupt_me, 0).result() == "alive"
