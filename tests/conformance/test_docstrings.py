"""Docstrings that documentation tools, editors and the command line can read: numpydoc, types and descriptions."""

import ast
import inspect
from pathlib import Path

import pytest
from numpydoc.docscrape import NumpyDocString

import nonet

SOURCE = Path(nonet.__file__).parent
MODULES = sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py"))
PUBLIC = [name for name in nonet.__all__ if callable(getattr(nonet, name))]


def documented(docstring):
    """Return (section, name, type, description) of everything that a docstring lists."""
    parsed = NumpyDocString(inspect.cleandoc(docstring))
    for section in ("Parameters", "Attributes", "Returns", "Raises"):
        for entry in parsed[section]:
            yield section, entry.name, entry.type, " ".join(entry.desc).strip()


@pytest.mark.parametrize("module", MODULES)
def test_what_a_docstring_lists_has_a_type(module):
    """Not a sentence in the place of the type, as `name : words about it.` would have."""
    wrong = []
    for node in ast.walk(ast.parse((SOURCE / module).read_text(encoding="utf-8"))):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        for section, name, kind, _ in documented(ast.get_docstring(node) or ""):
            if name.startswith("*"):
                continue
            if not kind or kind.endswith(".") or len(kind.split()) > 14:
                wrong.append(f"{node.name}: {section}: {name}: {kind}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", PUBLIC)
def test_the_public_api_documents_each_parameter(name):
    thing = getattr(nonet, name)
    assert (thing.__doc__ or "").strip(), f"nonet.{name} has no docstring"
    if inspect.isclass(thing):
        return
    listed = {
        part.strip().lstrip("*"): description
        for section, names, _, description in documented(thing.__doc__)
        if section == "Parameters"
        for part in names.split(",")
    }
    assert set(inspect.signature(thing).parameters) == set(listed)
    assert all(listed.values())
