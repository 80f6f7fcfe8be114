"""A cell looked at closely: what each network calls it, where they looked, and the labelled cells most like it."""

import io
import logging
import threading
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from nonet.artifacts.ensemble_file import EnsembleFile
from nonet.artifacts.run import Run
from nonet.data.run_images import RunImages
from nonet.errors import NonetError
from nonet.evaluation.neighbours import LabelledCell, LabelledCells
from nonet.evaluation.run_data import read_run
from nonet.review.pictures import pixels_of
from nonet.review.predictor import Predictor
from nonet.review.records import Cell, NotFoundError, ReviewError, translatable

if TYPE_CHECKING:
    from nonet.inference.inspection import Inspection

logger = logging.getLogger("nonet")

_CACHED = 64
#: Questions that wait for the networks: each holds a thread of the program, and the other pages need some as well.
_MAX_WAITING = 16
_HEAT_RGB = (255, 90, 0)
_MOST_OPAQUE = 150  # of 255: the cell stays visible


class BusyNetworksError(ReviewError):
    """Too many questions wait for the networks."""

    status = 429
    words = translatable("Too many cells are being looked at now. Try again in a moment.")


class Vote(NamedTuple):
    """What a network calls a cell.

    Attributes
    ----------
    network : str
        Architecture and fold, for people.
    label : str
        Its most probable class.
    proba : float
        Of that class.
    """

    network: str
    label: str
    proba: float


class Inspections:
    """Looks closely at cells, with the networks of the page.

    Parameters
    ----------
    run : Run
    predictor : Predictor
    """

    def __init__(self, run: Run, predictor: Predictor):
        self._run, self._predictor = run, predictor
        self._reading, self._looking = threading.Lock(), threading.Lock()
        self._places = threading.BoundedSemaphore(_MAX_WAITING)
        self._inspect = lru_cache(maxsize=_CACHED)(self._inspect_file)

    def votes(self, cell: Cell) -> list[Vote]:
        """Return what each network calls a cell.

        Parameters
        ----------
        cell : Cell

        Returns
        -------
        list of Vote

        Raises
        ------
        NotReadyError
            If the networks are not loaded.
        BusyNetworksError
            If too many questions wait.
        DataError
            If the image cannot be read, or is not the one that was predicted.
        """
        found = self._look(cell)
        best = found.proba.argmax(axis=1)
        return [
            Vote(self._titles.get(name, name), self._predictor.classes[number], float(proba[number]))
            for name, number, proba in zip(found.members, best, found.proba)
        ]

    def heat(self, cell: Cell) -> bytes:
        """Return where the networks looked for the most probable class of a cell: a PNG to lay over its image."""
        heat = self._look(cell).heat
        opacity = np.round(_MOST_OPAQUE * heat).astype(np.uint8)
        colour = np.broadcast_to(np.array(_HEAT_RGB, dtype=np.uint8), (*heat.shape, 3))
        stream = io.BytesIO()
        Image.fromarray(np.dstack([colour, opacity])).save(stream, "PNG")
        return stream.getvalue()

    def nearest(self, cell: Cell) -> list[LabelledCell]:
        """Return the labelled cells most like a cell, by the features of networks that saw none of them."""
        features = self._look(cell).features
        with self._reading:
            labelled = self._labelled
        return [] if labelled is None else labelled.nearest(features)

    def picture_of(self, cell: Cell, place: int) -> tuple[str, str]:
        """Return file and checksum of one of the labelled cells that `nearest` returns.

        Raises
        ------
        NotFoundError
            If it is not known where the image is.
        """
        near = self.nearest(cell)
        if not 0 <= place < len(near):
            raise NotFoundError
        file, sha256 = self._images.find(near[place].image_id), self._images.sha256.get(near[place].image_id)
        if file is None or sha256 is None:
            raise NotFoundError
        return str(file), sha256

    def _look(self, cell: Cell) -> "Inspection":
        if not self._places.acquire(blocking=False):
            raise BusyNetworksError
        try:
            with self._looking:  # one after another: who asks for the same cell finds it, rather than has it done again
                return self._inspect(cell.path, cell.sha256, str(cell.facts.get("best") or ""), self._predictor.model)
        finally:
            self._places.release()

    def _inspect_file(self, path: str, sha256: str, best: str, model: str) -> "Inspection":
        return self._predictor.inspect(pixels_of(path, sha256), best)

    @cached_property
    def _titles(self) -> dict[str, str]:
        ensemble = EnsembleFile.read(self._run)
        names = {one.architecture: ensemble.titles.get(one.architecture, one.architecture) for one in ensemble.members}
        return {
            f"{one.architecture}/fold-{one.fold}": f"{names[one.architecture]}, fold {one.fold}"
            for one in ensemble.members
        }

    @cached_property
    def _images(self) -> RunImages:
        return RunImages(self._run)

    @cached_property
    def _labelled(self) -> LabelledCells | None:
        try:
            return LabelledCells(self._run, read_run(self._run))
        except NonetError as error:
            logger.warning(f"Labelled cells cannot be compared with: {error.message}")
            return None
