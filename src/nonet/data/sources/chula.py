"""Chulalongkorn University's white blood cells: photographs with a table of labels, or one folder per class."""

from collections import Counter
from pathlib import Path

from nonet.data.sources.base import GIANT_PLATELET, NEUTROPHIL, SMUDGE_CELL, Source
from nonet.data.sources.class_folders import ClassFolders, list_images
from nonet.data.sources.listing import LabelMap, Listing
from nonet.data.sources.tables import read_table
from nonet.errors import DataError

#: Spelled as in its table, including typing errors.
LABELS = LabelMap(
    {
        "SNE": "SNE",
        "BNE": "BNE",
        "Basophil": "BA",
        "Eosinophil": "EO",
        "Eosinophill": "EO",
        "Lymphocyte": "LY",
        "Atypical lymphocyte": "VLY",
        "Monocyte": "MO",
        "Metamyelocyte": "MMY",
        "Myelocyte": "MY",
        "Promyelocyte": "PMY",
        "Myeloblast": "BL",
        "Myeolblast": "BL",
        "Neutrophil": NEUTROPHIL,
        "Smudge cell": SMUDGE_CELL,
        "Giant platelet": GIANT_PLATELET,
    }
)
#: Names of the file and label columns, in the table as published and as redistributed.
COLUMNS = (("Order.jpg", "Summary by 5 experts"), ("name", "label"))


def _read(path: Path, source: str) -> Listing:
    """List the images of the Chula set by its table of labels, at any depth, or by folder; patients are unknown."""
    table_file = next((p for p in (path / "labels.csv", path / "labels" / "labels.csv") if p.is_file()), None)
    if table_file is None:
        return ClassFolders(LABELS)(path, source)
    listing, labels = Listing(path), _read_labels(table_file)
    files = list(list_images(listing, source, ignored=(".csv",)))
    num_named = Counter(file.name for file in files)
    for file in files:
        if num_named[file.name] > 1:
            listing.exclude(str(file), source, None, "name twice: the table may mean a file in another folder")
        elif file.name not in labels:
            listing.exclude(str(file), source, None, f"in no table: {table_file.name} does not have it")
        elif not labels[file.name]:
            listing.exclude(str(file), source, None, "no label: the experts gave none")
        else:
            listing.add_upstream(LABELS, labels[file.name], path=str(file), source=source)
    present = {Path(row["path"]).name for row in [*listing.rows, *listing.excluded]}
    for missing in sorted(set(labels) - present):
        listing.exclude(missing, source, labels[missing], f"missing: {table_file.name} lists it, but it is not there")
    return listing


def _read_labels(table_file: Path) -> dict[str, str]:
    """Return file name → label, as in the table."""
    table = read_table(table_file)
    columns = next((pair for pair in COLUMNS if set(pair) <= set(table.columns)), None)
    if columns is None:
        raise DataError(
            f"{table_file} has columns {', '.join(table.columns)}.",
            hint=f"Expected {' and '.join(COLUMNS[0])}, or {' and '.join(COLUMNS[1])}.",
        )
    names = [Path(file).name if Path(file).suffix else f"{file}.jpg" for file in table[columns[0]]]
    twice = sorted(file for file, count in Counter(names).items() if count > 1)
    if twice:
        raise DataError(f"{table_file} has {twice[0]} twice.", hint="Remove one of its lines.")
    return dict(zip(names, table[columns[1]]))


CHULA = Source(
    name="chula",
    title="Chula: microscope-camera photographs, one cell in the middle, Bangkok",
    reader=_read,
    published="Hugging Face hub, https://huggingface.co/datasets/LewisClifton/Chula-WBC-8, as others cite it",
    published_unverified=True,
    licence="unknown; see the page before use",
    citation="Chulalongkorn University, Bangkok. The paper to cite is unknown; see the page.",
    layout="DIR/labels.csv (Order.jpg and Summary by 5 experts, or name and label) beside the images, at any depth\n"
    "or DIR/**/CLASS/*.jpg",
    labels=LABELS,
    notes=(
        "Layout and labels were taken from public code of others, not from the data set.",
        "Its photographs were taken with a microscope camera and show more surroundings than an analyser's crops.",
        "Folders named neutrophil are not divided: left out unless `classes` names NEU.",
    ),
    by_hand="Its address has not been confirmed. Look for Chula-WBC-8 on the Hugging Face hub or ask its "
    "authors; put labels.csv and the images into a folder; then: nonet data build chula:FOLDER",
)
