"""`nonet serve`: what it refuses before it listens, how quickly it starts, and that it needs no torch."""

import getpass
import logging
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from helpers.prediction_folders import write_reviewable, write_run
from nonet.errors import DataError, RunError
from nonet.review import serve as module
from nonet.review.serve import serve


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run")


@pytest.fixture
def predictions(tmp_path, run):
    return write_reviewable(tmp_path / "predictions", run, [("a.png", "7", "SNE"), ("b.png", "8", "LY")])


@pytest.fixture
def started(monkeypatch):
    """What would be served: `serve` returns instead of waiting for requests."""
    import uvicorn

    made = []
    monkeypatch.setattr(
        uvicorn.Server, "run", lambda self, sockets: made.append((self.config, sockets[0].getsockname()))
    )
    return made


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", ""])
def test_any_host_but_this_machine_is_refused(run, predictions, host):
    with pytest.raises(DataError, match="no login") as caught:
        serve(run, cases=[predictions], host=host)
    assert "ssh -L" in caught.value.hint


def test_it_listens_on_loopback_and_says_where(run, predictions, started, caplog):
    with caplog.at_level(logging.INFO, logger="nonet"):
        serve(run, cases=[predictions], port=0, reviewer=" Ada ")
    ((_, address),) = started
    assert address[0] == "127.0.0.1"
    assert f"http://127.0.0.1:{address[1]}" in caplog.text
    assert "2 cases, 2 of them new" in caplog.text and "Ada" in caplog.text


def test_cases_that_were_added_need_not_be_given_again(run, predictions, started):
    serve(run, cases=[predictions], port=0)
    serve(run, port=0)
    assert len(started) == 2


def test_a_run_without_cases_and_networks_and_a_folder_without_run_are_refused(tmp_path, run):
    with pytest.raises(RunError, match="not fully trained"):
        serve(run, port=0)
    with pytest.raises(RunError):
        serve(tmp_path, port=0)


def test_a_trained_run_needs_no_case_as_cells_can_be_uploaded(tiny_run, tmp_path, started):
    serve(shutil.copytree(tiny_run.folder, tmp_path / "trained"), port=0, accelerator="cpu")
    assert len(started) == 1


def test_a_port_in_use_and_one_that_is_none_are_refused(run, predictions):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(DataError, match="cannot be used") as caught:
        serve(run, cases=[predictions], port=taken.getsockname()[1])
    assert "`port`" in caught.value.hint
    with pytest.raises(DataError, match="70000"):
        serve(run, cases=[predictions], port=70000)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 101, "a\u202eb"])
def test_a_name_that_cannot_be_read_is_refused(run, predictions, name):
    with pytest.raises(DataError, match="name"):
        serve(run, cases=[predictions], reviewer=name)


def test_the_reviewer_is_by_default_who_is_logged_in(monkeypatch):
    monkeypatch.setattr(getpass, "getuser", lambda: "alee")
    assert module._reviewer_name(None) == "alee"

    def unknown():
        raise OSError("no such user")

    monkeypatch.setattr(getpass, "getuser", unknown)
    with pytest.raises(DataError, match="login name"):
        module._reviewer_name(None)


@pytest.mark.parametrize("package", ["uvicorn", "fastapi"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(run, predictions, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "nonet.review.app", raising=False)
    with pytest.raises(DataError, match=package) as caught:
        serve(run, cases=[predictions], port=0)
    assert 'pip install "nonet[review]"' in caught.value.hint


def test_the_command_line_takes_the_same_and_refuses_the_same(refused, nonet, run, predictions, started):
    assert nonet("serve", run, "--cases", predictions, "--port", "0")[0] == 0
    assert len(started) == 1
    assert "no login" in refused("serve", run, "--host", "0.0.0.0")
    assert "recipe.toml" in refused("serve", predictions)


@pytest.mark.slow
def test_it_answers_within_seconds_and_loads_no_torch(run, predictions):
    code = (
        "import sys, uvicorn, nonet, logging\n"
        "logging.basicConfig(level=logging.INFO)\n"
        "class Server(uvicorn.Server):\n"
        "    async def on_tick(self, counter):\n"
        "        print(*[name for name in ('torch', 'timm') if name in sys.modules], flush=True)\n"
        "        return await super().on_tick(counter)\n"
        "uvicorn.Server = Server\n"
        f"nonet.serve({str(run)!r}, cases=[{str(predictions)!r}], port=0)\n"
    )
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = next(found.group() for line in process.stderr if (found := re.search(r"http://\S+", line)))
        with urllib.request.urlopen(f"{address}/healthz", timeout=10) as answer:
            assert answer.read() == b'{"status":"ok"}'
        assert time.monotonic() - began < 20, "5 s on an idle machine"
        assert process.stdout.readline() == "\n"
    finally:
        process.kill()
        process.communicate()
