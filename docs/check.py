"""Check the documentation: `make docs` runs this before and after Sphinx.

python docs/check.py          # every public name is documented and in docs/reference/api.md; links lead to files
python docs/check.py SITE     # the finished site: local links lead somewhere, and nothing is loaded from elsewhere
"""

import re
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

API = Path(__file__).parent / "reference" / "api.md"


def undocumented() -> list[str]:
    """Return what is wrong with the public names of nonet, a line each."""
    import nonet

    names = [name for name in nonet.__all__ if not name.startswith("__")]
    listed = re.findall(r"^ {3}(\w+)$", API.read_text(encoding="utf-8"), flags=re.MULTILINE)
    problems = [f"nonet.{name} has no docstring" for name in names if not (getattr(nonet, name).__doc__ or "").strip()]
    problems += [f"nonet.{name} is not listed in {API}" for name in names if name not in listed]
    return problems + [f"{API} lists {name}, which nonet.__all__ does not" for name in listed if name not in names]


def misplaced(root: Path) -> list[str]:
    """Return the relative links of Markdown pages that lead nowhere where the repository is browsed, a line each."""
    pages = [*root.glob("*.md"), *(root / "benchmarks").glob("*.md"), *(root / "docs").rglob("*.md")]
    built = {root / "docs" / name for name in ("_build", "benchmarks")} | {root / "docs" / "reference" / "api"}
    problems = []
    for page in sorted(pages):
        if built & set(page.parents):
            continue
        for link in re.findall(r"\]\((?![a-z+]+:|#)([^)#\s]+)", page.read_text(encoding="utf-8")):
            if not (page.parent / unquote(link)).exists():
                problems.append(f"{page.relative_to(root)} links to {link}, which is not there")
    return problems


class _Page(HTMLParser):
    """What a page links to, what it loads, and the places that can be linked to."""

    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attributes if value is not None}
        self.places |= {given[name] for name in ("id", "name") if name in given}
        if "src" in given or (tag == "link" and given.get("rel") not in ("canonical", "author")):
            self.loaded.append(given.get("src") or given.get("href", ""))
        elif tag == "a" and "href" in given:
            self.links.append(given["href"])


@cache
def _read(path: Path) -> _Page:
    return _Page(path.read_text(encoding="utf-8"))


def broken(site: Path) -> list[str]:
    """Return the broken links of a finished site, and what its pages would load from elsewhere, a line each."""
    problems = []
    for path in sorted(site.rglob("*.html")):
        page, name = _read(path), path.relative_to(site)
        problems += [f"{name} loads {one}" for one in page.loaded if urlsplit(one).netloc]
        for link in {*page.links, *page.loaded}:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                problems.append(f"{name} links to {link}, which is not there")
            elif parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in _read(target).places:
                problems.append(f"{name} links to {link}: the page has no such place")
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        problems += [f"{sheet.name} loads {one}" for one in re.findall(r"url\(['\"]?(?:https?:)?//[^)]*\)", text)]
    return problems


def main() -> None:
    """Print what is wrong; exit 1 if anything is."""
    problems = broken(Path(sys.argv[1])) if len(sys.argv) > 1 else [*undocumented(), *misplaced(API.parents[2])]
    print("\n".join(problems), end="\n" * bool(problems))
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
