"""`nonet serve`: what it refuses before it listens, and that the page is there before torch is."""

import getpass
import json
import logging
import re
import shutil
import socket
import ssl
import subprocess
import sys
import urllib.request

import pytest
from fastapi.testclient import TestClient

import nonet
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


@pytest.fixture
def users(run):
    nonet.add_user(run, "Ada", password="correct horse battery", role="admin")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Two self-signed certificates with their keys."""
    if shutil.which("openssl") is None:
        pytest.skip("the command openssl is not installed")
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("one", "two"):
        words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        words += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", "2"]
        words += ["-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem"]
        subprocess.run(words, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", ""])
def test_without_users_any_host_but_this_machine_is_refused(run, predictions, host):
    with pytest.raises(DataError, match="no users") as caught:
        serve(run, cases=[predictions], host=host)
    assert "nonet users add" in caught.value.hint


def test_with_users_it_is_served_anywhere_and_everybody_logs_in(run, predictions, users, started, caplog):
    with caplog.at_level(logging.INFO, logger="nonet"):
        serve(run, cases=[predictions], host="0.0.0.0", port=0, allow_host=["Cells.Example.org"])
    ((config, address),) = started
    assert address[0] == "0.0.0.0"
    assert "unencrypted" in caplog.text and "`certificate`" in caplog.text
    assert "whoever logs in" in caplog.text
    site_names = {"cells.example.org", "localhost", socket.gethostname().lower(), socket.getfqdn().lower()}
    client = TestClient(config.app, base_url="http://127.0.0.1")
    for name in site_names:
        assert client.get("/login", headers={"Host": f"{name}:8765"}).status_code == 200, name
        assert client.get("/api/cases", headers={"Host": name}).status_code == 401
    for name in ("evil.example", "example.org", "cells.example.org.evil.example", ""):
        assert client.get("/login", headers={"Host": name}).status_code == 421, name
    reached = TestClient(config.app, base_url="http://192.0.2.7:8765")
    assert reached.get("/login").status_code == 200, "the address that was called"
    assert reached.get("/login", headers={"Host": "192.0.2.8"}).status_code == 421, "another"


def test_on_loopback_people_log_in_as_well_once_there_are_users(run, predictions, users, started, caplog):
    serve(run, cases=[predictions], port=0)
    ((config, _),) = started
    client = TestClient(config.app, base_url="http://127.0.0.1")
    assert client.get("/api/cases").status_code == 401
    assert client.get("/login", headers={"Host": socket.gethostname() + ".example"}).status_code == 421
    assert "unencrypted" not in caplog.text
    with pytest.raises(DataError, match="has users") as caught:
        serve(run, port=0, reviewer="Ben")
    assert "`reviewer`" in caught.value.hint


def test_a_run_whose_users_were_all_removed_is_served_as_without(run, predictions, users, started):
    nonet.remove_user(run, "Ada")
    serve(run, cases=[predictions], port=0, reviewer="Ben")
    ((config, _),) = started
    assert TestClient(config.app, base_url="http://127.0.0.1").get("/api/cases").status_code == 200


@pytest.mark.parametrize("name", ["", "https://x.example", "x:80", "x/y", "*", "*.example.org", "a b", "me@x"])
def test_a_host_that_is_more_than_a_name_is_refused(run, predictions, name):
    with pytest.raises(DataError, match="not the name of a host") as caught:
        serve(run, cases=[predictions], port=0, allow_host=[name])
    assert "`allow_host`" in caught.value.hint


def test_a_certificate_is_checked_before_anything_starts(run, predictions, certificates, tmp_path):
    one, two = (certificates / name for name in ("one.pem", "two.pem"))
    key, encrypted, text = certificates / "one.key", tmp_path / "encrypted.key", tmp_path / "text.pem"
    words = ["openssl", "ec", "-aes256", "-passout", "pass:secret", "-in", key, "-out", encrypted]
    subprocess.run(words, check=True, capture_output=True)
    text.write_text("no certificate")
    for certificate, given, said in (
        (one, None, "`key` is missing"),
        (None, key, "`certificate` is missing"),
        (tmp_path / "none.pem", key, "none.pem is not a file"),
        (one, tmp_path, "is not a file"),
        (one, certificates / "two.key", "is not the key of"),
        (two, key, "is not the key of"),
        (key, one, "cannot be used"),
        (text, key, "cannot be used"),
        (one, text, "cannot be used"),
        (one, encrypted, "encrypted"),
    ):
        with pytest.raises(DataError, match=said):
            serve(run, cases=[predictions], port=0, certificate=certificate, key=given)
    assert not run.joinpath("review").exists()


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
    assert "no users" in refused("serve", run, "--host", "0.0.0.0")
    assert "--key is missing" in refused("serve", run, "--certificate", "x.pem")
    assert "--allow-host" in refused("serve", run, "--allow-host", "https://x", "--port", "0")
    assert "recipe.toml" in refused("serve", predictions)


@pytest.mark.slow
def test_it_answers_before_torch_is_loaded(run, predictions):
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
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = next(found.group() for line in process.stderr if (found := re.search(r"http://\S+", line)))
        with urllib.request.urlopen(f"{address}/healthz", timeout=10) as answer:
            assert answer.read() == b'{"status":"ok"}'
        assert process.stdout.readline() == "\n"
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_people_log_in_over_an_encrypted_connection(run, predictions, users, certificates):
    words = [sys.executable, "-m", "nonet", "serve", run, "--cases", predictions, "--port", "0"]
    words += ["--certificate", certificates / "one.pem", "--key", certificates / "one.key"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    try:
        address = next(found.group() for line in process.stderr if (found := re.search(r"https://\S+", line)))
        trusted = ssl.create_default_context(cafile=certificates / "one.pem")
        body = json.dumps({"name": "ada", "password": "correct horse battery"}).encode()
        headers = {"Content-Type": "application/json", "X-Nonet": "1", "Origin": address}
        request = urllib.request.Request(f"{address}/api/login", body, headers)
        with urllib.request.urlopen(request, timeout=20, context=trusted) as answer:
            cookie = answer.headers["set-cookie"]
        assert "Secure" in cookie
        headers = {"Cookie": cookie.partition(";")[0]}
        request = urllib.request.Request(f"{address}/api/cases", headers=headers)
        with urllib.request.urlopen(request, timeout=20, context=trusted) as answer:
            assert len(json.load(answer)) == 2
    finally:
        process.kill()
        process.communicate()
