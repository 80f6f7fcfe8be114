"""What every source provides: its rows, before any image is read, and what it leaves out."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, TypeAlias

from nonet.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

#: What a source knows about an image, with the default of each column.
ROW: dict[str, object] = {
    "path": None,  # with forward slashes, relative to the root
    "label": None,
    "patient": None,
    "patient_is_standin": False,
    "source": None,
    "split": None,
    "evaluate": True,
    "sha256": None,  # that the file should have, if known
    "opt_in_reason": None,  # why the image is left out unless `classes` names its label
    "original_image_id": None,  # of the image that this is a version of; the original counts as one of its versions
    "severity": None,
}


def plain(label: str) -> str:
    """Return a label as it is compared: lower case, with runs of blanks, hyphens and underscores as one blank.

    Parameters
    ----------
    label : str

    Returns
    -------
    str
    """
    return re.sub(r"[\s_-]+", " ", label).strip().casefold()


@dataclass(frozen=True)
class LeftOut:
    """Why an upstream label has no code.

    Attributes
    ----------
    reason : str
    label : str or None
        Label of its images where the user requests them by `classes`; None where they cannot be requested.
    """

    reason: str
    label: str | None = None


#: The code of an upstream label, or why it has none.
Meaning: TypeAlias = str | LeftOut


class LabelMap(dict[str, str | LeftOut]):
    """Upstream label → code, or why it has none. Lookup ignores case, blanks, hyphens and underscores.

    Parameters
    ----------
    labels : mapping
        Upstream label → str or LeftOut; or a tuple of that and the number of its images in the complete data set.

    Attributes
    ----------
    counts : dict
        Upstream label → number of images, where it is given.
    """

    def __init__(self, labels: Mapping[str, "Meaning | tuple[Meaning, int]"] = MappingProxyType({})):
        super().__init__({name: each[0] if isinstance(each, tuple) else each for name, each in labels.items()})
        self.counts = {name: each[1] for name, each in labels.items() if isinstance(each, tuple)}
        self._plain = {plain(upstream): upstream for upstream in labels}

    def known(self, upstream: str) -> str | None:
        """Return a label in the map's spelling.

        Parameters
        ----------
        upstream : str

        Returns
        -------
        str or None
            None where the map does not have it.
        """
        return self._plain.get(plain(upstream))

    def meaning(self, upstream: str) -> str | LeftOut | None:
        """Look up a label.

        Parameters
        ----------
        upstream : str

        Returns
        -------
        str, LeftOut or None
            The code, or why there is none; None where the map does not have the label.
        """
        known = self.known(upstream)
        return None if known is None else self[known]

    def codes(self) -> set[str]:
        """Return the codes that the labels map to."""
        return {meaning for meaning in self.values() if isinstance(meaning, str)}


class Packed(Protocol):
    """Images stored inside something else: a table, an array, or a photograph of many cells."""

    def fingerprint(self) -> str:
        """Return a short text that changes with the files that the images come from."""

    def images(self, paths: Collection[str]) -> Iterator[tuple[str, bytes | DataError]]:
        """Yield the images of some paths.

        Parameters
        ----------
        paths : collection of str

        Yields
        ------
        path : str
        data : bytes or DataError
            The bytes of an image file, or why it cannot be read.
        """


@dataclass
class Listing:
    """The images of one source.

    Attributes
    ----------
    root : Path
        Folder that paths are relative to.
    rows : list of dict
        One per image, with the keys of ROW.
    excluded : list of dict
        One per file that is left out: path, source, label, reason.
    notes : list of str
        Sentences for the user.
    packed : Packed or None
        Where images that are not files come from; None where they are files.
    kind : str
        Key in SOURCES.
    upstream : Counter
        Images by upstream label in the map's spelling; empty where a part with labels is missing.
    parts : Counter
        Images of each part of the data set that is present; empty where it has no parts.
    """

    root: Path
    rows: list[dict] = field(default_factory=list)
    excluded: list[dict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    packed: Packed | None = None
    kind: str = ""
    upstream: Counter[str] = field(default_factory=Counter)
    parts: Counter[str] = field(default_factory=Counter)

    def add(self, *, path: str, source: str, **columns: object) -> None:
        """Add an image.

        Parameters
        ----------
        path, source : str
        **columns
            Other columns of ROW that are known.
        """
        self.rows.append(ROW | {"path": path, "source": source} | columns)

    def exclude(self, path: str, source: str, label: str | None, reason: str) -> None:
        """Record a file that is left out.

        Parameters
        ----------
        path, source : str
        label : str or None
        reason : str
            Its words up to a colon are the kind of reason, by which exclusions are counted.
        """
        self.excluded.append({"path": path, "source": source, "label": label or "", "reason": reason})

    def add_upstream(self, labels: "LabelMap", upstream: str, *, path: str, source: str, **columns: object) -> None:
        """Add an image by its upstream label, or record it as left out where the map has no code for it.

        Parameters
        ----------
        labels : LabelMap
        upstream : str
        path, source : str
        **columns
            Other columns of ROW that are known.
        """
        meaning = labels.meaning(upstream)
        self.upstream[labels.known(upstream) or upstream] += 1
        if meaning is None:
            self.exclude(path, source, upstream, f"unknown label {upstream}: this source is not known to have it")
        elif not isinstance(meaning, LeftOut):
            self.add(path=path, label=meaning, source=source, **columns)
        else:
            reason = f"no code for {upstream}: {meaning.reason}"
            if meaning.label is None:
                self.exclude(path, source, upstream, reason)
            else:
                self.add(path=path, label=meaning.label, source=source, opt_in_reason=reason, **columns)

    def table(self) -> "pd.DataFrame":
        """Return the rows as a table.

        Returns
        -------
        DataFrame
            With all columns of ROW.
        """
        import pandas as pd

        table = pd.DataFrame(self.rows, columns=list(ROW)).astype(object)
        return table.astype({"patient_is_standin": bool, "evaluate": bool})
