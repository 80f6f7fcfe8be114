"""Options of the command line: their names, types and help come from the parameters of the public functions.

Messages of the library name parameters in backticks ("Give another `out`."); here they become options ("--out").
Folders are checked while the command line is parsed: a wrong one is reported before anything heavy is imported. For the
same reason docstrings are read from the source files of the public functions, which are not imported for them.
"""

import ast
import importlib.util
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

from cyclopts import Parameter

import nonet
from nonet.artifacts.run import Run
from nonet.data.opening import require_dataset
from nonet.errors import NonetError
from nonet.jobs.engines import EngineName as EngineName
from nonet.models.accelerators import Accelerator as Accelerator

#: Parameters whose option has a shorter name.
_SHORTER = {"members": "member", "num_resamples": "resamples", "num_workers": "workers", "settings": "set"}
_PARAMETER = re.compile(r"`([a-z]\w*)(?:=([^`]*))?`")
_SECTION = re.compile(r"^Parameters\n-+\n(.*?)(?=^\S[^\n]*\n-{3,}$|\Z)", re.MULTILINE | re.DOTALL)
_SEVERAL_NAMES = re.compile(r"^(\w+(?:, \w+)+)( : [^\n]*\n(?:[ ]+[^\n]*\n|\n(?=[ ]))*)", re.MULTILINE)

Command = TypeVar("Command", bound=Callable)


def option_name(parameter: str) -> str:
    """Return the name of a parameter's option, without dashes: "workers" for "num_workers"."""
    return _SHORTER.get(parameter, parameter.strip("_").replace("_", "-"))


def with_options(text: str) -> str:
    """Replace parameters in backticks by options: "`format="csv"`" becomes "--format csv"."""
    return _PARAMETER.sub(_option, text)


def _option(match: re.Match) -> str:
    name, value = match.groups()
    return f"--{option_name(name)}" + (f" {value.strip(chr(34))}" if value else "")


def documented_by(*public: str) -> Callable[[Command], Command]:
    """Take the help of a command's options from the docstrings of the public functions of these names.

    A parameter that the command's own docstring describes, because the command line differs from Python, is left to it.
    """

    def document(command: Command) -> Command:
        docstrings = [*map(_public_docstring, public), inspect.getdoc(command) or ""]
        known = set(inspect.signature(command).parameters)
        sections = [_SECTION.search(f"{docstring}\n") for docstring in docstrings]
        entries = "".join(_one_name_each(section.group(1).rstrip("\n") + "\n") for section in sections if section)
        words = _PARAMETER.sub(lambda match: _option(match) if match.group(1) in known else match.group(0), entries)
        command.__doc__ = f"Options.\n\nParameters\n----------\n{words}"
        return command

    return document


def _public_docstring(name: str) -> str:
    """Return the docstring of one of nonet's public functions, without importing the function's module."""
    spec = importlib.util.find_spec(nonet.HOMES[name])
    assert spec is not None and spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    return ast.get_docstring(function) or ""


def _one_name_each(entries: str) -> str:
    """Return the entries of a Parameters section with "a, b : int" as one entry for a and one for b."""
    return _SEVERAL_NAMES.sub(lambda match: "".join(f"{name}{match[2]}" for name in match[1].split(", ")), entries)


def _is_run(_: type, folder: Path) -> None:
    Run(folder).require()


def _is_dataset(_: type, folder: Path | None) -> None:
    if folder is not None:
        require_dataset(folder.expanduser())


RunFolder = Annotated[Path, Parameter(validator=_is_run)]
DatasetFolder = Annotated[Path, Parameter(validator=_is_dataset)]
Names = Annotated[list[str], Parameter(negative=(), consume_multiple=True)]
Settings = Annotated[list[str], Parameter(negative=(), consume_multiple=False)]
#: Options of the engines of `nonet.jobs`, the same for every command that runs on one.
JobOptions = Annotated[list[str], Parameter(negative=(), consume_multiple=False)]


def parse_job_options(pairs: list[str] | None) -> dict[str, str]:
    """Return the options of a job given as KEY=VALUE, such as "partition=gpu"."""
    options: dict[str, str] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not (key.strip() and equals and value.strip()):
            raise NonetError(f'"--job {pair}" is not KEY=VALUE.', hint="Write, for example: --job partition=gpu")
        if key.strip() in options:
            raise NonetError(f"--job {key.strip()} is given twice.", hint="Give it once.")
        options[key.strip()] = value.strip()
    return options


def split_commas(names: list[str] | None) -> list[str] | None:
    """Split names given as "A B", "A,B" or "A,B C"; return None if there are none."""
    return [name for item in names for name in item.split(",")] if names else None
