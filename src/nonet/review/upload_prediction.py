"""Uploads become cases, one after another, in a thread of its own: predicted by the page's networks, then added."""

import logging
import queue
import threading
from collections.abc import Callable

from nonet.artifacts.run import Run
from nonet.errors import NonetError
from nonet.review.cases import add_cases
from nonet.review.predictor import Predictor, StoppedError
from nonet.review.store import Store
from nonet.review.upload_folder import Upload
from nonet.review.uploads import Uploads

logger = logging.getLogger("nonet")


class UploadPrediction:
    """Predicts uploads that are closed, in the order in which they were.

    Parameters
    ----------
    uploads : Uploads
    predictor : Predictor
    store : Store
        To which cases are added.
    run : Run
    """

    def __init__(self, uploads: Uploads, predictor: Predictor, store: Store, run: Run):
        self._uploads, self._predictor, self._store, self._run = uploads, predictor, store, run
        self._queue: queue.Queue[Upload | None] = queue.Queue()
        self._thread: threading.Thread | None = None
        self.on_done: Callable[[Upload], None] = lambda upload: None

    def start(self) -> None:
        """Continue what an earlier program left, and wait for more, in a thread of its own; returns at once."""
        self._uploads.remove_abandoned()
        for upload in reversed(self._uploads.all()):
            if upload.state == "predicting":
                self.put(upload)
        self._thread = threading.Thread(target=self._work, name="uploads", daemon=True)
        self._thread.start()

    def put(self, upload: Upload) -> None:
        """Predict an upload when those before it are done."""
        self._queue.put(upload)

    def stop(self) -> None:
        """End the thread; call the predictor's `stop` first."""
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(timeout=10)

    def _work(self) -> None:
        while (upload := self._queue.get()) is not None and not self._predictor.is_stopping:
            self._predictor.wait()
            if self._predictor.problem is not None:  # it stays as it is, for a later start
                continue
            try:
                self._predict(upload)
            except StoppedError:
                return
            except NonetError as error:
                self._uploads.fail(upload, error.message)
            except Exception as error:  # of the device or memory: others may succeed
                logger.exception("An upload could not be predicted.")
                self._uploads.fail(upload, str(error))

    def _predict(self, upload: Upload) -> None:
        self._predictor.predict_folder(upload.table, upload.predictions)
        notes = dict(zip(upload.shown_names(), (image.note for image in upload.in_order()), strict=True))
        add_cases(self._store, self._run, upload.predictions, added_by=upload.owner, notes=notes)
        case = self._store.find_case(upload.case)
        assert case is not None
        self._uploads.finish(upload, case.id)
        self.on_done(upload)
