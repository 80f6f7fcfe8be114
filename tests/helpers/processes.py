"""Pulling the plug on a script that has processes of its own."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil

#: The beginning of a script that is killed just before a file of the name in its last argument gets that name.
DIES_BEFORE_RENAMING = """
import os, signal, sys
from pathlib import Path
import nonet

replace = Path.replace
def replace_or_die(self, target):
    if Path(target).name == sys.argv[-1]:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)
Path.replace = replace_or_die
"""


def kill_at_work(script, when, seconds=60):
    """Run a script, kill it once `when()` holds, and return its processes that it had, and those still there after."""
    started = psutil.Popen([sys.executable, script], stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + seconds
        while not when():
            assert started.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        workers = started.children(recursive=True)
    finally:
        started.kill()
        started.wait()
    return workers, psutil.wait_procs(workers, timeout=seconds)[1]


@contextlib.contextmanager
def small_files(num_bytes):
    """Let the system refuse files larger than this, to every writer, as a full disk would.

    Python writes no bytecode meanwhile: it would not notice that a .pyc file is cut off, and fail whenever it reads it.
    """
    import resource

    before, no_bytecode = resource.getrlimit(resource.RLIMIT_FSIZE), sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        sys.dont_write_bytecode = no_bytecode


def interrupt(command, when, *, number=signal.SIGINT, whole_group=True, seconds=90, **options):
    """Run a command, send it a signal once `when()` holds, and return its exit status and errors.

    Ctrl-C goes to all processes of a group; `kill`, as a scheduler sends it, to one.
    """
    started = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell lets what it runs in the background ignore Ctrl-C; of such tests, this command would inherit it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )
    try:
        end = time.monotonic() + seconds
        while not when():
            if started.poll() is not None or time.monotonic() > end:
                started.kill()  # else its output would be waited for without end
                raise AssertionError(started.communicate())
            time.sleep(0.02)
        (os.killpg if whole_group else os.kill)(started.pid, number)
        _, errors = started.communicate(timeout=seconds)
    finally:
        started.kill()
        started.wait()
    return started.returncode, errors
