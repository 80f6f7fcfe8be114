"""HTML pages in one file that need no network: the templates' surroundings, their filters, and figures inlined."""

import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from nonet.page.numbers import count, percent, percent_range, score, signed

#: How templates write numbers, on HTML and Markdown pages alike.
FILTERS = {"count": count, "percent": percent, "percent_range": percent_range, "score": score, "signed": signed}
_SHARED = Path(__file__).parent / "templates"
_MOST_ENLARGED = 1.3  # a figure of few classes is not blown up to the page's width


def html_environment(templates: Path) -> Environment:
    """Return a Jinja environment over a stage's own templates and the shared ones (page.css)."""
    made = Environment(
        loader=FileSystemLoader([templates, _SHARED]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(FILTERS)
    return made


def inline(svg: str, words: str) -> Markup:
    """Give an SVG of ours its description, and trust it: matplotlib escaped the labels in it."""
    width_pt = float(re.search(r'width="([0-9.]+)pt"', svg).group(1))
    opening = Markup('<svg role="img" aria-label="{}" style="max-width: {:.0f}pt; --own-width: {:.0f}pt" ').format(
        words, _MOST_ENLARGED * width_pt, width_pt
    )
    return Markup(svg.replace("<svg ", opening, 1))
