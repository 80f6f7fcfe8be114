"""confusions.csv: what the ensemble calls held-out images of each class, patient by patient.

Written when a run is calibrated, and copied beside each prediction: a count of cells is corrected by it. Patients are
numbered, not named.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nonet.artifacts.csv_files import read_csv, write_csv
from nonet.artifacts.integrity import reading
from nonet.errors import DamagedError

NAME = "confusions.csv"
#: The outcome of an image that shows no known class.
REJECTED = "rejected"
#: No table has so many patients, and no patient so many images.
_MOST = 1_000_000_000
_COLUMNS = ["group", "true", "outcome", "images"]


@dataclass(frozen=True)
class KnownConfusions:
    """Out-of-fold images by patient, true class and outcome.

    Attributes
    ----------
    classes : list of str
        The C true classes.
    outcomes : list of str
        What the images were called: a class, "unidentified", ….
    counts : ndarray of int64, shape (num_groups, C, num_outcomes)
        Images of each group: a patient, or an image of unknown patient.
    """

    classes: list[str]
    outcomes: list[str]
    counts: np.ndarray

    @classmethod
    def from_labels(
        cls, true: np.ndarray, outcome: np.ndarray, group: np.ndarray, classes: list[str], outcomes: list[str]
    ) -> "KnownConfusions":
        """Count images.

        Parameters
        ----------
        true, outcome, group : ndarray of str, shape (n,)
            True class, what the image was called, and patient.
        classes, outcomes : list of str
            All that there may be, in order.
        """
        numbers, rows = np.unique(group, return_inverse=True)
        counts = np.zeros((len(numbers), len(classes), len(outcomes)), dtype=np.int64)
        places = (
            rows,
            pd.Index(classes).get_indexer(pd.Index(true)),
            pd.Index(outcomes).get_indexer(pd.Index(outcome)),
        )
        np.add.at(counts, places, 1)
        return cls(list(classes), list(outcomes), counts)

    def write(self, path: Path) -> None:
        """Write it as a CSV file, atomically; combinations that never occurred are left out."""
        group, true, outcome = np.nonzero(self.counts)
        table = pd.DataFrame(
            {
                "group": group,
                "true": np.array(self.classes, dtype=object)[true],
                "outcome": np.array(self.outcomes, dtype=object)[outcome],
                "images": self.counts[group, true, outcome],
            }
        )
        write_csv(path, table)

    @classmethod
    def read(cls, path: Path, classes: list[str], outcomes: list[str]) -> "KnownConfusions":
        """Read a file that `write` made.

        Parameters
        ----------
        path : Path
        classes, outcomes : list of str
            All that there may be, in order.

        Raises
        ------
        DamagedError
            If it is not such a file, or has other classes.
        """
        hint = 'Copy it from the run again, or run the same "nonet predict" again, which does.'
        with reading(path, hint=hint):
            table = read_csv(path, dtype=str, keep_default_na=False)
        if list(table.columns) != _COLUMNS:
            raise DamagedError(f"{path} has columns {', '.join(table.columns)}, not {', '.join(_COLUMNS)}.", hint=hint)
        numbers = table[["group", "images"]].apply(pd.to_numeric, errors="coerce").astype(float)
        true = pd.Index(classes).get_indexer(pd.Index(table["true"]))
        outcome = pd.Index(outcomes).get_indexer(pd.Index(table["outcome"]))
        whole = (numbers % 1 == 0) & (numbers < _MOST)  # NaN and infinity are neither
        wrong = ~whole.all(axis=1) | (numbers["group"] < 0) | (numbers["images"] < 1) | (true < 0) | (outcome < 0)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise DamagedError(
                f"{path}, line {row + 2}: {', '.join(table.iloc[row])} cannot be used. The classes are "
                f"{', '.join(classes)}.",
                hint=hint,
            )
        groups, rows = np.unique(numbers["group"], return_inverse=True)
        counts = np.zeros((len(groups), len(classes), len(outcomes)), dtype=np.int64)
        np.add.at(counts, (rows, true, outcome), numbers["images"].astype(np.int64).to_numpy())
        return cls(list(classes), list(outcomes), counts)
