"""Folders of predictions as `nonet predict` writes them, without networks."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from nonet.artifacts.confusions import NAME, REJECTED, KnownConfusions
from nonet.artifacts.csv_files import write_csv
from nonet.artifacts.integrity import write_sealed
from nonet.cells import UNIDENTIFIED

CLASSES = ("BA", "BL", "BNE", "EO", "ERB", "LY", "MMY", "MO", "PMY", "SNE")
REASONS = {UNIDENTIFIED: "doubtful", "": "unreadable"}


def write_predictions(folder: Path, cells: list[tuple[str, str, str]], classes=CLASSES) -> Path:
    """Write predictions.csv for (image, case, label); label "" is unreadable, "reason:WORDS" is not identified."""
    rows = []
    for image, case, label in cells:
        reason = label.removeprefix("reason:") if label.startswith("reason:") else REASONS.get(label, "")
        label = UNIDENTIFIED if label.startswith("reason:") else label
        numbers = {"confidence": 0.9, "spread": 0.1, "agreement": 1.0, "ood_percentile": 0.5}
        words = {"image": image, "case": case, "label": label, "best": label, "reason": reason, "set": ""}
        rows.append(words | numbers | {f"p_{code}": 1 / len(classes) for code in classes} | {"note": "", "error": ""})
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "predictions.csv", pd.DataFrame(rows))
    return folder


def write_confusions(folder: Path, rates: np.ndarray, classes=CLASSES, *, num_patients: int = 20, per_class: int = 50):
    """Write confusions.csv of patients that all confuse as `rates`, (C, C + 1), says; the last column is no class."""
    counts = np.round(per_class * np.asarray(rates)).astype(np.int64)
    counts = np.concatenate([counts, np.zeros((len(classes), 1), dtype=np.int64)], axis=1)
    names = [*classes, UNIDENTIFIED, REJECTED]
    KnownConfusions(list(classes), names, np.stack([counts] * num_patients)).write(folder / NAME)


def write_run(folder: Path) -> Path:
    """Make a folder that `Run.require` takes for a run; it has no networks."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.toml").write_text('name = "drawn"\n')
    return folder


def write_reviewable(folder: Path, run: Path, cells: list[tuple[str, str, str]], classes=CLASSES, *, plan=()) -> Path:
    """Write what `nonet predict` leaves of (image, case, label), with a small picture for each readable image."""
    write_predictions(folder, cells, classes)
    paths = [folder / "images" / f"{number}.png" for number in range(len(cells))]
    (folder / "images").mkdir()
    for number, path in enumerate(paths):
        if cells[number][2]:
            colour = (40 + 7 * number % 200, 90, 160)
            Image.new("RGB", (24, 20), colour).save(path)
    logits = {f"logit_{code}": np.zeros(len(cells), dtype=np.float32) for code in classes}
    table = pd.DataFrame({"image": [image for image, _, _ in cells], "path": [str(path) for path in paths]} | logits)
    table.to_parquet(folder / "logits.parquet")
    made = {"run": str(run.resolve()), "weights": "w", "recipe": "r", "members": [], "ensemble": {}, "views": {}}
    write_sealed(folder / "plan.json", made | {"finished": "2026-01-01", "files": {}} | dict(plan))
    return folder
