"""TIFF files of several pages, and those that Pillow cannot decode: which page is the picture, and its values.

tifffile reads the tags; it also decodes what Pillow has no mode for (three samples of 32 bits, planes of 16 bits).
"""

import io
import logging
import re
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from nonet.data.images.file_kinds import RAW, TIFF
from nonet.data.images.files import MAX_BYTES
from nonet.errors import DataError

MAX_PAGES = 1000
_REDUCED_OR_MASK = 0b101  # bits of NewSubfileType
_ORIENTATION, _MAX_VALUES, _SUB_IFDS, _DNG_VERSION, _PAGE_NAME, _LUTS = 274, (341, 281), 330, 50706, 285, "LUTs"
_RED, _GREEN, _BLUE = 0xFF0000, 0x00FF00, 0x0000FF
_RAW = f"is {RAW.words}, which nonet does not read: convert it to PNG or JPEG"
_SENSOR_DATA = (32803, 34892)  # photometric interpretations of raw sensor data: mosaic, linear
_SAVE_PLAIN = "save it as a TIFF of a single page"
_STACK_HINT = "save the one that shows the cell as an image of its own"

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # its messages name no file, and there may be thousands


@dataclass(frozen=True)
class Layout:
    """Where in a TIFF file the picture is, and how to read it.

    Attributes
    ----------
    pages : tuple of int
        Index of the page; or of three pages, the red, green and blue channels.
    bits : int or None
        Bits of each value that are in use, if the file says so and it is more than 8.
    inverted : bool
        Whether 0 is white.
    for_tifffile : bool
        Whether Pillow would read the page incorrectly.
    notes : tuple of str
        What was ignored.
    """

    pages: tuple[int, ...] = (0,)
    bits: int | None = None
    inverted: bool = False
    for_tifffile: bool = False
    notes: tuple[str, ...] = ()


def find_layout(data: bytes) -> Layout | None:
    """Find the picture among the pages of a TIFF.

    Parameters
    ----------
    data : bytes
        The file.

    Returns
    -------
    Layout or None
        None where tifffile cannot parse the file.

    Raises
    ------
    DataError
        When there are several pictures or none. The message lacks the image's name.
    """
    try:
        with _opened(data) as tif:
            pages = list(islice(tif.pages, MAX_PAGES + 1))
            return _layout(tif, pages)
    except DataError:
        raise
    except Exception:  # a damaged file: Pillow's error is the one to show
        return None


def _opened(data: bytes) -> Any:
    import tifffile  # takes a third of a second, and most images are not TIFF

    # Not as OME: such a file may refer to others, which would be searched for in the current directory.
    return tifffile.TiffFile(io.BytesIO(data), is_ome=False)


def _layout(tif: Any, pages: list) -> Layout:
    _require_no_raw(pages)
    indices, notes = _pictures(tif, pages)
    page = pages[indices[0]]
    bits, samples = page.bitspersample, page.samplesperpixel
    return Layout(
        pages=indices,
        bits=_bits_stated(page, pages[0]),
        inverted=page.photometric == 0,
        # Pillow reads 16-bit planar samples as bytes, signed bytes as unsigned, and 32 unsigned bits as signed.
        for_tifffile=(samples > 1 and page.planarconfig == 2 and bits > 8)
        or (bits, page.sampleformat) in ((8, 2), (32, 1)),
        notes=notes + _extra_channels(page),
    )


def _extra_channels(page: Any) -> tuple[str, ...]:
    """Note channels beyond grey or RGB that are not marked as alpha; they are not read."""
    unspecified = sum(1 for kind in page.extrasamples if kind == 0)
    plain_rgb = page.photometric == 1 and page.samplesperpixel == 3  # tagged as grey, but its samples are R, G and B
    if not unspecified or plain_rgb:
        return ()
    return (f"channels ignored: {unspecified} of {page.samplesperpixel}, not marked as alpha",)


def _require_no_raw(pages: list) -> None:
    """Raise DataError where the top-level pages are only previews, as in cameras' raw files."""
    first = pages[0]
    below = list(first.pages or ()) if _SUB_IFDS in first.tags else []
    if _DNG_VERSION in first.tags or any(page.photometric in _SENSOR_DATA for page in (first, *below)):
        raise DataError(_RAW)
    if below and all(page.subfiletype & _REDUCED_OR_MASK for page in pages):
        raise DataError(
            f"stores its picture as a sub-image of a smaller copy, which nonet does not read: {_SAVE_PLAIN}"
        )


