"""The reviews of a run: one SQLite file, in which decisions and signatures are only ever added.

Two people may review at once: a decision on a cell that somebody else changed in between is refused.
"""

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nonet.errors import DataError
from nonet.review.database import Database, now
from nonet.review.records import (
    Case,
    Cell,
    LockedCaseError,
    NewCell,
    NoReasonError,
    NotFoundError,
    NotSignedError,
    StaleCaseError,
    StaleCellError,
    UnfinishedCaseError,
)


class Store(Database):
    """The reviews of a run.

    Parameters
    ----------
    path : Path
        The SQLite file; made if it does not exist.
    """

    def __init__(self, path: Path):
        super().__init__(path, "schema.sql")

    def classes(self, classes: Sequence[str] = ()) -> list[str]:
        """Return the classes of the run, and store them if none are.

        Raises
        ------
        DataError
            If others are stored.
        """
        with self.transaction() as connection:
            row = connection.execute("SELECT value FROM facts WHERE name = 'classes'").fetchone()
            if row is None and classes:
                connection.execute("INSERT INTO facts VALUES ('classes', ?)", (json.dumps([*classes]),))
        stored = json.loads(row["value"]) if row else [*classes]
        if classes and stored != [*classes]:
            raise DataError(
                f"The classes of these predictions are {', '.join(classes)}; those of the cases in {self.path} are "
                f"{', '.join(stored)}.",
                hint="Predict the cells again with this run.",
            )
        return stored

    def find_case(self, name: str) -> Case | None:
        """Return the case of this name, or None."""
        with self.connect() as connection:
            row = connection.execute(_CASES + " WHERE cases.name = ? GROUP BY cases.id", (name,)).fetchone()
            return None if row is None else _as_case(connection, row)

    def add_case(
        self, name: str, cells: Sequence[NewCell], *, source: str, digest: str, model: str, added_by: str = ""
    ) -> int:
        """Add a predicted case, all of it or nothing; one of that name that is there already stays as it is.

        Parameters
        ----------
        name : str
        cells : sequence of NewCell
        source : str
            The folder of predictions.
        digest : str
            Of what was predicted.
        model : str
            Fingerprint of the ensemble.
        added_by : str
            The user who uploaded it; "" for a case that "nonet serve" was given.

        Returns
        -------
        int
            Its id.
        """
        with self.transaction() as connection:
            stored = connection.execute("SELECT id FROM cases WHERE name = ?", (name,)).fetchone()
            if stored:
                return stored["id"]
            case_id = connection.execute(
                "INSERT INTO cases (name, source, digest, model, created_at, added_by) VALUES (?, ?, ?, ?, ?, ?)",
                (name, source, digest, model, now(), added_by),
            ).lastrowid
            connection.executemany(
                "INSERT INTO cells (case_id, position, image, path, sha256, predicted, reason, facts, label) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        *(case_id, position, each.image, each.path, each.sha256, each.predicted, each.reason),
                        json.dumps(each.facts),
                        each.predicted,
                    )
                    for position, each in enumerate(cells)
                ],
            )
        assert case_id is not None
        return case_id

    def cases(self, search: str = "") -> list[Case]:
        """Return the cases whose name contains `search`, newest first."""
        with self.connect() as connection:
            rows = connection.execute(
                _CASES + " WHERE instr(lower(cases.name), lower(?)) GROUP BY cases.id ORDER BY cases.id DESC", (search,)
            ).fetchall()
            return [_as_case(connection, row) for row in rows]

    def case(self, case_id: int) -> Case:
        """Return a case.

        Raises
        ------
        NotFoundError
            If it does not exist.
        """
        with self.connect() as connection:
            return _case(connection, case_id)

    def cells(self, case_id: int) -> list[Cell]:
        """Return the cells of a case, in the order of its predictions."""
        with self.connect() as connection:
            rows = connection.execute(_CELLS + " WHERE case_id = ? ORDER BY position", (case_id,)).fetchall()
        return [_as_cell(row) for row in rows]

    def cell(self, cell_id: int) -> Cell:
        """Return a cell; NotFoundError if it does not exist."""
        with self.connect() as connection:
            return _cell(connection, cell_id)

    def decide(
        self,
        case_id: int,
        versions: dict[int, int],
        label: str | None,
        *,
        who: str,
        kind: str = "move",
        is_blind: bool = False,
    ) -> list[Cell]:
        """Give cells of a case a label, all of them or none.

        Parameters
        ----------
        case_id : int
        versions : dict of int to int
            Cell → the version that the reviewer saw.
        label : str or None
            Their label from now on; None confirms the label that each has.
        who : str
        kind : {"move", "agree", "accept"}
        is_blind : bool
            Whether the reviewer did not see the ensemble's suggestion.

        Returns
        -------
        list of Cell
            As they stand now.

        Raises
        ------
        StaleCellError
            If somebody else changed one of them in between.
        LockedCaseError
            If the case is signed.
        NotFoundError
            If the case has no such cell, or it could not be read.
        """
        with self.transaction() as connection:
            case = _case(connection, case_id)
            _require_open(case)
            cells = [_cell(connection, cell_id) for cell_id in versions]
            if any(cell.case_id != case_id or not cell.predicted for cell in cells):
                raise NotFoundError
            stale = [cell for cell in cells if cell.version != versions[cell.id]]
            if stale:
                raise StaleCellError(stale)
            batch = _next_batch(connection)
            for cell in cells:
                _add_decision(connection, batch, who, cell, label or cell.label, kind, case.model, is_blind=is_blind)
            return [_cell(connection, cell.id) for cell in cells]

    def undo(self, case_id: int, *, who: str) -> list[Cell]:
        """Undo the reviewer's last decision in a case that still stands.

        Returns
        -------
        list of Cell
            Those that it concerned, as they stand now; empty if nothing is left to undo.

        Raises
        ------
        StaleCellError
            If somebody else has changed one of the cells since.
        LockedCaseError
            If the case is signed.
        """
        with self.transaction() as connection:
            case = _case(connection, case_id)
            _require_open(case)
            last = connection.execute(
                "SELECT max(batch) AS batch FROM decisions JOIN cells ON cells.id = cell_id "
                f"WHERE case_id = ? AND who = ? AND {_STANDS}",
                (case_id, who),
            ).fetchone()["batch"]
            if last is None:
                return []
            decisions = connection.execute("SELECT * FROM decisions WHERE batch = ?", (last,)).fetchall()
            cells = {each["cell_id"]: _cell(connection, each["cell_id"]) for each in decisions}
            later = [
                cells[each["cell_id"]]
                for each in decisions
                if _last_standing(connection, each["cell_id"]) != each["id"]
            ]
            if later:
                raise StaleCellError(later)
            batch = _next_batch(connection)
            for each in decisions:
                cell = cells[each["cell_id"]]
                _add_decision(connection, batch, who, cell, each["from_label"], "undo", case.model, undoes=each["id"])
            return [_cell(connection, cell_id) for cell_id in cells]

    def sign(self, case_id: int, version: int, *, who: str, comment: str = "") -> Case:
        """Sign a case, which locks it.

        Parameters
        ----------
        case_id : int
        version : int
            Of the case, as the reviewer saw it.
        who : str
        comment : str

        Returns
        -------
        Case

        Raises
        ------
        StaleCaseError
            If a cell was changed since.
        UnfinishedCaseError
            If cells are unidentified.
        LockedCaseError
            If it is signed already.
        """
        with self.transaction() as connection:
            case = _case(connection, case_id)
            _require_open(case)
            if case.num_unidentified:
                raise UnfinishedCaseError(num=case.num_unidentified)
            if case.version != version:
                raise StaleCaseError
            _add_signature(connection, who, case_id, "sign", comment)
            return _case(connection, case_id)

    def reopen(self, case_id: int, *, who: str, reason: str) -> Case:
        """Open a signed case again; the reason is kept.

        Raises
        ------
        NoReasonError
            If no reason is given.
        NotSignedError
            If the case is open.
        """
        if not reason.strip():
            raise NoReasonError
        with self.transaction() as connection:
            if not _case(connection, case_id).is_signed:
                raise NotSignedError
            _add_signature(connection, who, case_id, "reopen", reason.strip())
            return _case(connection, case_id)

    def history(self, case_id: int) -> list[dict]:
        """Return every decision and signature of a case, oldest first, as dicts of their columns."""
        with self.connect() as connection:
            decisions = connection.execute(
                "SELECT decisions.*, cells.image, cells.position FROM decisions JOIN cells ON cells.id = cell_id "
                "WHERE case_id = ? ORDER BY decisions.id",
                (case_id,),
            ).fetchall()
            signatures = connection.execute(
                "SELECT * FROM signatures WHERE case_id = ? ORDER BY id", (case_id,)
            ).fetchall()
        rows = [dict(row) for row in decisions] + [dict(row) | {"kind": row["action"]} for row in signatures]
        return sorted(rows, key=lambda row: row["batch"])


