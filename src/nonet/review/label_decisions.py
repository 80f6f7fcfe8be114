"""What people decided on doubtful labels: kept in the file of the reviews, and as decisions.csv for `data build`.

The database is the truth; decisions.csv is written anew from it after every change. Two people may decide at once: a
decision on an image that somebody else has decided in between is refused.
"""

import hashlib
import io
import logging
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from nonet.artifacts.csv_files import to_csv
from nonet.artifacts.run import Run, set_aside, write_text
from nonet.artifacts.storage import writing_to
from nonet.review.database import Database, now
from nonet.review.records import ReviewError, translatable

logger = logging.getLogger("nonet")

Choice = Literal["keep", "relabel", "unsure", "drop"]
#: Who decided what somebody wrote into issues.csv by hand.
BY_HAND = "issues.csv"
COLUMNS = ("image_id", "decision", "label", "note", "given", "who", "at")
_WRITTEN = "sha256 of decisions.csv"


@dataclass(frozen=True)
class LabelDecision:
    """How an image stands.

    Attributes
    ----------
    image_id, given : str
        The image, and the label that was doubted.
    decision, label, note, who, at : str
        The decision that stands: keep, relabel (to `label`), unsure or drop; "" where none does.
    version : int
        Grows with each decision and undo; a decision names the version that its reviewer saw. 0 before the first.
    """

    image_id: str
    given: str = ""
    decision: str = ""
    label: str = ""
    note: str = ""
    who: str = ""
    at: str = ""
    version: int = 0


class StaleDecisionError(ReviewError):
    """Somebody else has decided the image since the reviewer saw it. `stands` is how it stands now."""

    status = 409
    words = translatable("{who} has decided this cell in the meantime, so nothing was saved. It is shown as it stands.")

    def __init__(self, stands: LabelDecision):
        super().__init__(who=stands.who)
        self.stands = stands


