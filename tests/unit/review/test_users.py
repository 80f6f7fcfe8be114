"""The commands of `nonet users`: what they say, and that a password comes from the terminal or a file only."""

import getpass
import io
import sys

import pytest

from helpers.prediction_folders import write_run
from helpers.reviews import open_page
from nonet.artifacts.run import Run
from nonet.review.accounts import Accounts
from nonet.review.predictor import Predictor

GOOD = "correct horse battery"


@pytest.fixture
def run(tmp_path):
    return Run(write_run(tmp_path / "run"))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "password"
    path.write_text(GOOD + "\n")
    return path


@pytest.fixture
def typed(monkeypatch):
    """A terminal on which the passwords of a list are typed."""
    words = []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(getpass, "getpass", lambda prompt: words.pop(0))
    return words


def test_from_adding_a_user_to_removing_the_last(nonet, run, file):
    said = nonet("users", "add", run, "Ada", "--role", "admin", "--password-file", file)[1]
    assert "Ada can log in as admin" in said and "restarted" in said
    said = nonet("users", "add", run, "Ben", "--password-file", file)[1]
    assert said == "Ben can log in as reviewer.\n"
    token = nonet("users", "token", run, "ben", "laptop", "--days", "7")[1].strip()
    assert Accounts(run.users).of_token(token).name == "Ben"
    listed = nonet("users", "list", run)[1].splitlines()
    assert listed[0].split() == ["name", "role", "since", "tokens"]
    assert [line.split()[:2] for line in listed[1:]] == [["Ada", "admin"], ["Ben", "reviewer"]]
    assert "laptop (until 20" in listed[2] and token not in "".join(listed)
    assert nonet("users", "role", run, "Ben", "reader")[0] == 0
    assert Accounts(run.users).of_token(token).role == "reader"
    assert nonet("users", "revoke", run, "Ben", "laptop")[0] == 0
    assert Accounts(run.users).of_token(token) is None
    assert nonet("users", "revoke", run, "Ben")[0] == 0
    assert nonet("users", "remove", run, "Ben")[0] == 0
    assert nonet("users", "remove", run, "Ada")[0] == 0
    assert nonet("users", "list", run)[1] == "No users.\n"


def test_a_list_makes_no_file(nonet, run):
    assert nonet("users", "list", run)[1] == "No users.\n"
    assert not run.users.exists()


def test_a_password_is_asked_for_twice(nonet, refused, run, typed):
    typed += [GOOD, GOOD + "?"]
    assert "differ" in refused("users", "add", run, "Ada")
    typed += [GOOD, GOOD]
    assert nonet("users", "add", run, "Ada")[0] == 0
    typed += ["another password"] * 2
    assert nonet("users", "password", run, "ada")[0] == 0
    assert Accounts(run.users).log_in("Ada", "another password")
    assert not Accounts(run.users).log_in("Ada", GOOD)


def test_a_password_is_not_taken_from_the_words_of_a_command(refused, run):
    assert "terminal" in refused("users", "add", run, "Ada")
    assert refused("users", "add", run, "Ada", "--password", GOOD)
    assert refused("users", "add", run, "Ada", GOOD)
    assert not run.users.exists()


@pytest.mark.parametrize("content", [GOOD, GOOD + "\n", GOOD + "\r\n", "\ufeff" + GOOD])
def test_a_file_has_the_password_with_or_without_the_end_of_its_line(nonet, run, file, content):
    file.write_bytes(content.encode())
    assert nonet("users", "add", run, "Ada", "--password-file", file)[0] == 0
    assert Accounts(run.users).log_in("Ada", GOOD)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe\x00", b"one line\nand another line", b"x" * 5000])
def test_a_file_without_one_password_is_refused(refused, run, file, content):
    file.write_bytes(content)
    assert "password" in refused("users", "add", run, "Ada", "--password-file", file)


def test_standard_input_is_a_file_as_well(nonet, refused, run, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(GOOD.encode() + b"\n")))
    assert nonet("users", "add", run, "Ada", "--password-file", "-")[0] == 0
    assert Accounts(run.users).log_in("Ada", GOOD)
    assert "none" in refused("users", "add", run, "Ben", "--password-file", tmp_path / "none")


def test_what_cannot_be_done_is_said_with_what_can(refused, run, file, tmp_path):
    assert "nonet users add" in refused("users", "remove", run, "Ada")
    assert "recipe.toml" in refused("users", "add", tmp_path, "Ada", "--password-file", file)
    assert "--days" in refused("users", "token", run, "Ada", "laptop", "--days", "0")
    assert "owner" in refused("users", "add", run, "Ada", "--role", "owner", "--password-file", file)


def test_a_disk_that_fails_is_a_message(refused, run, file):
    run.users.parent.mkdir()
    run.users.mkdir()
    assert "users.sqlite" in refused("users", "add", run, "Ada", "--password-file", file)


def test_errors_show_no_place_of_the_machine_to_those_who_log_in(tmp_path, monkeypatch):
    page = open_page(tmp_path, [("a.png", "7", "SNE")], users=[("Ada", "admin"), ("Rea", "reader")])
    page.run.issues.parent.mkdir(parents=True, exist_ok=True)
    page.run.issues.write_text("a,b\n1,2\n")
    client = page.log_in("Rea").client
    answer = client.get("/api/issues")
    assert answer.status_code == 422 and "issues.csv" in answer.text
    assert str(tmp_path) not in answer.text
    monkeypatch.setattr(Predictor, "problem", f"{page.run.folder}/weights.safetensors is damaged.")
    cell = page.store.cells(page.case_id)[0].id
    for answer in (client.get(f"/api/cells/{cell}/inspection"), client.get("/readyz")):
        assert answer.status_code == 503 and "weights.safetensors" in answer.text
        assert str(tmp_path) not in answer.text
