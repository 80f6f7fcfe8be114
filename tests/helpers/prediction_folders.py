"""Folders of predictions as `nonet predict` writes them, without networks."""

from pathlib import Path

import numpy as np
import pandas as pd

from nonet.artifacts.confusions import NAME, REJECTED, KnownConfusions
from nonet.artifacts.csv_files import write_csv
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