def _pictures(tif: Any, pages: list) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the page that is the picture, or the three that are its channels, and a note on the others."""
    if len(pages) > MAX_PAGES:
        if len({page.offset for page in pages}) < len(pages):
            raise DataError(f"is {TIFF.words} that is damaged: its list of pages is circular")
        raise DataError(f"contains more than {MAX_PAGES:,} pages: {_STACK_HINT}")
    wanted = [i for i, page in enumerate(pages) if not page.subfiletype & _REDUCED_OR_MASK] or list(range(len(pages)))
    num_stored = _num_planes(tif, pages) if len(pages) == 1 else 0
    if num_stored > 1:
        raise DataError(f"contains {num_stored} images on one page: {_STACK_HINT}")
    largest = max(wanted, key=lambda i: pages[i].imagewidth * pages[i].imagelength)
    others = [i for i in wanted if i != largest and not _is_smaller_copy(pages[i], pages[largest])]
    if not others:
        ignored = len(pages) - 1
        note = f"pages ignored: {ignored}, smaller copies or masks"
        return (largest,), (note,) if ignored else ()
    may_be_rgb = len(pages) == 3 and _are_grey_and_alike(pages)
    if may_be_rgb and (order := _order_of_channels(tif, pages)):
        return order, ("channels joined: three grey pages are red, green and blue",)
    or_merge = ", or merge them to RGB if they are its channels" if may_be_rgb else ""
    raise DataError(f"contains {len(others) + 1} pages: {_STACK_HINT}{or_merge}")


def _num_planes(tif: Any, pages: list) -> int:
    """Count the planes that some programs write after a single page and mention in its description."""
    series = tif.series
    size = pages[0].size
    return series[0].size // size if series and size else 1


def _is_smaller_copy(page: Any, largest: Any) -> bool:
    width, height = largest.imagewidth, largest.imagelength
    alike = abs(page.imagewidth - page.imagelength * width / height) <= 1.5
    return alike and page.imagewidth <= 0.75 * width


def _are_grey_and_alike(pages: list) -> bool:
    return len({(page.shape, str(page.dtype)) for page in pages}) == 1 and all(
        page.samplesperpixel == 1 and page.photometric in (0, 1) for page in pages
    )


def _order_of_channels(tif: Any, pages: list) -> tuple[int, ...] | None:
    """Return which pages are red, green and blue; None where the file does not say so.

    ImageJ and OME record that pages are channels, with their colours or names; other programs name the pages. Without
    such information, three grey pages may just as well be three depths or times.
    """
    colours = [_colour_of_name(str(page.tags.valueof(_PAGE_NAME, ""))) for page in pages]
    if tif.is_imagej:
        facts = tif.imagej_metadata
        if facts.get("channels") == 3 and facts.get("images", 3) == 3:
            labels = [_colour_of_name(str(label)) for label in facts.get("Labels", [])]
            luts = [_colour_of_lut(lut) for lut in facts.get(_LUTS, [])]
            # ImageJ's first three channels are red, green and blue unless the file says otherwise.
            colours = next((c for c in (labels, luts) if len(c) == 3 and any(c)), [_RED, _GREEN, _BLUE])
    elif "<OME" in (pages[0].description or ""):
        colours = _colours_of_ome(pages[0].description)
    if sorted(colour or 0 for colour in colours) != [_BLUE, _GREEN, _RED]:
        return None
    return tuple(colours.index(colour) for colour in (_RED, _GREEN, _BLUE))


def _colour_of_name(name: str) -> int | None:
    plain = name.strip().strip("\0").casefold()
    return {"r": _RED, "red": _RED, "g": _GREEN, "green": _GREEN, "b": _BLUE, "blue": _BLUE}.get(plain)


def _colour_of_lut(lut: np.ndarray) -> int | None:
    red, green, blue = (int(value) for value in np.asarray(lut)[:, -1])
    colour = (red << 16) + (green << 8) + blue
    return colour if colour in (_RED, _GREEN, _BLUE) else None


def _colours_of_ome(xml: str) -> list[int | None]:
    """Return the channels' colours according to OME, for three channels of one plane and time point."""
    sizes = dict(re.findall(r'\b(Size[ZCT])="(\d+)"', xml))
    if (sizes.get("SizeC"), sizes.get("SizeZ"), sizes.get("SizeT")) != ("3", "1", "1"):
        return []
    channels = re.findall(r"<(?:\w+:)?Channel\b[^>]*", xml)
    named = [_colour_of_name(_attribute(channel, "Name")) for channel in channels]
    numbers = [_attribute(channel, "Color") for channel in channels]
    coloured = [int(number) >> 8 & 0xFFFFFF if re.fullmatch(r"-?\d+", number) else None for number in numbers]
    return coloured if any(coloured) and len(set(coloured)) > 1 else named


