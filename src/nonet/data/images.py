"""Reading image files: any common kind becomes RGB, 8 bits a channel, upright; what cannot be read says why."""

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from nonet.data.files import read_file
from nonet.data.looks import Look, look_at
from nonet.errors import DataError, UnreadableNowError

MAX_PIXELS = 64_000_000  # a single cell has about 130,000: more is a mistake or an attack


@dataclass(frozen=True)
class ImageFacts:
    """What the manifest says of an image, width and height in px as stored; and its look, for the checks."""

    width: int
    height: int
    mode: str
    num_bytes: int
    sha256: str
    look: Look = field(compare=False, repr=False)


def load_rgb(image: str | Path | bytes, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read an image as uint8 (height, width, 3).

    EXIF rotation is undone; greyscale, palette and CMYK become RGB; transparency is laid over white; 16 bits a
    channel are scaled by their range to 8.

    Parameters
    ----------
    image : a path, or a file's bytes.
    max_pixels : larger images are refused before they are decoded.

    Raises
    ------
    DataError where the file is not an image, cut short, or too large; UnreadableNowError, a DataError, where it cannot
        be read at present and may be later.
    """
    return _read(image, max_pixels)[0]


def describe_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> ImageFacts:
    """Decode an image to its last byte and say what it is. Raises DataError as `load_rgb` does."""
    data = read_file(path)
    image, (width, height), mode = _read(data, max_pixels, name=str(path))
    return ImageFacts(width, height, mode, len(data), hashlib.sha256(data).hexdigest(), look_at(image))


def _read(image: str | Path | bytes, max_pixels: int, name: str | None = None):
    name = name or ("image" if isinstance(image, bytes) else str(image))
    data = image if isinstance(image, bytes) else read_file(image)
    if not data:
        raise DataError(f"{name} is empty: 0 bytes.")
    try:
        opened = Image.open(io.BytesIO(data))
        size, mode = opened.size, opened.mode
        if size[0] * size[1] > max_pixels:
            raise DataError(f"{name} has {size[0]} x {size[1]} px, more than the {max_pixels:,} px allowed.")
        opened.load()
        return _to_rgb(ImageOps.exif_transpose(opened)), size, mode
    except UnidentifiedImageError as error:
        raise DataError(f"{name} is not an image.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{name} has more than the {max_pixels:,} px allowed.") from error
    except DataError:
        raise
    except MemoryError as error:
        raise UnreadableNowError(f"{name} could not be read now: memory is short.") from error
    except Exception as error:  # on damaged files Pillow's decoders raise nearly anything: struct.error, zlib.error, …
        raise DataError(f"{name} is cut short or damaged: {error}.") from error


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith(("I", "F")):
        grey = np.asarray(image).astype(np.float64)
        top = 65535.0 if grey.max() > 255 or image.mode.startswith("I;16") else 255.0
        grey = np.clip(np.rint(grey * (255 / top)), 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))
