"""Processes that share work among the cores, and end with the process that started them."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from threading import Thread

from nonet.errors import DataError

GUARD = "In a script, put the calls under `if __name__ == '__main__':`."


def spawned_pool(num_workers: int) -> ProcessPoolExecutor:
    """Return processes that end when this one does, also when it is killed."""
    # Spawned, not forked: torch may be at work in this process, and a fork would copy its threads' locks.
    return ProcessPoolExecutor(num_workers, mp_context=get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """Without this, workers of a killed process would wait for tasks for ever."""

    def watch() -> None:
        parent_process().join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def map_in_order(
    function: Callable,
    tasks: Iterable,
    num_workers: int,
    *,
    make_pool: Callable[[int], ProcessPoolExecutor] = spawned_pool,
) -> Iterator:
    """Yield the function's results in the tasks' order; in this process where there is one worker.

    Tasks are handed out as results are taken, so that no more than a few wait in memory.

    Raises
    ------
    DataError where a process dies.
    """
    if num_workers <= 1:
        yield from map(function, tasks)
        return
    pool = make_pool(num_workers)
    waiting = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(function, task))
            if len(waiting) > 2 * num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise DataError(
            "A process that works on images died.",
            hint=f"{GUARD} Else, was memory short? Run it again.",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
