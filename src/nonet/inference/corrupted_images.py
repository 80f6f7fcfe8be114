"""The images of a robustness test and how they are corrupted. No torch here: worker processes import it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nonet.data.folds import spread_over_patients
from nonet.data.images.decode import load_rgb
from nonet.data.images.files import read_file
from nonet.data.preprocess.cache import CHECK
from nonet.data.preprocess.corruptions import corrupt
from nonet.data.preprocess.crop import Crop
from nonet.data.preprocess.crops import prepare_crops
from nonet.errors import DataError
from nonet.recipe import Denoise


@dataclass(frozen=True, order=True)
class Variant:
    """One version of the held-out images.

    Attributes
    ----------
    corruption : str
        Key of `CORRUPTIONS`, or "none".
    severity : int
        1 to 4; 0 for clean images.
    denoised : bool
        Whether the recipe's denoising is applied.
    view_set : str
        Views for test-time augmentation; "none" for none.
    """

    corruption: str
    severity: int
    denoised: bool
    view_set: str

    @property
    def file_name(self) -> str:
        """Name of the file with its out-of-fold logits."""
        return f"{self.corruption}.{self.severity}.{'denoised' if self.denoised else 'as_is'}.{self.view_set}.parquet"

    @classmethod
    def from_file_name(cls, path: Path) -> "Variant":
        """Return the variant that a file is named after; the inverse of `file_name`."""
        corruption, severity, denoised, view_set = path.stem.split(".")
        return cls(corruption, int(severity), denoised == "denoised", view_set)


def draw_images(images: pd.DataFrame, limit: int | None, seed: int) -> pd.DataFrame:
    """Draw images by class, as evenly as the classes allow, and within a class over as many patients as there are.

    Rare classes weigh as much in macro-F1 as common ones, so a small number of images is best spread evenly.

    Parameters
    ----------
    images : DataFrame
        Columns image_id, label, patient; an unknown patient is None.
    limit : int or None
        Number of images in all; None or 0 takes all.
    seed : int
        Random seed of the draw.

    Returns
    -------
    DataFrame
        The rows drawn, in their order.

    Raises
    ------
    DataError
        If the limit is negative.
    """
    if limit is not None and limit < 0:
        raise DataError(f"The limit of images is {limit}.", hint="Give a number of images, or 0 for all.")
    if not limit or limit >= len(images):
        return images
    ordered = spread_over_patients(images, random_state=np.random.default_rng([seed, 0x0B]))
    rank_in_class = ordered.groupby("label").cumcount().to_numpy()
    return images[images.index.isin(ordered.index[rank_in_class.argsort(kind="stable")[:limit]])]


def image_seed(image_id: str, seed: int) -> int:
    """Return an image's own random seed, which does not depend on the other images tested."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{image_id}".encode()).digest()[:7], "big")


@dataclass(frozen=True)
class CorruptionTask:
    """A worker's task: one image, how to corrupt it, and the denoise settings to prepare it with."""

    path: Path
    sha256: str
    corruption: str
    severity: int
    seed: int
    crops: tuple[Crop, ...]
    settings: tuple[Denoise, ...]


def corrupt_and_prepare(task: CorruptionTask) -> list[dict[Crop, np.ndarray]]:
    """Corrupt an image and prepare it with each of the task's denoise settings.

    Parameters
    ----------
    task : CorruptionTask

    Returns
    -------
    list of dict of Crop to ndarray of uint8, shape (size, size, 3)
        One for each of the denoise settings.

    Raises
    ------
    DataError
        If the file is missing, unreadable, or no longer the one that the run was trained on.
    """
    try:
        data = read_file(task.path)
    except DataError as error:
        raise type(error)(error.message, hint=CHECK) from error
    if hashlib.sha256(data).hexdigest() != task.sha256:
        raise DataError(f"{task.path} is not the file that the run was trained on.", hint=CHECK)
    image = load_rgb(data)
    if task.severity:
        image = corrupt(image, task.corruption, task.severity, seed=task.seed)
    return [prepare_crops(image, task.crops, settings) for settings in task.settings]
