"""What a reader sees of a page."""

import re
from html.parser import HTMLParser

_HIDDEN = ("style", "script", "svg", "title")
_BLOCKS = ("p", "h1", "h2", "h3", "li", "tr", "table", "section", "nav", "figure", "figcaption", "div", "pre")


class _Text(HTMLParser):
    def __init__(self):
        super().__init__()
        self.parts, self.hidden = [], 0

    def handle_starttag(self, tag, attrs):
        self.hidden += tag in _HIDDEN
        if tag in _BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag):
        self.hidden -= tag in _HIDDEN
        if tag in ("td", "th"):
            self.parts.append(" | ")

    def handle_data(self, data):
        if not self.hidden:
            self.parts.append(re.sub(r"\s+", " ", data))


def visible_text(html: str) -> str:
    """Return the text of an HTML page, a line for each paragraph, heading, item or row of a table."""
    parser = _Text()
    parser.feed(html)
    lines = (line.strip(" |") for line in "".join(parser.parts).splitlines())
    return "\n".join(line for line in lines if line) + "\n"