#: Of a decision: it does not undo another, and was not undone.
_STANDS = "kind != 'undo' AND NOT EXISTS (SELECT 1 FROM decisions AS later WHERE later.undoes = decisions.id)"
_CELLS = (
    f"SELECT cells.*, (SELECT count(*) FROM decisions WHERE cell_id = cells.id AND {_STANDS}) AS num_decisions "
    "FROM cells"
)
_CASES = (
    "SELECT cases.*, sum(cells.predicted != '') AS num_cells, sum(cells.label = 'unidentified') AS num_unidentified, "
    "sum(cells.label != cells.predicted) AS num_changed, sum(cells.version) AS version "
    "FROM cases LEFT JOIN cells ON cells.case_id = cases.id"
)


def _as_cell(row: sqlite3.Row) -> Cell:
    return Cell(**dict(row) | {"facts": json.loads(row["facts"])})


def _cell(connection: sqlite3.Connection, cell_id: int) -> Cell:
    row = connection.execute(_CELLS + " WHERE id = ?", (cell_id,)).fetchone()
    if row is None:
        raise NotFoundError
    return _as_cell(row)


def _as_case(connection: sqlite3.Connection, row: sqlite3.Row) -> Case:
    signatures = connection.execute("SELECT * FROM signatures WHERE case_id = ? ORDER BY id", (row["id"],)).fetchall()
    facts: dict[str, Any] = dict(row)
    for name in ("num_cells", "num_unidentified", "num_changed", "version"):
        facts[name] = facts[name] or 0  # NULL of a case without cells
    if signatures and signatures[-1]["action"] == "sign":
        last = signatures[-1]
        facts |= {"signed_by": last["who"], "signed_at": last["at"], "comment": last["comment"]}
    facts["was_reopened"] = any(each["action"] == "reopen" for each in signatures)
    return Case(**facts)


