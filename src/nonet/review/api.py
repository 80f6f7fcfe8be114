"""The JSON of the review page: cases, cells, decisions, signatures, differentials."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Literal, Self

from fastapi import FastAPI, Request, Response
from pydantic import Field, model_validator

from nonet.errors import DataError
from nonet.review.access import Reader, Reviewer
from nonet.review.answers import CHANGES, CaseAnswer, CellAnswer, CellsAnswer, Conflict, HistoryAnswer
from nonet.review.bodies import JsonBody, Number, Version
from nonet.review.records import Case, Cell
from nonet.review.results import MEDIA_TYPES, export
from nonet.review.site import Site

_STALE = CHANGES | {409: {"model": Conflict, "description": "Somebody else has changed cells, or the case is signed."}}
_FILES = {
    "description": "The file.",
    "content": {
        kind.split(";")[0]: {"schema": {"type": "object" if "json" in kind else "string"}}
        for kind in MEDIA_TYPES.values()
    },
}


class Decision(JsonBody):
    """Cells and the label that they get; without a label they keep theirs."""

    cells: Annotated[
        dict[Annotated[str, Field(pattern=r"^[1-9][0-9]{0,14}$")], Version],
        Field(min_length=1, max_length=10_000),
    ]
    """Cell → the version that the reviewer saw."""
    label: Annotated[str, Field(max_length=200)] | None = None
    kind: Literal["move", "agree", "accept"] = "move"
    is_blind: bool = False

    @model_validator(mode="after")
    def _label_suits_kind(self) -> Self:
        if (self.kind == "move") != (self.label is not None) and self.kind != "agree":
            raise ValueError('"move" needs a label, and "accept" takes none')
        return self


class Signature(JsonBody):
    """A signature under a case as the reviewer saw it."""

    version: Version
    comment: Annotated[str, Field(max_length=2000)] = ""


class Key(JsonBody):
    """Another letter for a label."""

    label: Annotated[str, Field(max_length=200)]
    letter: Annotated[str, Field(max_length=4)]


class Reopening(JsonBody):
    """The reason for reopening a case."""

    comment: Annotated[str, Field(max_length=2000)]


def add_api(app: FastAPI, site: Site) -> None:
    """Add the JSON of cases and cells to an application.

    Parameters
    ----------
    app : FastAPI
    site : Site
    """
    _add_cases(app, site)
    _add_decisions(app, site)
    _add_keys(app, site)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        """Say that the program runs."""
        return {"status": "ok"}


def _add_cases(app: FastAPI, site: Site) -> None:
    store = site.store

    @app.get("/api/cases", response_model=list[CaseAnswer])
    def list_cases(user: Reader, search: str = "") -> list[dict]:
        """List the cases whose name contains `search`, newest first."""
        return [_case_json(case) for case in store.cases(search)]

    @app.get("/api/cases/{case_id}", response_model=CaseAnswer)
    def get_case(case_id: Number, user: Reader) -> dict:
        """Return a case and how far its review has come."""
        return _case_json(store.case(case_id))

    @app.get("/api/cases/{case_id}/cells", response_model=list[CellAnswer])
    def list_cells(request: Request, case_id: Number, user: Reader) -> list[dict]:
        """List the readable cells of a case as they stand."""
        store.case(case_id)
        return cells_json(site, request, [cell for cell in store.cells(case_id) if cell.predicted])

    @app.get("/api/cases/{case_id}/history", response_model=list[HistoryAnswer], response_model_exclude_unset=True)
    def history(request: Request, case_id: Number, user: Reader) -> list[dict]:
        """Return every decision and signature of a case, oldest first."""
        store.case(case_id)
        name = site.image_names(request, case_id)
        return [
            row | {"image": name(row["position"], row["image"])} if "image" in row else row
            for row in store.history(case_id)
        ]

    @app.get("/api/cases/{case_id}/differential.{kind}", response_class=Response, responses={200: _FILES})
    def get_differential(case_id: Number, kind: Literal["csv", "json", "fhir"], user: Reader) -> Response:
        """Return the differential as reviewed: CSV, JSON or HL7 FHIR R4B."""
        text, file = export(store.case(case_id), store.cells(case_id), site.classes, kind)
        headers = {"Content-Disposition": f'attachment; filename="{file}"'}
        return Response(text, media_type=MEDIA_TYPES[kind], headers=headers)


def _add_decisions(app: FastAPI, site: Site) -> None:
    store = site.store

    @app.post("/api/cases/{case_id}/decisions", response_model=CellsAnswer, responses=_STALE)
    def decide(request: Request, case_id: Number, body: Decision, user: Reviewer) -> dict:
        """Give cells a label, all of them or none; 409 with the cells that somebody else has changed."""
        if body.label is not None and body.label not in site.letters.default:
            raise DataError(f'"{body.label}" is not a class of this run.')
        versions = {int(cell): version for cell, version in body.cells.items()}
        cells = store.decide(case_id, versions, body.label, who=user.name, kind=body.kind, is_blind=body.is_blind)
        return {"cells": cells_json(site, request, cells)}

    @app.post("/api/cases/{case_id}/undo", response_model=CellsAnswer, responses=_STALE)
    def undo(request: Request, case_id: Number, user: Reviewer) -> dict:
        """Undo the reviewer's last decision in this case that still stands."""
        return {"cells": cells_json(site, request, store.undo(case_id, who=user.name))}

    @app.post("/api/cases/{case_id}/sign", response_model=CaseAnswer, responses=CHANGES)
    def sign(case_id: Number, body: Signature, user: Reviewer) -> dict:
        """Sign and lock a case; 409 while cells are unidentified, or if it was changed since the reviewer saw it."""
        return _case_json(store.sign(case_id, body.version, who=user.name, comment=body.comment.strip()))

    @app.post("/api/cases/{case_id}/reopen", response_model=CaseAnswer, responses=CHANGES)
    def reopen(case_id: Number, body: Reopening, user: Reviewer) -> dict:
        """Open a signed case again, for a reason."""
        return _case_json(store.reopen(case_id, who=user.name, reason=body.comment))


