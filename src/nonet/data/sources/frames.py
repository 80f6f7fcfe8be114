"""Cells that boxes mark in frames of analysers: the frame itself where its cell is in the middle, else one cut anew."""

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from nonet.data.sources.boxes import Box, crop_fields
from nonet.data.sources.packed import as_png, files_fingerprint
from nonet.errors import DataError

if TYPE_CHECKING:
    import numpy as np

#: A cell is in the middle when its box is no further from it than this, as a share of the frame's shorter side.
OFF_CENTRE = 0.05
#: A box that comes this close to the border is cut by it.
EDGE_PX = 1


@dataclass(frozen=True)
class Frame:
    """A square part of an image around a cell, as an analyser would have cut it. It may extend beyond the image.

    Attributes
    ----------
    left, top, side : int
        In px of the file as stored.
    """

    left: int
    top: int
    side: int

    def crop(self, pixels: "np.ndarray") -> "np.ndarray":
        """Cut the frame out of an image, which is mirrored at its border where the frame extends beyond it.

        Parameters
        ----------
        pixels : ndarray of uint8, shape (height, width, 3)

        Returns
        -------
        ndarray of uint8, shape (side, side, 3)
        """
        import numpy as np

        height, width = pixels.shape[:2]
        right, bottom = self.left + self.side, self.top + self.side
        inside = pixels[max(0, self.top) : bottom, max(0, self.left) : right]
        beyond = [(max(0, -self.top), max(0, bottom - height)), (max(0, -self.left), max(0, right - width)), (0, 0)]
        return np.pad(inside, beyond, mode="symmetric")


def image_size(file: Path) -> tuple[int, int] | None:
    """Read width and height of an image from its header.

    Parameters
    ----------
    file : Path

    Returns
    -------
    tuple of int or None
        In px as stored; None where the file is no readable image.
    """
    from nonet.data.images.formats import FORMATS

    try:
        if file.is_file():  # a pipe would block
            with Image.open(file, formats=FORMATS) as opened:
                return opened.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        pass  # the build says why when it reads the image
    return None


def is_cut(box: Box, width: int, height: int) -> bool:
    """Return whether a box leaves the image or reaches its border, so that part of the cell may be missing.

    Parameters
    ----------
    box : Box
    width, height : int
        Of the image, in px.

    Returns
    -------
    bool
    """
    return min(box.left, box.top, width - box.right, height - box.bottom) <= EDGE_PX


def frame_around(box: Box, width: int, height: int) -> Frame | None:
    """Return the frame that has a cell in the middle; its side is the image's shorter side.

    Parameters
    ----------
    box : Box
        Of the cell.
    width, height : int
        Of the image, in px.

    Returns
    -------
    Frame or None
        None where the image itself is that frame.
    """
    side = min(width, height)
    twice_x, twice_y = box.left + box.right, box.top + box.bottom
    if max(abs(twice_x - width), abs(twice_y - height)) <= 2 * OFF_CENTRE * side:
        return None
    return Frame((twice_x - side) // 2, (twice_y - side) // 2, side)


@dataclass
class FramedCells:
    """Cells of frames; see `Packed`.

    Attributes
    ----------
    places : dict
        Path of a cell → (file of the image, its Frame; None for the whole image, whose bytes stay as they are).
    """

    places: dict[str, tuple[Path, Frame | None]]

    def fingerprint(self) -> str:
        """Return a short text that changes with the images or the frames."""
        frames = repr(sorted((path, str(frame)) for path, (_, frame) in self.places.items()))
        files = files_fingerprint({file for file, _ in self.places.values() if file.exists()})
        return hashlib.sha256(f"{files} {frames}".encode()).hexdigest()[:12]

    def images(self, paths: Collection[str]) -> Iterator[tuple[str, bytes | DataError]]:
        """Yield whole images as they are, and each other frame as a PNG file. See `Packed.images`."""
        from nonet.data.images.files import read_file

        cut: dict[str, tuple[Path, Frame]] = {}
        for path in paths:
            file, frame = self.places[path]
            if frame is not None:
                cut[path] = (file, frame)
                continue
            try:
                yield path, read_file(file)
            except DataError as error:
                yield path, error
        files = {path: file for path, (file, _) in cut.items()}
        yield from crop_fields(files, lambda path, pixels: as_png(cut[path][1].crop(pixels)))
