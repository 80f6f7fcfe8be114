"""`nonet recipes`, `nonet backbones` and `nonet doctor`."""

import sys

from cyclopts import App

import nonet
from nonet.cli.options import Settings
from nonet.cli.output import in_columns, say

recipes = App(name="recipes", help="List the recipes, or show one with every setting.")


@recipes.default
def list_recipes() -> None:
    """List the recipes."""
    listed = nonet.list_recipes()
    width = max(map(len, listed))
    for name, description in listed.items():
        say(f"{name:{width}}  {description}")


@recipes.command
def show(name: str, *, settings: Settings | None = None) -> None:
    """Print a recipe with all its settings, as TOML to copy and edit.

    Parameters
    ----------
    name : str
        Name of a recipe, or a TOML file.
    settings : str
        Change a setting, as in --set train.epochs=5. May be repeated.
    """
    say(nonet.load_recipe(name, settings).to_toml().removesuffix("\n"))


def backbones() -> None:
    from nonet.models.listing import backbone_rows

    say(in_columns(backbone_rows()))


def doctor() -> None:
    findings = nonet.doctor()
    say(findings)
    if not findings.ok:
        sys.exit(1)
