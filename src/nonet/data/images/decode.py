"""Reading image files: any common kind becomes RGB, 8 bits a channel, upright; what cannot be read says why.

Every image that nonet reads from a file comes through here. What was not ordinary about it is told in a note; a note
is KIND: DETAIL, and several are parted by "; ".
"""

import hashlib
import io
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from nonet.data.images import tiff
from nonet.data.images.colour import lay_over_white, stated_colours, to_srgb
from nonet.data.images.depth import to_eight_bits
from nonet.data.images.file_kinds import PICTURE, kind_of_bytes
from nonet.data.images.files import read_file
from nonet.data.images.formats import FORMATS, why_not_opened
from nonet.data.images.image_stats import Look, look_at
from nonet.data.images.jpeg import zeros_in_jpeg
from nonet.errors import DataError, UnreadableNowError

MAX_PIXELS = 64_000_000  # a single cell has about 130,000: more is a mistake or an attack
_BLACK, _SMALL_PX, _LONG = 16, 8, 4  # grey level; shorter side; longer side over it: beyond them, a note
#: Rawmode of Pillow's that gives the low bytes of 16-bit samples, for the one that gives the high bytes.
_LOW_BYTES = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}


@dataclass(frozen=True)
class ImageRead:
    """An image as it was read.

    Attributes
    ----------
    pixels : uint8 (height, width, 3), RGB.
    width, height : in px as stored; turned where EXIF says so, `pixels` has them the other way round.
    mode : as stored: RGB, L, CMYK, RGB;16 …
    note : what is not ordinary about it, or was done with it; mostly empty.
    """

    pixels: np.ndarray
    width: int
    height: int
    mode: str
    note: str


@dataclass(frozen=True)
class ImageFacts:
    """What the manifest says of an image, width and height in px as stored; and its look, for the checks."""

    width: int
    height: int
    mode: str
    num_bytes: int
    sha256: str
    note: str
    look: Look = field(compare=False, repr=False)


