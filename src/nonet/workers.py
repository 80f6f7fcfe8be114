"""The number of processors, threads that share work, and worker processes that end with the one that started them."""

import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import Any

from nonet.errors import DataError

logger = logging.getLogger("nonet")

#: Seconds after which a task is said to hang; the slowest image takes a fraction of it.
STALLED_SECONDS = 300.0
#: Seconds for which threads are waited for when nobody wants their results any more.
_LEFT_SECONDS = 5.0

GUARD = "In a script, put the calls under `if __name__ == '__main__':`."


def num_processors() -> int:
    """Return the number of processors that this process may use, at least 1.

    In a container or under taskset these are fewer than the machine has: joblib reads the affinity and the control
    group's quota. The environment variable LOKY_MAX_CPU_COUNT limits the number further.

    Returns
    -------
    int
    """
    from joblib import cpu_count  # here, as it takes a while to import

    return max(1, cpu_count())


def worker_count(num_workers: int | None) -> int:
    """Return the number of workers: as requested, but at least 1, or one per processor if None."""
    return max(1, num_processors() if num_workers is None else num_workers)


class NoWorkersError(DataError):
    """Worker processes cannot be started here; the same work can be done in this process."""


class StalledError(Exception):
    """A task hangs, for example as it reads from a network drive that is gone."""


def _is_done(future: Future) -> bool:
    """Wait for a task that may hang, and return whether it has ended."""
    # In two halves: while all processes are suspended (Ctrl-Z), time goes on; one half may be lost to that, not both.
    return any(wait([future], timeout=STALLED_SECONDS / 2).done for _ in range(2))


def result_or_stall(future: Future) -> Any:
    """Return the result of a task.

    Parameters
    ----------
    future : Future

    Returns
    -------
    object

    Raises
    ------
    StalledError
        If the task hangs.
    """
    if not _is_done(future):
        raise StalledError
    return future.result()


def result_however_late(future: Future, task: str) -> Any:
    """Return the result of a task that cannot be given up; if it hangs, a warning says so.

    Parameters
    ----------
    future : Future
    task : str
        Named by the warning.

    Returns
    -------
    object
    """
    if not _is_done(future):
        logger.warning(
            f"{task} has been waited for for {STALLED_SECONDS / 60:.0f} minutes. Is its drive still connected? The "
            "work continues as soon as it can be read. Or stop with Ctrl-C; finished work is kept."
        )
    return future.result()


_left: list[Thread] = []  # threads that hung when nobody wanted their results any more


class Threads(ThreadPoolExecutor):
    """A pool of threads that can be left while some of them hang.

    Parameters
    ----------
    num_threads : int
    """

    def __init__(self, num_threads: int):
        self._name = f"pool {id(self)},"
        super().__init__(num_threads, thread_name_prefix=self._name)

    def leave(self) -> None:
        """Begin no further task, and wait only a few seconds for those that have begun."""
        self.shutdown(wait=False, cancel_futures=True)
        end = time.monotonic() + _LEFT_SECONDS
        for thread in threading.enumerate():
            if thread.name.startswith(self._name):
                thread.join(max(0.0, end - time.monotonic()))
                if thread.is_alive():
                    _left.append(thread)


def threads_hang() -> bool:
    """Return whether threads that were left hang still, in which case Python would wait for them before it exits."""
    return any(thread.is_alive() for thread in _left)


