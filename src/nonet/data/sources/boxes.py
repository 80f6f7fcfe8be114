"""Cells cropped from photographs of whole fields, for data sets that give boxes."""

import hashlib
import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nonet.data.images.formats import IMAGE_SUFFIXES
from nonet.data.sources.listing import LabelMap, Listing
from nonet.data.sources.packed import as_png, files_fingerprint
from nonet.data.sources.walk import walk_files
from nonet.errors import DataError

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger("nonet")

#: Side of a crop relative to the longer side of its box, which includes some surroundings as analysers' images do.
CONTEXT = 1.2


@dataclass(frozen=True)
class Box:
    """Where a cell lies in a field.

    Attributes
    ----------
    left, top, right, bottom : int
        In px of the file as stored; right and bottom are exclusive.
    """

    left: int
    top: int
    right: int
    bottom: int

    @property
    def is_empty(self) -> bool:
        """Whether the box contains no pixel."""
        return self.right <= self.left or self.bottom <= self.top

    def square(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return the square to crop, moved inside the field.

        Its side is CONTEXT times the longer side of the box; a smaller field is cropped as far as it goes.

        Parameters
        ----------
        width, height : int
            Of the field, in px.

        Returns
        -------
        left, top, right, bottom : int
            In px.
        """
        side = round(CONTEXT * max(self.right - self.left, self.bottom - self.top))
        left = _moved_in((self.left + self.right - side) // 2, side, width)
        top = _moved_in((self.top + self.bottom - side) // 2, side, height)
        return left, top, min(width, left + side), min(height, top + side)


def _moved_in(start: int, length: int, room: int) -> int:
    return max(0, min(start, room - length))


class Fields:
    """The photographs below a folder, which are looked up by the name of a table of boxes.

    Parameters
    ----------
    root : Path

    Attributes
    ----------
    by_stem : dict
        File name without extension → paths.
    used : set of Path
        Photographs that were found for some table.
    """

    def __init__(self, root: Path):
        self.root = root
        self.by_stem: dict[str, list[Path]] = {}
        self.used: set[Path] = set()
        for file in walk_files(root, *IMAGE_SUFFIXES):
            self.by_stem.setdefault(file.stem, []).append(file)

    def find(self, table: Path) -> Path | str:
        """Find the field of a table of boxes: of those with its name, the nearest by folder.

        Parameters
        ----------
        table : Path

        Returns
        -------
        Path or str
            The field, or the reason why there is none.
        """
        named = self.by_stem.get(table.stem, [])
        if not named:
            return "missing: no image has its name"
        shared = [len(Path(os.path.commonpath([table.parent, field.parent])).parts) for field in named]
        nearest = [field for field, num in zip(named, shared) if num == max(shared)]
        if len(nearest) > 1:
            others = " and ".join(field.relative_to(self.root).as_posix() for field in nearest[:2])
            return f"several fields: {others} have its name"
        self.used.add(nearest[0])
        return nearest[0]

    def unused(self) -> list[str]:
        """Return the paths, relative to the root, of fields without a table."""
        files = [file for named in self.by_stem.values() for file in named if file not in self.used]
        return sorted(file.relative_to(self.root).as_posix() for file in files)


@dataclass
class BoxedImages:
    """Crops by box; see `Packed`.

    Attributes
    ----------
    places : dict
        Path of a crop → (file of the field, Box).
    """

    places: dict[str, tuple[Path, Box]]

    def fingerprint(self) -> str:
        """Return a short text that changes with the fields or the boxes."""
        boxes = repr(sorted((path, str(box)) for path, (_, box) in self.places.items()))
        fields = files_fingerprint({field for field, _ in self.places.values() if field.exists()})
        return hashlib.sha256(f"{fields} {CONTEXT} {boxes}".encode()).hexdigest()[:12]

    def images(self, paths: Collection[str]) -> Iterator[tuple[str, bytes | DataError]]:
        """Yield each crop as a PNG file. See `Packed.images`."""
        yield from crop_fields({path: self.places[path][0] for path in paths}, self._crop)

    def _crop(self, path: str, pixels: "np.ndarray") -> bytes | DataError:
        left, top, right, bottom = self.places[path][1].square(pixels.shape[1], pixels.shape[0])
        crop = pixels[top:bottom, left:right]
        return as_png(crop) if crop.size else DataError("its box is outside the field.")


def crop_fields(
    fields: Mapping[str, Path], crop: Callable[[str, "np.ndarray"], bytes | DataError]
) -> Iterator[tuple[str, bytes | DataError]]:
    """Yield crops of fields, of which each is opened once.

    Parameters
    ----------
    fields : mapping
        Path of a crop → file of its field.
    crop : callable
        Function of a path and its field's pixels, in RGB as stored, that returns an image file, or why there is none.

    Yields
    ------
    path : str
    data : bytes or DataError
    """
    from nonet.data.images.decode import read_image

    wanted: dict[Path, list[str]] = {}
    for path, field in fields.items():
        wanted.setdefault(field, []).append(path)
    for field, paths in wanted.items():
        try:
            # Boxes refer to the pixels as stored, so EXIF rotation is ignored.
            read = read_image(field, upright=False)
        except DataError as error:
            yield from ((path, DataError(f"its field: {error.message}")) for path in paths)
            continue
        if read.note:
            logger.warning(f"{field}: {read.note}")
        for path in paths:
            yield path, crop(path, read.pixels)


@dataclass(frozen=True)
class BoxedCell:
    """One cell of a table of boxes.

    Attributes
    ----------
    name : str
        Of the crop, unique within the field.
    label : str
        As the table has it.
    box : Box
    problem : str
        Why the cell is left out; empty where it can be used.
    """

    name: str
    label: str
    box: Box = Box(0, 0, 0, 0)
    problem: str = ""


def list_cells(
    listing: Listing,
    source: str,
    labels: LabelMap,
    tables: Iterable[Path],
    read_cells: Callable[[Path, Path], Iterable[BoxedCell]],
) -> None:
    """List the cells of photographs of whole fields; the field serves as a stand-in for the patient.

    Parameters
    ----------
    listing : Listing
        Gets the rows, the exclusions, and the crops as `packed`.
    source : str
        Name of the source.
    labels : LabelMap
    tables : iterable of Path
        One table of boxes per field.
    read_cells : callable
        Function of a table and its field that returns the cells.
    """
    fields, places, kind = Fields(listing.root), dict[str, tuple[Path, Box]](), ""
    for table in tables:
        field, kind = fields.find(table), table.suffix[1:].upper()
        if isinstance(field, str):
            listing.exclude(table.relative_to(listing.root).as_posix(), source, None, field)
            continue
        stem = field.relative_to(listing.root).with_suffix("").as_posix()
        for cell in read_cells(table, field):
            inside = f"{stem}/{cell.name}.png"
            if cell.problem or cell.box.is_empty:
                listing.exclude(inside, source, cell.label, cell.problem or f"empty box: {cell.box}")
                continue
            places[inside] = (field, cell.box)
            listing.add_upstream(
                labels, cell.label, path=inside, source=source, patient=f"field-{stem}", patient_is_standin=True
            )
    for unused in fields.unused():
        listing.exclude(unused, source, None, f"no boxes: its {kind} file is missing")
    listing.packed = BoxedImages(places)
