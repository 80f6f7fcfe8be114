"""What a test of robustness is made of: which images, in which variants. No torch here: workers import it."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nonet.data.folds import spread_over_patients
from nonet.data.images.decode import load_rgb
from nonet.data.images.files import read_file
from nonet.data.preprocess.cache import CHECK, Crop, prepare_crops
from nonet.data.preprocess.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from nonet.errors import DataError
from nonet.recipe import Denoise

CLEAN = "none"
NO_VIEWS = "none"


@dataclass(frozen=True, order=True)
class Variant:
    """One version of the held-out images: which corruption and severity, denoised or not, which views."""

    corruption: str
    severity: int
    denoised: bool
    view_set: str

    @property
    def file_name(self) -> str:
        """Under which its out-of-fold logits are kept."""
        return f"{self.corruption}.{self.severity}.{'denoised' if self.denoised else 'as_is'}.{self.view_set}.parquet"

    @classmethod
    def of_file(cls, path: Path) -> "Variant":
        """Return the variant whose `file_name` this is."""
        corruption, severity, denoised, view_set = path.stem.split(".")
        return cls(corruption, int(severity), denoised == "denoised", view_set)


def list_corruptions(
    corruptions: Sequence[str] | None = None, severities: Iterable[int] | None = None
) -> list[tuple[str, int]]:
    """Return the (corruption, severity) pairs to test, clean images first; all of them where None.

    Raises
    ------
    DataError where a name or a severity is unknown, or none is left.
    """
    corruptions = list(CORRUPTIONS) if corruptions is None else list(dict.fromkeys(corruptions))
    severities = SEVERITIES[1:] if severities is None else sorted({int(severity) for severity in severities} - {0})
    for corruption in corruptions:
        if corruption not in CORRUPTIONS:
            raise DataError(f'There is no corruption "{corruption}".', hint=f"Choose from {', '.join(CORRUPTIONS)}.")
    for severity in severities:
        if severity not in SEVERITIES:
            raise DataError(f"There is no severity {severity}.", hint="Choose from 1, 2, 3 and 4.")
    if not corruptions or not severities:
        what = "corruption" if not corruptions else "severity above 0"
        raise DataError(
            f"There is no {what} to try: clean images alone say nothing about robustness.",
            hint=f"Choose from {', '.join(CORRUPTIONS)}, and severities 1 to 4; or leave both out for all.",
        )
    return [(CLEAN, 0), *[(corruption, severity) for corruption in corruptions for severity in severities]]


def draw_images(images: pd.DataFrame, limit: int | None, seed: int) -> pd.DataFrame:
    """Draw images by class, as evenly as the classes allow, and within a class over as many patients as there are.

    Rare classes weigh as much in macro-F1 as common ones, so that few images are best spent alike.

    Parameters
    ----------
    images : columns image_id, label, patient; an unknown patient is None.
    limit : images in all; None or 0 takes all.
    seed : of the draw.

    Returns
    -------
    The rows drawn, in their order.

    Raises
    ------
    DataError, where limit is negative.
    """
    if limit is not None and limit < 0:
        raise DataError(f"The limit of images is {limit}.", hint="Give a number of images, or 0 for all.")
    if not limit or limit >= len(images):
        return images
    ordered = spread_over_patients(images, random_state=np.random.default_rng([seed, 0x0B]))
    place = ordered.groupby("label").cumcount()
    return images.loc[sorted(ordered.index[place.argsort(kind="stable")[:limit]], key=images.index.get_loc)]


def seed_of(image_id: str, seed: int) -> int:
    """Return an image's own seed: the same whatever other images are tried with it."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{image_id}".encode()).digest()[:7], "big")


@dataclass(frozen=True)
class CorruptionTask:
    """A worker's task: one image, how to corrupt it, and the ways to prepare it."""

    path: Path
    sha256: str
    corruption: str
    severity: int
    seed: int
    crops: tuple[Crop, ...]
    settings: tuple[Denoise, ...]


def corrupt_and_prepare(task: CorruptionTask) -> list[dict[Crop, np.ndarray]]:
    """Return, for each of the task's denoise settings, crop → uint8 (size, size, 3).

    Raises
    ------
    DataError, where the file is missing, unreadable, or no longer the one that the run was trained on.
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
