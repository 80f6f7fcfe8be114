"""How long until nonet answers? Wall and CPU seconds of starting it, of wrong calls, and of predicting one image.

    python benchmarks/startup.py

Draws some cells, trains two small networks on them for an epoch, then starts each command seven times in a process of
its own, and writes benchmarks/startup.md. No download. About two minutes on a free core; other work on the machine
lengthens wall time more than CPU time, so the page states both, and the load.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from machine import machine_in_words

import nonet
from nonet.artifacts.ensemble_file import EnsembleFile
from nonet.synthetic.dataset import draw_dataset

HERE = Path(__file__).parent
#: An answer that takes longer than this feels slow.
LIMIT_S = 0.5
#: In an argument: the number of the start, so that each predicts into a folder of its own.
NUMBER = "{number}"
BACKENDS = {"torch": "PyTorch", "openvino": "OpenVINO"}
SETTINGS = [
    "train.epochs=1",
    "folds.num_folds=2",
    "models.architectures=['efficientnet_lite0']",
    "models.weights=none",
    "models.image_size_px=96",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "startup.md")
    parser.add_argument("--repeats", type=int, default=7, help="starts of each command (default: %(default)s)")
    arguments = parser.parse_args()
    machine = machine_in_words()  # before this program makes it busy
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset, run = make_run(folder)
        image = dataset.paths()[0]
        starts = quick_starts(folder, dataset, run, image)
        quick = [(what, *measure(words, arguments.repeats)) for what, words in starts]
        cold = [(what, *measure(words, arguments.repeats)) for what, words in predictions(folder, run, image)]
        warm = [(title, 1000 * warm_seconds(run, image, name)) for name, title in BACKENDS.items()]
    arguments.out.write_text(report(quick, cold, warm, machine, arguments.repeats), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def make_run(folder: Path) -> tuple[nonet.Dataset, nonet.Run]:
    """Return a dataset of drawn cells and a run with one member that counts; what it has learned does not matter."""
    drawn = draw_dataset(folder / "drawn", num_images=39, num_patients=6, size_px=200)
    dataset = nonet.build_dataset(f"csv:{drawn / 'images.csv'}", folder / "dataset")
    run = nonet.train("demo", dataset, out=folder / "run", settings=SETTINGS, accelerator="cpu")
    ensemble = EnsembleFile.read(run)
    first, *others = ensemble.members
    members = [first, *(member.model_copy(update={"weight": 0.0}) for member in others)]
    ensemble.updated(members=members).write(run)
    return dataset, run


def quick_starts(folder: Path, dataset: nonet.Dataset, run: nonet.Run, image: Path) -> list[tuple[str, list[str]]]:
    """Return (description, arguments of Python) of what should answer at once."""
    (folder / "other").mkdir()
    (folder / "other" / "notes.txt").write_text("of somebody else", encoding="utf-8")
    (folder / "begun").mkdir()
    for name in ("recipe.toml", "provenance.json"):
        (folder / "begun" / name).write_bytes((run.folder / name).read_bytes())
    none, new = folder / "none", folder / "new"
    wrong = [
        ("misspelt command", ["trian"]),
        ("misspelt recipe", ["train", "demmo", dataset.folder, "--out", new]),
        ("misspelt setting", ["train", "demo", dataset.folder, "--out", new, "--set", "train.epohcs=3"]),
        ("misspelt backbone", ["train", "demo", dataset.folder, "--out", new, "--set", "models.architectures=['vit']"]),
        ("dataset that does not exist", ["train", "demo", none, "--out", new]),
        ("run that does not exist", ["predict", none, image, "--out", new]),
        ("run that is not fully trained", ["predict", folder / "begun", image, "--out", new]),
        ("image that does not exist", ["predict", run, none, "--out", new]),
        ("misspelt views", ["predict", run, image, "--out", new, "--views", "dihedrla"]),
        ("misspelt value of an option", ["predict", run, image, "--out", new, "--accelerator", "gpuu"]),
        ("folder with other files as --out", ["predict", run, image, "--out", folder / "other"]),
        ("misspelt source", ["data", "build", f"fodler:{folder}", "--out", new]),
        ("folder of cases that does not exist", ["serve", run, "--cases", none]),
    ]
    lists = ["recipes", "backbones", "data sources"]
    return [
        ("`python -c pass`, the floor", ["-c", "pass"]),
        ("`import nonet`", ["-c", "import nonet"]),
        ("`nonet --help`", ["-m", "nonet", "--help"]),
        *[(f"`nonet {words}`", ["-m", "nonet", *words.split()]) for words in lists],
        *[(what, ["-m", "nonet", *map(str, words)]) for what, words in wrong],
    ]


def predictions(folder: Path, run: nonet.Run, image: Path) -> list[tuple[str, list]]:
    """Return (description, arguments of Python) of predictions of one image."""
    rows = []
    for backend, title in BACKENDS.items():
        words = ["-m", "nonet", "predict", run, image, "--out", folder / f"{backend}-{NUMBER}"]
        rows.append((f"`nonet predict`, {title}", [*words, "--accelerator", "cpu", "--backend", backend]))
    return rows


def measure(words: list, repeats: int) -> tuple[float, float]:
    """Return the median wall and CPU seconds of a process; a first start, which compiles modules, is not counted."""
    wall, cpu = [], []
    for number in range(repeats + 1):
        arguments = [sys.executable, *(str(word).replace(NUMBER, str(number)) for word in words)]
        started = time.perf_counter()
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        wall.append(time.perf_counter() - started)
        cpu.append(usage.ru_utime + usage.ru_stime)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 2):
            raise RuntimeError(f"{arguments} ended with status {process.returncode}.")
    return statistics.median(wall[1:]), statistics.median(cpu[1:])


def warm_seconds(run: nonet.Run, image: Path, backend: str, repeats: int = 50) -> float:
    """Return the median seconds from a file to its probabilities, once the ensemble is loaded."""
    ensemble = nonet.load(run, accelerator="cpu", backend=backend)
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        ensemble.predict_proba([image])
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def report(quick: list[tuple], cold: list[tuple], warm: list[tuple], machine: str, repeats: int) -> str:
    slowest = max(quick, key=lambda row: row[1])
    verdict = (
        f"The slowest is “{slowest[0]}”: {slowest[1]:.2f} s, of which it computes for {slowest[2]:.2f} s; the aim is "
        f"{LIMIT_S} s on a free core."
    )
    return "\n".join(
        [
            "# Start-up",
            "",
            f"Made by `benchmarks/startup.py` on {machine}, with Python {sys.version.split()[0]} and torch "
            f"{torch.__version__.split('+')[0]}: medians of {repeats} starts, each in a process of its own, with "
            "files in the system's cache.",
            "",
            "Help, lists and every wrong call answer without importing torch, pandas, SciPy or scikit-learn. "
            f"{verdict}",
            "",
            "| command | wall, s | CPU, s | CPU above the floor, s |",
            "|---|---|---|---|",
            *[f"| {what} | {wall:.2f} | {cpu:.2f} | {cpu - quick[0][2]:.2f} |" for what, wall, cpu in quick],
            "",
            "A prediction of one image of 200 × 200 px with one EfficientNet-Lite0 at 96 px. Most of a cold one with "
            "PyTorch is importing it, and timm, which imports torchvision and with it torch's compiler.",
            "",
            "| prediction | wall, s | CPU, s |",
            "|---|---|---|",
            *[f"| {what} | {wall:.2f} | {cpu:.2f} |" for what, wall, cpu in cold],
            "",
            "Once the ensemble is loaded, `Ensemble.predict_proba` of the same file, with the recipe's views, takes "
            f"{' and '.join(f'{milliseconds:.0f} ms with {title}' for title, milliseconds in warm)}.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
