"""A recipe: every setting of a run, in one frozen Recipe; TOML files in `nonet/recipes` or the user's own."""

import codecs
import json
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nonet.errors import RecipeError
from nonet.settings import (
    Augment,
    Calibrate,
    Denoise,
    Folds,
    Loss,
    Models,
    Optimiser,
    Predict,
    Sampling,
    Section,
    Train,
    shown,
)

RECIPE_FOLDER = Path(__file__).parent / "recipes"
MAX_BYTES = 2**20
_LISTED = '"nonet recipes show paper" lists every setting.'


class Recipe(Section):
    """Every setting of a run."""

    name: str
    """What the recipe is called."""
    description: str = ""
    """What it is for, in a sentence."""
    denoise: Denoise = Denoise()
    folds: Folds = Folds()
    models: Models
    sampling: Sampling = Sampling()
    loss: Loss = Loss()
    optimiser: Optimiser = Optimiser()
    train: Train = Train()
    augment: Augment = Augment()
    predict: Predict = Predict()
    calibrate: Calibrate = Calibrate()

    def to_toml(self) -> str:
        """Write the recipe, every setting named, so that it can be read back."""
        lines, sections = [], []
        for key, value in self.model_dump().items():
            if isinstance(value, dict):
                body = [f"{k} = {_toml(v)}" for k, v in value.items() if v is not None]
                sections.append("\n".join([f"[{key}]", *body]))
            else:
                lines.append(f"{key} = {_toml(value)}")
        return "\n\n".join(["\n".join(lines), *sections]) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's; TOML wants DEL escaped, too.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    return repr(value)


def list_recipes() -> dict[str, str]:
    """Return name → description of the recipes that come with nonet."""
    return {path.stem: load_recipe(path.stem).description for path in sorted(RECIPE_FOLDER.glob("*.toml"))}


def load_recipe(name: "str | Path | Recipe", settings: "list[str] | None" = None) -> Recipe:
    """Read a recipe and change settings in it.

    Parameters
    ----------
    name : the name of a recipe of nonet's, a TOML file, or a Recipe.
    settings : changes like "train.epochs=5"; values are TOML, a bare word is a string.

    Raises
    ------
    RecipeError, naming the setting and the value, on an unknown key or a value out of range.
    """
    if isinstance(name, Recipe):
        data, where = name.model_dump(), name.name
    else:
        path = _find(name)
        where = str(name)
        try:
            data = tomllib.loads(_text_of(path))
        except OSError as error:
            raise RecipeError(f"{path} cannot be read: {error.strerror}.", hint="See to its permissions.") from error
        except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, a number of a million digits, too deep
            raise RecipeError(
                f"{path} is not valid TOML: {error}.",
                hint='"nonet recipes show cpu > mine.toml" gives one to start from.',
            ) from error
        data.setdefault("name", path.stem)
    for setting in settings or []:
        _set(data, setting)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(_explain(error, where), hint=_LISTED) from error
    except RecursionError as error:
        raise RecipeError(f'Recipe "{where}" is nested too deeply.', hint=_LISTED) from error


def differing_settings(before: Recipe, after: Recipe) -> dict[str, tuple[Any, Any]]:
    """Return setting → (value before, value after), like {"train.epochs": (60, 5)}, of those that differ."""
    one, other = _flat(before.model_dump()), _flat(after.model_dump())
    return {key: (one.get(key), other.get(key)) for key in one | other if one.get(key) != other.get(key)}


def _flat(settings: dict) -> dict:
    """{"train": {"epochs": 5}} → {"train.epochs": 5}"""
    flat = {}
    for key, value in settings.items():
        flat |= {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def _find(name: str | Path) -> Path:
    path = Path(name).expanduser()
    if path.suffix == ".toml":
        if path.is_file():
            return path
        raise RecipeError(f"There is no recipe file {path}.", hint='"nonet recipes" lists the built-in ones.')
    built_in = RECIPE_FOLDER / f"{name}.toml"
    if built_in.is_file():
        return built_in
    names = ", ".join(sorted(p.stem for p in RECIPE_FOLDER.glob("*.toml")))
    raise RecipeError(f'There is no recipe "{name}".', hint=f"Choose one of {names}, or give a .toml file.")


def _text_of(path: Path) -> str:
    """Return a recipe's text: UTF-8, or what Windows' editors and PowerShell's `>` make of it."""
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise RecipeError(f"{path} is not a recipe: it has more than {MAX_BYTES:,} bytes.", hint="Check the path.")
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    return content.decode(encoding).replace("\r\n", "\n")


def _set(data: dict, setting: str) -> None:
    key, separator, text = setting.partition("=")
    if not separator or not key.strip():
        raise RecipeError(f'"{setting}" is not a setting.', hint="Write it like train.epochs=5.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    except (ValueError, RecursionError) as error:
        raise RecipeError(f'"{setting[:80]}…" is not a setting: {error}.', hint=_LISTED) from error
    *sections, last = key.strip().split(".")
    for section in sections:
        data = data.setdefault(section, {})
        if not isinstance(data, dict):
            raise RecipeError(f'"{key}" is not a setting: {section} holds a value, not settings.', hint=_LISTED)
    data[last] = value


def _explain(error: ValidationError, where: str) -> str:
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            lines.append(f"{key} = {shown(item['input'])}: no such setting")
        elif item["type"] == "missing":
            lines.append(f"{key}: missing")
        else:
            given = "" if isinstance(item["input"], dict) else f" = {shown(item['input'])}"
            lines.append(f"{key}{given}: {item['msg'].removeprefix('Value error, ')}")
    return f'Recipe "{where}": ' + "; ".join(lines) + "."
