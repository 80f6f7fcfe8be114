"""Decoding image files: any common format becomes upright 8-bit RGB, and a file that cannot be read is explained.

Every image that nonet reads goes through this module. Anything unusual about an image is reported in a note of the
form "KIND: DETAIL"; several are joined by "; ".
"""

import hashlib
import io
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

from nonet.data.images import tiff
from nonet.data.images.colour import lay_over_white, stated_colours, to_srgb
from nonet.data.images.depth import to_eight_bits
from nonet.data.images.file_kinds import JPEG, PICTURE, TIFF, detect_kind
from nonet.data.images.files import read_file
from nonet.data.images.formats import FORMATS, why_not_opened
from nonet.data.images.image_stats import ImageStats, compute_image_stats
from nonet.data.images.jpeg import count_zero_run, decode_plain
from nonet.errors import DataError, UnreadableNowError

MAX_PIXELS = 64_000_000  # a single cell has about 130,000: more is a mistake or an attack
_BLACK, _SMALL_PX, _LONG = 16, 8, 4  # grey level, shorter side, and aspect ratio beyond which a note is written
#: Pillow's rawmode that gives the low bytes of 16-bit samples, for the one that gives the high bytes.
_LOW_BYTES = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}


@dataclass(frozen=True)
class ImageRead:
    """A decoded image.

    Attributes
    ----------
    pixels : ndarray of uint8, shape (height, width, 3)
        RGB, upright.
    width, height : int
        In px as stored in the file; swapped in `pixels` where EXIF rotates the image by 90°.
    mode : str
        As stored: RGB, L, CMYK, RGB;16 …
    note : str
        What is unusual about the image, or was done to read it; usually empty.
    """

    pixels: np.ndarray
    width: int
    height: int
    mode: str
    note: str


@dataclass(frozen=True)
class ImageFacts:
    """What the manifest says about an image, and its statistics for the checks.

    Attributes
    ----------
    width, height : int
        In px as stored in the file.
    mode : str
        As stored: RGB, L, CMYK, RGB;16 …
    num_bytes : int
        Size of the file.
    sha256 : str
        Of the file, in hexadecimal.
    note : str
        What is unusual about the image; usually empty.
    stats : ImageStats
        Thumbnail and colours of the border.
    """

    width: int
    height: int
    mode: str
    num_bytes: int
    sha256: str
    note: str
    stats: ImageStats = field(compare=False, repr=False)


