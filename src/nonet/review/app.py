"""The review page and its JSON: who may call what is decided in `security`, what is kept in `store`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field

import nonet
from nonet.cells import CELLS, class_name
from nonet.differential.groups import NOT_COUNTED
from nonet.differential.shares import RESEARCH_USE
from nonet.errors import DataError, NonetError
from nonet.page.html import html_environment
from nonet.review.keys import assign_letters, gallery_order
from nonet.review.pictures import native, thumbnail
from nonet.review.results import differential_of, export
from nonet.review.security import add_security, reviewer
from nonet.review.store import Case, Cell, LockedCaseError, StaleCellError, Store, UnfinishedCaseError

_HERE = Path(__file__).parent
_OTHER_COLOUR = "#8a9099"
Reviewer = Annotated[str, Depends(reviewer)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Decision(_Body):
    """Cells and the label that they get; without a label they keep theirs."""

    cells: dict[str, Annotated[int, Field(ge=0)]] = Field(min_length=1, max_length=10_000)
    """Cell → the version that the reviewer saw."""
    label: Annotated[str, Field(max_length=200)] | None = None
    kind: Literal["move", "agree", "accept"] = "move"
    is_blind: bool = False


class Signature(_Body):
    """A signature, or the reason for reopening a case."""

    comment: Annotated[str, Field(max_length=2000)] = ""


def make_app(store: Store, classes: list[str], *, title: str, hosts: set[str], name: str) -> FastAPI:
    """Return the application.

    Parameters
    ----------
    store : Store
    classes : list of str
        The classes of the run.
    title : str
        Of the pages: the name of the run.
    hosts : set of str
        Names under which it may be called.
    name : str
        Of the reviewer, where there is no login.

    Returns
    -------
    FastAPI
    """
    app = FastAPI(title=f"nonet review: {title}", version=nonet.__version__, docs_url=None, redoc_url=None)
    add_security(app, hosts=hosts, name=name)
    app.mount("/static", StaticFiles(directory=_HERE / "static"), name="static")
    _add_pages(app, store, classes, title)
    _add_json(app, store, classes)
    _add_errors(app)
    return app


def _add_pages(app: FastAPI, store: Store, classes: list[str], title: str) -> None:
    pages = html_environment(_HERE / "templates")
    letters = assign_letters(classes)
    common = {
        "title": title,
        "research_use": RESEARCH_USE,
        "labels": [_label_facts(label, letter) for label, letter in letters.items()],
    }

    def page(template: str, **values: Any) -> HTMLResponse:
        return HTMLResponse(pages.get_template(template).render(**common, **values))

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def show_cases(who: Reviewer, search: str = "") -> HTMLResponse:
        return page("cases.html.j2", cases=store.cases(search), search=search, who=who)

    @app.get("/cases/{case_id}", response_class=HTMLResponse, include_in_schema=False)
    def show_gallery(case_id: int, who: Reviewer) -> HTMLResponse:
        return page("gallery.html.j2", case=store.case(case_id), order=gallery_order(list(letters)), who=who)

    @app.get("/cases/{case_id}/differential", response_class=HTMLResponse, include_in_schema=False)
    def show_differential(case_id: int, who: Reviewer) -> HTMLResponse:
        case, cells = store.case(case_id), store.cells(case_id)
        before, after = (differential_of(case, cells, classes, reviewed=reviewed) for reviewed in (False, True))
        history = [row for row in store.history(case_id) if row["kind"] in ("sign", "reopen")]
        return page("differential_review.html.j2", case=case, before=before, after=after, history=history, who=who)

    @app.get("/cells/{cell_id}/thumbnail", include_in_schema=False)
    def show_thumbnail(cell_id: int, who: Reviewer) -> Response:
        cell = store.cell(cell_id)
        return Response(thumbnail(cell.path, cell.sha256), media_type="image/jpeg", headers=_keep(cell))

    @app.get("/cells/{cell_id}/image", include_in_schema=False)
    def show_image(cell_id: int, who: Reviewer) -> Response:
        cell = store.cell(cell_id)
        return Response(native(cell.path), media_type="image/png", headers=_keep(cell))


def _keep(cell: Cell) -> dict[str, str]:
    return {"Cache-Control": "private, max-age=86400", "ETag": f'"{cell.sha256[:32]}"'}


def _label_facts(label: str, letter: str) -> dict[str, str]:
    name = NOT_COUNTED.get(label) or class_name(label)
    colour = CELLS[label].colour if label in CELLS else _OTHER_COLOUR
    return {"code": label, "name": name, "letter": letter, "colour": colour}


def _add_json(app: FastAPI, store: Store, classes: list[str]) -> None:
    known = set(assign_letters(classes))

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        """Say that the program runs."""
        return {"status": "ok"}

    @app.get("/api/cases")
    def list_cases(who: Reviewer, search: str = "") -> list[dict]:
        """List the cases whose name contains `search`, newest first."""
        return [_case_json(case) for case in store.cases(search)]

    @app.get("/api/cases/{case_id}")
    def get_case(case_id: int, who: Reviewer) -> dict:
        """Return a case and how far its review has come."""
        return _case_json(store.case(case_id))

    @app.get("/api/cases/{case_id}/cells")
    def list_cells(case_id: int, who: Reviewer) -> list[dict]:
        """List the readable cells of a case as they stand."""
        store.case(case_id)
        return [_cell_json(cell) for cell in store.cells(case_id) if cell.predicted]

    @app.post("/api/cases/{case_id}/decisions")
    def decide(case_id: int, body: Decision, who: Reviewer) -> dict:
        """Give cells a label, all of them or none; 409 with the cells that somebody else has changed."""
        if body.label is not None and body.label not in known:
            raise HTTPException(422, f'"{body.label}" is not a class of this run.')
        if not all(cell.isascii() and cell.isdigit() and len(cell) < 16 for cell in body.cells):
            raise HTTPException(422, "Cells are numbers.")
        versions = {int(cell): version for cell, version in body.cells.items()}
        cells = store.decide(case_id, versions, body.label, who=who, kind=body.kind, is_blind=body.is_blind)
        return {"cells": [_cell_json(cell) for cell in cells]}

    @app.post("/api/cases/{case_id}/undo")
    def undo(case_id: int, who: Reviewer) -> dict:
        """Undo the reviewer's last decision in this case that still stands."""
        return {"cells": [_cell_json(cell) for cell in store.undo(case_id, who=who)]}

    @app.post("/api/cases/{case_id}/sign")
    def sign(case_id: int, body: Signature, who: Reviewer) -> dict:
        """Sign and lock a case; 409 while cells are unidentified."""
        return _case_json(store.sign(case_id, who=who, comment=body.comment))

    @app.post("/api/cases/{case_id}/reopen")
    def reopen(case_id: int, body: Signature, who: Reviewer) -> dict:
        """Open a signed case again, for a reason."""
        return _case_json(store.reopen(case_id, who=who, reason=body.comment))

    @app.get("/api/cases/{case_id}/history")
    def history(case_id: int, who: Reviewer) -> list[dict]:
        """Return every decision and signature of a case, oldest first."""
        store.case(case_id)
        return store.history(case_id)

    @app.get("/api/cases/{case_id}/differential.{kind}")
    def get_differential(case_id: int, kind: Literal["csv", "json", "fhir"], who: Reviewer) -> Response:
        """Return the differential as reviewed: CSV, JSON or HL7 FHIR R4B."""
        case = store.case(case_id)
        text, media_type, file = export(case, store.cells(case_id), classes, kind)
        return Response(text, media_type=media_type, headers={"Content-Disposition": f'attachment; filename="{file}"'})


