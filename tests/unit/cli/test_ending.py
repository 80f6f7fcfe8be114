"""How a command ends: exit status and words for each error, output for every terminal, as many processes as allowed."""

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nonet.cli import ending, output
from nonet.errors import DataError


def fail(error):
    raise error


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (DataError("x.png is damaged.", "Mend it."), 2, "x.png is damaged.\nMend it."),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "error: The disk that holds the file is full"),
        (PermissionError(errno.EACCES, "Permission denied"), 2, "error: The file: permission denied."),
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"), 2, "/data/x"),
        (PermissionError(errno.EACCES, "Permission denied", "/data/x"), 2, "permission denied"),
        (OSError("an error without a number"), 2, "an error without a number"),
        (MemoryError(), 2, "Memory ran out"),
        (KeyboardInterrupt(), 130, "Run the same command again"),
    ],
)
def test_each_error_has_words_and_a_status(capsys, error, status, words):
    assert ending.run_for_exit_status(lambda: fail(error)) == status
    written = capsys.readouterr().err
    assert words in written
    assert "Traceback" not in written


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGUSR2"])
def test_the_signal_of_a_scheduler_is_known_by_the_status(capsys, name):
    """As a shell gives it to a program that the signal ended; nothing else ends with it."""
    number = getattr(signal, name)
    before = signal.getsignal(number)
    assert ending.run_for_exit_status(lambda: signal.raise_signal(number)) == 128 + number
    assert "Run the same command again" in capsys.readouterr().err
    assert signal.getsignal(number) is before


def test_a_mistake_of_nonet_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        ending.run_for_exit_status(lambda: 1 // 0)


def test_what_goes_well_is_nought():
    assert ending.run_for_exit_status(lambda: None) == 0


def test_a_name_cannot_command_the_terminal(capsys):
    output.say("cell\x1b[2J.png\x9b")
    ending.say_error(DataError("bad \x1b]0;title\x07"))
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err and "\x07" not in err and "\x9b" not in out
    assert out == "cell\\x1b[2J.png\\x9b\n"


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437"])
def test_output_that_lacks_letters_is_escaped(encoding):
    script = (
        "from nonet.cli import ending, output\n"
        "from nonet.errors import DataError\n"
        "def command():\n"
        "    output.say('細胞 → LY')\n"
        "    raise DataError('細胞.png is damaged.')\n"
        "raise SystemExit(ending.run_for_exit_status(command))\n"
    )
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment)
    assert done.returncode == 2, done.stderr
    assert b"LY" in done.stdout
    assert rb"\u7d30\u80de.png is damaged." in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals and pipes of POSIX")
def test_a_reader_that_leaves_gives_no_traceback():
    script = (
        "import sys\n"
        "from nonet.cli import ending, output\n"
        "def command():\n"
        "    for _ in range(100_000): output.say('x' * 100)\n"
        "sys.exit(ending.run_for_exit_status(command))\n"
    )
    shell = f'{sys.executable} -c "$SCRIPT" 2>&1 | head -n 1; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, env=os.environ | {"SCRIPT": script})
    assert done.stdout.splitlines() == ["x" * 100, "1"]
    assert not done.stderr


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity of Linux")
def test_no_more_processes_than_processors_that_may_be_used():
    script = (
        "import os\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from nonet.workers import num_processors\n"
        "print(num_processors())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr


def test_nobody_asks_for_the_processors_of_the_machine():

    import nonet

    sources = [path.read_text(encoding="utf-8") for path in Path(nonet.__file__).parent.rglob("*.py")]
    assert not [text for text in sources if "os.cpu_count" in text or "multiprocessing.cpu_count" in text]


def test_everything_printed_is_escaped_first():
    """Where a name cannot command the terminal."""
    import nonet.cli

    folder = Path(nonet.cli.__file__).parent
    printing = [path.name for path in folder.rglob("*.py") if re.search(r"\bprint\(", path.read_text(encoding="utf-8"))]
    assert sorted(printing) == ["ending.py", "output.py"]
