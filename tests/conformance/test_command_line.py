"""Every command takes the parameters of a public function, with the same defaults, and explains each of them."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

import nonet
from nonet import cli
from nonet.cli.options import documented_by, option_name, with_options
from nonet.cli.output import say
from nonet.inference.submission import require_format

#: Command → the public function that it calls.
PUBLIC = {
    **{name: name for name in ("demo", "train", "calibrate", "evaluate", "issues", "table", "score", "predict")},
    **{"fetch": "fetch_source", "build": "build_dataset", "check": "check_dataset"},
    **{"add": "add_user", "list_": "list_users", "remove": "remove_user", "password": "set_password"},
    "shard": "shard_images",
    **{"role": "set_role", "token": "make_token", "revoke": "revoke_token", "serve": "serve", "backup": "backup"},
}
#: Parameters of commands that combine several functions, or exist on the command line only.
OWN = {
    "predict": {"on", "address", "devices", "job"},
    "evaluate": {"robustness", "options"},
    "demo": {"serve", "port"},
    "add": {"password_file"},
    "password": {"password_file"},
}


def load(target):
    module, _, name = target.partition(":")
    return name, getattr(importlib.import_module(f"nonet.cli.{module}"), name)


COMMANDS = dict(map(load, [*cli.COMMANDS, *cli.DATA_COMMANDS, *cli.USER_COMMANDS]))


@pytest.mark.parametrize("command", PUBLIC)
def test_parameters_and_defaults_are_those_of_the_public_function(command):
    public = inspect.signature(getattr(nonet, PUBLIC[command])).parameters
    for name, parameter in inspect.signature(COMMANDS[command]).parameters.items():
        if name in OWN.get(command, ()):
            continue
        assert name in public, name
        default = public[name].default
        if parameter.default is not None and parameter.default is not inspect.Parameter.empty:
            assert parameter.default == (Path(default) if isinstance(parameter.default, Path) else default), name


def test_options_of_robustness_are_those_of_its_public_function():
    public = inspect.signature(nonet.evaluate_robustness).parameters
    options = inspect.signature(importlib.import_module("nonet.cli.evaluation").RobustnessOptions).parameters
    assert {name: option.default for name, option in options.items()} == {
        name: public[name].default for name in options
    }


@pytest.mark.parametrize("command", PUBLIC)
def test_every_option_is_explained(command):
    for name in inspect.signature(COMMANDS[command]).parameters:
        entry = re.search(rf"^{name}\b[^\n]*\n[ ]+(\S.*)", COMMANDS[command].__doc__, re.MULTILINE)
        assert (entry and len(entry.group(1)) > 10) or name == "options", name


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("Give another `out`.", "Give another --out."),
        ("`num_workers` and `sample_submission`", "--workers and --sample-submission"),
        ("Add `format=wbcbench`.", "Add --format wbcbench."),
        ('Add `format="wbcbench"`.', "Add --format wbcbench."),
        ("Call `Ensemble.predict`.", "Call `Ensemble.predict`."),
    ],
)
def test_parameters_are_printed_as_options(text, printed, capsys):
    assert with_options(text) == printed
    say(text)
    assert capsys.readouterr().out == f"{printed}\n"


def test_the_library_names_parameters_and_the_command_line_options():
    with pytest.raises(nonet.NonetError) as caught:
        require_format("wbcbench", sample_submission=None, unreadable_label=None)
    assert "`sample_submission" in caught.value.hint and "--" not in str(caught.value)
    assert f"--{option_name('sample_submission')}" in with_options(str(caught.value))


def test_no_message_of_the_library_names_an_option():
    """Whole commands may: a shell runs them."""
    folder = Path(nonet.__file__).parent
    command = re.compile(
        r"nonet (train|evaluate|predict|calibrate|data \w+)|--shm-size|hf download|ray start|--own-width|--label:"
    )
    for path in folder.rglob("*.py"):
        if path.parent.name == "cli" or path.name == "catalogue.py":
            continue
        for line in path.read_text(encoding="utf-8").splitlines():
            if not command.search(line):
                assert not re.search(r"(?<![-\w])--[a-z]", line), f"{path.relative_to(folder)}: {line}"


def test_a_parameter_of_two_names_is_explained_for_each():
    @documented_by()
    def command(a, b):
        """Summary.

        Parameters
        ----------
        a, b : int
            Both, like `a`.
        """

    assert "a : int\n    Both, like --a.\nb : int\n    Both, like --a." in command.__doc__
