"""Collect the texts of the review page, and bring its translations up to date.

python docs/make_translations.py           # write nonet.pot, and add new texts to each translation
python docs/make_translations.py --check   # exit 1 where one is out of date or has a text that is not translated

Texts are those marked in templates, scripts and Python, and the names of classes, groups and reasons.
"""

import io
import sys
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

from nonet.calibration.labels import DOUBTFUL, NO_NUCLEUS, UNKNOWN_CELL_TYPE, UNREADABLE
from nonet.cells import CELLS, UNIDENTIFIED
from nonet.differential.groups import GROUPS, NOT_COUNTED
from nonet.differential.shares import RESEARCH_USE

ROOM = Path(__file__).parent.parent / "src" / "nonet" / "review"
FOLDER = ROOM / "languages"
METHODS = [("**/templates/*.j2", "jinja2"), ("static/*.js", "javascript"), ("*.py", "python")]
KEYWORDS = {"_": None, "gettext": None, "ngettext": (1, 2), "translatable": None, "text": None, "plural": (2, 3)}
#: Lines of a PO header that would change without a text, or that ask for addresses.
LEFT_OUT = tuple(
    f'"{name}' for name in ("POT-", "PO-", "Generated-", "Project-", "Report-", "Last-", "Language-Team", "Revision-")
)
HEADER = "# Texts of nonet's review page. Translate each msgid; leave {names} and %(names)s as they are.\n"


def collect() -> Catalog:
    """Return every text of the pages."""
    catalogue = Catalog(project="nonet", header_comment=HEADER.strip(), charset="utf-8")
    catalogue.creation_date = catalogue.revision_date = None
    found = extract_from_dir(
        str(ROOM), METHODS, keywords=KEYWORDS, options_map={"**/templates/*.j2": {"silent": "false"}}
    )
    for file, _, message, _, _ in sorted(found, key=lambda one: (one[0], one[1])):
        catalogue.add(message, locations=[(file, None)])
    names = [*(cell.name for cell in CELLS.values()), *NOT_COUNTED.values(), *(group.name for group in GROUPS)]
    reasons = [UNIDENTIFIED, DOUBTFUL, UNKNOWN_CELL_TYPE, NO_NUCLEUS, UNREADABLE]
    for name in [*names, *reasons, RESEARCH_USE]:
        catalogue.add(name, locations=[("classes", None)])
    return catalogue


def as_text(catalogue: Catalog) -> str:
    """Return a PO file without dates, so that it only changes when a text does."""
    stream = io.BytesIO()
    write_po(stream, catalogue, width=110, omit_header=False, ignore_obsolete=True, include_lineno=False)
    lines = stream.getvalue().decode().splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(LEFT_OUT))


def update(file: Path, template: Catalog) -> tuple[str, list[str]]:
    """Return the new text of a translation, and the texts that it does not translate."""
    with file.open("rb") as stream:
        catalogue = read_po(stream, abort_invalid=True)
    catalogue.update(template, no_fuzzy_matching=True)
    missing = [str(one.id) for one in catalogue if one.id and not (all(one.string) if one.pluralizable else one.string)]
    return as_text(catalogue), missing


def main() -> None:
    """Write the files, or check them."""
    template, problems = collect(), []
    wanted = {FOLDER / "nonet.pot": as_text(template)}
    for file in sorted(FOLDER.glob("*.po")):
        wanted[file], missing = update(file, template)
        problems += [f"{file.name} does not translate: {text}" for text in missing]
    for file, text in wanted.items():
        if "--check" not in sys.argv:
            file.write_text(text, encoding="utf-8")
        elif not file.is_file() or file.read_text(encoding="utf-8") != text:
            problems.append(f"{file.name} is out of date: run python docs/make_translations.py")
    for problem in problems:
        print(problem)
    if problems and "--check" in sys.argv:
        sys.exit(1)


if __name__ == "__main__":
    main()