def load_rgb(image: str | Path | bytes, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read an image as uint8 (height, width, 3).

    EXIF rotation is undone; greyscale, palette and CMYK become RGB; colours are brought from their profile's to sRGB;
    transparency is laid over white; values of more than 8 bits are scaled by the range they use.

    Parameters
    ----------
    image : a path, or a file's bytes.
    max_pixels : larger images are refused before they are decoded.

    Raises
    ------
    DataError where the file is not an image, cut short, too large, or holds several; UnreadableNowError, a DataError,
        where it cannot be read at present and may be later.
    """
    return read_image(image, max_pixels=max_pixels).pixels


def read_image(
    image: str | Path | bytes, *, upright: bool = True, max_pixels: int = MAX_PIXELS, name: str | None = None
) -> ImageRead:
    """Read an image as `load_rgb` does, with what is to be said of it.

    Parameters
    ----------
    image : a path, or a file's bytes.
    upright : False leaves EXIF's rotation alone, where something else is in the pixels of the file as stored.
    max_pixels : larger images are refused before they are decoded.
    name : of the image in errors; by default its path.
    """
    name = name or ("image" if isinstance(image, bytes) else str(image))
    data = image if isinstance(image, bytes) else read_file(image)
    if not data:
        raise DataError(f"{name} is empty: 0 bytes.")
    if (kind := kind_of_bytes(data)) is not None and kind.group == PICTURE:  # some begin as a format that is read
        raise DataError(f"{name} is {why_not_opened(data)}.")
    try:
        return _Reading(data, max_pixels, upright).read()
    except UnidentifiedImageError as error:
        raise DataError(f"{name} is {why_not_opened(data)}.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{name} has more than the {max_pixels:,} px allowed.") from error
    except DataError as error:
        raise DataError(f"{name} {error.message}.") from error
    except MemoryError as error:
        raise UnreadableNowError(f"{name} could not be read now: memory is short.") from error
    except Exception as error:  # on damaged files Pillow's decoders raise nearly anything: struct.error, zlib.error, …
        raise DataError(f"{name} is cut short or damaged: {error}.") from error


def describe_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> ImageFacts:
    """Decode an image to its last byte and say what it is. Raises DataError as `load_rgb` does."""
    data = read_file(path)
    read = read_image(data, max_pixels=max_pixels, name=str(path))
    sha256 = hashlib.sha256(data).hexdigest()
    return ImageFacts(read.width, read.height, read.mode, len(data), sha256, read.note, look_at(read.pixels))


class _Reading:
    """One image on its way from bytes to RGB. Its DataErrors are the rest of a sentence that begins with its name."""

    def __init__(self, data: bytes, max_pixels: int, upright: bool):
        self.data, self.max_pixels, self.upright = data, max_pixels, upright
        self.notes: list[str] = []
        self.size, self.mode, self.icc_profile = (0, 0), "", None

    def read(self) -> ImageRead:
        """Return the image."""
        layout = tiff.layout_of(self.data) if tiff.is_tiff(self.data) else None
        if layout is None:
            colours, alpha = self._by_pillow()
        else:
            colours, alpha = self._tiff(layout)
        pixels = np.array(to_srgb(colours, self.icc_profile, self.notes))
        if alpha is not None:
            pixels = lay_over_white(pixels, alpha, self.notes)
        self._look(pixels)
        return ImageRead(pixels, *self.size, self.mode, "; ".join(self.notes))

    def _by_pillow(self, page: int = 0, bits: int | None = None, inverted: bool = False):
        """Return colours, an 8-bit image without alpha, and alpha: uint8 (height, width) or None."""
        opened = self._open(page)
        if getattr(opened, "is_animated", False) and opened.format not in ("MPO", "TIFF"):
            raise DataError("holds several frames: save the one that shows the cell as an image of its own")
        self.icc_profile = opened.info.get("icc_profile")
        low_bytes = _low_bytes(opened)
        if low_bytes is None and not opened.mode.startswith(("I", "F")):
            opened.load()
            self._note_colours(opened)
            return _split(self._turned(opened))
        values = np.asarray(self._turned(opened))
        self._note_colours(opened)
        alpha = None
        if low_bytes is not None:
            self.mode += ";16"
            values, alpha = self._sixteen_bits(values, low_bytes, page)
        if (key := opened.info.get("transparency")) is not None and alpha is None:
            alpha = np.where(np.equal(values.reshape(*values.shape[:2], -1), key).all(axis=-1), 0, 255).astype(np.uint8)
        return self._eight_bits(values, bits, inverted), alpha

    def _open(self, page: int = 0) -> Image.Image:
        opened = Image.open(io.BytesIO(self.data), formats=FORMATS)
        if page:
            opened.seek(page)
        self._require_size(opened.size)
        self.mode = opened.mode
        return opened

    def _require_size(self, size: tuple[int, int]) -> None:
        self.size = size
        if size[0] * size[1] > self.max_pixels:
            raise DataError(f"has {size[0]} x {size[1]} px, more than the {self.max_pixels:,} px allowed")

    def _turned(self, image: Image.Image) -> Image.Image:
        return ImageOps.exif_transpose(image) if self.upright else image

    def _sixteen_bits(self, high: np.ndarray, low_bytes: str, page: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return uint16 values and 8-bit alpha: Pillow gives the high bytes, and asked otherwise the low ones."""
        again = self._open(page)
        self.mode += ";16"
        again.tile = [tile._replace(args=_with_rawmode(tile.args, low_bytes)) for tile in again.tile]
        low = np.asarray(self._turned(again))
        if low_bytes == "RGBA":  # grey and alpha, byte by byte
            self.mode = "LA;16"
            return low[..., 0].astype(np.uint16) << 8 | low[..., 1], low[..., 2]
        values = high.astype(np.uint16) << 8 | low
        return (values[..., :3], high[..., 3]) if values.shape[2] == 4 else (values, None)

    def _tiff(self, layout: tiff.Layout):
        """Return colours and alpha of a TIFF, by Pillow where it can and by tifffile where not."""
        self.notes += layout.notes
        if len(layout.pages) == 3:
            channels = [np.asarray(self._turned(self._open(page))) for page in layout.pages]
            self.mode = f"3 x {self.mode}"
            return self._eight_bits(np.stack(channels, axis=-1), layout.bits, False), None
        if not layout.for_tifffile:
            try:
                return self._by_pillow(layout.pages[0], layout.bits, layout.inverted)
            except (UnidentifiedImageError, SyntaxError):  # it has no mode for such samples
                pass
        values, alpha = tiff.read_page(self.data, layout.pages[0], max_pixels=self.max_pixels, upright=self.upright)
        self.size = values.shape[1::-1]
        self.mode = f"{'RGB' if values.ndim == 3 else 'L'};{values.dtype.name}"
        alpha = None if alpha is None else to_eight_bits(alpha)[0]
        return self._eight_bits(values, layout.bits, layout.inverted), alpha

    def _eight_bits(self, values: np.ndarray, bits: int | None, inverted: bool) -> Image.Image:
        scaled, note = to_eight_bits(values, bits=bits)
        self.notes += [note] if note else []
        return Image.fromarray(255 - scaled if inverted else scaled)

    def _note_colours(self, opened: Image.Image) -> None:
        if not self.icc_profile:
            self.notes += stated_colours(self.data, opened.info)

    def _look(self, pixels: np.ndarray) -> None:
        """Note what is hardly a picture."""
        height, width = pixels.shape[:2]
        high = int(pixels.max())
        if high < _BLACK:
            self.notes.append(f"nearly black: the greatest value is {high} of 255")
        elif (pixels[::8, ::8] == pixels[0, 0]).all() and (pixels == pixels[0, 0]).all():
            self.notes.append(f"one colour: every pixel is {' '.join(map(str, pixels[0, 0]))}")
        elif num_zeros := zeros_in_jpeg(self.data):
            self.notes.append(f"perhaps damaged: {num_zeros:,} zero bytes in a row where the picture is coded")
        if min(height, width) < _SMALL_PX:
            self.notes.append(f"small: {width} x {height} px")
        elif max(height, width) > _LONG * min(height, width):
            self.notes.append(f"long and narrow: {width} x {height} px")


def _low_bytes(opened: Image.Image) -> str | None:
    """Return the rawmode that gives the low bytes of an image's 16-bit samples; None where it has none to give."""
    if opened.mode not in ("RGB", "RGBA") or not opened.tile:
        return None
    rawmode = _rawmode(opened.tile[0].args)
    if rawmode == "LA;16B":
        return "RGBA"
    kind, _, order = rawmode.partition(";")
    return f"{kind};{_LOW_BYTES[order]}" if kind in ("RGB", "RGBA", "RGBX") and order in _LOW_BYTES else None


def _rawmode(args) -> str:
    rawmode = args[0] if isinstance(args, tuple) and args else args
    return rawmode if isinstance(rawmode, str) else ""


def _with_rawmode(args, rawmode: str):
    return (rawmode, *args[1:]) if isinstance(args, tuple) else rawmode


def _split(image: Image.Image) -> tuple[Image.Image, np.ndarray | None]:
    """Return an image's colours and its alpha, uint8 (height, width); None where it has none."""
    if image.mode in ("La", "RGBa"):
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    if image.mode not in ("RGBA", "LA"):
        if image.mode != "PA" and "transparency" not in image.info:
            return image, None
        image = image.convert("RGBA")
    alpha = np.asarray(image.getchannel("A"))
    if image.mode == "LA":
        return image.getchannel("L"), alpha
    return Image.merge("RGB", image.split()[:3]), alpha
