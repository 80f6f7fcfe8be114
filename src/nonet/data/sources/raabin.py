"""Raabin-WBC: microscope-camera photographs of normal blood, as crops by class or as fields with boxes."""

import json
from collections.abc import Iterator
from pathlib import Path

from nonet.data.sources.base import NEUTROPHIL, Source
from nonet.data.sources.boxes import Box, BoxedCell, list_cells
from nonet.data.sources.class_folders import RECORD, ClassFolders
from nonet.data.sources.listing import LabelMap, LeftOut, Listing, plain
from nonet.data.sources.packed import safe_name
from nonet.data.sources.walk import walk_files
from nonet.errors import DataError

LABELS = LabelMap(
    {
        "Basophil": "BA",
        "Eosinophil": "EO",
        "Lymphocyte": "LY",
        "Large lymph": "LY",
        "Small lymph": "LY",
        "Monocyte": "MO",
        "Band": "BNE",
        "Meta": "MMY",
        "Metamyelocyte": "MMY",
        "Myelocyte": "MY",
        "Promyelocyte": "PMY",
        "Neutrophil": NEUTROPHIL,
        "Burst": LeftOut("a burst cell cannot be classified", "SMU"),
        "Artifact": LeftOut("not a single white blood cell", "ART"),
        "Unknown": LeftOut("its class is unknown"),
    }
)


def _read(path: Path, source: str) -> Listing:
    """List the crops of Raabin-WBC by folder, or the cells of its fields by their boxes, in JSON files beside or near.

    Cells of one field are of one person, so the field serves as a stand-in for the patient. Cells on which two experts
    disagree are left out and recorded.
    """
    tables = [file for file in walk_files(path, ".json") if file.name != RECORD]
    if not tables:
        return ClassFolders(LABELS, first_folder_is_split=True)(path, source)
    listing = Listing(path)
    list_cells(listing, source, LABELS, tables, _read_cells)
    return listing


def _read_cells(table: Path, field: Path) -> Iterator[BoxedCell]:
    try:
        facts = json.loads(table.read_text(encoding="utf-8-sig"))
        cells = {key: dict(cell) for key, cell in facts.items() if key.startswith("Cell_")}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{table} cannot be read as a table of boxes: {error}.", hint="Unpack it again.") from error
    for key, cell in cells.items():
        name = safe_name(key)
        labels = [str(cell.get(label) or "").strip() for label in ("Label1", "Label2")]
        given = [label for label in labels if label]
        try:
            box = Box(*(int(cell[edge]) for edge in ("x1", "y1", "x2", "y2")))
        except (KeyError, ValueError, TypeError, OverflowError):
            yield BoxedCell(name, " ".join(given), problem="no box: x1, y1, x2, y2 are not all numbers")
            continue
        problem = "" if given else "no label"
        if len({plain(label) for label in given}) > 1:
            problem = f"experts disagree: {' and '.join(given)}"
        yield BoxedCell(name, "".join(given[:1]), box, problem)


RAABIN = Source(
    name="raabin",
    title="Raabin-WBC: microscope-camera photographs of normal blood, Tehran",
    reader=_read,
    published="https://raabindata.com/free-data/",
    licence="unknown; freely accessible, according to its paper; see the page before use",
    citation="Kouzehkanan ZM, Saghari S, Tavakoli S, et al. A large dataset of white blood cells containing cell "
    "locations and types, along with segmented nuclei and cytoplasm. Scientific Reports 12 (2022) 1123.",
    layout="crops: DIR/{Train,TestA,TestB}/CLASS/*.jpg; the split is the first folder's name\n"
    'or fields: DIR/**/FIELD.jpg and FIELD.json with {"Cell_0": {"Label1", "Label2", "x1", "y1", "x2", "y2"}, …}',
    labels=LABELS,
    patients="unknown; fields are stand-ins where boxes are given",
    notes=(
        "Two microscopes and two cameras, one of them a phone's: colours and scale differ within the set, and from "
        "analysers' crops.",
        "Neutrophils of the five broad classes are not divided: left out unless `classes` names NEU.",
        "Boxes are assumed to refer to the pixels as stored, and fields to lie near their JSON files, as in public "
        "code of others. Check a few crops first.",
    ),
    by_hand="Open https://raabindata.com/free-data/, download the double-labelled crops (Train, TestA, TestB) and "
    "unpack them (.rar needs a separate program) side by side; then: nonet data build raabin:FOLDER",
)
