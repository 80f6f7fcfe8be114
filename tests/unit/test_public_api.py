"""`import nonet`: quick, lazy, and the verbs stay functions beside subpackages of the same name."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import nonet

HEAVY = ("torch", "torchvision", "timm", "lightning_fabric", "pandas", "sklearn", "numba", "matplotlib")


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def loaded_after(statement, modules):
    return python(f"import sys\n{statement}\nprint(*[name for name in {modules!r} if name in sys.modules])").split()


def test_importing_nonet_loads_nothing_heavy():
    assert loaded_after("import nonet, nonet.cli, nonet.errors, nonet.recipe; dir(nonet)", HEAVY) == []


@pytest.mark.slow
def test_this_would_see_torch_if_it_were_loaded():
    assert "pandas" in loaded_after("import nonet; nonet.Dataset", HEAVY)


@pytest.mark.slow
@pytest.mark.parametrize(
    "statement",
    [
        "import nonet.report.evaluation_files, nonet.report.issue_files, nonet.report.report",
        "import nonet; nonet.find_label_issues, nonet.draw_dataset",
        "import nonet.data.building, nonet.data.verifying",
        "import nonet.inference.prepared_input",  # what worker processes import
    ],
)
def test_data_and_evaluation_need_no_torch(statement):
    assert loaded_after(statement, HEAVY[:4]) == []


def test_verbs_stay_functions_beside_subpackages():
    import nonet.inference.ensemble
    import nonet.report.evaluate
    import nonet.training.launch

    for verb, home in (
        ("train", "nonet.training.launch"),
        ("predict", "nonet.inference.predict"),
        ("evaluate", "nonet.report.evaluate"),
        ("issues", "nonet.report.issues"),
    ):
        function = getattr(nonet, verb)
        assert callable(function)
        assert (function.__name__, function.__module__) == (verb, home)
    from nonet.training import launch

    assert launch.train is nonet.train


@pytest.mark.parametrize("name", sorted(set(nonet.__all__) - {"__version__"}))
def test_every_public_name_is_there_and_explained(name):
    thing = getattr(nonet, name)
    assert callable(thing)
    assert thing.__doc__ and len(thing.__doc__) > 20
    assert thing.__module__.startswith("nonet.")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="prdict"):
        nonet.prdict  # noqa: B018
    with pytest.raises(ImportError):
        from nonet import prdict  # noqa: F401
    assert set(dir(nonet)) >= {"train", "predict", "evaluate", "load", "demo"}


def test_the_version_is_the_packages():
    from importlib import metadata

    assert nonet.__version__ == metadata.version("nonet")


def test_the_stub_for_editors_names_the_public_api_and_its_homes():
    stub = ast.parse(Path(nonet.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    named = {
        alias.asname: node.module
        for node in stub.body
        if isinstance(node, ast.ImportFrom) and node.module.startswith("nonet.")
        for alias in node.names
    }
    assert named == {name: getattr(nonet, name).__module__ for name in nonet.__all__ if name != "__version__"}