def _add_keys(app: FastAPI, site: Site) -> None:
    @app.get("/api/keys")
    def get_keys(user: Reader) -> dict[str, str]:
        """Return the letter of each label, as this person chose them."""
        return site.letters.of(user.name)

    @app.put("/api/keys")
    def change_key(body: Key, user: Reader) -> dict[str, str]:
        """Give a label another letter; a label that has it already gets the first one's."""
        if body.label not in site.letters.default:
            raise DataError(f'"{body.label}" is not a class of this run.')
        return site.letters.change(user.name, body.label, body.letter)

    @app.delete("/api/keys")
    def reset_keys(user: Reader) -> dict[str, str]:
        """Give every label its own letter again."""
        return site.letters.reset(user.name)


def cells_json(site: Site, request: Request, cells: Sequence[Cell]) -> list[dict]:
    """Return cells of one case as the gallery takes them, with the names that who is asking may see."""
    if not cells:
        return []
    name = site.image_names(request, cells[0].case_id)
    return [_cell_json(cell, name(cell.position, cell.image)) for cell in cells]


def _cell_json(cell: Cell, image: str) -> dict:
    shown = {name: cell.facts.get(name) for name in ("confidence", "proba", "set", "best", "agreement", "note")}
    return shown | {
        "id": cell.id,
        "version": cell.version,
        "image": image,
        "sha256": cell.sha256,
        "label": cell.label,
        "predicted": cell.predicted,
        "reason": cell.reason,
        "decided": cell.num_decisions > 0,
    }


def _case_json(case: Case) -> dict:
    return asdict(case) | {"is_signed": case.is_signed}