def _case_json(case: Case) -> dict:
    return asdict(case) | {"is_signed": case.is_signed}


def _cell_json(cell: Cell) -> dict:
    return {
        "id": cell.id,
        "version": cell.version,
        "label": cell.label,
        "predicted": cell.predicted,
        "reason": cell.reason,
        "decided": cell.num_decisions > 0,
        "confidence": cell.facts.get("confidence"),
        "proba": cell.facts.get("proba", {}),
        "set": cell.facts.get("set", ""),
    }


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(StaleCellError)
    def stale(_: Request, error: StaleCellError) -> JSONResponse:
        cells = [_cell_json(cell) for cell in error.cells]
        return JSONResponse({"detail": error.message, "cells": cells}, status_code=409)

    @app.exception_handler(LockedCaseError)
    @app.exception_handler(UnfinishedCaseError)
    def conflict(_: Request, error: NonetError) -> JSONResponse:
        return JSONResponse({"detail": f"{error.message} {error.hint}".strip()}, status_code=409)

    @app.exception_handler(KeyError)
    def missing(_: Request, error: KeyError) -> JSONResponse:
        return JSONResponse({"detail": "There is no such case or cell."}, status_code=404)

    @app.exception_handler(DataError)
    @app.exception_handler(NonetError)
    def wrong(_: Request, error: NonetError) -> JSONResponse:
        return JSONResponse({"detail": f"{error.message} {error.hint or ''}".strip()}, status_code=422)
