"""Small images and folders, for tests of sources."""

import json
import zlib
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from nonet.data.sources.acevedo import FOLDERS


def pixels(seed, height=12, width=14, channels=3):
    """Noise, uint8 (height, width, channels)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels)).astype(np.uint8)


def draw(path, seed=None, **shape):
    """Write noise to `path`, by default other noise for each path, and return it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(zlib.crc32(str(path).encode()) if seed is None else seed, **shape)).save(path)
    return path


def left_out(dataset):
    """Kind of reason → how many were left out for it."""
    return dict(Counter(dataset.excluded["reason"].str.split(":").str[0]))


def unknown_types(dataset):
    """Unknown cell type → images."""
    manifest = dataset.manifest
    return manifest["unknown_type"].dropna().value_counts().to_dict() if "unknown_type" in manifest else {}


def labels(dataset):
    """Label → images."""
    return dataset.manifest["label"].value_counts().to_dict()


def draw_acevedo(root):
    """Write two files of each prefix of Acevedo-20, and what else lies there; return the folder."""
    for folder, prefixes in FOLDERS.items():
        for prefix in prefixes:
            for number in (1, 2):
                draw(root / folder / f"{prefix}_{number}.jpg")
    (root / "neutrophil/.DS_Store").write_bytes(b"x")
    return root


def packed(tmp_path, seeds, names=None, suffix=".png"):
    """Return a column of images: one a seed, with the names that they had."""
    return [
        {"bytes": draw(tmp_path / f"encoded{suffix}", seed).read_bytes(), "path": name}
        for seed, name in zip(seeds, names or [None] * len(seeds))
    ]


def write_parquet(file, columns, class_names=None):
    """Write columns as the hub does; `image` holds bytes and path, and class names stand in the metadata."""
    file.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    if class_names:
        features = {"label": {"names": class_names, "_type": "ClassLabel"}, "image": {"_type": "Image"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, file, row_group_size=3)


def draw_challenge(root):
    """Write the challenge's layout in small, IDs with and without ending; return the folder."""
    phase1 = [100, 101, 150, 201, 202]  # 150 → 201 is a jump of 51
    for seed, number in enumerate(phase1):
        draw(root / f"phase1/{number:06d}.jpg", 100 + seed)
    rows = "".join(f"{number:06d}.jpg,SNE,train,,,\r\n" for number in phase1)
    (root / "phase1_label.csv").write_bytes(("ID,labels,split,,,\r\n" + rows).encode())
    parts = {"train": ("BA", [1, 112, 113]), "eval": ("EO", [500]), "test": ("", [900, 901])}
    for k, (part, (label, numbers)) in enumerate(parts.items()):
        for number in numbers:
            draw(root / f"phase2/{part}/{number:08d}.jpg", 1000 * (k + 1) + number)
        header = "ID,labels" if part == "test" else "ID,labels,split"
        tail = "" if part == "test" else f",{part}"
        rows = "".join(f"{number:08d},{label}{tail}\n" for number in numbers)
        (root / f"phase2_{part}.csv").write_text(f"{header}\n{rows}")
    return root