class Workers(ProcessPoolExecutor):
    """A pool of spawned processes that ignore Ctrl-C, and end when the process that started them does, however it ends.

    Parameters
    ----------
    num_workers : int
        Number of processes.

    Raises
    ------
    NoWorkersError
        If processes cannot be started.
    """

    def __init__(self, num_workers: int):
        # Spawned, not forked: torch may be running in this process, and a fork would copy its threads' locks.
        try:
            super().__init__(num_workers, mp_context=get_context("spawn"), initializer=end_with_parent)
        except OSError as error:  # their locks are small files in shared memory
            raise NoWorkersError(
                f"Worker processes cannot be started: {error.strerror or error}.",
                hint="Check that /dev/shm exists and is larger than a few kB. In Docker, --shm-size sets it.",
            ) from error

    def submit(self, *arguments, **options):
        """Submit a task, as `ProcessPoolExecutor.submit`; new processes ignore Ctrl-C even while they import."""
        with _interrupts_held():
            return super().submit(*arguments, **options)

    @property
    def processes(self) -> list[BaseProcess]:
        """Those that have been started."""
        return list((self._processes or {}).values())

    def stop(self) -> None:
        """Stop at once, without waiting for tasks."""
        for process in self.processes:  # from Python 3.14 on: kill_workers
            process.kill()  # as one that hangs may not see SIGTERM
        self.shutdown(cancel_futures=True)

    def __exit__(self, kind, error, traceback):
        if kind is None:
            return super().__exit__(kind, error, traceback)
        self.stop()
        return False


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Block SIGINT, which new processes inherit; in this process it arrives when the block ends."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """End this process when its parent has ended for any reason, and ignore Ctrl-C.

    Otherwise processes that share a training would wait for one another, and others for tasks, forever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Windows it cannot be blocked
    parent = parent_process()
    if parent is None:  # this is the process that the user started
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def map_in_threads(
    function: Callable, tasks: Iterable, num_threads: int, *, describe_task: Callable[[Any], str] = str
) -> Generator[Any, None, None]:
    """Yield the function's results in the order of the tasks, computed in threads.

    For work that releases Python's lock, as decoding, hashing, resizing and denoising do: unlike processes, threads
    start at once, send no pixels to one another, and need no `if __name__ == "__main__"` in the caller's script. Tasks
    are submitted as results are consumed, so only a few wait in memory. Use it within `contextlib.closing`, which waits
    only for tasks that have begun if the caller stops early.

    A thread that hangs, as one that reads from a network drive that is gone, cannot be ended. A warning names its task.

    Parameters
    ----------
    function : callable
        Of one task.
    tasks : iterable
    num_threads : int
    describe_task : callable
        Describes a task in warnings.

    Yields
    ------
    object
    """
    pool = Threads(num_threads)
    waiting: deque[tuple[Any, Future]] = deque()

    def first_result() -> Any:
        task, future = waiting[0]
        result = result_however_late(future, describe_task(task))
        waiting.popleft()
        return result

    try:
        for task in tasks:
            waiting.append((task, pool.submit(function, task)))
            if len(waiting) > 4 * num_threads:  # enough for the others while one thread has a large one
                yield first_result()
        while waiting:
            yield first_result()
    finally:
        pool.leave()


def map_in_order(
    function: Callable,
    tasks: Iterable,
    num_workers: int,
    *,
    make_pool: Callable[[int], Workers] = Workers,
    describe_task: Callable[[Any], str] | None = None,
) -> Generator[Any, None, None]:
    """Yield the function's results in the order of the tasks; with one worker, computed in this process.

    Tasks are submitted as results are consumed, so only a few wait in memory. Use it within `contextlib.closing`, which
    stops the processes at once if the caller stops early.

    Parameters
    ----------
    function : callable
        Of one task; importable, as it is pickled.
    tasks : iterable
    num_workers : int
        Number of processes.
    make_pool : callable
        Makes the pool from the number of processes.
    describe_task : callable, optional
        Describes a task in error messages.

    Yields
    ------
    object

    Raises
    ------
    DataError
        If a process dies; names the tasks that may have been the cause.
    """
    try:
        pool = make_pool(num_workers) if num_workers > 1 else None
    except NoWorkersError as error:
        logger.warning(f"{error.message} The work is done in one process. {error.hint}")
        pool = None
    if pool is None:
        yield from map(function, tasks)
        return
    waiting: deque[tuple[Any, Future]] = deque()
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
        # Those submitted first are running; the others wait.
        running = [describe_task(task) for task, _ in list(waiting)[:num_workers]] if describe_task else []
        where = f", at one of these: {'; '.join(running)}" if running else ""
        raise DataError(
            f"A worker process died{where}.",
            hint=f"{GUARD} Otherwise memory may be short. Finished work is kept; run the same command again.",
        ) from error
