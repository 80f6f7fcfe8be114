"""CytologIA: frames of twenty laboratories, with a box and a label for each cell."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nonet.data.sources.base import ERYTHROBLAST, GIANT_PLATELET, NEUTROPHIL, SMUDGE_CELL, Source
from nonet.data.sources.boxes import Box
from nonet.data.sources.class_folders import list_images
from nonet.data.sources.frames import Frame, FramedCells, frame_around, image_size, is_cut
from nonet.data.sources.listing import LabelMap, LeftOut, Listing
from nonet.data.sources.tables import read_table
from nonet.data.sources.walk import walk_files
from nonet.errors import DataError
from nonet.progress import progress

LABELS = LabelMap(
    {
        "PNN": (NEUTROPHIL, 6827),
        "LY": ("LY", 2092),
        "MO": ("MO", 2743),
        "EO": ("EO", 2432),
        "BA": ("BA", 1001),
        "PM": ("PMY", 1152),
        "M": ("MY", 1994),
        "MM": ("MMY", 1707),
        "LH_lyAct": ("VLY", 1705),  # hyperbasophilic or activated lymphocyte
        "LyB": ("BL", 3029),  # lymphoblast
        "MBL": ("BL", 2668),  # myeloblast
        "MoB": ("BL", 1531),  # monoblast
        "B": ("BL", 2263),  # blast of no stated lineage
        "Er": (ERYTHROBLAST, 2308),
        "Thromb": (GIANT_PLATELET, 2319),
        "Lysee": (SMUDGE_CELL, 3408),
        "LAM3": (
            LeftOut("a cell of acute promyelocytic leukaemia (AML M3), a blast or an abnormal promyelocyte"),
            3338,
        ),
        "LLC": (LeftOut("a cell of chronic lymphocytic leukaemia, which LY does not mean elsewhere"), 3158),
        "LF": (LeftOut("a cell of follicular lymphoma is not one of the thirteen classes"), 2131),
        "LM": (LeftOut("a cell of mantle cell lymphoma is not one of the thirteen classes"), 944),
        "LZMG": (LeftOut("a cell of marginal zone lymphoma is not one of the thirteen classes"), 845),
        "LGL": (LeftOut("a large granular lymphocyte, which LY does not mean elsewhere"), 2439),
        "SS": (LeftOut("a Sézary cell is not one of the thirteen classes"), 714),
    }
)
_TABLE, _TEST_TABLE = "train.csv", "test.csv"
_CORNERS = ("x1", "y1", "x2", "y2")


@dataclass(frozen=True)
class _Cell:
    """A row of the table: its line in the file, its label, and its box or why there is none."""

    line: int
    label: str
    box: Box | None
    problem: str = ""


def _read(path: Path, source: str) -> Listing:
    """List the cells of train.csv; images may lie at any depth. Other images are recorded as left out."""
    listing, table = Listing(path), _find_table(path)
    cells, unlabelled = _read_cells(table, listing, source), _read_unlabelled(table.with_name(_TEST_TABLE))
    files: dict[str, list[PurePosixPath]] = {}
    for file in list_images(listing, source, ignored=(".csv",)):
        files.setdefault(file.name, []).append(file)
    places: dict[str, tuple[Path, Frame | None]] = {}
    used: dict[str, int] = {}  # cells by image without its ending: x.jpg and x.png are two images
    with progress(total=len(cells), description="reading image sizes", unit="images", delay=2) as bar:
        for name, of_image in cells.items():
            bar.update()
            found = files.pop(name, [])
            if not found:
                reason = f"missing: {_TABLE} lists it, line {of_image[0].line}, but it is not there"
                listing.exclude(name, source, of_image[0].label, reason)
            elif len(found) > 1:
                for file in found:
                    listing.exclude(str(file), source, None, f"name twice: {_TABLE} may mean a file in another folder")
            else:
                stem = str(found[0].with_suffix(""))
                places |= _list_image(listing, source, found[0], of_image, used.get(stem, 0))
                used[stem] = used.get(stem, 0) + len(of_image)
    for name, found in files.items():
        reason = f"in no table: {_TABLE} does not have it"
        if name in unlabelled:
            reason = f"no label: {_TEST_TABLE} lists it without boxes and labels"
        for file in found:
            listing.exclude(str(file), source, None, reason)
    listing.packed = FramedCells(places)
    return listing


def _list_image(
    listing: Listing, source: str, image: PurePosixPath, cells: list[_Cell], first: int
) -> dict[str, tuple[Path, Frame | None]]:
    """List the cells of an image, numbered from `first`, and return the places of those that can be used.

    Cells of one image are of one person, so the image serves as a stand-in for the patient where it has several.
    Elsewhere the patient stays unknown: nearly every cell would be a patient of its own, and checks say so.
    """
    file, stem = listing.root / image, str(image.with_suffix(""))
    size = image_size(file)
    problems = {number: _problem(cell, size) for number, cell in enumerate(cells, first)}
    several = sum(not problem for problem in problems.values()) > 1
    columns = {"patient": f"image-{stem}", "patient_is_standin": True} if several else {}
    places = {}
    for number, cell in enumerate(cells, first):
        inside = f"{stem}/{number}"
        if problems[number] or cell.box is None:
            if LABELS.known(cell.label):
                listing.upstream[str(LABELS.known(cell.label))] += 1  # it is there, if useless
            listing.exclude(inside, source, cell.label, problems[number])
            continue
        frame = frame_around(cell.box, *size) if size else None
        inside += ".png" if frame else image.suffix.lower()
        places[inside] = (file, frame)
        listing.add_upstream(LABELS, cell.label, path=inside, source=source, **columns)
    return places


def _problem(cell: _Cell, size: tuple[int, int] | None) -> str:
    """Return why a cell cannot be used, or nothing. An image of unknown size is read, and reported, by the build."""
    where = f"{_TABLE}, line {cell.line}"
    if cell.box is None:
        return f"{cell.problem}: {where}"
    if cell.box.is_empty:
        return f"empty box: {where}"
    if not cell.label:
        return f"no label: {where}"
    if size is not None and is_cut(cell.box, *size):
        box = ", ".join(str(edge) for edge in (cell.box.left, cell.box.top, cell.box.right, cell.box.bottom))
        return f"cut by the border: {where}, has the box {box} in an image of {size[0]} x {size[1]} px"
    return ""


def _find_table(path: Path) -> Path:
    tables = [file for file in walk_files(path, ".csv") if file.name.casefold() == _TABLE]
    if not tables:
        raise DataError(
            f"{path} has no {_TABLE}.", hint='"nonet data sources cytologia" shows what cytologia: expects.'
        )
    if len(tables) > 1:
        raise DataError(f"{path} has {_TABLE} twice: {tables[0]} and {tables[1]}.", hint="Give the folder of one.")
    return tables[0]


def _read_cells(table_file: Path, listing: Listing, source: str) -> dict[str, list[_Cell]]:
    """Return the name of each image → its cells, in the order of the table."""
    table = read_table(table_file)
    _require_columns(table_file, list(table.columns), ("NAME", *_CORNERS, "class"))
    cells: dict[str, list[_Cell]] = {}
    for line, name, label, *corners in table[["NAME", "class", *_CORNERS]].itertuples():
        name = PurePosixPath(name).name
        if not name:
            listing.exclude(table_file.name, source, label, f"no image: {_TABLE}, line {line}, names none")
            continue
        try:
            x1, y1, x2, y2 = (int(float(value)) for value in corners)
        except (ValueError, OverflowError):
            cell = _Cell(line, label, None, f"no box: {', '.join(corners)} are not all numbers")
        else:
            # Any two opposite corners mean the same box.
            cell = _Cell(line, label, Box(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)))
        cells.setdefault(name, []).append(cell)
    return cells


def _read_unlabelled(table_file: Path) -> set[str]:
    """Return the names of the images that the challenge kept for its test; none where the table is absent."""
    if not table_file.exists():
        return set()
    table = read_table(table_file)
    _require_columns(table_file, list(table.columns), ("NAME",))
    return {PurePosixPath(name).name for name in table["NAME"]}


def _require_columns(table_file: Path, columns: list[str], expected: tuple[str, ...]) -> None:
    missing = [column for column in expected if column not in columns]
    if missing:
        raise DataError(
            f"{table_file} has no column {', '.join(missing)}. Its columns: {', '.join(columns)}.",
            hint=f"Expected {', '.join(expected)}.",
        )


CYTOLOGIA = Source(
    name="cytologia",
    title="CytologIA: frames of 20 laboratories in France, Belgium and Switzerland, with boxes",
    reader=_read,
    published="data.gouv.fr, https://www.data.gouv.fr/fr/datasets/cytologia/",
    licence="CC BY 3.0; the page also names Licence Ouverte 2.0 (Etalab)",
    citation="CytologIA consortium. Multicentric data challenge for artificial intelligence-based classification of "
    "leukocytes: results from the CytologIA consortium (2026). The page says how to cite the data.",
    layout="DIR/train.csv (NAME, x1, y1, x2, y2, class; one row per cell), DIR/test.csv (NAME) and "
    "DIR/images_cytologia/*.jpg; images may lie elsewhere below DIR",
    labels=LABELS,
    num_images=52748,
    patients="unknown; images of several cells are stand-ins",
    notes=(
        "52,748 cells have boxes, in 48,417 of 69,168 images; the other images, the challenge's test set, have neither "
        "boxes nor labels.",
        "Neither patients nor laboratories are given. Name it after `external`: a score on it says nothing about the "
        "next patient or the next laboratory.",
        "An image whose cell is in the middle is used as it is. For another cell a square of the image's shorter side "
        "is cut around it, mirrored at the border, so that each cell is in the middle and none changes its scale.",
        "Cells whose box reaches the image's border are left out: they are cut, and such boxes are unreliable.",
        "Neutrophils (PNN), the largest class, are not divided: left out unless `classes` names NEU.",
        "Diseased cells come from patients with that disease; from how many is not known. What tells their slides "
        "apart may predict the class.",
        "Layout and counts were taken from the tables and code of the challenge's entrants; the archives on "
        "data.gouv.fr have not been seen.",
    ),
    by_hand="Open https://www.data.gouv.fr/fr/datasets/cytologia/, download the images and both tables, and unpack "
    "them into one folder; then: nonet data build cytologia:FOLDER --external cytologia, beside your other sources.",
)
