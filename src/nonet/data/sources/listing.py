"""What every kind of source gives: its rows, before any image is read, and what it leaves out."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import pandas as pd

from nonet.errors import DataError

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
    "only_if_asked": None,  # why it is left out unless `classes` names its label
    "original_image_id": None,  # of the image that it is a version of, itself among its versions
    "severity": None,
}


def plain(label: str) -> str:
    """Return a label as it is compared: lower case, one blank for any run of blanks, hyphens and underscores."""
    return re.sub(r"[\s_-]+", " ", label).strip().casefold()


@dataclass(frozen=True)
class LeftOut:
    """Why an upstream label has no code of ours.

    Attributes
    ----------
    reason : in words.
    label : what its images are called where the user asks for them by `classes`; None where they cannot be had.
    """

    reason: str
    label: str | None = None


class LabelMap(dict[str, str | LeftOut]):
    """Upstream label → code of ours, or why it has none; looked up regardless of case, blanks, hyphens, underscores."""

    def __init__(self, labels: Mapping[str, str | LeftOut] = MappingProxyType({})):
        super().__init__(labels)
        self._plain = {plain(upstream): upstream for upstream in labels}

    def known(self, upstream: str) -> str | None:
        """Return the label as the map spells it, or None where it is not there."""
        return self._plain.get(plain(upstream))

    def meaning(self, upstream: str) -> str | LeftOut | None:
        """Return the code, or why there is none, or None where the map does not know the label."""
        known = self.known(upstream)
        return None if known is None else self[known]

    def codes(self) -> set[str]:
        """Return the codes that some label maps to."""
        return {meaning for meaning in self.values() if isinstance(meaning, str)}


class Packed(Protocol):
    """Images that lie inside something else: a table, an array, a photograph of many cells."""

    def stamp(self) -> str:
        """Return a short text that changes when what they are taken from changes."""

    def images(self, paths: Collection[str]) -> Iterator[tuple[str, bytes | DataError]]:
        """Give (path, bytes of an image file) for those asked for; an error instead where one cannot be had."""


@dataclass
class Listing:
    """The images of one source.

    Attributes
    ----------
    root : folder that paths are relative to.
    rows : one dict an image, with the keys of ROW that are known.
    excluded : dicts of path, source, label, reason.
    notes : what the user should know, in sentences.
    packed : where the images are no files yet, what gives them; None where they are.
    kind : the name in SOURCES of what it is a listing of.
    upstream : images by their publishers' label, as the map spells it; empty where a part is missing that has labels.
    parts : images of each part of the data set that is there; empty where it has no parts.
    """

    root: Path
    rows: list[dict] = field(default_factory=list)
    excluded: list[dict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    packed: Packed | None = None
    kind: str = ""
    upstream: Counter = field(default_factory=Counter)
    parts: Counter = field(default_factory=Counter)

    def add(self, **known) -> None:
        """Add an image."""
        self.rows.append(ROW | known)

    def exclude(self, path: str, source: str, label: str | None, reason: str) -> None:
        """List a file that is left out; the reason's words up to a colon are its kind."""
        self.excluded.append({"path": path, "source": source, "label": label or "", "reason": reason})

    def add_upstream(self, labels: "LabelMap", upstream: str, *, path: str, source: str, **known) -> None:
        """Add an image by its publishers' label, or list it as left out where the map gives it no code."""
        meaning = labels.meaning(upstream)
        self.upstream[labels.known(upstream) or upstream] += 1
        if meaning is None:
            self.exclude(path, source, upstream, f"unknown label {upstream}: it is not in the map of this source")
        elif not isinstance(meaning, LeftOut):
            self.add(path=path, label=meaning, source=source, **known)
        else:
            reason = f"no code for {upstream}: {meaning.reason}"
            if meaning.label is None:
                self.exclude(path, source, upstream, reason)
            else:
                self.add(path=path, label=meaning.label, source=source, only_if_asked=reason, **known)

    def table(self) -> pd.DataFrame:
        """Return the rows as a table with all columns of ROW."""
        table = pd.DataFrame(self.rows, columns=list(ROW)).astype(object)
        return table.astype({"patient_is_standin": bool, "evaluate": bool})
