"""What one member learns from and is held to."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from nonet.data.preprocess.cache import PreparedImages


@dataclass(frozen=True)
class MemberData:
    """What one member learns from and is held to.

    images : uint8 (n, s, s, 3), all of the dataset's labelled images, read as they are asked for.
    labels : int64 (n,), index into classes.
    train, held_out : int64 row numbers, apart from each other.
    table : one row an image: image_id, label, patient, source, evaluate.
    """

    images: PreparedImages
    labels: np.ndarray
    train: np.ndarray
    held_out: np.ndarray
    table: pd.DataFrame
    classes: list[str]

    @property
    def truth(self) -> np.ndarray:
        """Labels of the images held out, int64."""
        return self.labels[self.held_out]