class LabelDecisions(Database):
    """The decisions on the labels of a run.

    Parameters
    ----------
    run : Run
    """

    def __init__(self, run: Run):
        super().__init__(run.reviews, "label_decisions.sql")
        self.file = run.decisions

    def standing(self) -> dict[str, LabelDecision]:
        """Return image_id → how it stands, of each image on which there ever was a decision."""
        with self.connect() as connection:
            return _standing(connection)

    def decide(
        self,
        image_id: str,
        decision: Choice,
        label: str = "",
        *,
        who: str,
        given: str,
        version: int,
        sha256: str = "",
        note: str = "",
    ) -> LabelDecision:
        """Store a decision on an image.

        Parameters
        ----------
        image_id : str
        decision : {"keep", "relabel", "unsure", "drop"}
        label : str
            The new label of "relabel", otherwise "".
        who : str
        given : str
            The label that is doubted.
        version : int
            Of the image, as the reviewer saw it.
        sha256 : str
            Of the image.
        note : str

        Returns
        -------
        LabelDecision
            As the image stands now.

        Raises
        ------
        StaleDecisionError
            If somebody else has decided it in between.
        """
        with self.transaction() as connection:
            stands = _stands(connection, image_id)
            if stands.version != version:
                raise StaleDecisionError(stands)
            _add(connection, (who, image_id, sha256, given, decision, label, note, None))
            stands = _stands(connection, image_id)
        self.write()
        return stands

    def undo(self, *, who: str) -> LabelDecision | None:
        """Undo the reviewer's last decision that stands.

        Returns
        -------
        LabelDecision or None
            How its image stands now; None if nothing is left to undo.

        Raises
        ------
        StaleDecisionError
            If somebody else has decided that image since.
        """
        with self.transaction() as connection:
            last = connection.execute(
                f"SELECT * FROM label_decisions WHERE who = ? AND {_STANDS} ORDER BY id DESC LIMIT 1", (who,)
            ).fetchone()
            if last is None:
                return None
            image_id = last["image_id"]
            newest = _last(connection, image_id)
            if newest is None or newest["id"] != last["id"]:
                raise StaleDecisionError(_stands(connection, image_id))
            _add(connection, (who, image_id, last["sha256"], last["given"], "undo", "", "", last["id"]))
            stands = _stands(connection, image_id)
        self.write()
        return stands

    def take_in(self, written: Iterable[LabelDecision], sha256: dict[str, str]) -> int:
        """Store decisions that somebody wrote into issues.csv, each once; return how many were new.

        What was decided on the page later stays: only what was not yet in the file becomes a decision.
        """
        written = list(written)
        if not written:
            return 0
        with self.transaction() as connection:
            known = {
                tuple(row)
                for row in connection.execute(
                    "SELECT image_id, decision, label, note FROM label_decisions WHERE who = ?", (BY_HAND,)
                )
            }
            new = [one for one in written if (one.image_id, one.decision, one.label, one.note) not in known]
            for one in new:
                digest = sha256.get(one.image_id, "")
                _add(connection, (BY_HAND, one.image_id, digest, one.given, one.decision, one.label, one.note, None))
        self.write()
        return len(new)

    def as_csv(self) -> str:
        """Return the decisions as `nonet data build --decisions` takes them.

        An image on which somebody is unsure has a row without a decision, so that it stays as it is.
        """
        with self.connect() as connection:
            return _as_csv(_standing(connection))

    def write(self) -> None:
        """Write decisions.csv as the database stands, unless it says so already or there never was a decision.

        A file that somebody edited is kept under another name, as it is not the truth.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        with self.transaction() as connection:  # no other process writes the file meanwhile
            standing = _standing(connection)
            text, found = _as_csv(standing), _digest_of(self.file)
            digest = _digest(text.encode())
            row = connection.execute("SELECT value FROM facts WHERE name = ?", (_WRITTEN,)).fetchone()
            last = row["value"] if row else None
            if not standing or found == digest == last:
                return
            if found not in ("", digest, last):
                aside = set_aside(self.file, "edited")
                logger.warning(f"{self.file} was edited. It is kept as {aside.name}; the page does not read it.")
            if found != digest:
                write_text(self.file, text)
            connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (_WRITTEN, digest))

    def edited_copies(self) -> list[str]:
        """Return the names of edited versions of decisions.csv that were kept."""
        return sorted(path.name for path in self.file.parent.glob(f"{self.file.stem}.edited*{self.file.suffix}"))


#: Of a decision: it does not undo another, and was not undone.
_STANDS = (
    "decision != 'undo' AND NOT EXISTS (SELECT 1 FROM label_decisions AS later WHERE later.undoes = label_decisions.id)"
)
_FACTS = "image_id, given, decision, label, note, who, at"


def _last(connection: sqlite3.Connection, image_id: str) -> sqlite3.Row | None:
    """Return the last decision on an image that was not undone."""
    return connection.execute(
        f"SELECT id, {_FACTS} FROM label_decisions WHERE image_id = ? AND {_STANDS} ORDER BY id DESC LIMIT 1",
        (image_id,),
    ).fetchone()


def _stands(connection: sqlite3.Connection, image_id: str) -> LabelDecision:
    latest = connection.execute(
        "SELECT id, who FROM label_decisions WHERE image_id = ? ORDER BY id DESC LIMIT 1", (image_id,)
    ).fetchone()
    if latest is None:
        return LabelDecision(image_id)
    last = _last(connection, image_id)
    if last is None:
        return LabelDecision(image_id, who=latest["who"], version=latest["id"])
    facts = dict(last)
    del facts["id"]
    return LabelDecision(**facts, version=latest["id"])


def _standing(connection: sqlite3.Connection) -> dict[str, LabelDecision]:
    versions = dict(connection.execute("SELECT image_id, max(id) FROM label_decisions GROUP BY image_id").fetchall())
    standing = {image_id: LabelDecision(image_id, version=version) for image_id, version in versions.items()}
    for row in connection.execute(f"SELECT {_FACTS} FROM label_decisions WHERE {_STANDS} ORDER BY id"):
        standing[row["image_id"]] = LabelDecision(**dict(row), version=versions[row["image_id"]])
    return standing


def _add(connection: sqlite3.Connection, values: tuple) -> None:
    connection.execute(
        "INSERT INTO label_decisions (at, who, image_id, sha256, given, decision, label, note, undoes) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (now(), *values),
    )


def _as_csv(standing: dict[str, LabelDecision]) -> str:
    rows = []
    for image_id in sorted(standing):
        one = standing[image_id]
        if one.decision:
            is_unsure = one.decision == "unsure"
            note = f"unsure: {one.note}".removesuffix(": ") if is_unsure else one.note
            rows.append((image_id, "" if is_unsure else one.decision, one.label, note, one.given, one.who, one.at))
    stream = io.StringIO()
    to_csv(pd.DataFrame(rows, columns=COLUMNS, dtype=object), stream)
    return stream.getvalue()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _digest_of(file: Path) -> str:
    """Return the SHA-256 of a file, "" where it does not exist."""
    with writing_to(file):
        return _digest(file.read_bytes()) if file.exists() else ""
