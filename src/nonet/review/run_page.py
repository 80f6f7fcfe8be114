"""The page about the run itself: its report and cards, its networks, settings and versions."""

from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from markdown_it import MarkdownIt
from markupsafe import Markup

import nonet
from nonet.artifacts.ensemble_file import EnsembleFile
from nonet.artifacts.integrity import read_provenance, reading
from nonet.artifacts.run import Run
from nonet.errors import NonetError
from nonet.review.access import Reader
from nonet.review.records import NotFoundError
from nonet.review.site import Site

#: The report brings its own style and pictures in one file, and runs nothing.
_REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox"
_CARDS = ("model_card", "datasheet")
_HINT = 'Run "nonet evaluate" again.'


def add_run_page(app: FastAPI, site: Site) -> None:
    """Add the pages about the run.

    Parameters
    ----------
    app : FastAPI
    site : Site
    """
    run = site.run

    @app.get("/run", response_class=HTMLResponse, include_in_schema=False)
    def show_run(request: Request, user: Reader) -> HTMLResponse:
        return site.page(
            request,
            "run.html.j2",
            about=_about(site),
            version=nonet.__version__,
            recipe=_text(run.recipe),
            has_report=_report(run).is_file(),
            cards=[name for name in _CARDS if _card(run, name).is_file()],
        )

    @app.get("/run/report.html", include_in_schema=False)
    def show_report(user: Reader) -> Response:
        return HTMLResponse(_require_text(_report(run)), headers={"Content-Security-Policy": _REPORT_POLICY})

    @app.get("/run/{name}.md", response_class=HTMLResponse, include_in_schema=False)
    def show_card(request: Request, name: str, user: Reader) -> HTMLResponse:
        if name not in _CARDS:
            raise NotFoundError
        return site.page(request, "card.html.j2", card=_as_html(_require_text(_card(run, name))))


def _report(run: Run) -> Path:
    return run.evaluation / "report.html"


def _card(run: Run, name: str) -> Path:
    return run.evaluation / f"{name}.md"


def _about(site: Site) -> dict:
    """Return what provenance.json and ensemble.json say; parts that cannot be read are said so."""
    about: dict = {"problems": [], "provenance": None, "ensemble": None}
    for name, reader in (("provenance", read_provenance), ("ensemble", EnsembleFile.read)):
        try:
            about[name] = reader(site.run)
        except NonetError as error:
            about["problems"].append(site.without_paths(error.message))
    return about


def _text(file: Path) -> str:
    with reading(file, hint=_HINT):
        return file.read_text(encoding="utf-8")


def _require_text(file: Path) -> str:
    if not file.is_file():
        raise NotFoundError
    return _text(file)


def _as_html(text: str) -> Markup:
    """Return Markdown as HTML: markup in it is escaped, and addresses that run code are not made links."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(text)
    for token in tokens:
        if token.attrs.pop("style", None) == "text-align:right":  # the policy forbids styles in the page
            token.attrs["class"] = "num"
    return Markup(parser.renderer.render(tokens, parser.options, {}))
