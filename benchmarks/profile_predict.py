"""Where does the time of `nonet predict` go? In this checkout and in an earlier one, by py-spy.

    pip install py-spy
    git worktree add ../before 3e9fff5
    python benchmarks/profile_predict.py --before ../before

Each checkout trains `recommended` for a moment on the same drawn cells, and predicts 300 of them in eight views with
all nine members, sampled 50 times a second with its worker processes. Writes benchmarks/profile_predict.md. Ten minutes
on two free cores.
"""

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from machine import machine_in_words

from nonet.synthetic.dataset import draw_dataset

HERE = Path(__file__).parent
RATE = 50  # samples a second
#: Step: what a call of it contains; the first step that any call of a stack fits.
STEPS = {
    "imports": r"<frozen importlib|_find_and_load",
    "making and loading networks": r"compile_model|conversion\.py|compiled\.py|make_classifier|load_file|sha256",
    "out-of-distribution scores": r"ood_scores\.py|ood\.py",
    "reading and preparing images": r"prepare_crops|prepare_or_error|decode\.py|denoise|nucleus\.py",
    "networks": r"openvino_cpu\.py|pytorch\.py|logits_over_views|nn/modules|timm/",
}
#: The innermost call of a thread that only waits.
WAITING = r"^(\S*wait|_worker|select|poll|\S*recv_bytes|_recv|join|acquire|get) \("
OTHER = "command line, listing images, results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="an earlier checkout")
    parser.add_argument("--images", type=int, default=300, help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, default=HERE / "profile_predict.md")
    arguments = parser.parse_args()
    machine = machine_in_words()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        draw_dataset(work / "drawn", num_images=arguments.images, size_px=360)
        before = measure(arguments.before.absolute(), work, "before")
        now = measure(HERE.parent.absolute(), work, "now")
    arguments.out.write_text(page(before, now, machine, arguments.images), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def measure(checkout: Path, work: Path, label: str) -> tuple[Counter, float]:
    """Return processor seconds by step, and the wall seconds, of a prediction by a checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout / "src")}
    dataset, run, raw = work / f"dataset-{label}", work / f"run-{label}", work / f"{label}.txt"
    nonet = [sys.executable, "-m", "nonet"]
    commands = [
        [*nonet, "data", "build", f"csv:{work / 'drawn' / 'images.csv'}", "--out", dataset],
        [*nonet, "train", "recommended", dataset, "--out", run, "--set", "train.epochs=1", "--accelerator", "cpu"],
        [*nonet, "predict", run, dataset, "--out", work / f"first-{label}", "--accelerator", "cpu"],  # caches are made
    ]
    for command in commands:
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    predict = [*nonet, "predict", run, dataset, "--out", work / f"out-{label}", "--accelerator", "cpu"]
    started, processor = time.perf_counter(), processor_seconds()
    subprocess.run(predict, check=True, env=environment, stdout=subprocess.DEVNULL)
    wall, processor = time.perf_counter() - started, processor_seconds() - processor
    sampled = [*nonet, "predict", run, dataset, "--out", work / f"sampled-{label}", "--accelerator", "cpu"]
    spy = ["py-spy", "record", "--subprocesses", "--rate", str(RATE), "--format", "raw", "--output", raw, "--"]
    subprocess.run([*spy, *sampled], check=True, env=environment, stdout=subprocess.DEVNULL)
    steps = by_step(raw)
    # Networks run in threads that Python does not know of, and py-spy neither: they are the rest.
    steps["networks"] += max(processor - steps.total(), 0)
    return steps, wall


def processor_seconds() -> float:
    """Return what the processes that this one has started, and that have ended, have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def by_step(raw: Path) -> Counter:
    """Return processor seconds by step, from stacks as py-spy writes them: frames by semicolons, then a count."""
    seconds: Counter[str] = Counter()
    for line in raw.read_text(encoding="utf-8").splitlines():
        stack, count = line.rsplit(" ", 1)
        frames = stack.split(";")
        if not re.search(WAITING, frames[-1]):
            seconds[step_of(frames)] += int(count) / RATE
    return seconds


def step_of(frames: list[str]) -> str:
    """Return the step that a stack belongs to."""
    for step, pattern in STEPS.items():
        if any(re.search(pattern, frame) for frame in frames):
            return step
    return OTHER


def page(before: tuple[Counter, float], now: tuple[Counter, float], machine: str, num_images: int) -> str:
    lines = [
        "# Where the time of a prediction goes",
        "",
        f"Made by `benchmarks/profile_predict.py` on {machine}: {num_images} drawn cells of 360 px, nine members of "
        "`recommended`, eight views, from files to predictions.csv. Processor seconds by py-spy, of all threads and "
        "worker processes, without those that wait; networks are the rest of what the system counts. *Before* is "
        "commit 3e9fff5, whose `recommended` denoises.",
        "",
        "| step | before, s | now, s |",
        "|---|---|---|",
    ]
    for step in [*STEPS, OTHER]:
        lines.append(f"| {step} | {before[0][step]:.1f} | {now[0][step]:.1f} |")
    lines.append(f"| all | {before[0].total():.1f} | {now[0].total():.1f} |")
    lines.append(f"| wall time, without py-spy | {before[1]:.1f} | {now[1]:.1f} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