def load_rgb(image: str | Path | bytes, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read an image as 8-bit RGB.

    EXIF rotation is undone; greyscale, palette and CMYK become RGB; embedded colour profiles are converted to sRGB;
    transparent pixels show white; values of more than 8 bits are scaled by the range they use.

    Parameters
    ----------
    image : str, Path or bytes
        A path, or the bytes of a file.
    max_pixels : int
        Larger images are refused before they are decoded.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)

    Raises
    ------
    DataError
        When the file is not an image, is cut short, too large, or holds several images.
    UnreadableNowError
        When it cannot be read at present but may be later; a DataError.
    """
    return read_image(image, max_pixels=max_pixels).pixels


def read_image(
    image: str | Path | bytes, *, upright: bool = True, max_pixels: int = MAX_PIXELS, name: str | None = None
) -> ImageRead:
    """Read an image as `load_rgb` does, together with its properties and a note on anything unusual.

    Parameters
    ----------
    image : str, Path or bytes
        A path, or the bytes of a file.
    upright : bool
        False ignores EXIF rotation, for coordinates that refer to the pixels as stored.
    max_pixels : int
        Larger images are refused before they are decoded.
    name : str, optional
        The image's name in errors; by default its path.

    Returns
    -------
    ImageRead

    Raises
    ------
    DataError, UnreadableNowError
        As `load_rgb`.
    """
    name = name or ("image" if isinstance(image, bytes) else str(image))
    data = image if isinstance(image, bytes) else read_file(image)
    if not data:
        raise DataError(f"{name} is empty: 0 bytes.")
    if (kind := detect_kind(data)) is not None and kind.group == PICTURE:  # some start like a supported format
        raise DataError(f"{name} is {why_not_opened(data)}.")
    try:
        return _Decoder(data, max_pixels, upright).read()
    except UnidentifiedImageError as error:
        raise DataError(f"{name} is {why_not_opened(data)}.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{name} has more than the {max_pixels:,} px allowed.") from error
    except DataError as error:
        raise DataError(f"{name} {error.message}.") from error
    except MemoryError as error:
        raise UnreadableNowError(f"{name} could not be read now: out of memory.") from error
    except Exception as error:  # Pillow's decoders raise almost anything on damaged files: struct.error, zlib.error, …
        raise DataError(f"{name} is cut short or damaged: {error}.") from error


def describe_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> ImageFacts:
    """Decode an image completely and return what the manifest says about it.

    Parameters
    ----------
    path : str or Path
    max_pixels : int
        Larger images are refused before they are decoded.

    Returns
    -------
    ImageFacts

    Raises
    ------
    DataError, UnreadableNowError
        As `load_rgb`.
    """
    data = read_file(path)
    read = read_image(data, max_pixels=max_pixels, name=str(path))
    sha256 = hashlib.sha256(data).hexdigest()
    stats = compute_image_stats(read.pixels)
    return ImageFacts(read.width, read.height, read.mode, len(data), sha256, read.note, stats)


class _Decoder:
    """Decodes one image. Its DataErrors are the rest of a sentence that begins with the image's name."""

    def __init__(self, data: bytes, max_pixels: int, upright: bool):
        self.data, self.max_pixels, self.upright = data, max_pixels, upright
        self.notes: list[str] = []
        self.size, self.mode = (0, 0), ""
        self.icc_profile: bytes | None = None

    def read(self) -> ImageRead:
        """Return the image."""
        pixels = self._read_plain_jpeg() if detect_kind(self.data) == JPEG else None
        if pixels is None:
            pixels = self._read_any()
        self._note_unusual(pixels)
        return ImageRead(pixels, *self.size, self.mode, "; ".join(self.notes))

    def _read_plain_jpeg(self) -> np.ndarray | None:
        """Return the pixels of a JPEG that is upright RGB without a profile and intact; else None, for Pillow to read.

        Half of the time that Pillow takes: its own copies are left out.
        """
        opened = self._open()
        is_plain = opened.format == "JPEG" and opened.mode == "RGB" and not opened.info.get("icc_profile")
        if not is_plain or self._is_turned(opened):
            return None
        pixels = decode_plain(self.data, self.size)
        if pixels is not None:
            self._note_colours(opened)
        return pixels

    def _read_any(self) -> np.ndarray:
        """Return the pixels of an image in any format."""
        layout = tiff.find_layout(self.data) if detect_kind(self.data) == TIFF else None
        colours, alpha = self._read_by_pillow() if layout is None else self._read_tiff(layout)
        pixels = np.array(to_srgb(colours, self.icc_profile, self.notes))
        return pixels if alpha is None else lay_over_white(pixels, alpha, self.notes)

    def _read_by_pillow(
        self, page: int = 0, bits: int | None = None, inverted: bool = False
    ) -> tuple[Image.Image, np.ndarray | None]:
        """Return colours, an 8-bit image without alpha, and alpha: uint8 (height, width) or None."""
        opened = self._open(page)
        if getattr(opened, "is_animated", False) and opened.format not in ("MPO", "TIFF"):
            raise DataError("contains several frames: save the one that shows the cell as an image of its own")
        self.icc_profile = opened.info.get("icc_profile")
        low_bytes = _low_bytes(opened)
        if low_bytes is None and not opened.mode.startswith(("I", "F")):
            opened.load()
            self._note_colours(opened)
            return _split(self._upright(opened))
        values = np.asarray(self._upright(opened))
        self._note_colours(opened)
        alpha = None
        if low_bytes is not None:
            self.mode += ";16"
            values, alpha = self._sixteen_bits(values, low_bytes, page)
        if (key := opened.info.get("transparency")) is not None and alpha is None:
            alpha = np.where(np.equal(values.reshape(*values.shape[:2], -1), key).all(axis=-1), 0, 255).astype(np.uint8)
        return self._eight_bits(values, bits, inverted), alpha

    def _open(self, page: int = 0) -> ImageFile.ImageFile:
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

    def _upright(self, image: Image.Image) -> Image.Image:
        image.load()
        return ImageOps.exif_transpose(image) if self._is_turned(image) else image  # which copies any image

    def _is_turned(self, image: Image.Image) -> bool:
        return self.upright and image.getexif().get(ExifTags.Base.Orientation, 1) != 1

    def _sixteen_bits(self, high: np.ndarray, low_bytes: str, page: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return uint16 values and 8-bit alpha: Pillow reads the high bytes by default, the low ones on request."""
        again = self._open(page)
        self.mode += ";16"
        again.tile = [tile._replace(args=_with_rawmode(tile.args, low_bytes)) for tile in again.tile]
        low = np.asarray(self._upright(again))
        if low_bytes == "RGBA":  # grey and alpha, byte by byte
            self.mode = "LA;16"
            return low[..., 0].astype(np.uint16) << 8 | low[..., 1], low[..., 2]
        values = high.astype(np.uint16) << 8 | low
        return (values[..., :3], high[..., 3]) if values.shape[2] == 4 else (values, None)

    def _read_tiff(self, layout: tiff.Layout) -> tuple[Image.Image, np.ndarray | None]:
        """Return colours and alpha of a TIFF, read by Pillow if possible, else by tifffile."""
        self.notes += layout.notes
        if len(layout.pages) == 3:
            channels = [np.asarray(self._upright(self._open(page))) for page in layout.pages]
            self.mode = f"3 x {self.mode}"
            return self._eight_bits(np.stack(channels, axis=-1), layout.bits, False), None
        if not layout.for_tifffile:
            try:
                return self._read_by_pillow(layout.pages[0], layout.bits, layout.inverted)
            except (UnidentifiedImageError, SyntaxError):  # Pillow has no mode for such samples
                pass
        values, alpha = tiff.read_page(self.data, layout.pages[0], max_pixels=self.max_pixels, upright=self.upright)
        height, width = values.shape[:2]
        self.size = width, height
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

    def _note_unusual(self, pixels: np.ndarray) -> None:
        """Note what can hardly be a picture of a cell."""
        height, width = pixels.shape[:2]
        high = int(pixels.max())
        if high < _BLACK:
            self.notes.append(f"nearly black: the greatest value is {high} of 255")
        elif (pixels[::8, ::8] == pixels[0, 0]).all() and (pixels == pixels[0, 0]).all():
            self.notes.append(f"one colour: every pixel is {' '.join(map(str, pixels[0, 0]))}")
        elif num_zeros := count_zero_run(self.data):
            self.notes.append(f"perhaps damaged: {num_zeros:,} zero bytes in a row in the coded picture")
        if min(height, width) < _SMALL_PX:
            self.notes.append(f"small: {width} x {height} px")
        elif max(height, width) > _LONG * min(height, width):
            self.notes.append(f"long and narrow: {width} x {height} px")


def _low_bytes(opened: ImageFile.ImageFile) -> str | None:
    """Return the rawmode that reads the low bytes of an image's 16-bit samples; None where it has no such samples."""
    if opened.mode not in ("RGB", "RGBA") or not opened.tile:
        return None
    rawmode = _rawmode(opened.tile[0].args)
    if rawmode == "LA;16B":
        return "RGBA"
    kind, _, order = rawmode.partition(";")
    return f"{kind};{_LOW_BYTES[order]}" if kind in ("RGB", "RGBA", "RGBX") and order in _LOW_BYTES else None


def _rawmode(args: Any) -> str:
    rawmode = args[0] if isinstance(args, tuple) and args else args
    return rawmode if isinstance(rawmode, str) else ""


def _with_rawmode(args: Any, rawmode: str) -> Any:
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
