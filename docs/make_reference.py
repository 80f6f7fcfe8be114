"""Write docs/reference/: every command and every setting, from the docstrings in the code.

python docs/make_reference.py           # write
python docs/make_reference.py --check   # exit 1 where a page is out of date
"""

import sys
from pathlib import Path

from nonet.cli import app
from nonet.recipe import Recipe, list_recipes, load_recipe

FOLDER = Path(__file__).parent / "reference"


def commands() -> str:
    """Return the page of commands."""
    return app.generate_docs(output_format="markdown", heading_level=1, recursive=True).rstrip() + "\n"


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
        lines += ["", f"## [{section}]", "", field.annotation.__doc__.strip(), ""]
        lines += ["| setting | what it does | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
        for setting, about in fields.items():
            values = [f"{recipes[name][section][setting]}" for name in names]
            text = " ".join((about.description or "").split()).replace("|", "\\|")
            lines.append(f"| `{setting}` | {text} | " + " | ".join(values) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    pages = {FOLDER / "commands.md": commands(), FOLDER / "settings.md": settings()}
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
