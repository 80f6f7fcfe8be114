"""Reading and preparing images ahead of the networks: a few in threads, many in worker processes, which may die."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool

from nonet.data.preprocess.cache import worker_pool
from nonet.data.preprocess.crop import Crop
from nonet.errors import DataError, UnreadableNowError
from nonet.inference.prepared_input import ImageTask, PreparedInput, Source, prepare_or_error
from nonet.settings import Denoise
from nonet.workers import (
    GUARD,
    STALLED_SECONDS,
    NoWorkersError,
    StalledError,
    Threads,
    Workers,
    result_however_late,
    result_or_stall,
    worker_count,
)

logger = logging.getLogger("nonet")

#: Images. Threads start at once; but a worker process, which takes half a second and more to start, may be killed by
#: an image without ending the prediction, and does not compete with the networks' Python for the interpreter.
WORKERS_PAY_FROM = 256
_AHEAD = 2  # chunks; what is prepared waits in memory
_TASKS_AT_ONCE = 8  # images that a process or thread is given together
_MAX_STALLED = 3  # images in a row whose reading hangs; then the others would as well


class Reader:
    """Prepares images chunk by chunk, as a context manager; one call of `read` after the other.

    Parameters
    ----------
    crops : sequence of Crop
        What the networks see of an image.
    denoise : Denoise
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
        denoise: Denoise,
        num_images: int,
        num_workers: int | None = None,
        *,
        prepare: Callable = prepare_or_error,
    ):
        self._crops, self._denoise, self._prepare = crops, denoise, prepare
        self._num_workers = worker_count(num_workers)
        self._use_processes = num_images >= WORKERS_PAY_FROM and self._num_workers > 1
        self._pool: Workers | Threads
        self._waiting: deque[tuple[list[ImageTask], list[Future]]] = deque()
        self._num_stalled = 0  # images in a row

    def __enter__(self) -> "Reader":
        if self._use_processes:
            try:
                self._pool = self._start_processes()
                return self
            except NoWorkersError as error:
                logger.warning(f"{error.message} Images are read in one process. {error.hint}")
        self._pool = Threads(self._num_workers)
        return self

    def __exit__(self, *about: object) -> None:
        if isinstance(self._pool, Workers):
            self._pool.stop()
        else:
            self._pool.leave()

    def _start_processes(self) -> Workers:
        return worker_pool(self._num_workers, self._denoise)

    def read(self, chunks: Iterable[Sequence[Source]]) -> Iterator[list[PreparedInput | DataError]]:
        """Yield the prepared images of each chunk, with a DataError in place of those that cannot be read.

        An image that kills the worker process reading it, or whose reading hangs, gets an error as well, and the others
        are read. Threads that hang can only be waited for; a warning says so.

        Parameters
        ----------
        chunks : iterable of sequences of Source
            Files, or images of a shard. They are asked for as the prepared ones are taken, a few chunks ahead.

        Yields
        ------
        list of PreparedInput or DataError

        Raises
        ------
        DataError
            If processes cannot be started at all, or the reading of one image after the other hangs.
        """
        waiting = self._waiting
        waiting.clear()  # of a call that was given up
        for chunk in chunks:
            tasks = [ImageTask(one.source, str(one.path), self._crops, self._denoise) for one in chunk]
            waiting.append((tasks, self._submit(tasks)))
            if len(waiting) > _AHEAD:
                yield self._collect_first()
        while waiting:
            yield self._collect_first()

    def _submit(self, tasks: list[ImageTask]) -> list[Future]:
        parts = [tasks[i : i + _TASKS_AT_ONCE] for i in range(0, len(tasks), _TASKS_AT_ONCE)]
        try:
            return [self._pool.submit(_prepare_all, self._prepare, part) for part in parts]
        except BrokenProcessPool:  # died meanwhile; `_collect` deals with it
            return []

    def _collect_first(self) -> list[PreparedInput | DataError]:
        tasks, futures = self._waiting[0]
        try:
            results = [one for i, future in enumerate(futures) for one in self._result(future, tasks, i)]
        except (BrokenProcessPool, CancelledError, StalledError):  # cancelled when processes were replaced before
            results = []
        if len(results) < len(tasks):
            assert isinstance(self._pool, Workers)  # threads do not break
            results = self._prepare_one_by_one(tasks, self._replace(self._pool))
        self._waiting.popleft()
        return results

    def _result(self, future: Future, tasks: list[ImageTask], part: int) -> list[PreparedInput | DataError]:
        if isinstance(self._pool, Workers):
            return result_or_stall(future)
        names = [task.name for task in tasks[part * _TASKS_AT_ONCE : (part + 1) * _TASKS_AT_ONCE]]
        return result_however_late(future, names[0] if len(names) == 1 else f"One of {names[0]} … {names[-1]}")

    def _prepare_one_by_one(self, tasks: list[ImageTask], pool: Workers) -> list[PreparedInput | DataError]:
        """Prepare one image at a time, so that if a process dies or hangs, that image is the cause."""
        results = []
        for task in tasks:
            try:
                results.append(result_or_stall(pool.submit(self._prepare, task)))
                self._num_stalled = 0
            except (BrokenProcessPool, StalledError) as error:
                pool = self._replace(pool)
                reason = "the process that read it was killed. Was memory short?"
                if isinstance(error, StalledError):
                    reason = f"its reading hung for {STALLED_SECONDS / 60:.0f} minutes. Is its drive still connected?"
                    self._num_stalled += 1
                message = f"{task.name} could not be read now: {reason}"
                logger.warning(message)
                results.append(UnreadableNowError(message))
                if self._num_stalled == _MAX_STALLED:
                    raise DataError(
                        f"{message} So it was for {_MAX_STALLED} images in a row.",
                        hint="Connect the drive, then run the same command again; finished work is kept.",
                    ) from error
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


def _prepare_all(prepare: Callable, tasks: list[ImageTask]) -> list:
    return [prepare(task) for task in tasks]
