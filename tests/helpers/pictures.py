"""Pictures that small networks learn at once, for tests that train."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {
    "BL": (60, 40, 140),
    "EO": (220, 90, 90),
    "ERB": (85, 145, 195),
    "LY": (60, 160, 220),
    "SNE": (235, 200, 150),
}


def draw_pictures(
    folder: Path, counts: dict[str, int], *, size_px: int = 24, num_patients: int = 6, seed: int = 0
) -> Path:
    """Write noisy PNGs, a disc in its class's colour each, and the table of them, which is returned.

    The table, cells.csv, has path, label and patient; image i of a class is of patient i modulo num_patients.
    """
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:size_px, :size_px] - (size_px - 1) / 2
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for label, count in counts.items():
        (folder / label).mkdir(exist_ok=True)
        for i in range(count):
            picture = np.full((size_px, size_px, 3), 215.0)
            picture[x**2 + y**2 < (size_px * generator.uniform(0.25, 0.4)) ** 2] = COLOURS[label]
            picture = (picture + generator.normal(0, 12, picture.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(picture).save(folder / label / f"{i}.png")
            rows.append({"path": f"{label}/{i}.png", "label": label, "patient": f"P{i % num_patients}"})
    with (folder / "cells.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["path", "label", "patient"])
        writer.writeheader()
        writer.writerows(rows)
    return folder / "cells.csv"
