"""The image files of a run: a run has their names and checksums, its dataset says where they are."""

from pathlib import Path

import pandas as pd

from nonet.artifacts.integrity import read_provenance, reading
from nonet.artifacts.run import Run, repair_hint
from nonet.data.manifest import Dataset
from nonet.errors import NonetError, RunError


def open_dataset_of(run: Run) -> Dataset:
    """Open the dataset that a run was trained on.

    Parameters
    ----------
    run : Run

    Returns
    -------
    Dataset

    Raises
    ------
    RunError
        If it is no longer where it was.
    DataError
        If it is damaged.
    """
    recorded = read_provenance(run).get("dataset")
    if not isinstance(recorded, str):
        raise RunError(f"{run.provenance} does not say where the dataset is.", hint="Give its folder as `dataset`.")
    folder = Path(recorded)
    if not (folder / "dataset.json").exists():
        raise RunError(f"The dataset of {run} is not at {folder}.", hint="Give its folder as `dataset`.")
    return Dataset.open(folder)


class RunImages:
    """Where the images of a run are, as far as that is known.

    Attributes
    ----------
    problem : str
        Why no image can be shown; "" where the dataset was found.
    sha256 : dict of str to str
        image_id → checksum of the file when the dataset was built, from the run's manifest; empty where that cannot be
        read.

    Parameters
    ----------
    run : Run
    """

    def __init__(self, run: Run):
        self.problem = ""
        self.sha256: dict[str, str] = {}
        self._dataset: Dataset | None = None
        try:
            with reading(run.manifest, hint=repair_hint(run)):
                manifest = pd.read_parquet(run.manifest, columns=["image_id", "sha256"])
            self.sha256 = dict(zip(manifest["image_id"].astype(str), manifest["sha256"].astype(str)))
            self._dataset = open_dataset_of(run)
        except NonetError as error:
            self.problem = error.message

    def is_there(self) -> bool:
        """Return whether the dataset was found, and is still there."""
        return self._dataset is not None and (self._dataset.folder / "dataset.json").exists()

    def find(self, image_id: str) -> Path | None:
        """Return the file of an image; None where the dataset was not found, or has no such image."""
        if self._dataset is None or image_id not in self._dataset:
            return None
        return self._dataset.image_path(image_id)
