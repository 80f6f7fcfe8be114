"""The review page: HTML for people here, JSON for its scripts in `api`; what is stored is decided in `store`."""

import json
import logging
import sqlite3
from importlib.util import find_spec
from typing import Annotated, Any

from fastapi import Body, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.requests import ClientDisconnect

import nonet
from nonet.cells import UNIDENTIFIED, class_colour
from nonet.differential.counting import file_name
from nonet.errors import NonetError, StorageError
from nonet.review.access import Reader, get_user
from nonet.review.answers import EVERYWHERE
from nonet.review.api import add_api, cells_json
from nonet.review.bodies import Number
from nonet.review.history import in_words
from nonet.review.inspection_api import add_inspection
from nonet.review.issue_pages import add_issues
from nonet.review.keys import gallery_order
from nonet.review.languages import COOKIE
from nonet.review.login import add_login
from nonet.review.metrics import add_metrics
from nonet.review.pictures import as_answer, native, thumbnail
from nonet.review.predict_api import add_predict
from nonet.review.predictor import NotReadyError
from nonet.review.records import NOT_SAVED, NotFoundError, ReviewError, StaleCellError
from nonet.review.results import differential_of
from nonet.review.run_page import add_run_page
from nonet.review.security import add_security
from nonet.review.site import HERE, Site
from nonet.review.upload_api import add_uploads

logger = logging.getLogger("nonet")

_YEAR_S = 365 * 24 * 3600


def make_app(site: Site) -> FastAPI:
    """Return the application.

    Parameters
    ----------
    site : Site

    Returns
    -------
    FastAPI
    """
    app = FastAPI(
        title=f"nonet review: {site.title}",
        version=nonet.__version__,
        docs_url=None,
        redoc_url=None,
        responses=EVERYWHERE,
    )
    add_security(app, site)
    add_login(app, site)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    _add_pages(app, site)
    _add_looks(app, site)
    _add_pictures(app, site)
    add_run_page(app, site)
    add_api(app, site)
    add_inspection(app, site)
    add_uploads(app, site)
    add_predict(app, site)
    add_metrics(app, site)
    add_issues(app, site)
    _add_errors(app, site)
    return app


def _add_pages(app: FastAPI, site: Site) -> None:
    store, has_fhir = site.store, find_spec("fhir") is not None

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def show_cases(request: Request, user: Reader, search: str = "") -> HTMLResponse:
        uploads = [each for each in site.uploads.all() if each.owner == user.name and each.state != "done"]
        problem = site.without_paths(site.predictor.problem or "") if site.predictor.has_failed else None
        shown: dict[str, Any] = {"search": search, "uploads": uploads, "upload_problem": problem}
        return site.page(request, "cases.html.j2", cases=store.cases(search), **shown)

    @app.get("/cases/{case_id}", response_class=HTMLResponse, include_in_schema=False)
    def show_gallery(request: Request, case_id: Number, user: Reader) -> HTMLResponse:
        case, order = store.case(case_id), gallery_order(list(site.letters.default))
        return site.page(request, "gallery.html.j2", case=case, order=order, unidentified=UNIDENTIFIED)

    @app.get("/cases/{case_id}/differential", response_class=HTMLResponse, include_in_schema=False)
    def show_differential(request: Request, case_id: Number, user: Reader) -> HTMLResponse:
        case, cells = store.case(case_id), store.cells(case_id)
        before, after = (differential_of(case, cells, site.classes, reviewed=reviewed) for reviewed in (False, True))
        language = site.languages.choose(request)
        more: dict[str, Any] = {
            "history": in_words(store.history(case_id), language.translations),
            "has_fhir": has_fhir,
            "file_name": file_name(case.name),
        }
        return site.page(request, "differential_review.html.j2", case=case, before=before, after=after, **more)


