"""Progress and log lines: on a terminal they share the screen, in a file they are lines of plain text."""

import contextlib
import gc
import itertools
import logging
import os
import re
import subprocess
import sys

import pytest
from tqdm import tqdm

from nonet import progress as module
from nonet.progress import AboveBars, hide_progress, progress, progress_if_slow

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


@pytest.fixture
def written(monkeypatch, capsys):
    """Return what was written to standard error, which is no terminal, and where progress has a line at once."""
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 1e-9)
    return lambda: capsys.readouterr().err


def test_in_a_file_progress_is_lines_without_control_characters(written):
    for _ in progress(range(3), description="outer", unit="steps"):
        with progress(total=4, description="inner", unit="images", leave=False) as inner:
            inner.set_postfix(macro_f1="0.5", refresh=False)
            for _ in range(4):
                inner.update()
    text = written()
    assert not CONTROL.search(text)
    lines = text.splitlines()
    assert all(line == line.strip() and line for line in lines)
    assert any(re.match(r"outer: 2 of 3 steps \(67 %\), 00:00, 00:00 left$", line) for line in lines), lines
    assert any(line.startswith("inner: 4 of 4 images (100 %)") for line in lines)
    assert not any(one == other for one, other in itertools.pairwise(lines))


def test_a_length_that_is_not_known_is_not_made_up(written):
    with progress(total=None, description="download", unit="B", unit_scale=True) as bar:
        bar.update(2_500_000)
    text = written()
    assert text.splitlines()[0].startswith("download: 2.50M B, 00:00")
    assert "%" not in text


def test_what_is_done_at_once_has_no_line_in_a_file(capsys):
    assert list(progress(range(5), description="quick", unit="steps")) == [0, 1, 2, 3, 4]
    assert list(progress_if_slow(range(5), "quick")) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err == ""


def test_progress_can_be_hidden(written):
    hide_progress()
    try:
        assert list(progress(range(5), description="hidden", unit="steps")) == [0, 1, 2, 3, 4]
    finally:
        hide_progress(False)
    assert written() == ""


def test_a_log_line_is_a_line_of_its_own_in_a_file(written):
    log = logging.getLogger("nonet")
    handler = AboveBars()
    log.addHandler(handler)
    try:
        with progress(total=9, description="members", unit="members") as bar:
            bar.update()
            log.warning("a warning")
            bar.update()
    finally:
        log.removeHandler(handler)
    text = written()
    assert not CONTROL.search(text)
    assert "a warning" in text.splitlines()


TERMINAL = """
import importlib, logging, types
from nonet import cli
from nonet.progress import progress

def work():
    with progress(total=3, description="members", unit="members") as bar:
        bar.update(1)
        logging.getLogger("nonet").warning("a warning")
        bar.update(2)
    return types.SimpleNamespace(ok=True)

importlib.import_module("nonet.diagnostics").doctor = work
cli.main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_on_a_terminal_a_log_line_takes_the_bars_place_and_the_bar_comes_back():
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-c", TERMINAL, "doctor"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    drawn = b""
    with contextlib.suppress(OSError):  # raised where the other side is closed
        while part := os.read(ours, 4096):
            drawn += part
    assert process.wait() == 0
    before, after = re.split(r"\r +\ra warning\r\n", drawn.decode())
    assert "members:" in before and "members: 100%" in after


def test_quiet_hides_notes_and_progress_and_verbose_adds_details(tmp_path):
    """The same work, told three ways: progress is lines here, as standard error is no terminal."""
    script = TERMINAL.replace(
        "        bar.update(2)",
        "        logging.getLogger('nonet').info('a note')\n"
        "        logging.getLogger('nonet').debug('a detail')\n"
        "        bar.update(2)",
    ).replace("cli.main()", "importlib.import_module('nonet.progress').SECONDS_BETWEEN_LINES = 1e-9\ncli.main()")
    said = {}
    for words in (["doctor"], ["--quiet", "doctor"], ["doctor", "-v"]):
        done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said[words[-1] if len(words) == 1 else " ".join(words)] = done.stderr
    has = {
        words: [text in err for text in ("a warning", "a note", "a detail", "members:")] for words, err in said.items()
    }
    assert has == {
        "doctor": [True, True, False, True],
        "--quiet doctor": [True, False, False, False],
        "doctor -v": [True, True, True, True],
    }


def test_an_interrupt_while_a_bar_is_made_leaves_no_traceback(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)

    monkeypatch.setattr(tqdm, "_get_free_pos", interrupt)  # called before the bar has its position
    with pytest.raises(KeyboardInterrupt):
        progress(range(3), description="reading", unit="images")
    gc.collect()
    assert not unraisable
