"""What a benchmark's figures were measured on, in words."""

import os
import platform
from pathlib import Path


def machine_in_words() -> str:
    """Return cores, processor and how busy they are now, as in "2 cores of AMD EPYC (Linux, x86_64; load 0.1)".

    The load is the mean number of processes that ran or wanted to in the last minute: with other work on the machine
    figures are worse, and a reader should know.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or "unknown make"
    load = f"; load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{os.cpu_count()} cores of {model} ({platform.system()}, {platform.machine()}{load})"
