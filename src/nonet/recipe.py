"""A recipe: every setting of a run as one frozen `Recipe`, from a TOML file in `nonet/recipes` or of the user's."""

import codecs
import json
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nonet.errors import RecipeError, did_you_mean
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
    format_value,
)

RECIPE_FOLDER = Path(__file__).parent / "recipes"
MAX_BYTES = 2**20
_LISTED = '"nonet recipes show paper" lists every setting.'


class Recipe(Section):
    """Every setting of a run."""

    name: str
    """Name of the recipe."""
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
        """Return the recipe as TOML, with every setting."""
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
        # TOML has JSON's escapes, and requires one for DEL.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    return repr(value)


def list_recipes() -> dict[str, str]:
    """List the recipes that come with nonet.

    Returns
    -------
    dict of str to str
        Name → description.
    """
    return {path.stem: load_recipe(path.stem).description for path in sorted(RECIPE_FOLDER.glob("*.toml"))}


def load_recipe(name: "str | Path | Recipe", settings: "list[str] | None" = None) -> Recipe:
    """Read a recipe and change settings in it.

    Parameters
    ----------
    name : str, path or Recipe
        Name of a built-in recipe, a TOML file, or a Recipe.
    settings : list of str, optional
        Changes such as "train.epochs=5"; values are TOML, a bare word is a string.

    Returns
    -------
    Recipe

    Raises
    ------
    RecipeError
        If there is no such recipe or setting, or a value is out of range; names the setting and the value.
    """
    if isinstance(name, Recipe):
        data, where = name.model_dump(), name.name
    else:
        path = _find(name)
        where = str(name)
        try:
            data = tomllib.loads(_read_text(path))
        except OSError as error:
            raise RecipeError(f"{path} cannot be read: {error.strerror}.", hint="Check its permissions.") from error
        except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, a number of a million digits, too deep
            raise RecipeError(
                f"{path} is not valid TOML: {error}.",
                hint='Start from a valid one: "nonet recipes show cpu > mine.toml".',
            ) from error
        data.setdefault("name", path.stem)
    for setting in settings or []:
        _set(data, setting)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(_explain(error, where), hint=_suggest(error) + _LISTED) from error
    except RecursionError as error:
        raise RecipeError(f'Recipe "{where}" is nested too deeply.', hint=_LISTED) from error


def differing_settings(before: Recipe, after: Recipe) -> dict[str, tuple[Any, Any]]:
    """Return the settings that differ between two recipes.

    Parameters
    ----------
    before, after : Recipe

    Returns
    -------
    dict of str to tuple
        Setting → (value before, value after), such as {"train.epochs": (60, 5)}.
    """
    one, other = _flat(before.model_dump()), _flat(after.model_dump())
    return {key: (one.get(key), other.get(key)) for key in one | other if one.get(key) != other.get(key)}


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """{"train": {"epochs": 5}} → {"train.epochs": 5}"""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def _find(name: str | Path) -> Path:
    path = Path(name).expanduser()
    if path.suffix == ".toml":
        if path.is_file():
            return path
        raise RecipeError(f"The recipe file {path} does not exist.", hint='"nonet recipes" lists the built-in ones.')
    built_in = RECIPE_FOLDER / f"{name}.toml"
    if built_in.is_file():
        return built_in
    names = sorted(p.stem for p in RECIPE_FOLDER.glob("*.toml"))
    hint = f"{did_you_mean(str(name), names)}Choose one of {', '.join(names)}, or give a .toml file."
    raise RecipeError(f'Unknown recipe "{name}".', hint=hint)


def _read_text(path: Path) -> str:
    """Return a recipe's text: UTF-8, or UTF-16 as Windows editors and PowerShell's `>` write it."""
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
            raise RecipeError(f'"{key}" is not a setting: {section} is a value, not a section.', hint=_LISTED)
    data[last] = value


def _explain(error: ValidationError, where: str) -> str:
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            lines.append(f"{key} = {format_value(item['input'])}: no such setting")
        elif item["type"] == "missing":
            lines.append(f"{key}: missing")
        else:
            given = "" if isinstance(item["input"], dict) else f" = {format_value(item['input'])}"
            lines.append(f"{key}{given}: {item['msg'].removeprefix('Value error, ')}")
    return f'Recipe "{where}": ' + "; ".join(lines) + "."


def _suggest(error: ValidationError) -> str:
    """Return "Did you mean …? " for the first unknown setting that resembles a known one."""
    sections = {name: getattr(field.annotation, "model_fields", {}) for name, field in Recipe.model_fields.items()}
    known = [*sections, *(f"{section}.{name}" for section, fields in sections.items() for name in fields)]
    unknown = [".".join(map(str, item["loc"])) for item in error.errors() if item["type"] == "extra_forbidden"]
    return next((hint for name in unknown if (hint := did_you_mean(name, known))), "")
