"""What every kind of source gives: its rows, before any image is read, and what it leaves out."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

#: What a source says of an image; sha256 is what the file should have, where known.
ROW = {
    "path": None,  # posix, relative to the root
    "label": None,
    "patient": None,
    "patient_is_standin": False,
    "source": None,
    "split": None,
    "evaluate": True,
    "sha256": None,
}


@dataclass
class Listing:
    """The images of one source.

    Attributes
    ----------
    root : folder that paths are relative to.
    rows : one dict an image, with the keys of ROW that are known.
    excluded : dicts of path, source, label, reason.
    notes : what the user should know, in sentences.
    """

    root: Path
    rows: list[dict] = field(default_factory=list)
    excluded: list[dict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, **known) -> None:
        """Add an image."""
        self.rows.append(ROW | known)

    def exclude(self, path: str, source: str, label: str | None, reason: str) -> None:
        """List a file that is left out; the reason's words up to a colon are its kind."""
        self.excluded.append({"path": path, "source": source, "label": label or "", "reason": reason})

    def table(self) -> pd.DataFrame:
        """Return the rows as a table with all columns of ROW."""
        table = pd.DataFrame(self.rows, columns=list(ROW)).astype(object)
        return table.astype({"patient_is_standin": bool, "evaluate": bool})


def path_within(root: Path, path: str) -> str | None:
    """Return a path relative to `root` with forward slashes, or None where it, or what it links to, lies outside."""
    joined = Path(os.path.normpath(root / path))
    if not joined.is_relative_to(root) or not joined.resolve().is_relative_to(root.resolve()):
        return None
    return joined.relative_to(root).as_posix()
