"""BCCD: 364 photographs of fields with boxes; the classes of its white cells are in a separate table."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from nonet.data.sources.base import NEUTROPHIL, PLATELET, Download, Source
from nonet.data.sources.boxes import Box, BoxedCell, list_cells
from nonet.data.sources.class_folders import ClassFolders
from nonet.data.sources.listing import LabelMap, LeftOut, Listing
from nonet.data.sources.tables import read_table
from nonet.data.sources.walk import walk_files
from nonet.errors import DataError

LABELS = LabelMap(
    {
        "Basophil": "BA",
        "Eosinophil": "EO",
        "Lymphocyte": "LY",
        "Monocyte": "MO",
        "Neutrophil": NEUTROPHIL,
        "WBC": LeftOut("the box says white blood cell, and no table says which kind"),
        "RBC": LeftOut("a red blood cell"),
        "Platelets": PLATELET,
    }
)
_SEVERAL = "several cells: the table labels the field, which has"


def _read(path: Path, source: str) -> Listing:
    """List the crops of BCCD by folder, or the cells of its fields by their boxes.

    The boxes say only WBC, RBC and Platelets. Where there is a labels.csv (Image, Category), a field's single white
    cell gets the field's category. The field serves as a stand-in for the patient.
    """
    annotations = walk_files(path, ".xml")
    if not annotations:
        return ClassFolders(LABELS, ignored=(".csv",))(path, source)
    listing = Listing(path)
    table = next((file for file in walk_files(path, ".csv") if file.name == "labels.csv"), None)
    if table is None:
        listing.notes.append(
            f"{source}: labels.csv (Image, Category) is missing, so no white cell has a class. It comes with the copy "
            "of BCCD on Kaggle (paultimothymooney/blood-cells, dataset-master)."
        )
    list_cells(listing, source, LABELS, annotations, partial(_read_cells, _categories(table) if table else {}))
    return listing


def _number(stem: str) -> str:
    """Return 7 for BloodImage_00007: the table has numbers."""
    return stem.rsplit("_", 1)[-1].lstrip("0") or "0"


def _categories(table: Path) -> dict[str, str]:
    """Return the number of each field → its category in the table."""
    rows = read_table(table)
    if not {"Image", "Category"} <= set(rows.columns):
        raise DataError(f"{table} has columns {', '.join(rows.columns)}.", hint="Expected Image and Category.")
    return {_number(image): category for image, category in zip(rows["Image"], rows["Category"])}


def _read_cells(categories: dict[str, str], annotation: Path, field: Path) -> Iterator[BoxedCell]:
    cells, category = _boxes(annotation), categories.get(_number(field.stem))
    num_white = sum(name.upper() == "WBC" for name, _ in cells)
    for number, (name, box) in enumerate(cells):
        problem = ""
        if name.upper() == "WBC" and category and not box.is_empty:
            name = category
            if num_white > 1 or "," in category:
                problem = f"{_SEVERAL} {num_white} boxes of WBC and category {category}"
        yield BoxedCell(f"{number:02d}", name, box, problem)


def _boxes(annotation: Path) -> list[tuple[str, Box]]:
    """Read (name, box) of each object in a Pascal VOC file; its coordinates start at 1 and include the last pixel."""
    try:
        objects = ElementTree.parse(annotation).getroot().findall("object")
        boxes = []
        for each in objects:
            left, top, right, bottom = (
                int(float(each.findtext(f"bndbox/{edge}", ""))) for edge in ("xmin", "ymin", "xmax", "ymax")
            )
            boxes.append(((each.findtext("name") or "").strip(), Box(left - 1, top - 1, right, bottom)))
        return boxes
    except (ElementTree.ParseError, OSError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{annotation} cannot be read as boxes: {error}.", hint="Unpack it again.") from error


BCCD = Source(
    name="bccd",
    title="BCCD: 364 fields with boxes of red cells, white cells and platelets",
    reader=_read,
    published="https://github.com/Shenggan/BCCD_Dataset; labels.csv with Kaggle's paultimothymooney/blood-cells",
    licence="MIT, as its repository says",
    citation="BCCD_Dataset, Shenggan, GitHub; photographs by cosmicad and akshaylamba.",
    layout="fields: DIR/**/Annotations/BloodImage_NNNNN.xml, DIR/**/JPEGImages/BloodImage_NNNNN.jpg and "
    "DIR/**/labels.csv (Image, Category)\n"
    "or crops: DIR/**/CLASS/*.jpeg",
    labels=LABELS,
    patients="unknown; fields are stand-ins where boxes are given",
    notes=(
        "Boxes say only WBC; the class comes from labels.csv, for fields with one white cell.",
        "Kaggle's dataset2-master contains 12,500 rotated copies of some 350 photographs: folds by image put copies of "
        "one cell on both sides. For a score, use the fields or none of it.",
        "Neutrophils, the largest class, are not divided: left out unless `classes` names NEU.",
    ),
    downloads=(
        Download(
            "https://github.com/Shenggan/BCCD_Dataset/archive/refs/heads/master.zip",
            file="BCCD_Dataset-master.zip",
            evidence="The repository is the publishers'; the address follows GitHub's pattern and has not been tried. "
            "Such archives have no permanent checksum. labels.csv is not in it.",
        ),
    ),
    by_hand="Download https://github.com/Shenggan/BCCD_Dataset and put labels.csv of Kaggle's "
    "paultimothymooney/blood-cells (dataset-master) beside its folder BCCD; then: nonet data build bccd:FOLDER",
)