def _add_looks(app: FastAPI, site: Site) -> None:
    """Add colours, texts and the choice of language, which the content security policy forbids within pages."""

    @app.get("/labels.css", include_in_schema=False)
    def show_colours() -> Response:
        colours = [class_colour(label) for label in site.letters.default]
        lines = [f".label-{place} {{ --label: {colour}; }}\n" for place, colour in enumerate(colours)]
        return Response("".join(lines), media_type="text/css")

    @app.get("/texts.js", include_in_schema=False)
    def show_texts(request: Request) -> Response:
        texts = json.dumps(site.languages.choose(request).texts, ensure_ascii=True)
        return Response(f"export default {texts};\n", media_type="text/javascript")

    @app.post("/language", include_in_schema=False, status_code=204)
    def set_language(code: Annotated[str, Body(embed=True, max_length=20)]) -> Response:
        response = Response(status_code=204)
        if code in site.languages.by_code:
            response.set_cookie(COOKIE, code, max_age=_YEAR_S, httponly=True, samesite="lax")
        return response


def _add_pictures(app: FastAPI, site: Site) -> None:
    @app.get("/cells/{cell_id}/thumbnail", include_in_schema=False)
    def show_thumbnail(cell_id: Number, user: Reader) -> Response:
        cell = site.store.cell(cell_id)
        return as_answer(thumbnail(cell.path, cell.sha256), "image/jpeg")

    @app.get("/cells/{cell_id}/image", include_in_schema=False)
    def show_image(cell_id: Number, user: Reader) -> Response:
        cell = site.store.cell(cell_id)
        return as_answer(native(cell.path, cell.sha256), "image/png")


def _add_errors(app: FastAPI, site: Site) -> None:
    """Answer errors by a sentence in JSON, or on a page where a browser asks for a page."""

    def answer(request: Request, status: int, words: str, headers: Any = None, **more: Any) -> Response:
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            response: Response = site.page(request, "error.html.j2", status=status, words=words)
        else:
            response = JSONResponse({"detail": words} | more, status_code=status)
        response.headers.update(headers or {})
        return response

    @app.exception_handler(NonetError)
    def refused(request: Request, error: NonetError) -> Response:
        status = error.status if isinstance(error, ReviewError) else 507 if isinstance(error, StorageError) else 422
        more = {"cells": cells_json(site, request, error.cells)} if isinstance(error, StaleCellError) else {}
        message, hint = site.without_paths(error.message), site.without_paths(error.hint or "")
        if isinstance(error, StorageError) and not site.shows_all_names(get_user(request)):
            logger.error(message)
            message, hint = site.translate(request, NOT_SAVED), ""  # without the path
        if isinstance(error, ReviewError):
            message = site.translate(request, error.words).format(**error.values)
            hint = site.translate(request, error.what_to_do) if error.what_to_do else ""
        if isinstance(error, NotReadyError):  # its words are the library's
            message = site.without_paths(message)
        return answer(request, status, f"{message} {hint}".strip(), **more)

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> Response:
        return answer(request, error.status_code, error.detail, error.headers)

    @app.exception_handler(404)
    def missing(request: Request, error: Exception) -> Response:
        return answer(request, 404, site.translate(request, NotFoundError.words))

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        if first["loc"][0] == "path":
            return answer(request, 404, site.translate(request, NotFoundError.words))
        place = ".".join(str(part) for part in first["loc"][1:])[:100]
        return answer(request, 422, f"The request cannot be used: {place + ': ' if place else ''}{first['msg']}.")

    @app.exception_handler(ClientDisconnect)
    def gone(request: Request, error: ClientDisconnect) -> Response:
        return answer(request, 400, "The request did not arrive whole.")  # nobody reads it, and it is no fault

    @app.exception_handler(sqlite3.Error)
    def failed(request: Request, error: sqlite3.Error) -> Response:
        logger.error(f"The reviews cannot be read or written: {error}.")
        return answer(request, 503, site.translate(request, NOT_SAVED))
