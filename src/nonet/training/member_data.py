"""The data of one member: its training and its held-out images."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from nonet.data.preprocess.cache import PreparedImages


@dataclass(frozen=True)
class MemberData:
    """Images and labels of one member.

    Attributes
    ----------
    images : PreparedImages of uint8, shape (n + u, s, s, 3)
        All labelled images of the dataset, then those of unknown types, read when they are needed.
    labels : ndarray of int64, shape (n,)
        Class numbers, indices into `classes`.
    train, held_out : ndarray of int64
        Row numbers; no image is in both.
    table : DataFrame
        One row per image, with columns image_id, label, patient, source and evaluate.
    classes : list of str
        Class codes.
    unknown : DataFrame
        One row per image of an unknown cell type; see `divide_unknown`.
    """

    images: PreparedImages
    labels: np.ndarray
    train: np.ndarray
    held_out: np.ndarray
    table: pd.DataFrame
    classes: list[str]
    unknown: pd.DataFrame

    @property
    def unknown_rows(self) -> np.ndarray:
        """Row numbers of the images of unknown types, ndarray of int64, shape (u,)."""
        return len(self.table) + np.arange(len(self.unknown))

    @property
    def truth(self) -> np.ndarray:
        """Class numbers of the held-out images, ndarray of int64."""
        return self.labels[self.held_out]
