"""The networks behind the page: loaded in the background, shared by single images and whole uploads.

Single images that arrive together are predicted as one batch. A whole upload gives way after each pass of a network,
so that a single image waits for one pass at most, and the upload for one batch.
"""

import copy
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nonet.artifacts.run import Run
from nonet.errors import NonetError
from nonet.review.cases import model_fingerprint
from nonet.review.records import ReviewError, translatable

if TYPE_CHECKING:
    import numpy as np

    from nonet.inference.inspection import Inspection
    from nonet.inference.prepared_input import PreparedInput

logger = logging.getLogger("nonet")

#: Single images that are predicted together, and that may wait.
BATCH_SIZE = 64
MAX_WAITING = 128
_MAX_RETRY_S = 60
#: The networks are loaded once no page was asked for this long, at the latest so long after the start.
_QUIET_S, _LATEST_S = 1.0, 15.0
_SMOOTHING = 0.2  # of the time that an image takes


class NotReadyError(ReviewError):
    """The networks cannot predict: they are being loaded, or cannot be; `problem` says why."""

    status = 503
    words = "{problem}"


class StoppedError(Exception):
    """The program ends; what is being predicted continues at the next start."""


class BusyError(NonetError):
    """Too many images wait.

    Parameters
    ----------
    retry_after_s : int
        When it is worth trying again.
    """

    def __init__(self, retry_after_s: int):
        super().__init__(f"Too many images are waiting. Try again in {retry_after_s} s.")
        self.retry_after_s = retry_after_s


@dataclass
class _Task:
    prepared: "PreparedInput"
    future: "Future[dict]"


class Turns:
    """A lock that those who wait get in the order in which they came."""

    def __init__(self) -> None:
        self._queue, self._lock = threading.Lock(), threading.Lock()

    def __enter__(self) -> None:
        with self._queue:  # whoever comes later waits here, and so does whoever has just had a turn
            self._lock.acquire()

    def __exit__(self, *about: object) -> None:
        self._lock.release()


