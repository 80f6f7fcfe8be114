"""An image as the members see it, prepared in this process or another. No torch here."""

from pathlib import Path
from typing import NamedTuple

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


def prepare_or_error(task: tuple[Path, list[Crop], Denoise]) -> PreparedInput | DataError:
    """Prepare one image for the members, or return the error that says why it cannot be read.

    Runs in worker processes, which import this module: without torch they start in a fraction of the time.

    Parameters
    ----------
    task : tuple of (Path, list of Crop, Denoise)

    Returns
    -------
    PreparedInput or DataError
    """
    path, crops, denoise = task
    try:
        prepared = prepare_crops(path, crops, denoise)
        return PreparedInput(prepared, any_nucleus(prepared.values()))
    except DataError as error:
        return error
