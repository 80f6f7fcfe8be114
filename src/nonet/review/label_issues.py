"""The queue of doubtful labels: issues.csv of a run, where its pictures are, and how far its review has come."""

import math
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from nonet.artifacts.csv_files import unquote
from nonet.artifacts.run import Run
from nonet.cells import CELLS
from nonet.data.labels import match_label
from nonet.data.run_images import RunImages
from nonet.data.sources.tables import read_table
from nonet.errors import DataError
from nonet.review.label_decisions import LabelDecision, LabelDecisions
from nonet.review.records import NotFoundError, ReviewError, translatable

State = Literal["open", "decided", "all"]
_NEEDED = ("image_id", "given", "suggested")
_DECISIONS = ("keep", "drop", "relabel")  # as `nonet.data.decisions` takes them


class NoIssuesError(ReviewError):
    """The run has no list of issues."""

    status = 404
    words = translatable("The doubtful labels of this run are not listed yet.")
    what_to_do = translatable('Run "nonet issues RUN", then reload the page.')


class NoPictureError(ReviewError):
    """The picture of an image cannot be shown."""

    status = 404
    words = translatable("The image is missing, or has changed since the dataset was built.")


@dataclass(frozen=True)
class Issue:
    """A doubtful label.

    Attributes
    ----------
    rank : int
        From 1, the most doubtful.
    image_id, source, patient, given, suggested : str
        As in issues.csv.
    given_confidence, suggested_confidence : float or None
        Probabilities of the given and of the suggested class.
    given_neighbours, suggested_neighbours : tuple of str
        image_ids of the held-out cells of both classes that look most like it, nearest first.
    """

    rank: int
    image_id: str
    source: str
    patient: str
    given: str
    suggested: str
    given_confidence: float | None
    suggested_confidence: float | None
    given_neighbours: tuple[str, ...]
    suggested_neighbours: tuple[str, ...]

    @property
    def pair(self) -> str:
        """The given and the suggested class, as a filter names them."""
        return f"{self.given} → {self.suggested}"

    @property
    def lineages(self) -> set[str]:
        """The lineages of both classes, where they are known."""
        return {CELLS[code].lineage for code in (self.given, self.suggested) if code in CELLS}


@dataclass(frozen=True)
class Filter:
    """Which issues are shown; "" shows any.

    Attributes
    ----------
    pair, lineage, patient, source : str
    state : {"open", "decided", "all"}
        Whether a decision on them stands.
    """

    pair: str = ""
    lineage: str = ""
    patient: str = ""
    source: str = ""
    state: State = "open"

    def takes(self, issue: Issue) -> bool:
        """Return whether an issue is shown, whatever was decided."""
        return (
            self.pair in ("", issue.pair)
            and (not self.lineage or self.lineage in issue.lineages)
            and self.patient in ("", issue.patient)
            and self.source in ("", issue.source)
        )


@dataclass(frozen=True)
class IssueList:
    """The content of issues.csv.

    Attributes
    ----------
    issues : dict of str to Issue
        image_id → issue, worst first.
    by_hand : list of LabelDecision
        Decisions that somebody wrote into the file.
    num_unknown : int
        Rows that name an image or a class which the run does not have; they are left out.
    lines_not_understood : list of int
        Lines whose decision cannot be used.
    """

    issues: dict[str, Issue]
    by_hand: list[LabelDecision]
    num_unknown: int
    lines_not_understood: list[int]

    @cached_property
    def images(self) -> frozenset[str]:
        """Every image that may be shown: the issues and their neighbours."""
        found = set(self.issues)
        for issue in self.issues.values():
            found.update(issue.given_neighbours, issue.suggested_neighbours)
        return frozenset(found)

    @cached_property
    def choices(self) -> dict[str, list[tuple[str, int]]]:
        """What each filter offers, with the number of issues: the commonest pairs first, names in order."""
        issues = self.issues.values()
        pairs = Counter(issue.pair for issue in issues).most_common()
        counts = {
            "lineage": Counter(lineage for issue in issues for lineage in issue.lineages),
            "source": Counter(issue.source for issue in issues if issue.source),
            "patient": Counter(issue.patient for issue in issues if issue.patient),
        }
        return {"pair": pairs} | {name: sorted(counter.items()) for name, counter in counts.items()}


