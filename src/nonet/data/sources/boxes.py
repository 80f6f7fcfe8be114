"""Cells cut out of photographs of whole fields, where a data set gives boxes."""

import hashlib
import logging
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nonet.data.images.decode import read_image
from nonet.data.images.formats import IMAGE_SUFFIXES
from nonet.data.sources.packed import as_png, stamp_of
from nonet.data.sources.walk import walk_files
from nonet.errors import DataError

logger = logging.getLogger("nonet")

#: Side of a crop over the longer side of its box: some surroundings, as cell images of analysers have.
CONTEXT = 1.2


@dataclass(frozen=True)
class Box:
    """Where a cell lies in a field, in px of the file as stored; right and bottom are outside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def is_empty(self) -> bool:
        """Whether it holds no pixel."""
        return self.right <= self.left or self.bottom <= self.top

    def square(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return (left, top, right, bottom) of the square to cut out, moved into a field of this size.

        Its side is CONTEXT times the box's longer side; a field that is smaller gives what it has.
        """
        side = round(CONTEXT * max(self.right - self.left, self.bottom - self.top))
        left = _moved_in((self.left + self.right - side) // 2, side, width)
        top = _moved_in((self.top + self.bottom - side) // 2, side, height)
        return left, top, min(width, left + side), min(height, top + side)


def _moved_in(start: int, length: int, room: int) -> int:
    return max(0, min(start, room - length))


class Fields:
    """The photographs below a folder, to be found by the name of a table of boxes."""

    def __init__(self, root: Path):
        self.root = root
        self.by_stem: dict[str, list[Path]] = {}
        self.used: set[Path] = set()
        for file in walk_files(root, *IMAGE_SUFFIXES):
            self.by_stem.setdefault(file.stem, []).append(file)

    def of(self, table: Path) -> Path | str:
        """Return the field of a table of boxes, the nearest by folder of those with its name, or why there is none."""
        named = self.by_stem.get(table.stem, [])
        if not named:
            return "missing: its field is not there"
        shared = [_num_shared(table.parent, field.parent) for field in named]
        nearest = [field for field, num in zip(named, shared) if num == max(shared)]
        if len(nearest) > 1:
            others = " and ".join(field.relative_to(self.root).as_posix() for field in nearest[:2])
            return f"several fields: {others} are both as near"
        self.used.add(nearest[0])
        return nearest[0]

    def unused(self) -> list[str]:
        """Return the paths, relative to the root, of fields that no table was found for."""
        files = [file for named in self.by_stem.values() for file in named if file not in self.used]
        return sorted(file.relative_to(self.root).as_posix() for file in files)


def _num_shared(one: Path, other: Path) -> int:
    """How many folders two paths share from their start."""
    return len(Path(os.path.commonpath([one, other])).parts)


@dataclass
class BoxedImages:
    """Crops by box.

    Attributes
    ----------
    places : our path of a crop → (field's file, box).
    """

    places: dict[str, tuple[Path, Box]]

    def stamp(self) -> str:
        """Return a text that changes with the fields or the boxes."""
        boxes = repr(sorted((path, str(box)) for path, (_, box) in self.places.items()))
        fields = stamp_of({field for field, _ in self.places.values() if field.exists()})
        return hashlib.sha256(f"{fields} {CONTEXT} {boxes}".encode()).hexdigest()[:12]

    def images(self, paths: Collection[str]) -> Iterator[tuple[str, bytes | DataError]]:
        """Give each crop as a PNG; each field is opened once."""
        wanted: dict[Path, list[str]] = {}
        for path in paths:
            wanted.setdefault(self.places[path][0], []).append(path)
        for field, crops in wanted.items():
            try:
                # As stored: boxes are in the file's own pixels, so a camera's note on rotation is not obeyed.
                read = read_image(field, upright=False)
            except DataError as error:
                yield from ((path, DataError(f"its field: {error.message}")) for path in crops)
                continue
            if read.note:
                logger.warning(f"{field}: {read.note}")
            pixels = read.pixels
            for path in crops:
                left, top, right, bottom = self.places[path][1].square(pixels.shape[1], pixels.shape[0])
                crop = pixels[top:bottom, left:right]
                yield path, as_png(np.ascontiguousarray(crop)) if crop.size else DataError("its box is off the field.")
