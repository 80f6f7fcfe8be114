"""The page of differentials: a case a sheet, made to be printed."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from nonet.cells import class_colour
from nonet.differential.shares import RESEARCH_USE, Differential
from nonet.page.html import html_environment

_TEMPLATES = Path(__file__).parent / "templates"


def render_page(cases: Sequence[Differential], notes: Sequence[str], *, title: str) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    cases : sequence of Differential
    notes : sequence of str
        What holds for all of them.
    title : str
        Of the page.

    Returns
    -------
    str
    """
    return (
        html_environment(_TEMPLATES)
        .get_template("differential.html.j2")
        .render(
            title=title,
            cases=cases,
            notes=notes,
            class_colour=class_colour,
            research_use=RESEARCH_USE,
            made_at=datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC"),
        )
    )
