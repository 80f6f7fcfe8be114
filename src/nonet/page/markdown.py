"""Markdown pages from templates: values are escaped, so that a label with any characters is shown as it is."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from nonet.page.html import FILTERS, OPTIONS

#: Characters with a meaning in Markdown: marks, underscores outside words, beginnings of lists.
_MARKS = re.compile(r"([\\`*\[\]<>|#~$&]|(?<![^\W_])_|_(?![^\W_])|^[-+](?=\s)|(?<=^\d)[.)](?=\s)|(?<=^\d\d)[.)](?=\s))")


class Markdown(str):
    """Text that is already Markdown and is not escaped again."""

    __slots__ = ()


def markdown_environment(templates: Path) -> Environment:
    """Return a Jinja environment for Markdown: every value is escaped unless it is `Markdown`."""
    # Autoescaping is for HTML.
    made = Environment(
        loader=FileSystemLoader(templates), autoescape=False, finalize=escape, keep_trailing_newline=True, **OPTIONS
    )
    made.filters.update(FILTERS, bullets=bullets)
    return made


def escape(value: object) -> Markdown:
    """Return a value as one line of escaped Markdown."""
    if isinstance(value, Markdown):
        return value
    return Markdown(_MARKS.sub(r"\\\1", " ".join(str(value).split())))


def table(header: Sequence[object], rows: Iterable[Sequence[object]], *, align: str) -> Markdown:
    """Return a Markdown table; `align` has one letter per column: "l" (text) or "r" (numbers)."""
    rules = ["---:" if side == "r" else "---" for side in align]
    cells = [[escape(cell) for cell in row] for row in (header, *rows)]
    lines: list[Sequence[str]] = [cells[0], rules, *cells[1:]]
    return Markdown("\n".join("| " + " | ".join(line) + " |" for line in lines))


def bullets(items: Iterable[object]) -> Markdown:
    """Return a bulleted list."""
    return Markdown("\n".join(f"- {escape(item)}" for item in items))
