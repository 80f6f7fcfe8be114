"""Pulling the plug on a script that has processes of its own."""

import subprocess
import sys
import time

import psutil


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
