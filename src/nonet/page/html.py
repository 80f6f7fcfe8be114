"""Self-contained HTML pages: the Jinja environment, its filters, and inlined figures."""

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from nonet.page.numbers import count, percent, percent_range, score, signed

#: Number formats for HTML and Markdown templates.
FILTERS = {"count": count, "percent": percent, "percent_range": percent_range, "score": score, "signed": signed}
#: Options of both environments: a name that is not defined is an error, and lines of block tags leave no blanks.
OPTIONS: dict[str, Any] = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
_SHARED = Path(__file__).parent / "templates"
_MOST_ENLARGED = 1.3  # a small figure is not enlarged to the width of the page


def html_environment(templates: Path) -> Environment:
    """Return a Jinja environment for a folder of templates and the shared ones (page.css)."""
    made = Environment(loader=FileSystemLoader([templates, _SHARED]), autoescape=True, **OPTIONS)
    made.filters.update(FILTERS)
    return made


def inline(svg: str, words: str) -> Markup:
    """Return an SVG of `svg_text` with a text alternative, as markup: matplotlib has escaped its labels.

    Parameters
    ----------
    svg : str
    words : str
        Text alternative.

    Returns
    -------
    Markup
    """
    width_pt = float(re.findall(r'width="([0-9.]+)pt"', svg)[0])
    opening = Markup('<svg role="img" aria-label="{}" style="max-width: {:.0f}pt; --own-width: {:.0f}pt" ').format(
        words, _MOST_ENLARGED * width_pt, width_pt
    )
    return Markup(svg.replace("<svg ", opening, 1))
