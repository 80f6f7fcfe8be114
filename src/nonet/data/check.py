"""`check_dataset`: are the images still there, readable, and the same as when the dataset was built?"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nonet.data.manifest import Dataset
from nonet.data.scan import describe_images
from nonet.errors import DataError

SHOWN = 20  # problems in the text; the table has them all


@dataclass(frozen=True)
class CheckReport:
    """What `check_dataset` found.

    Attributes
    ----------
    folder : of the dataset.
    num_images : how many were read.
    problems : DataFrame (image_id, path, problem), a row for each image that is missing, changed or unreadable.
    """

    folder: Path
    num_images: int
    problems: pd.DataFrame

    @property
    def ok(self) -> bool:
        """Whether every image is as it was."""
        return self.problems.empty

    def __str__(self) -> str:
        if self.ok:
            return f"{self.folder}: all {self.num_images:,} images are there and unchanged."
        lines = [f"{self.folder}: {len(self.problems):,} of {self.num_images:,} images have a problem."]
        lines += [f"  {row.path}: {row.problem}" for row in self.problems.head(SHOWN).itertuples()]
        if len(self.problems) > SHOWN:
            lines.append(f"  … and {len(self.problems) - SHOWN:,} more.")
        lines.append('Put the files back, or leave them out: run "nonet data build" again.')
        return "\n".join(lines)


def check_dataset(dataset: str | Path | Dataset, *, num_workers: int | None = None) -> CheckReport:
    """Read every image of a dataset again and compare it with the manifest.

    Parameters
    ----------
    dataset : folder made by `build_dataset`, or a Dataset.
    num_workers : threads; by default one a core.

    Returns
    -------
    CheckReport, whose `ok` is False where an image is missing, changed (by SHA-256) or unreadable.
    """
    dataset = Dataset.open(dataset)
    paths = dataset.paths()
    found = describe_images(paths, num_workers=num_workers, description="checking images")
    problems = [
        {"image_id": row.image_id, "path": str(path), "problem": problem}
        for row, path, facts in zip(dataset.manifest.itertuples(), paths, found)
        if (problem := _problem(path, facts, row.sha256))
    ]
    return CheckReport(dataset.folder, len(paths), pd.DataFrame(problems, columns=["image_id", "path", "problem"]))


def _problem(path: Path, facts, sha256: str) -> str | None:
    if isinstance(facts, DataError):
        return f"unreadable: {facts.message}" if path.exists() else "missing"
    if facts.sha256 != sha256:
        return f"changed: sha256 was {sha256[:12]}…, is {facts.sha256[:12]}…"
    return None
