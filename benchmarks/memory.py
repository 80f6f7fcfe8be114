"""Does the memory of `nonet predict` grow with the number of images? Peak of the process and its workers.

    python benchmarks/memory.py

Draws 100 cells, trains recipe `demo` on them for one epoch, and predicts up to 50,000 images: the same cells again and
again, under other names, without views. Writes benchmarks/memory.md and .svg. About ten minutes on two free cores.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from machine import machine_in_words
from matplotlib.figure import Figure

import nonet
from nonet.synthetic.dataset import draw_dataset

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1_000, 10_000, 50_000], help="images")
    parser.add_argument("--out", type=Path, default=HERE / "memory.md")
    arguments = parser.parse_args()
    machine = machine_in_words()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        drawn = draw_dataset(work / "drawn", num_images=100, size_px=200, num_workers=os.cpu_count())
        dataset = nonet.build_dataset(f"csv:{drawn / 'images.csv'}", work / "dataset")
        run = nonet.train("demo", dataset, out=work / "run", settings=["train.epochs=1"], accelerator="cpu")
        nonet.predict(run, dataset.paths()[:1], out=work / "first", accelerator="cpu")  # converts the networks
        for count in arguments.counts:
            folder = work / f"cells-{count}"
            folder.mkdir()
            for number in range(count):
                os.link(dataset.paths()[number % 100], folder / f"{number:06d}.png")
            command = ["predict", str(run), str(folder), "--out", str(work / f"out-{count}"), "--views", "none"]
            started = time.perf_counter()
            main_mb, all_mb = peak_mb([sys.executable, "-m", "nonet", *command, "--accelerator", "cpu"])
            rows.append((count, main_mb, all_mb, count / (time.perf_counter() - started)))
            print(f"{count:,} images: {main_mb:.0f} MB, with workers {all_mb:.0f} MB")
    draw(rows).savefig(arguments.out.with_suffix(".svg"), metadata={"Date": None})
    arguments.out.write_text(page(rows, machine, arguments.out.with_suffix(".svg").name), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def peak_mb(command: list[str]) -> tuple[float, float]:
    """Return the largest memory of a process alone, and with the processes that it starts, in MB (looked at often)."""
    process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peaks = [0, 0]

    def look() -> None:
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            own = _memory(process)
            peaks[0] = max(peaks[0], own)
            peaks[1] = max(peaks[1], own + sum(map(_memory, process.children(recursive=True))))
            time.sleep(0.2)

    watcher = threading.Thread(target=look)
    watcher.start()
    status = process.wait()
    watcher.join()
    if status:
        raise SystemExit(f"{' '.join(command)} failed with status {status}.")
    return peaks[0] / 1e6, peaks[1] / 1e6


def _memory(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0


def draw(rows: list[tuple[int, float, float, float]]) -> Figure:
    """Return a figure of memory against the number of images."""
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.subplots()
    counts = [row[0] for row in rows]
    for column, label, marker in ((2, "with worker processes", "o"), (1, "program alone", "s")):
        axes.plot(counts, [row[column] / 1e3 for row in rows], marker=marker, label=label)
    axes.set(xscale="log", xlabel="images", ylabel="peak of resident memory, GB")
    axes.set_ylim(bottom=0)
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def page(rows: list[tuple[int, float, float, float]], machine: str, figure: str) -> str:
    lines = [
        "# Memory of prediction",
        "",
        f"Made by `benchmarks/memory.py` on {machine}: nine networks of recipe `demo`, drawn cells of 200 × 200 px, no "
        "views. Peaks of resident memory; what processes share counts for each of them.",
        "",
        "| images | program, MB | with worker processes, MB | images/s |",
        "|---|---|---|---|",
        *[f"| {count:,} | {main_mb:.0f} | {all_mb:.0f} | {rate:.0f} |" for count, main_mb, all_mb, rate in rows],
        "",
        f"![Peak memory against the number of images]({figure})",
        "",
        "Fewer than 256 images are read by threads, more by worker processes.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
