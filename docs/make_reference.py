"""Write docs/reference/: every command, every setting and every source, from what the code says of them.

python docs/make_reference.py           # write
python docs/make_reference.py --check   # exit 1 where a page is out of date
"""

import inspect
import sys
from pathlib import Path

from nonet.cli import app
from nonet.data.sources import SOURCES
from nonet.data.sources.base import EXTRA_LABELS
from nonet.data.sources.catalogue import label_table, list_sources, source_facts, verification_note
from nonet.recipe import Recipe, list_recipes, load_recipe
from nonet.training.losses import LOSSES
from nonet.training.sampling import SAMPLERS

#: Section → its setting that names a function, and the functions by name.
NAMED_FUNCTIONS = {"sampling": ("sampler", SAMPLERS), "loss": ("name", LOSSES)}
FOLDER = Path(__file__).parent / "reference"


def commands() -> str:
    """Return the page of commands, without the generator's own heading and table of contents."""
    text = app.generate_docs(output_format="markdown", heading_level=1, recursive=True).rstrip() + "\n"
    before, _, rest = text.partition("## Table of Contents\n")
    before = before.replace("# nonet\n", "# Commands\n", 1)
    return before + rest[rest.index("**Commands**") :]


def settings() -> str:
    """Return the page of settings: what each does, and its value in every recipe of nonet's."""
    names = list(list_recipes())
    recipes = {name: load_recipe(name).model_dump() for name in names}
    lines = [
        "# Settings",
        "",
        "Each setting of a recipe, and its value in the recipes that come with nonet. Change one with `--set "
        "section.setting=value`, or write a TOML file: `nonet recipes show cpu > mine.toml`, then "
        "`nonet train mine.toml …`.",
        "",
        *[f"- `{name}`: {description}" for name, description in list_recipes().items()],
    ]
    for section, field in Recipe.model_fields.items():
        fields = getattr(field.annotation, "model_fields", None)
        if not fields:
            continue
        lines += ["", f"## [{section}]", "", inspect.getdoc(field.annotation), ""]
        lines += ["| setting | what it does | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
        for setting, about in fields.items():
            values = [f"{recipes[name][section][setting]}" for name in names]
            text = " ".join((about.description or "").split()).replace("|", "\\|")
            lines.append(f"| `{setting}` | {text} | " + " | ".join(values) + " |")
        setting, functions = NAMED_FUNCTIONS.get(section, ("", {}))
        if functions:
            lines += ["", f"`{setting}` is one of:", ""]
            lines += [f"- `{name}`: {function.__doc__.splitlines()[0]}" for name, function in functions.items()]
    return "\n".join(lines) + "\n"


def sources() -> str:
    """Return the page of sources: what is published where, on what terms, and how its labels map to ours."""
    lines = [
        "# Sources",
        "",
        "What `nonet data build` reads: `KIND:PATH`, where KIND is a name of this page. `nonet data sources NAME` "
        "prints the same about one. `--paper NAME` keeps only what the paper takes of it, `--external NAME` trains on "
        "it and never scores it. Every file is in the manifest, or in `excluded.csv` with a reason.",
        "",
        "**Verified** means that address and checksum are the publishers' own, and that `nonet data fetch` checks the "
        "file against it. Whatever is marked **UNVERIFIED** has not been confirmed: its hash is printed and written "
        "down when it is fetched, no more.",
        "",
        "Labels that the thirteen codes have no place for are left out, unless `--classes` names them: "
        + "; ".join(f"`{code}` {words}" for code, words in EXTRA_LABELS.items())
        + ".",
        "",
    ]
    table = list_sources()
    lines += ["| " + " | ".join(table.columns) + " |", "|---" * len(table.columns) + "|"]
    for row in table.itertuples(index=False):
        lines.append("| " + " | ".join(_cell(value) for value in (f"[{row[0]}](#{row[0]})", *row[1:])) + " |")
    for source in SOURCES.values():
        lines += ["", f"## {source.name}", "", f"{source.title[0].upper()}{source.title[1:]}.", ""]
        for heading, text in source_facts(source):
            parts = [f"`{part}`" if heading == "Layout" else part for part in text.splitlines()]
            lines.append(f"- **{heading}**: {' '.join(parts)}")
        for download in source.downloads:
            variant = f" `--variant {download.variant}`" if download.variant else ""
            lines.append(
                f"- **Fetch**{variant}: `{download.address}`, checksum {download.checksum or 'none known'}: "
                f"{verification_note(download)}. {download.evidence}"
            )
        lines += [f"- **By hand**: {source.by_hand}"] if source.by_hand else []
        lines += [f"- **Beware**: {note}" for note in source.notes]
        if source.labels:
            lines += ["", "| upstream label | code | in words | images |", "|---|---|---|---|"]
            for upstream, code, words in label_table(source):
                count = f"{source.counts[upstream]:,}" if upstream in source.counts else ""
                lines.append(f"| {_cell(upstream)} | {code or '–'} | {_cell(words)} | {count} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|")


def main() -> None:
    pages = {
        FOLDER / "commands.md": commands(),
        FOLDER / "settings.md": settings(),
        FOLDER / "sources.md": sources(),
    }
    if "--check" in sys.argv:
        stale = [path.name for path, text in pages.items() if not path.exists() or path.read_text("utf-8") != text]
        if stale:
            sys.exit(f"Out of date: {', '.join(stale)}. Run: make docs")
        return
    FOLDER.mkdir(exist_ok=True)
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