def _attribute(tag: str, name: str) -> str:
    match = re.search(rf'\b{name}="([^"]*)"', tag)
    return match[1] if match else ""


def _bits_stated(page: Any, first: Any) -> int | None:
    """Return how many bits are in use where a tag or OME says fewer than 16, which is what writers put by default."""
    stated = [page.bitspersample]
    for tag in _MAX_VALUES:
        top = np.max(page.tags.valueof(tag, 0))
        stated += [int(top).bit_length()] if top > 255 and int(top) == top and (int(top) & (int(top) + 1)) == 0 else []
    if found := re.search(r'\bSignificantBits="(\d+)"', first.description or ""):
        stated.append(int(found[1]))
    used = min((bits for bits in stated if bits > 8), default=16)
    return used if used < 16 else None


def read_page(
    data: bytes, index: int, *, max_pixels: int, upright: bool = True
) -> tuple[np.ndarray, np.ndarray | None]:
    """Decode a page with tifffile.

    Parameters
    ----------
    data : bytes
        The file.
    index : int
        Of the page.
    max_pixels : int
        Larger pages are refused before they are decoded.
    upright : bool
        Whether to undo the recorded orientation.

    Returns
    -------
    values : ndarray, shape (height, width) or (height, width, 3)
    alpha : ndarray, shape (height, width), or None

    Raises
    ------
    DataError
        When the page is too large, neither grey nor RGB, or compressed in a way that tifffile cannot decode by itself.
        The message lacks the image's name.
    """
    with _opened(data) as tif:
        page = tif.pages[index]
        if page.imagewidth * page.imagelength > max_pixels:
            raise DataError(f"has {page.imagewidth} x {page.imagelength} px, more than the {max_pixels:,} px allowed")
        is_rgb = page.photometric == 2 or page.samplesperpixel < 4 or page.extrasamples[-1] in (1, 2)
        if page.photometric not in (0, 1, 2) or page.samplesperpixel > 4 or page.imagedepth > 1 or not is_rgb:
            kind = getattr(page.photometric, "name", page.photometric)
            raise DataError(f"is a TIFF of a kind that nonet does not read: {kind}, {page.samplesperpixel} samples")
        if page.nbytes > MAX_BYTES:  # decoded
            raise DataError(f"would take {page.nbytes:,} bytes, more than the {MAX_BYTES:,} allowed")
        try:
            values = page.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            kind = getattr(page.compression, "name", page.compression)
            raise DataError(
                f"is a TIFF compressed by {kind}, which nonet does not read: save it uncompressed"
            ) from None
        orientation, axes, extra = page.tags.valueof(_ORIENTATION, 1), page.axes, page.extrasamples
    if axes == "SYX":
        values = np.moveaxis(values, 0, -1)
    elif not axes:
        raise DataError(f"is {TIFF.words} that is damaged or cut short")
    elif axes not in ("YX", "YXS"):
        raise DataError(f"is a TIFF of a kind that nonet does not read: axes {axes}")
    values = undo_orientation(values, orientation) if upright else values
    if values.ndim == 2:
        return values, None
    if values.shape[2] >= 3:
        return values[..., :3], values[..., 3] if values.shape[2] == 4 and extra[-1] else None
    return values[..., 0], values[..., 1] if extra[-1] else None


def undo_orientation(values: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the rotation or reflection that an EXIF orientation records.

    Parameters
    ----------
    values : ndarray, shape (height, width, ...)
    orientation : int
        1 to 8.

    Returns
    -------
    ndarray
        A view; its first two axes are swapped for orientations 5 to 8.
    """
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values
