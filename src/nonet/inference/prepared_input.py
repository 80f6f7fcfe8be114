"""An image as the members see it, prepared in this process or another. No torch here."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from nonet.data.images.nucleus import any_nucleus
from nonet.data.preprocess.crop import Crop
from nonet.data.preprocess.crops import PreparedCrops, prepare_crops
from nonet.errors import DataError
from nonet.recipe import Denoise


class PreparedInput(NamedTuple):
    """An image as the members see it.

    Attributes
    ----------
    crops : PreparedCrops
        Crop → uint8 (size, size, 3).
    nucleus : bool
        Whether anything in them could be a nucleus.
    """

    crops: PreparedCrops
    nucleus: bool


class Source(Protocol):
    """An image that can be read: an `Input` or a `ShardImage`."""

    @property
    def path(self) -> Path | str:
        """Where it is or was, for messages."""

    @property
    def source(self) -> Path | bytes | DataError:
        """The file, its content, or why it cannot be read."""


class ImageTask(NamedTuple):
    """An image to prepare.

    Attributes
    ----------
    source : Path, bytes or DataError
        The file, its content, or why it cannot be read.
    name : str
        In errors.
    crops : sequence of Crop
    denoise : Denoise
    """

    source: Path | bytes | DataError
    name: str
    crops: Sequence[Crop]
    denoise: Denoise


def prepare_or_error(task: ImageTask) -> PreparedInput | DataError:
    """Prepare one image for the members, or return the error that says why it cannot be read.

    Runs in worker processes, which import this module: without torch they start in a fraction of the time.

    Parameters
    ----------
    task : ImageTask

    Returns
    -------
    PreparedInput or DataError
    """
    if isinstance(task.source, DataError):
        return task.source
    try:
        prepared = prepare_crops(task.source, task.crops, task.denoise, name=task.name)
        return PreparedInput(prepared, any_nucleus(prepared.values()))
    except DataError as error:
        return error