class IssueQueue:
    """The doubtful labels of a run and what was decided on them.

    Parameters
    ----------
    run : Run
    classes : sequence of str
        Its classes.
    """

    def __init__(self, run: Run, classes: Sequence[str]):
        self.run, self.classes = run, classes
        self.decisions = LabelDecisions(run)
        self._lock = threading.Lock()
        self._stamp: tuple | None = None
        self._list: IssueList | None = None
        self._images: RunImages | None = None

    def load(self) -> IssueList:
        """Return the issues; the file is read again whenever it has changed.

        Raises
        ------
        NoIssuesError
            If the run has no issues.csv.
        DataError
            If it cannot be read as one.
        """
        with self._lock:
            try:
                facts = self.run.issues.stat()
            except OSError as error:
                raise NoIssuesError from error
            stamp = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
            if self._list is None or stamp != self._stamp:
                images = RunImages(self.run)
                found = read_issues(self.run.issues, self.classes, images.sha256)
                self.decisions.take_in(found.by_hand, images.sha256)
                self._stamp, self._list, self._images = stamp, found, images
            return self._list

    def images(self, *, again: bool = False) -> RunImages:
        """Return where the images are; `again` looks whether the dataset has gone or come back."""
        self.load()
        with self._lock:
            if self._images is None or (again and not self._images.is_there()):
                self._images = RunImages(self.run)
            return self._images

    def issue(self, image_id: str) -> Issue:
        """Return the issue of an image; NotFoundError if it is not an issue."""
        issue = self.load().issues.get(image_id)
        if issue is None:
            raise NotFoundError
        return issue

    def select(
        self, chosen: Filter, *, after: int = 0, limit: int = 100
    ) -> tuple[list[tuple[Issue, LabelDecision]], int, int]:
        """Return issues, worst first, and how many there are.

        Parameters
        ----------
        chosen : Filter
        after : int
            Only issues of a greater rank are returned; counts are of all.
        limit : int
            At most so many are returned.

        Returns
        -------
        rows : list of (Issue, LabelDecision)
        num : int
            Number of issues by pair, lineage, patient and source, whatever was decided.
        num_left : int
            Number of these on which no decision stands.
        """
        issues, standing = self.load().issues, self.decisions.standing()
        rows: list[tuple[Issue, LabelDecision]] = []
        num = num_left = 0
        for issue in filter(chosen.takes, issues.values()):
            stands = standing.get(issue.image_id) or LabelDecision(issue.image_id)
            num, num_left = num + 1, num_left + (not stands.decision)
            is_shown = chosen.state == "all" or (chosen.state == "decided") == bool(stands.decision)
            if is_shown and issue.rank > after and len(rows) < limit:
                rows.append((issue, stands))
        return rows, num, num_left

    def picture(self, image_id: str) -> tuple[str, str]:
        """Return the path and the checksum of an image that issues.csv names.

        Raises
        ------
        NotFoundError
            If issues.csv does not name it.
        NoPictureError
            If it is not known where it is.
        """
        if image_id not in self.load().images:
            raise NotFoundError
        images = self.images()
        path, digest = images.find(image_id), images.sha256.get(image_id)
        if path is None or digest is None:
            raise NoPictureError
        return str(path), digest


def read_issues(file: Path, classes: Iterable[str], known: Iterable[str]) -> IssueList:
    """Read issues.csv, which a person may have edited.

    Parameters
    ----------
    file : Path
    classes : iterable of str
        Classes of the run.
    known : iterable of str
        image_ids of the run; empty where they are not known.

    Returns
    -------
    IssueList

    Raises
    ------
    DataError
        If a column is missing, or it is not a table.
    """
    table = unquote(read_table(file))
    missing = [name for name in _NEEDED if name not in table]
    if missing:
        raise DataError(
            f"{file} lacks the column {missing[0]}.", hint='Run "nonet issues" again: it keeps an edited file beside.'
        )
    allowed, images = set(classes), set(known)
    found = IssueList({}, [], 0, [])
    num_unknown = 0
    for line, row in zip(table.index, table.to_dict("records")):
        issue = _issue(row, len(found.issues) + 1)
        is_known = issue.image_id in images if images else bool(issue.image_id)
        if not is_known or {issue.given, issue.suggested} - allowed:
            num_unknown += 1
        elif issue.image_id not in found.issues:
            found.issues[issue.image_id] = issue
            try:
                found.by_hand.extend(_decision_by_hand(row, issue, allowed))
            except DataError:
                found.lines_not_understood.append(int(line))
    return IssueList(found.issues, found.by_hand, num_unknown, found.lines_not_understood)


def _issue(row: dict, rank: int) -> Issue:
    neighbours = {
        which: tuple(name for place in (1, 2, 3) if (name := row.get(f"{which}_neighbour_{place}")))
        for which in ("given", "suggested")
    }
    return Issue(
        rank=rank,
        **{name: row.get(name) or "" for name in ("image_id", "source", "patient", "given", "suggested")},
        given_confidence=_probability(row.get("self_confidence")),
        suggested_confidence=_probability(row.get("suggested_confidence")),
        given_neighbours=neighbours["given"],
        suggested_neighbours=neighbours["suggested"],
    )


def _probability(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) and 0 <= value <= 1 else None


def _decision_by_hand(row: dict, issue: Issue, classes: set[str]) -> list[LabelDecision]:
    """Return the decision that somebody wrote into a row, if any; DataError where it cannot be used."""
    decision, label, note = ((row.get(name) or "").strip() for name in ("decision", "label", "note"))
    decision, label = decision.lower(), label and (match_label(label, classes) or label)
    if not decision and not label:
        return []
    if decision not in _DECISIONS or (decision == "relabel" and label not in classes):
        raise DataError("not a decision")
    if decision == "keep" and label not in ("", issue.given):
        raise DataError("kept with another label")
    label = label if decision == "relabel" else ""
    return [LabelDecision(issue.image_id, issue.given, decision, label, note)]
