"""Raabin-WBC: microscope-camera photographs of normal blood, as crops by class or as fields with boxes."""

import json
from pathlib import Path

from nonet.data.sources.base import NEUTROPHIL, Source
from nonet.data.sources.boxes import Box, BoxedImages, Fields
from nonet.data.sources.class_folders import RECORD, ClassFolders, require_folder, require_rows
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


def read_raabin(path: Path, name: str | None = None) -> Listing:
    """List the crops of Raabin-WBC by folder, or the cells of its fields by their boxes.

    Cells of one field are of one person, so the field serves as a stand-in for the patient. Cells on which two experts
    disagree are left out and recorded.

    Parameters
    ----------
    path : Path
        The folder with Train/, TestA/, TestB/ of class folders, or one with JSON files beside or near their fields.
    name : str, optional
        Of the source; by default raabin.

    Returns
    -------
    Listing

    Raises
    ------
    DataError
        When it is neither, or a JSON file cannot be read.
    """
    require_folder(path, "raabin")
    tables = [file for file in walk_files(path, ".json") if file.name != RECORD]
    if not tables:
        return ClassFolders("raabin", LABELS, first_folder_is_split=True)(path, name)
    listing, source = Listing(path), name or "raabin"
    fields, places = Fields(path), dict[str, tuple[Path, Box]]()
    for table in tables:
        field = fields.find(table)
        if isinstance(field, str):
            listing.exclude(table.relative_to(path).as_posix(), source, None, field)
        else:
            _list_field(listing, table, field, source, places)
    for unused in fields.unused():
        listing.exclude(unused, source, None, "no boxes: there is no JSON for it")
    listing.packed = BoxedImages(places)
    return require_rows(listing, path, "raabin")


def _list_field(listing: Listing, table: Path, field: Path, source: str, places: dict[str, tuple[Path, Box]]) -> None:
    try:
        facts = json.loads(table.read_text(encoding="utf-8-sig"))
        cells = {key: dict(cell) for key, cell in facts.items() if key.startswith("Cell_")}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{table} cannot be read as a table of boxes: {error}.", hint="Unpack it again.") from error
    stem = field.relative_to(listing.root).with_suffix("").as_posix()
    for key, cell in cells.items():
        inside = f"{stem}/{safe_name(key)}.png"
        labels = [str(cell.get(label) or "").strip() for label in ("Label1", "Label2")]
        given = [label for label in labels if label]
        try:
            left, top, right, bottom = (int(cell[edge]) for edge in ("x1", "y1", "x2", "y2"))
            box = Box(left, top, right, bottom)
        except (KeyError, ValueError, TypeError, OverflowError):
            listing.exclude(inside, source, " ".join(given), "no box: x1, y1, x2, y2 are not all numbers")
            continue
        if not given:
            listing.exclude(inside, source, None, "no label")
        elif len({plain(label) for label in given}) > 1:
            listing.exclude(inside, source, given[0], f"experts disagree: {' and '.join(given)}")
        elif box.is_empty:
            listing.exclude(inside, source, given[0], f"empty box: {box}")
        else:
            places[inside] = (field, box)
            listing.add_upstream(
                LABELS, given[0], path=inside, source=source, patient=f"field-{stem}", patient_is_standin=True
            )


RAABIN = Source(
    name="raabin",
    title="Raabin-WBC: microscope-camera photographs of normal blood, Tehran",
    read=read_raabin,
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