def _case(connection: sqlite3.Connection, case_id: int) -> Case:
    row = connection.execute(_CASES + " WHERE cases.id = ? GROUP BY cases.id", (case_id,)).fetchone()
    if row is None:
        raise NotFoundError
    return _as_case(connection, row)


def _require_open(case: Case) -> None:
    if case.is_signed:
        raise LockedCaseError(name=case.name, who=case.signed_by)


def _next_batch(connection: sqlite3.Connection) -> int:
    return connection.execute(
        "SELECT 1 + coalesce(max(batch), 0) FROM (SELECT max(batch) AS batch FROM decisions UNION "
        "SELECT max(batch) AS batch FROM signatures)"
    ).fetchone()[0]


def _last_standing(connection: sqlite3.Connection, cell_id: int) -> int | None:
    """Return the last decision on a cell that was not undone."""
    return connection.execute(f"SELECT max(id) FROM decisions WHERE cell_id = ? AND {_STANDS}", (cell_id,)).fetchone()[
        0
    ]


def _add_decision(
    connection: sqlite3.Connection,
    batch: int,
    who: str,
    cell: Cell,
    label: str,
    kind: str,
    model: str,
    *,
    is_blind: bool = False,
    undoes: int | None = None,
) -> None:
    connection.execute(
        "INSERT INTO decisions (batch, at, who, cell_id, sha256, from_label, to_label, kind, undoes, is_blind, model) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (batch, now(), who, cell.id, cell.sha256, cell.label, label, kind, undoes, int(is_blind), model),
    )
    connection.execute("UPDATE cells SET label = ?, version = version + 1 WHERE id = ?", (label, cell.id))


def _add_signature(connection: sqlite3.Connection, who: str, case_id: int, action: str, comment: str) -> None:
    connection.execute(
        "INSERT INTO signatures (batch, at, who, case_id, action, comment) VALUES (?, ?, ?, ?, ?, ?)",
        (_next_batch(connection), now(), who, case_id, action, comment),
    )
