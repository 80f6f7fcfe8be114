"""Reading and preparing images ahead of the networks: a few in threads, many in worker processes, which may die."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from nonet.data.preprocess.cache import worker_pool
from nonet.data.preprocess.crop import Crop
from nonet.errors import DataError, UnreadableNowError
from nonet.inference.inputs import Input
from nonet.inference.prepared_input import PreparedInput, prepare_or_error
from nonet.settings import Denoise
from nonet.workers import GUARD, NoWorkersError, Workers, worker_count

logger = logging.getLogger("nonet")

#: Images. Threads start at once; but a worker process, which takes half a second and more to start, may be killed by
#: an image without ending the prediction, and does not compete with the networks' Python for the interpreter.
WORKERS_PAY_FROM = 256
_AHEAD = 2  # chunks; what is prepared waits in memory
_TASKS_AT_ONCE = 8  # images that a process or thread is given together


class Reader:
    """Prepares images chunk by chunk, as a context manager.

    Parameters
    ----------
    crops : sequence of Crop
        What the networks see of an image.
    denoise : Denoise or None
        Settings; see `prepare_crops`.
    num_images : int
        How many there will be in all; a small number is prepared by threads of this process.
    num_workers : int, optional
        Number of processes or threads. Default: one per core.
    prepare : callable
        Prepares one image or returns its error; for tests.
    """

    def __init__(
        self,
        crops: Sequence[Crop],
        denoise: Denoise | None,
        num_images: int,
        num_workers: int | None = None,
        *,
        prepare: Callable = prepare_or_error,
    ):
        self._crops, self._denoise, self._prepare = crops, denoise, prepare
        self._num_workers = worker_count(num_workers)
        self._use_processes = num_images >= WORKERS_PAY_FROM and self._num_workers > 1
        self._pool: Workers | ThreadPoolExecutor

    def __enter__(self) -> "Reader":
        if self._use_processes:
            try:
                self._pool = self._start_processes()
                return self
            except NoWorkersError as error:
                logger.warning(f"{error.message} Images are read in one process. {error.hint}")
        self._pool = ThreadPoolExecutor(self._num_workers)
        return self

    def __exit__(self, *about: object) -> None:
        if isinstance(self._pool, Workers):
            self._pool.stop()
        else:
            self._pool.shutdown(cancel_futures=True)

    def _start_processes(self) -> Workers:
        return worker_pool(self._num_workers, self._denoise)

    def read(self, chunks: Iterable[Sequence[Input]]) -> Iterator[list[PreparedInput | DataError]]:
        """Yield the prepared images of each chunk, with a DataError in place of those that cannot be read.

        An image that kills the worker process reading it gets an error as well, and the others are read.

        Parameters
        ----------
        chunks : iterable of sequences of Input

        Yields
        ------
        list of PreparedInput or DataError

        Raises
        ------
        DataError
            If processes cannot be started at all.
        """
        waiting: deque[tuple[list, list[Future]]] = deque()
        for chunk in chunks:
            tasks = [(one.path, self._crops, self._denoise) for one in chunk]
            waiting.append((tasks, self._submit(tasks)))
            if len(waiting) > _AHEAD:
                yield self._collect(*waiting.popleft())
        while waiting:
            yield self._collect(*waiting.popleft())

    def _submit(self, tasks: list) -> list[Future]:
        parts = [tasks[i : i + _TASKS_AT_ONCE] for i in range(0, len(tasks), _TASKS_AT_ONCE)]
        try:
            return [self._pool.submit(_prepare_all, self._prepare, part) for part in parts]
        except BrokenProcessPool:  # died meanwhile; `_collect` deals with it
            return []

    def _collect(self, tasks: list, futures: list[Future]) -> list[PreparedInput | DataError]:
        try:
            results = [one for future in futures for one in future.result()]
            if len(results) == len(tasks):
                return results
        except (BrokenProcessPool, CancelledError):  # cancelled when processes were replaced for an earlier chunk
            pass
        assert isinstance(self._pool, Workers)  # threads do not break
        return self._prepare_one_by_one(tasks, self._replace(self._pool))

    def _prepare_one_by_one(self, tasks: list, pool: Workers) -> list[PreparedInput | DataError]:
        """Prepare one image at a time, so that if a process dies, that image is the cause."""
        results = []
        for task in tasks:
            try:
                results.append(pool.submit(self._prepare, task).result())
            except BrokenProcessPool:
                pool = self._replace(pool)
                error = f"{task[0]} could not be read now: the process that read it was killed. Was memory short?"
                logger.warning(error)
                results.append(UnreadableNowError(error))
        return results

    def _replace(self, pool: Workers) -> Workers:
        """Start new processes; if they cannot run even a trivial task, no image is to blame."""
        pool.stop()
        self._pool = new = self._start_processes()
        try:
            new.submit(abs, 1).result()
            return new
        except BrokenProcessPool as error:
            raise DataError(
                "The processes that read images die when they start.",
                hint=f"{GUARD} Or give `num_workers=1`. Finished work is kept; run the same command again.",
            ) from error


def _prepare_all(prepare: Callable, tasks: list) -> list:
    return [prepare(task) for task in tasks]
