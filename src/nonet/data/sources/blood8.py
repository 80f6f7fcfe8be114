"""`ehottl/blood_dataset` on the Hugging Face hub: eight classes, among them plasma cells."""

from pathlib import Path

from nonet.data.sources.base import ERYTHROBLAST, NEUTROPHIL, PLATELET, Download, Source
from nonet.data.sources.class_folders import ClassFolders
from nonet.data.sources.listing import LabelMap, Listing
from nonet.data.sources.packed import PackedImages, image_suffix, parquet_files, read_cells, read_parquet, safe_name
from nonet.errors import DataError

LABELS = LabelMap(
    {
        "basophil": "BA",
        "eosinophil": "EO",
        "lymphocyte": "LY",
        "monocyte": "MO",
        "plasma cell": "PC",
        "plasma cells": "PC",
        "neutrophil": NEUTROPHIL,
        "erythroblast": ERYTHROBLAST,
        "platelet": PLATELET,
    }
)


def _read(path: Path, source: str) -> Listing:
    """List the images of the hub's Parquet files, at any depth, or of one folder per class."""
    files = parquet_files(path)
    if not files:
        return ClassFolders(LABELS)(path, source)
    listing, places = Listing(path), {}
    for file in files:
        values, names = read_parquet(file, ["label", "image.path"])
        if "label" not in values:
            raise DataError(f"{file} has no column label.", hint="Is it a file of ehottl/blood_dataset?")
        folder = safe_name(file.relative_to(path).with_suffix("").as_posix())
        originals = values.get("image.path") or [None] * len(values["label"])
        for row, (label, original) in enumerate(zip(values["label"], originals)):
            stem = f"{row:06d}" + (f"_{safe_name(Path(original).stem)}" if original else "")
            inside = f"{folder}/{stem}{image_suffix(original)}"
            places[inside] = (file, "image", row)
            listing.add_upstream(LABELS, _name(label, names.get("label"), file), path=inside, source=source)
    listing.packed = PackedImages(places, read_cells)
    return listing


def _name(label: int | str | None, names: list[str] | None, file: Path) -> str:
    if isinstance(label, int):
        if names is None or not 0 <= label < len(names):
            raise DataError(f"{file}: label {label} has no name.", hint="Download it again: the hub stores the names.")
        return names[label]
    return label or "no label"


BLOOD8 = Source(
    name="blood8",
    title="ehottl/blood_dataset: eight classes, collected from other sets",
    reader=_read,
    published="Hugging Face hub, https://huggingface.co/datasets/ehottl/blood_dataset",
    licence="unknown; see the page before use",
    citation="ehottl/blood_dataset, Hugging Face hub. No paper is known for it.",
    layout="DIR/**/*.parquet with columns image (bytes, path) and label (a class number; the names are in the file)\n"
    "or DIR/**/CLASS/*.jpg",
    labels=LABELS,
    num_images=46232,
    paper=frozenset({"PC"}),
    paper_words="2,895 plasma cells.",
    notes=(
        "It has exactly as many plasma cells, 2,895, as Acevedo-20 has files in ig/ (immature granulocytes), and its "
        "other seven classes have the names of Acevedo-20's: they may be those images under a wrong name. This is a "
        "suspicion that has not been checked. Build it together with acevedo and inspect the copies before training.",
        "It is not said where the images come from: patients are unknown.",
    ),
    downloads=(
        Download(
            "hf://datasets/ehottl/blood_dataset",
            evidence="The data set's name on the hub is the one given by the paper and by public code of others; the "
            "download has not been tried. No checksum is published.",
        ),
    ),
    by_hand="hf download --repo-type dataset ehottl/blood_dataset --local-dir FOLDER; "
    "then: nonet data build blood8:FOLDER",
)
