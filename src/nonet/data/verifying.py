"""The work of `check_dataset`: reading every image again, and repeating the checks of the build."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from nonet.data.checks.page import write_checks
from nonet.data.checks.run import Checks, run_checks
from nonet.data.folds import NUM_FOLDS
from nonet.data.images.decode import ImageFacts
from nonet.data.manifest import Dataset
from nonet.data.scan import describe_images
from nonet.data.sources.paths import is_missing
from nonet.errors import DataError

MAX_SHOWN = 20  # problems in the text; the table has them all


@dataclass(frozen=True)
class CheckReport:
    """Result of `check_dataset`.

    Attributes
    ----------
    folder : Path
        Of the dataset.
    num_images : int
        How many were read.
    problems : DataFrame
        Columns image_id, path and problem: one row per image that is missing, changed or unreadable.
    checks : Checks
        Near duplicates, shortcuts, backgrounds, classes that are too small. `ok` does not depend on them, as they need
        judgement.
    """

    folder: Path
    num_images: int
    problems: pd.DataFrame
    checks: Checks

    @property
    def ok(self) -> bool:
        """Whether every image is unchanged."""
        return self.problems.empty

    def __str__(self) -> str:
        checks = f"{self.checks}\nChecks, with pictures: {self.folder / 'checks.html'}"
        if self.ok:
            return f"{self.folder}: all {self.num_images:,} images are present and unchanged.\n{checks}"
        lines = [f"{self.folder}: {len(self.problems):,} of {self.num_images:,} images have a problem."]
        lines += [f"  {row.path}: {row.problem}" for row in self.problems.head(MAX_SHOWN).itertuples()]
        if len(self.problems) > MAX_SHOWN:
            lines.append(f"  … and {len(self.problems) - MAX_SHOWN:,} more.")
        lines.append('Put the files back, or leave them out: run "nonet data build" again.')
        return "\n".join([*lines, checks])


def verify(dataset: Dataset, num_folds: int | None, num_workers: int | None) -> CheckReport:
    """Read every image of a dataset, run the checks, and write their page; see `nonet.check_dataset`."""
    paths = dataset.paths()
    results = describe_images(paths, num_workers=num_workers, description="checking images")
    image_ids, sha256s = dataset.manifest["image_id"], dataset.manifest["sha256"]
    rows = [
        (image_id, str(path), problem)
        for image_id, sha256, path, facts in zip(image_ids, sha256s, paths, results)
        if (problem := _problem(path, facts, sha256))
    ]
    problems = pd.DataFrame(rows, columns=["image_id", "path", "problem"])
    stats = [None if isinstance(facts, DataError) else facts.stats for facts in results]
    failed = dataset.manifest.merge(problems[["image_id", "problem"]].rename(columns={"problem": "reason"}))
    failed = failed[["path", "source", "label", "reason"]]
    check = partial(
        run_checks, dataset.manifest, stats, dataset.excluded, unreadable=failed, num_folds=num_folds or NUM_FOLDS
    )
    checks = write_checks(dataset, check)
    return CheckReport(dataset.folder, len(paths), problems, checks)


def _problem(path: Path, facts: ImageFacts | DataError, sha256: str) -> str | None:
    if isinstance(facts, DataError):
        return "missing" if is_missing(path) else f"unreadable: {facts.message}"
    if facts.sha256 != sha256:
        return f"changed: sha256 was {sha256[:12]}…, is {facts.sha256[:12]}…"
    return None
