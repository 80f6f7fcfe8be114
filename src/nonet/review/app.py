"""The review page: HTML for people here, JSON for its scripts in `api`; what is stored is decided in `store`."""

import logging
import sqlite3
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

import nonet
from nonet.cells import UNIDENTIFIED, class_colour, class_name
from nonet.differential.count import file_name
from nonet.differential.groups import NOT_COUNTED
from nonet.differential.shares import RESEARCH_USE
from nonet.errors import NonetError
from nonet.page.html import html_environment
from nonet.review.api import Number, add_api, cell_json
from nonet.review.history import in_words
from nonet.review.keys import assign_letters, gallery_order
from nonet.review.pictures import native, thumbnail
from nonet.review.records import (
    Cell,
    LockedCaseError,
    NotFoundError,
    NotSignedError,
    StaleCaseError,
    StaleCellError,
    UnfinishedCaseError,
)
from nonet.review.results import differential_of
from nonet.review.security import add_security
from nonet.review.store import Store

logger = logging.getLogger("nonet")

_HERE = Path(__file__).parent


def make_app(store: Store, classes: list[str], *, title: str, hosts: set[str], reviewer: str) -> FastAPI:
    """Return the application.

    Parameters
    ----------
    store : Store
    classes : list of str
        The classes of the run.
    title : str
        Of the pages: the name of the run.
    hosts : set of str
        Names under which it may be called, without port.
    reviewer : str
        Under whose name decisions are stored.

    Returns
    -------
    FastAPI
    """
    app = FastAPI(title=f"nonet review: {title}", version=nonet.__version__, docs_url=None, redoc_url=None)
    add_security(app, hosts=hosts)
    app.mount("/static", StaticFiles(directory=_HERE / "static"), name="static")
    letters = assign_letters(classes)
    _add_pages(app, store, classes, letters, {"title": title, "who": reviewer, "research_use": RESEARCH_USE})
    _add_pictures(app, store)
    add_api(app, store, classes, labels=set(letters), reviewer=reviewer)
    _add_errors(app)
    return app


def _add_pages(app: FastAPI, store: Store, classes: list[str], letters: dict[str, str], common: dict[str, str]) -> None:
    templates = html_environment(_HERE / "templates")
    labels = [_label_facts(label, letter) for label, letter in letters.items()]
    numbers = {label["code"]: place for place, label in enumerate(labels)}
    has_fhir = find_spec("fhir") is not None

    def page(template: str, **values: Any) -> HTMLResponse:
        shared = common | {"labels": labels, "label_numbers": numbers}
        return HTMLResponse(templates.get_template(template).render(**shared, **values))

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def show_cases(search: str = "") -> HTMLResponse:
        return page("cases.html.j2", cases=store.cases(search), search=search)

    @app.get("/cases/{case_id}", response_class=HTMLResponse, include_in_schema=False)
    def show_gallery(case_id: Number) -> HTMLResponse:
        case, order = store.case(case_id), gallery_order(list(letters))
        return page("gallery.html.j2", case=case, order=order, unidentified=UNIDENTIFIED)

    @app.get("/cases/{case_id}/differential", response_class=HTMLResponse, include_in_schema=False)
    def show_differential(case_id: Number) -> HTMLResponse:
        case, cells = store.case(case_id), store.cells(case_id)
        before, after = (differential_of(case, cells, classes, reviewed=reviewed) for reviewed in (False, True))
        history, name = in_words(store.history(case_id)), file_name(case.name)
        more = {"history": history, "has_fhir": has_fhir, "file_name": name}
        return page("differential_review.html.j2", case=case, before=before, after=after, **more)

    @app.get("/labels.css", include_in_schema=False)
    def show_colours() -> Response:
        """Return the colours of the classes: the content security policy forbids styles in the pages."""
        return Response(templates.get_template("labels.css.j2").render(labels=labels), media_type="text/css")


def _label_facts(label: str, letter: str) -> dict[str, str]:
    name = NOT_COUNTED.get(label) or class_name(label)
    return {"code": label, "name": name, "letter": letter, "colour": class_colour(label)}


def _add_pictures(app: FastAPI, store: Store) -> None:
    @app.get("/cells/{cell_id}/thumbnail", include_in_schema=False)
    def show_thumbnail(cell_id: Number) -> Response:
        return _picture(store.cell(cell_id), thumbnail, "image/jpeg")

    @app.get("/cells/{cell_id}/image", include_in_schema=False)
    def show_image(cell_id: Number) -> Response:
        return _picture(store.cell(cell_id), native, "image/png")


def _picture(cell: Cell, encode: Any, media_type: str) -> Response:
    """Return a picture; the page's address of it contains its checksum, so a browser may keep it."""
    headers = {"Cache-Control": "private, max-age=86400"}
    return Response(encode(cell.path, cell.sha256), media_type=media_type, headers=headers)


def _add_errors(app: FastAPI) -> None:
    """Answer errors by a sentence in JSON, or on a page where a browser asks for a page."""
    templates = html_environment(_HERE / "templates")

    def answer(request: Request, status: int, words: str, **more: Any) -> Response:
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            text = templates.get_template("error.html.j2").render(words=words, research_use=RESEARCH_USE)
            return HTMLResponse(text, status_code=status)
        return JSONResponse({"detail": words} | more, status_code=status)

    @app.exception_handler(NonetError)
    def refused(request: Request, error: NonetError) -> Response:
        status = 409 if isinstance(error, _CONFLICTS) else 404 if isinstance(error, NotFoundError) else 422
        more = {"cells": [cell_json(cell) for cell in error.cells]} if isinstance(error, StaleCellError) else {}
        return answer(request, status, f"{error.message} {error.hint or ''}".strip(), **more)

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> Response:
        return answer(request, error.status_code, error.detail)

    @app.exception_handler(404)
    def missing(request: Request, error: Exception) -> Response:
        return answer(request, 404, "There is no such page.")

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        if first["loc"][0] == "path":
            return answer(request, 404, "There is no such page.")
        place = ".".join(str(part) for part in first["loc"][1:])[:100]
        return answer(request, 422, f"The request cannot be used: {place + ': ' if place else ''}{first['msg']}.")

    @app.exception_handler(sqlite3.Error)
    def failed(request: Request, error: sqlite3.Error) -> Response:
        logger.error(f"The reviews cannot be read or written: {error}.")
        return answer(request, 503, "The reviews cannot be read or written now, so nothing was saved. Try again.")


_CONFLICTS = (StaleCellError, StaleCaseError, LockedCaseError, UnfinishedCaseError, NotSignedError)
