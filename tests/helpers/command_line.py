"""Fixtures that run the program in this process; conftest.py hands them to all tests."""

import logging
import sys

import pytest

from nonet import cli


@pytest.fixture
def nonet(monkeypatch, capsys, tmp_path):
    """Run the program in this process: (exit status, stdout, stderr). An exception that escapes fails the test."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        log = logging.getLogger("nonet")
        handlers, level = log.handlers[:], log.level
        monkeypatch.setattr(sys, "argv", ["nonet", *map(str, words)])
        capsys.readouterr()
        try:
            cli.main()
            status = 0
        except SystemExit as stop:
            status = stop.code or 0
        finally:
            log.handlers[:] = handlers
            log.setLevel(level)
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def refused(nonet):
    """Run it and return what it said, once it was refused as a user's error should be."""

    def run(*words):
        status, out, err = nonet(*words)
        assert status == 2, (out, err)
        assert out == ""
        said = err[err.rindex("\r") + 1 :] if "\r" in err else err  # behind a progress bar
        lines = said[said.index("error: ") :].removeprefix("error: ").strip().splitlines()
        assert lines[0]
        if words[0] in ("train", "predict"):
            assert len(lines) > 1, "what to do about it is not said"
        assert "Traceback" not in err
        assert "Exception" not in err
        return err

    return run
