"""Colours as they are meant: profiles become sRGB, what is transparent shows white."""

import io
import re
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from nonet.errors import DataError

_SAME = 2  # grey levels by which a profile may differ from sRGB and be left alone: variants of sRGB differ by one
_GAMMA = 0.45455
_CHROMATICITY = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)  # of white, red, green and blue
#: Numbers in ITU-T H.273 that mean sRGB, what is shown like it, or nothing.
_PRIMARIES, _TRANSFERS = (1, 2), (1, 2, 6, 13, 14, 15)
_FAINT = 16  # an alpha that stays below it, of 255, hides the whole picture


def to_srgb(image: Image.Image, icc_profile: bytes | None, notes: list[str]) -> Image.Image:
    """Return an 8-bit image in RGB, its colours brought from its profile's to sRGB.

    Parameters
    ----------
    image : without alpha.
    icc_profile : as stored in the file; None or empty where there is none.
    notes : gets what was done.
    """
    if image.mode in ("1", "P", "YCbCr"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    if icc_profile and image.mode != "LAB":
        transform, name = _transform(icc_profile, image.mode)
        if transform is not None:
            notes.append(f"colours converted to sRGB: from {name}")
            return ImageCms.applyTransform(image, transform)
        if name:
            notes.append(f"colour profile ignored: {name}")
    if image.mode == "LAB":
        return ImageCms.applyTransform(image, _from_lab())
    return image.convert("RGB")


@lru_cache(maxsize=16)
def _transform(icc_profile: bytes, mode: str) -> tuple[ImageCms.ImageCmsTransform | None, str]:
    """Return what brings colours to sRGB and the profile's name; None and why not, or nothing where it is sRGB."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
        name = _plain(ImageCms.getProfileDescription(profile))
        transform = ImageCms.buildTransform(  # its faster way is off by up to 9 levels in dark greys
            profile,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION | (ImageCms.Flags.NOOPTIMIZE if mode == "L" else 0),
        )
        probe = _probe(mode)
        before, after = (np.asarray(one, dtype=np.int16) for one in (probe.convert("RGB"), _apply(probe, transform)))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None, "it is damaged, or not of the image's kind"
    if np.ptp(after) < 64:
        return None, f"{name} makes every colour the same"
    return (None, "") if mode != "CMYK" and np.abs(after - before).max() <= _SAME else (transform, name)


def _apply(image: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    return ImageCms.applyTransform(image, transform)


def _probe(mode: str) -> Image.Image:
    """Return an image with colours from all over a mode's range."""
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    channels = np.meshgrid(*[steps] * len(Image.new(mode, (1, 1)).getbands()), indexing="ij")
    pixels = np.stack([channel.ravel() for channel in channels], axis=-1)[None]
    return Image.fromarray(pixels[..., 0] if mode == "L" else pixels, mode=mode)


@lru_cache(maxsize=1)
def _from_lab() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")


def _plain(name: str) -> str:
    """A profile's name for a note: printable, short, without the signs that part notes."""
    return re.sub(r"[;:]|[^\x20-\x7e]", " ", name or "").strip()[:60] or "an unnamed profile"


def stated_colours(data: bytes, info: dict) -> list[str]:
    """Return notes on what a file without a profile says of its colours, where they are not sRGB's; it is not obeyed.

    Parameters
    ----------
    data : the file.
    info : what Pillow found out about it.
    """
    notes = []
    is_srgb = "srgb" in info
    gamma, chromaticity = info.get("gamma"), info.get("chromaticity")
    if gamma and not is_srgb and abs(gamma - _GAMMA) > 0.03:
        notes.append(f"gamma ignored: the file states {gamma:g}, not {_GAMMA}")
    if chromaticity and not is_srgb and np.abs(np.subtract(chromaticity, _CHROMATICITY)).max() > 0.01:
        notes.append("colour space ignored: the file states primaries other than sRGB's")
    code = _code_points(data)
    if code and not (code[0] in _PRIMARIES and code[1] in _TRANSFERS):
        notes.append(f"colour space ignored: the file states primaries {code[0]} and transfer {code[1]} of ITU-T H.273")
    exif = info.get("exif")
    if isinstance(exif, bytes) and b"R03\0" in exif:
        notes.append("colour space ignored: EXIF names Adobe RGB, without a profile")
    return notes


def _code_points(data: bytes) -> tuple[int, int] | None:
    """Return the primaries and the transfer that a PNG (cICP) or an AVIF (nclx) states by their numbers in H.273."""
    if data.startswith(b"\x89PNG"):
        found = re.search(rb"\0\0\0\x04cICP(.)(.)", data[: data.find(b"IDAT")], re.DOTALL)
        return (found[1][0], found[2][0]) if found else None
    found = re.search(rb"colrnclx(..)(..)", data[:4096], re.DOTALL) if data[4:8] == b"ftyp" else None
    return (int.from_bytes(found[1], "big"), int.from_bytes(found[2], "big")) if found else None


def lay_over_white(pixels: np.ndarray, alpha: np.ndarray, notes: list[str]) -> np.ndarray:
    """Return RGB pixels (height, width, 3) with white where an alpha (height, width) makes them transparent; uint8.

    An alpha that is the same everywhere, or nearly nothing everywhere, says nothing of the picture and is ignored:
    programs that fill it with zeros, or with a mask's zeros and ones, mean the colours below it.

    Raises
    ------
    DataError, without the image's name, where all is transparent and below it is a single colour.
    """
    low, high = int(alpha.min()), int(alpha.max())
    if low == 255:
        return pixels
    if low == high or high < _FAINT:
        if low == high == 0 and (pixels == pixels[:1, :1]).all():
            raise DataError("is fully transparent, and holds a single colour")
        notes.append(f"alpha ignored: it is {low} everywhere" if low == high else f"alpha ignored: it reaches {high}")
        return pixels
    notes.append(f"transparency laid over white: {(alpha < 255).sum():,} of {alpha.size:,} px")
    share = alpha[..., None].astype(np.float32) / 255
    return np.rint(pixels * share + 255 * (1 - share)).astype(np.uint8)
