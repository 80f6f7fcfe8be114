"""Scripts of docs/ and benchmarks/ can be imported: what they use of nonet is there."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = [
    *(path for path in sorted((ROOT / "docs").glob("*.py")) if path.name != "conf.py"),  # Sphinx's
    *sorted((ROOT / "benchmarks").glob("*.py")),
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_it_is_imported_and_does_nothing_by_itself(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", [str(script.parent), *sys.path])
    spec = importlib.util.spec_from_file_location(f"script_{script.stem}", script)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    assert capsys.readouterr().out == ""
