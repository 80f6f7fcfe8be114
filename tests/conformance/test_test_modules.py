"""No test module imports another: what they share lies in tests/helpers."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
MODULES = sorted(path.relative_to(TESTS).as_posix() for path in TESTS.rglob("*.py"))


@pytest.mark.parametrize("module", MODULES)
def test_it_imports_no_test_module(module):
    imported = []
    for node in ast.walk(ast.parse((TESTS / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported.append(f"{'.' * node.level}{node.module or ''}")
    names = [name for name in imported if name.startswith(".") or name.rpartition(".")[2].startswith("test_")]
    assert not names
    assert not any(name.split(".")[0] in ("conftest", "tests", "unit", "end_to_end") for name in imported)
