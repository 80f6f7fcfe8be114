"""The machine that a benchmark ran on: in words, what it can do at best, and how long a run trained on it."""

import json
import os
import platform
import time
from pathlib import Path


def machine_in_words() -> str:
    """Return cores, processor and current load, as in "2 cores of AMD EPYC (Linux, x86_64; load 0.1)".

    The load is the one-minute load average: other work on the machine slows a benchmark down, and readers should know.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or "unknown processor"
    load = f"; load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{os.cpu_count()} cores of {model} ({platform.system()}, {platform.machine()}{load})"


def peak_gflops() -> float:
    """Return how many billion operations a second products of float32 matrices reach: the best of ten."""
    import torch  # here, as benchmarks that need no torch import this module

    a, best = torch.rand(2048, 2048), 0.0
    for _ in range(10):
        started = time.perf_counter()
        a @ a
        best = max(best, 2 * 2048**3 / (time.perf_counter() - started) / 1e9)
    return best


def training_minutes(run, architecture: str = "*") -> float:
    """Return how long the members of a run, or those of one architecture, trained, in all."""
    return (
        sum(json.loads(done.read_text())["seconds"] for done in run.folder.glob(f"members/{architecture}/*/DONE")) / 60
    )