class Predictor:
    """Predicts single images and folders with a run's ensemble.

    Parameters
    ----------
    run : Run
    accelerator : str
        As for `nonet.load`.

    Attributes
    ----------
    model : str
        Fingerprint of what predicts, as cases have it; "" until it is loaded.
    on_batch : callable
        Called with the number of images of each batch of single images.
    """

    def __init__(self, run: Run, *, accelerator: str = "auto"):
        self.run, self.accelerator = run, accelerator
        self.model = ""
        self.on_batch: Callable[[int], None] = lambda num: None
        self._wanted, self._loaded, self._stopping = threading.Event(), threading.Event(), threading.Event()
        self._last_request = time.monotonic()
        self._problem: str | None = None
        self._turns = Turns()
        self._tasks: list[_Task] = []
        self._num_admitted = 0
        self._changed = threading.Condition()
        self._seconds_per_image = 0.05
        self._thread: threading.Thread | None = None

    def note_request(self) -> None:
        """Note that a page was asked for."""
        self._last_request = time.monotonic()

    def want(self) -> None:
        """Load the networks without waiting for a quiet moment."""
        self._wanted.set()

    def _require_ready(self) -> None:
        self.want()
        if self.problem is not None:
            raise NotReadyError(problem=self.problem)

    def start(self) -> None:
        """Load the networks in a quiet moment, and then predict, in a thread of its own; returns at once."""
        self._thread = threading.Thread(target=self._work, name="predictor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and let a folder that is being predicted stop at its next pass."""
        self._stopping.set()
        self._wanted.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=5)

    @property
    def classes(self) -> list[str]:
        """Of the ensemble, once it is loaded."""
        return self._ensemble.classes

    @property
    def num_members(self) -> int:
        """Networks of the ensemble, once it is loaded."""
        return len(self._ensemble.members)

    @property
    def is_stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    @property
    def problem(self) -> str | None:
        """Why it cannot predict now; None if it can."""
        if self._loaded.is_set():
            return self._problem
        return translatable("The networks are being loaded.")

    @property
    def has_failed(self) -> bool:
        """Whether the networks cannot be loaded."""
        return self._loaded.is_set() and self._problem is not None

    @property
    def num_waiting(self) -> int:
        """Single images that were let in and have no answer yet."""
        return self._num_admitted

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the networks are loaded or cannot be; return whether they can predict."""
        self._loaded.wait(timeout_s)
        return self.problem is None

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place among the single images that wait.

        Raises
        ------
        NotReadyError
            If the networks cannot predict.
        BusyError
            If all places are taken.
        """
        self._require_ready()
        with self._changed:
            if self._num_admitted >= MAX_WAITING:
                seconds = self._num_admitted * self._seconds_per_image
                raise BusyError(min(_MAX_RETRY_S, max(1, math.ceil(seconds))))
            self._num_admitted += 1
        try:
            yield
        finally:
            with self._changed:
                self._num_admitted -= 1

    def prepare(self, data: bytes, *, max_pixels: int) -> "PreparedInput":
        """Decode an image and prepare it for the networks; may be called in any thread.

        Parameters
        ----------
        data : bytes
            A file.
        max_pixels : int

        Returns
        -------
        PreparedInput

        Raises
        ------
        DataError
            If it cannot be read.
        """
        from nonet.data.images.decode import read_image
        from nonet.data.images.nucleus import any_nucleus
        from nonet.data.preprocess.crops import PreparedCrops, prepare_crops
        from nonet.inference.prepared_input import PreparedInput

        read = read_image(data, max_pixels=max_pixels, name="The image")
        crops = prepare_crops(read.pixels, self._ensemble.crops, self._ensemble.recipe.denoise)
        return PreparedInput(PreparedCrops(crops, read.note, crops.sigma), any_nucleus(crops.values()))

    def submit(self, prepared: "PreparedInput") -> "Future[dict]":
        """Predict an image together with those that wait; the result is its row of predictions.csv."""
        task = _Task(prepared, Future())
        with self._changed:
            self._tasks.append(task)
            self._changed.notify()
        return task.future

    def inspect(self, pixels: "np.ndarray", code: str) -> "Inspection":
        """Look at an image closely; see `nonet.inference.inspection.inspect`.

        Parameters
        ----------
        pixels : ndarray of uint8, shape (height, width, 3)
        code : str
            The class for which to say where the networks looked.

        Returns
        -------
        Inspection

        Raises
        ------
        NotReadyError
            If the networks cannot predict.
        """
        self._require_ready()
        from nonet.inference.inspection import inspect

        _ = self._ensemble.torch_networks  # loaded before others have to wait for this turn
        with self._turns:
            return inspect(self._ensemble, pixels, code, self._views)

    def predict_folder(self, images: Path, out: Path) -> None:
        """Predict a table of images as `nonet.predict` does, which resumes what was interrupted.

        Raises
        ------
        StoppedError
            If the program ends meanwhile.
        NonetError
            As `nonet.predict`.
        """
        from nonet.inference.predict import predict

        ensemble = copy.copy(self._ensemble)
        ensemble.turn = _Passes(self._turns, self._stopping)
        predict(ensemble, images, out=out)

    def _wait_for_quiet(self) -> None:
        """Wait until no page is being asked for: loading takes a core for seconds, and people look first."""
        latest = time.monotonic() + _LATEST_S
        while not self.is_stopping and time.monotonic() < latest:
            left_s = self._last_request + _QUIET_S - time.monotonic()
            if left_s <= 0 or self._wanted.wait(left_s):
                return

    def _work(self) -> None:
        self._wait_for_quiet()
        try:
            self._load()
        except NonetError as error:
            self._problem = error.message
            logger.warning(f"Images cannot be predicted on the page: {error.message}")
        except Exception as error:  # out of memory, a broken driver: the page is still good for reviewing
            self._problem = f"The networks could not be loaded: {error}"
            logger.exception("Images cannot be predicted on the page.")
        self._loaded.set()
        if self._problem is None:
            threading.Thread(target=self._load_for_heat_maps, name="heat maps", daemon=True).start()
        while self._problem is None and not self.is_stopping:
            tasks = self._next_tasks()
            if tasks:
                self._predict(tasks)
        with self._changed:
            for task in self._tasks:
                task.future.set_exception(NotReadyError(problem="The program ends."))

    def _load_for_heat_maps(self) -> None:
        """Load what the first panel of a cell would wait for: PyTorch, where something else predicts."""
        self._wanted.clear()
        self._wait_for_quiet()
        if not self.is_stopping:
            _ = self._ensemble.torch_networks

    def _load(self) -> None:
        from nonet.inference.load import load
        from nonet.inference.predict import describe_model
        from nonet.models.views import get_views

        ensemble = load(self.run, accelerator=self.accelerator)
        settings = ensemble.recipe.predict
        self.model = model_fingerprint(describe_model(ensemble, settings))
        self._ensemble, self._views = ensemble, get_views(settings)

    def _next_tasks(self) -> list[_Task]:
        """Wait for tasks, and return those that are there, but not more than a batch; none when it is to stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._tasks or self.is_stopping)
            taken = self._tasks[:BATCH_SIZE]
            del self._tasks[:BATCH_SIZE]
        return [task for task in taken if task.future.set_running_or_notify_cancel()]

    def _predict(self, tasks: list[_Task]) -> None:
        began = time.monotonic()
        try:
            for task, row in zip(tasks, self._rows([task.prepared for task in tasks]), strict=True):
                task.future.set_result(row)
        except Exception as error:  # of the device, for example: these fail, and the next may not
            logger.exception("Images could not be predicted.")
            for task in tasks:
                if not task.future.done():
                    problem = f"The image could not be predicted now: {error}."
                    task.future.set_exception(NotReadyError(problem=problem))
        seconds = (time.monotonic() - began) / len(tasks)
        self._seconds_per_image += _SMOOTHING * (seconds - self._seconds_per_image)
        self.on_batch(len(tasks))

    def _rows(self, prepared: "list[PreparedInput]") -> list[dict]:
        from nonet.inference.inputs import Input
        from nonet.inference.predict import predict_chunk
        from nonet.inference.results import make_rows

        names = [Input(f"image {place}", Path()) for place in range(len(prepared))]
        with self._turns:
            part = predict_chunk(self._ensemble, names, prepared, self._views)
        return make_rows(part.assign(case=""), self._ensemble).to_dict("records")


class _Passes:
    """Entered for each pass of a network over images of a folder: waits for its turn, or stops."""

    def __init__(self, turns: Turns, stopping: threading.Event):
        self._turns, self._stopping = turns, stopping

    def __enter__(self) -> None:
        if self._stopping.is_set():
            raise StoppedError
        self._turns.__enter__()

    def __exit__(self, *about: object) -> None:
        self._turns.__exit__(*about)
