"""How long does evaluating a large study take? `nonet evaluate` as a command, with start-up and report.

    python benchmarks/evaluation.py

Makes a synthetic run in a temporary folder: 60,000 images of 13 classes and 300 patients, three architectures on three
folds, without views and with eight, features and histories of every member; no image is read and no network is run. It
runs the command several times, each in its own process, then once under the profiler, and writes
benchmarks/evaluation.md. Other work on the machine lengthens the wall time, so CPU time is given as well.
"""

import argparse
import json
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from machine import machine_in_words

from nonet.artifacts.features import Features
from nonet.artifacts.integrity import note_checksums, write_done, write_sealed
from nonet.artifacts.run import FORMAT_VERSION, Run, file_sha256, write_json
from nonet.calibration.calibrate import calibrate
from nonet.cells import CLASSES
from nonet.recipe import load_recipe

HERE = Path(__file__).parent
ARCHITECTURES = ("swinv2_tiny", "convnextv2_tiny", "dinobloom_small")
VIEW_SETS = {"none": 0.5, "dihedral": 0.3}  # set of views: noise that it leaves
NUM_FOLDS = 3
#: Images of each class among the 38,535 labelled ones of WBCBench 2026.
COUNTS = dict(zip(CLASSES, (554, 2683, 522, 1148, 10801, 480, 3661, 588, 90, 14, 152, 17354, 488)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "evaluation.md")
    parser.add_argument("--images", type=int, default=60_000, help="evaluated images (default: %(default)s)")
    parser.add_argument("--patients", type=int, default=300, help="(default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of the command (default: %(default)s)")
    arguments = parser.parse_args()
    machine = machine_in_words()  # before this program makes it busy
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder) / "run", num_images=arguments.images, num_patients=arguments.patients)
        measured = [timed(run) for _ in range(arguments.repeats)]
        steps = profiled(run, Path(folder) / "profile")
        issues = run.evaluation / "issues.csv"
        num_issues = len(pd.read_csv(issues)) if issues.exists() else 0
    arguments.out.write_text(report(measured, steps, num_issues, machine, arguments), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def make_run(folder: Path, *, num_images: int, num_patients: int, seed: int = 0) -> Run:
    """Write a run folder as training leaves it, with logits that are more accurate for common classes."""
    rng = np.random.default_rng(seed)
    run = Run(folder)
    share = np.array([COUNTS[code] for code in CLASSES], dtype=float)
    patient = rng.integers(num_patients, size=num_images)
    mixes = rng.dirichlet(30 * share / share.sum() + 0.01, size=num_patients)
    label = (rng.random((num_images, 1)) > mixes.cumsum(axis=1)[patient]).sum(axis=1).clip(0, len(CLASSES) - 1)
    label[: len(CLASSES)] = np.arange(len(CLASSES))  # no class is empty
    manifest = _manifest(label, patient)
    fold = patient % NUM_FOLDS
    recipe = load_recipe("paper")
    folder.mkdir(parents=True)
    run.recipe.write_text(recipe.to_toml(), encoding="utf-8")
    manifest.to_parquet(run.manifest, index=False)
    pd.DataFrame({"image_id": manifest["image_id"], "fold": fold}).to_csv(run.folds, index=False)
    members = {"architectures": ARCHITECTURES, "num_folds": NUM_FOLDS}
    fingerprints = {"recipe": file_sha256(run.recipe)}
    write_sealed(run.provenance, members | {"recipe": "paper", "classes": list(CLASSES), "fingerprints": fingerprints})
    _write_predictions(run, manifest, label, patient, fold, share, rng)
    _write_members(run, manifest, label, fold, rng)
    images = rng.integers(0, 256, size=(8 * len(CLASSES), 256, 256, 3), dtype=np.uint8)
    np.savez_compressed(run.samples, image=images, label=np.repeat(CLASSES, 8), image_id=np.arange(len(images)))
    record = {"format_version": FORMAT_VERSION, "created": None, "kinds": {"wbcbench": "wbcbench"}}
    write_json(run.dataset_record, record | {"notes": [], "excluded": [], "decisions": None, "checks": None})
    note_checksums(run, [run.manifest, run.folds, run.oof, run.samples, run.dataset_record])
    calibrate(run)
    return run


def _manifest(label: np.ndarray, patient: np.ndarray) -> pd.DataFrame:
    names = [f"wbcbench/phase2/train/{number:08d}.jpg" for number in range(len(label))]
    return pd.DataFrame(
        {
            "image_id": names,
            "path": [name.removeprefix("wbcbench/") for name in names],
            "label": np.array(CLASSES, dtype=object)[label],
            "patient": [f"wbcbench/{number:04d}" for number in patient],
            "patient_is_standin": False,
            "source": "wbcbench",
            "split": None,
            "evaluate": True,
            "width": 368,
            "height": 368,
            "mode": "RGB",
            "num_bytes": 20_000,
            "sha256": [f"{number:064x}" for number in range(len(label))],
        }
    )


def _write_predictions(run: Run, manifest, label, patient, fold, share, rng) -> None:
    """Write oof.parquet and ensemble.json: 3 % of labels look wrong, and hard patients are hard for all members."""
    n, num_classes = len(label), len(CLASSES)
    apparent = np.where(rng.random(n) < 0.03, rng.integers(num_classes, size=n), label)
    ability = 1.6 + 0.35 * np.log(share / share.min())
    hardness = rng.normal(0, 0.6, size=patient.max() + 1)[patient]
    common = rng.normal(size=(n, num_classes))
    common[np.arange(n), apparent] += ability[apparent] - hardness
    ood_score = rng.gamma(9.0, size=n)
    about = manifest[["image_id", "label", "patient", "source"]].assign(fold=fold)
    parts = []
    for architecture in ARCHITECTURES:
        own = common + rng.normal(0, 0.8, size=common.shape)
        for views, noise in VIEW_SETS.items():
            logits = pd.DataFrame((own + rng.normal(0, noise, size=own.shape)).astype(np.float32))
            logits.columns = [f"logit_{code}" for code in CLASSES]
            part = about.assign(architecture=architecture, view_set=views, nucleus=True)
            part["ood_score"] = ood_score.astype(np.float32)
            parts.append(pd.concat([part, logits], axis=1))
    pd.concat(parts).sort_values(["fold", "architecture"], kind="stable").to_parquet(run.oof, index=False)
    members = [{"architecture": a, "fold": k, "weight": 1.0} for k in range(NUM_FOLDS) for a in ARCHITECTURES]
    titles = {architecture: architecture for architecture in ARCHITECTURES}
    described = {"format_version": FORMAT_VERSION, "classes": list(CLASSES), "titles": titles, "members": members}
    described["trained_priors"] = dict.fromkeys(CLASSES, 1 / len(CLASSES))
    run.ensemble.write_text(json.dumps(described), encoding="utf-8")


def _write_members(run: Run, manifest, label, fold, rng) -> None:
    """Write each member's history, DONE and the features of its held-out images."""
    centres = rng.normal(size=(len(CLASSES), 64))
    for member in run.members(ARCHITECTURES, NUM_FOLDS):
        member.folder.mkdir(parents=True)
        curve = 0.7 * (1 - np.exp(-np.arange(60) / 9))
        lines = [
            {"epoch": i, "train_loss": 1 - f1, "val_loss": 1.1 - f1, "val_macro_f1": f1, "seconds": 60.0 * (i + 1)}
            for i, f1 in enumerate(curve.tolist())
        ]
        text = "".join(json.dumps(line | {"best": True}) + "\n" for line in lines)
        member.history.write_text(text, encoding="utf-8")
        held_out = np.flatnonzero(fold == member.fold)
        features = (centres[label[held_out]] + rng.normal(size=(len(held_out), 64))).astype(np.float32)
        Features.fit(manifest["image_id"].to_numpy(dtype=str)[held_out], features).write(member.features)
        about = {"epochs": 60, "kept_epoch": 59, "val_macro_f1": float(curve[-1]), "seconds": 3600.0}
        write_done(member, about | {"weights_from": None, "attempt": 0, "earlier_attempts": [], "dead": None})


def timed(run: Run) -> dict[str, float]:
    """Run the command once; return wall and CPU time in seconds and peak memory in MiB."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "nonet", "evaluate", run], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"nonet evaluate failed with exit status {process.returncode}.")
    return {
        "wall": time.perf_counter() - started,
        "cpu": usage.ru_utime + usage.ru_stime,
        "memory": usage.ru_maxrss / 1024,
    }


def profiled(run: Run, path: Path) -> list[tuple[str, float]]:
    """Return (step, share of the process's time), longest first, for the direct calls of `evaluate` and `measure`."""
    command = [sys.executable, "-m", "cProfile", "-o", path, "-m", "nonet", "evaluate", run]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    profile = pstats.Stats(str(path))
    stats, total = profile.stats, profile.total_tt

    def place_of(file: str, name: str) -> tuple:
        return next(place for place in stats if place[0].endswith(file) and place[2] == name)

    def called_by(caller: tuple) -> dict[tuple, float]:
        return {place: callers[caller][3] for place, (*_, callers) in stats.items() if caller in callers}

    evaluate, measure = place_of("report/evaluate.py", "evaluate"), place_of("evaluation/results.py", "measure")
    seconds = called_by(evaluate) | called_by(measure)
    for place in (measure, *stats[measure][4]):  # itself, and what calls it: its steps are listed instead
        seconds.pop(place, None)
    steps = [(f"`{place[2].lstrip('_')}`", spent / total) for place, spent in seconds.items()]
    steps.append(("start-up: Python, imports, the command line", 1 - stats[evaluate][3] / total))
    return sorted(steps, key=lambda step: -step[1])


def report(measured: Sequence[dict], steps, num_issues: int, machine: str, arguments) -> str:
    """Return benchmarks/evaluation.md."""
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    median = {name: statistics.median(row[name] for row in measured) for name in measured[0]}
    lines = [
        "# Evaluating a large study",
        "",
        f"Made by `benchmarks/evaluation.py` on {machine}, OMP_NUM_THREADS {threads}: `nonet evaluate` of "
        f"{arguments.images:,} synthetic images of {len(CLASSES)} classes and {arguments.patients:,} patients, "
        f"{len(ARCHITECTURES)} architectures × {NUM_FOLDS} folds, without views and with eight; 2,000 bootstrap "
        f"resamples, {num_issues:,} label issues with their neighbours. The whole process, including start-up, "
        f"figures, report and cards; median of {len(measured)} runs.",
        "",
        "| | median | all |",
        "|---|---|---|",
    ]
    groups = {"wall": "wall time, s", "cpu": "CPU time, s", "memory": "peak memory, MiB"}
    for name, title in groups.items():
        values = ", ".join(f"{row[name]:.1f}" if name != "memory" else f"{row[name]:.0f}" for row in measured)
        best = f"{median[name]:.1f}" if name != "memory" else f"{median[name]:.0f}"
        lines.append(f"| {title} | {best} | {values} |")
    lines += [
        "",
        "Where the time goes, as shares of the process; the profiler slows down Python code:",
        "",
    ]
    lines += ["| step | share |", "|---|---|"]
    lines += [f"| {name} | {100 * share:.0f} % |" for name, share in steps if share >= 0.005]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
