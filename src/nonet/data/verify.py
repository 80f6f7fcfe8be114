"""`check_dataset`: are the images as they were when the dataset was built, and what would spoil training on them?"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nonet.data.checks.page import write_checks
from nonet.data.checks.run import Checks, run_checks
from nonet.data.folds import possible_num_folds
from nonet.data.manifest import Dataset
from nonet.data.scan import describe_images
from nonet.data.sources.paths import is_missing
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
    checks : near duplicates, shortcuts, classes too small; they are for judging, so `ok` does not depend on them.
    """

    folder: Path
    num_images: int
    problems: pd.DataFrame
    checks: Checks

    @property
    def ok(self) -> bool:
        """Whether every image is as it was."""
        return self.problems.empty

    def __str__(self) -> str:
        checks = f"{self.checks}\nChecks, with pictures: {self.folder / 'checks.html'}"
        if self.ok:
            return f"{self.folder}: all {self.num_images:,} images are there and unchanged.\n{checks}"
        lines = [f"{self.folder}: {len(self.problems):,} of {self.num_images:,} images have a problem."]
        lines += [f"  {row.path}: {row.problem}" for row in self.problems.head(SHOWN).itertuples()]
        if len(self.problems) > SHOWN:
            lines.append(f"  … and {len(self.problems) - SHOWN:,} more.")
        lines.append('Put the files back, or leave them out: run "nonet data build" again.')
        return "\n".join([*lines, checks])


def check_dataset(
    dataset: str | Path | Dataset, *, num_folds: int | None = None, num_workers: int | None = None
) -> CheckReport:
    """Read every image of a dataset again, compare it with the manifest, and do the checks of the build again.

    Writes checks.html and checks.json into the dataset's folder.

    Parameters
    ----------
    dataset : folder made by `build_dataset`, or a Dataset.
    num_folds : that will be trained with, as a class of fewer patients cannot be scored; by default the recipes'.
    num_workers : threads; by default one a core.

    Returns
    -------
    CheckReport, whose `ok` is False where an image is missing, changed (by SHA-256) or unreadable.
    """
    num_folds, dataset = possible_num_folds(num_folds), Dataset.open(dataset)
    paths = dataset.paths()
    found = describe_images(paths, num_workers=num_workers, description="checking images")
    problems = [
        {"image_id": row.image_id, "path": str(path), "problem": problem}
        for row, path, facts in zip(dataset.manifest.itertuples(), paths, found)
        if (problem := _problem(path, facts, row.sha256))
    ]
    problems = pd.DataFrame(problems, columns=["image_id", "path", "problem"])
    looks = [None if isinstance(facts, DataError) else facts.look for facts in found]
    failed = dataset.manifest.merge(problems[["image_id", "problem"]].rename(columns={"problem": "reason"}))
    failed = failed[["path", "source", "label", "reason"]]
    checks = run_checks(dataset.manifest, looks, dataset.excluded, unreadable=failed, num_folds=num_folds)
    write_checks(dataset, checks)
    return CheckReport(dataset.folder, len(paths), problems, checks)


def _problem(path: Path, facts, sha256: str) -> str | None:
    if isinstance(facts, DataError):
        return "missing" if is_missing(path) else f"unreadable: {facts.message}"
    if facts.sha256 != sha256:
        return f"changed: sha256 was {sha256[:12]}…, is {facts.sha256[:12]}…"
    return None
