"""HTML pages in one file that need no network: the templates' surroundings, their filters, and figures inlined."""

import re
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_SHARED = Path(__file__).parent / "templates"
_MOST_ENLARGED = 1.3  # a figure of few classes is not blown up to the page's width


def environment(templates: Path) -> Environment:
    """Return a Jinja environment over a stage's own templates and the shared ones (page.css)."""
    made = Environment(
        loader=FileSystemLoader([templates, _SHARED]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(score=score, count=count)
    return made


def inline(svg: str, words: str) -> Markup:
    """Give an SVG of ours its description, and trust it: matplotlib escaped the labels in it."""
    width_pt = float(re.search(r'width="([0-9.]+)pt"', svg).group(1))
    opening = Markup('<svg role="img" aria-label="{}" style="max-width: {:.0f}pt" ').format(
        words, _MOST_ENLARGED * width_pt
    )
    return Markup(svg.replace("<svg ", opening, 1))


def score(value: float) -> str:
    """Return a number between 0 and 1 to three places, a dash for none."""
    return "–" if pd.isna(value) else f"{value:.3f}"


def count(value) -> str:
    """Return a whole number with commas, a dash for none."""
    return "–" if pd.isna(value) else f"{int(value):,}"
