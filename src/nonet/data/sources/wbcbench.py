"""The folder of the WBCBench 2026 challenge, as its organisers lay it out."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from nonet.cells import CLASSES
from nonet.data.images.formats import is_named_as_image
from nonet.data.sources.base import Source
from nonet.data.sources.listing import LabelMap, Listing
from nonet.data.sources.tables import read_table
from nonet.data.sources.walk import walk
from nonet.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

#: Folder of images, table, split in the manifest.
PARTS = (
    ("phase1", "phase1_label.csv", "phase1"),
    ("phase2/train", "phase2_train.csv", "phase2_train"),
    ("phase2/eval", "phase2_eval.csv", "phase2_eval"),
    ("phase2/test", "phase2_test.csv", "test"),
)
#: Images of each part as published.
NUM_IMAGES = {"phase1": 8288, "phase2/train": 24897, "phase2/eval": 5350, "phase2/test": 16477}
#: Images of each class in the three parts that have labels.
COUNTS = {
    **{"SNE": 17354, "LY": 10801, "MO": 3661, "BL": 2683, "EO": 1148, "MY": 588, "BA": 554, "BNE": 522, "VLY": 488},
    **{"MMY": 480, "PMY": 152, "PC": 90, "PLY": 14},
}
JUMP = 50  # phase 1: consecutive IDs that differ by more belong to different patients
BLOCK = 112  # phase 2: images per patient, 24,897 / 222


def _read(path: Path, name: str | None) -> Listing:
    """List the images of the challenge; those of the test part have no label and the split "test".

    The challenge does not give its patients. IDs are assigned patient by patient, so blocks of IDs serve as stand-ins:
    in phase 1 a new block starts where the ID jumps by more than 50, in phase 2 after every 112 IDs.
    """
    source, listing = name or path.resolve().name, Listing(path)
    present = [part for part in PARTS if (path / part[0]).is_dir()]
    if not present:
        raise DataError(
            f"{path} has none of {', '.join(part[0] for part in PARTS)}.", hint="Unpack the challenge into it."
        )
    for folder, table_name, split in present:
        _list_part(listing, folder, _read_labels(path, folder, table_name, split), source, split)
    absent = [part[0] for part in PARTS if part not in present]
    if absent:
        listing.notes.append(
            f"{source}: {', '.join(absent)} of the challenge {'is' if len(absent) == 1 else 'are'} missing."
        )
    if any(split != "test" and folder in absent for folder, _, split in PARTS):
        listing.upstream.clear()  # the published class counts are those of all labelled parts together
    listing.notes.append(
        f"{source}: the challenge does not give patients; blocks of IDs are stand-ins, so folds are by patient only "
        "approximately."
    )
    return listing


def _read_labels(root: Path, folder: str, table_name: str, split: str) -> "pd.DataFrame | None":
    """Read ID and labels; None where there is no table of the test part."""
    places = [root / table_name, (root / folder).parent / table_name, root / folder / table_name]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        if split == "test":
            return None
        raise DataError(f"{root / folder} has images, but {places[0]} is missing.", hint="Put the table there.")
    table = read_table(file)
    missing = [column for column in ("ID", "labels") if column not in table.columns]
    if missing:
        raise DataError(f"{file} has no column {missing[0]}; it has {', '.join(table.columns)}.")
    return table


def _list_part(listing: Listing, folder: str, table: "pd.DataFrame | None", source: str, split: str) -> None:
    files = set()
    for entry in walk(listing.root / folder):
        if entry.problem is not None:
            listing.exclude(f"{folder}/{entry.path}", source, None, entry.problem)
        elif "/" not in entry.path and not entry.path.endswith(".csv"):
            files.add(entry.path)
    names = sorted(files) if table is None else [_file_name(ID, files) for ID in table["ID"]]
    labels = [""] * len(names) if table is None or split == "test" else table["labels"]
    if table is not None and split == "test" and (table["labels"] != "").any():
        listing.notes.append(f"{source}: labels in the test part's table are ignored; it is a sample submission.")
    listing.parts[folder] = len(files & set(names))
    listing.upstream.update(label for name, label in zip(names, labels) if label and name in files)
    for name, label, patient in zip(names, labels, _standins(names, folder)):
        listing.add(
            path=f"{folder}/{name}",
            label=label or None,
            patient=patient,
            patient_is_standin=patient is not None,
            source=source,
            split=split,
        )
    for name in sorted(files - set(names)):
        listing.exclude(f"{folder}/{name}", source, None, f"in no table: {folder} has it, but its table does not")


def _file_name(ID: str, files: set[str]) -> str:
    """Return the name of an image's file; IDs are given with or without the extension."""
    return ID if ID in files or is_named_as_image(ID) else f"{ID}.jpg"


def _standins(names: list[str], folder: str) -> list[str | None]:
    """Return a stand-in patient for each file by its number; None for names without a number."""
    import numpy as np

    matches = [re.search(r"\d+$", Path(name).stem) for name in names]
    numbers = np.array([int(match.group()) if match else -1 for match in matches], dtype=np.int64)
    known = np.unique(numbers[numbers >= 0])
    if not len(known):
        return [None] * len(names)
    if folder == "phase1":
        blocks = np.concatenate([[0], np.cumsum(np.diff(known) > JUMP)])
    else:
        blocks = (known - known[0]) // BLOCK
    block_by_number = dict(zip(known.tolist(), blocks.tolist()))
    prefix = folder.replace("/", "-")
    return [f"{prefix}-block-{block_by_number[n] + 1:04d}" if n >= 0 else None for n in numbers.tolist()]


WBCBENCH = Source(
    name="wbcbench",
    title="WBCBench 2026, the challenge's own folder",
    reader=_read,
    named_by_path=True,
    published="Kaggle, https://www.kaggle.com/competitions/wbc-bench-2026",
    licence="the challenge's rules; its later release (wbcbench-hf) is CC BY-NC 4.0",
    citation="Tian X, et al. WBCBench 2026: a challenge for robust white blood cell classification under class "
    "imbalance. ISBI 2026, arXiv:2604.10797.",
    layout="DIR/phase1/*.jpg and phase1_label.csv; DIR/phase2/{train,eval,test}/*.jpg and phase2_{train,eval,test}.csv",
    labels=LabelMap({code: (code, COUNTS[code]) for code in CLASSES}),
    parts=NUM_IMAGES,
    num_images=sum(NUM_IMAGES.values()),
    patients="stand-ins",
    paper=None,
    paper_words="all: 38,535 labelled images to train on, 16,477 test images to predict.",
    notes=(
        "The order of IDs gives class and patient away; nonet uses it only for blocks that are stand-in patients.",
        "A few images have 368 x 370 px instead of 368 x 368, and some are cut short.",
    ),
    by_hand="Take part in the challenge on https://www.kaggle.com/competitions/wbc-bench-2026, download its data and "
    "unpack it; then: nonet data build wbcbench:FOLDER",
)
