"""How many processors there are, and processes that share work among them and end with the one that started them."""

import logging
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any

from nonet.errors import DataError

logger = logging.getLogger("nonet")

GUARD = "In a script, put the calls under `if __name__ == '__main__':`."


def num_processors() -> int:
    """Return the processors that this process may use: fewer than the machine has in a container or under taskset.

    joblib asks the operating system for the affinity and the control group's quota. `LOKY_MAX_CPU_COUNT` limits it.
    """
    from joblib import cpu_count  # here, as it takes a while to import

    return max(1, cpu_count())


def worker_count(num_workers: int | None) -> int:
    """Return a number of workers as requested, at least 1; where it is None, one per processor."""
    return max(1, num_processors() if num_workers is None else num_workers)


class NoWorkersError(DataError):
    """Processes cannot be started here; the same work can be done in this one."""


class Workers(ProcessPoolExecutor):
    """Spawned processes. Ctrl-C is for the process that started them, which stops them at once where it is told to."""

    def __init__(self, num_workers: int):
        # Spawned, not forked: torch may be at work in this process, and a fork would copy its threads' locks.
        try:
            super().__init__(num_workers, mp_context=get_context("spawn"), initializer=end_with_parent)
        except OSError as error:  # their locks are small files in shared memory
            raise NoWorkersError(
                f"Worker processes cannot be started: {error.strerror or error}.",
                hint="Is /dev/shm there, and larger than some kB? In Docker, --shm-size sets it.",
            ) from error

    def submit(self, *arguments, **options):
        """Hand out a task; processes that this starts never see Ctrl-C, not even while they import."""
        with _interrupts_held():
            return super().submit(*arguments, **options)

    def stop(self) -> None:
        """End without waiting for tasks, waiting or begun."""
        for process in list((self._processes or {}).values()):  # from Python 3.14 on: terminate_workers
            process.terminate()
        self.shutdown(cancel_futures=True)

    def __exit__(self, kind, error, traceback):
        if kind is None:
            return super().__exit__(kind, error, traceback)
        self.stop()
        return False


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold back SIGINT, as processes that are started inherit; here it arrives when the block ends."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def spawned_pool(num_workers: int) -> Workers:
    """Return processes that end when this one does, also when it is killed."""
    return Workers(num_workers)


def end_with_parent() -> None:
    """End this process when the one that started it has ended, however it did; Ctrl-C is for that one.

    Else processes that share a training would wait for one another, and others for tasks, for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it could not be held back: Windows

    def watch() -> None:
        parent_process().join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def map_in_order(
    function: Callable,
    tasks: Iterable,
    num_workers: int,
    *,
    make_pool: Callable[[int], Workers] = spawned_pool,
    name_of: Callable[[Any], str] | None = None,
) -> Generator[Any, None, None]:
    """Yield the function's results in the tasks' order; in this process where there is one worker.

    Tasks are handed out as results are taken, so that no more than a few wait in memory. Use it within
    `contextlib.closing`, which ends the processes at once where the caller stops early.

    Parameters
    ----------
    name_of : says in words what a task is about; one at which a process died is named by it.

    Raises
    ------
    DataError where a process dies.
    """
    try:
        pool = make_pool(num_workers) if num_workers > 1 else None
    except NoWorkersError as error:
        logger.warning(f"{error.message} The work is done in one process. {error.hint}")
        pool = None
    if pool is None:
        yield from map(function, tasks)
        return
    waiting = deque()
    try:
        with pool:
            for task in tasks:
                waiting.append((task, pool.submit(function, task)))
                if len(waiting) > 2 * num_workers:
                    yield waiting[0][1].result()
                    waiting.popleft()
            while waiting:
                yield waiting[0][1].result()
                waiting.popleft()
    except BrokenProcessPool as error:
        # Those handed out first are at work; the others wait.
        at_work = [name_of(task) for task, _ in list(waiting)[:num_workers]] if name_of else []
        where = f", at one of these: {'; '.join(at_work)}" if at_work else ""
        raise DataError(
            f"A process that works on images died{where}.",
            hint=f"{GUARD} Else, was memory short? What is done is kept; run the same command again.",
        ) from error
