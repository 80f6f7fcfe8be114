"""Markdown pages from templates: what is filled in is escaped, so that a label of any characters stays a label."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from nonet.page.html import FILTERS

#: What would be Markdown: marks anywhere, an underscore unless within a word, and the beginnings of lists.
_MARKS = re.compile(r"([\\`*\[\]<>|#~$&]|(?<![^\W_])_|_(?![^\W_])|^[-+](?=\s)|(?<=^\d)[.)](?=\s)|(?<=^\d\d)[.)](?=\s))")


class Markdown(str):
    """Text that is Markdown already, and is not escaped again."""

    __slots__ = ()


def markdown_environment(templates: Path) -> Environment:
    """Return a Jinja environment whose output is Markdown: every value is escaped unless it is `Markdown`."""
    made = Environment(
        loader=FileSystemLoader(templates),
        autoescape=False,  # which is for HTML
        finalize=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update(FILTERS, bullets=bullets)
    return made


def escape(value: object) -> Markdown:
    """Return a value as one line of Markdown that shows it as it is."""
    if isinstance(value, Markdown):
        return value
    return Markdown(_MARKS.sub(r"\\\1", " ".join(str(value).split())))


def table(header: Sequence[object], rows: Iterable[Sequence[object]], *, align: str) -> Markdown:
    """Return a table; `align` has a letter a column: "l" for words, to the left, "r" for numbers, to the right."""
    rules = ["---:" if side == "r" else "---" for side in align]
    lines = [[escape(cell) for cell in header], rules, *([escape(cell) for cell in row] for row in rows)]
    return Markdown("\n".join("| " + " | ".join(line) + " |" for line in lines))


def bullets(items: Iterable[object]) -> Markdown:
    """Return a list, an item a line."""
    return Markdown("\n".join(f"- {escape(item)}" for item in items))
