"""Colours as intended: embedded profiles are converted to sRGB, and transparent pixels show white."""

import io
import re
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from nonet.errors import DataError

_SAME = 2  # a profile that differs from sRGB by no more grey levels is ignored; variants of sRGB differ by one
_GAMMA = 0.45455
_CHROMATICITY = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)  # of white, red, green and blue
#: Codes in ITU-T H.273 that mean sRGB, something displayed like it, or "unspecified".
_PRIMARIES, _TRANSFERS = (1, 2), (1, 2, 6, 13, 14, 15)
_FAINT = 16  # of 255; an alpha that stays below it would hide the whole picture


def to_srgb(image: Image.Image, icc_profile: bytes | None, notes: list[str]) -> Image.Image:
    """Convert an image to 8-bit sRGB.

    Parameters
    ----------
    image : PIL.Image.Image
        Without alpha.
    icc_profile : bytes or None
        As stored in the file; None or empty where there is none.
    notes : list of str
        Gets a note on what was done.

    Returns
    -------
    PIL.Image.Image
        Of mode RGB.
    """
    if image.mode in ("1", "P", "YCbCr"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    if icc_profile and image.mode != "LAB":
        transform, name = _transform(icc_profile, image.mode)
        if transform is not None:
            notes.append(f"colours converted to sRGB: from {name}")
            return _apply(image, transform)
        if name:
            notes.append(f"colour profile ignored: {name}")
    if image.mode == "LAB":
        return _apply(image, _from_lab())
    return image.convert("RGB")


@lru_cache(maxsize=16)
def _transform(icc_profile: bytes, mode: str) -> tuple[ImageCms.ImageCmsTransform | None, str]:
    """Build the transform from a profile to sRGB.

    Returns
    -------
    transform : ImageCms.ImageCmsTransform or None
        None where the profile cannot be used or is sRGB itself.
    name : str
        The profile's name; or why it cannot be used; or empty for sRGB.
    """
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
        name = _plain(ImageCms.getProfileDescription(profile))
        transform = ImageCms.buildTransform(  # with optimisation, dark greys are off by up to 9 levels
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
        return None, "it is damaged, or made for another kind of image"
    if np.ptp(after) < 64:
        return None, f"{name} makes every colour the same"
    return (None, "") if mode != "CMYK" and np.abs(after - before).max() <= _SAME else (transform, name)


def _apply(image: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None  # None is for conversion in place
    return converted


def _probe(mode: str) -> Image.Image:
    """Return an image whose colours cover a mode's range."""
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    channels = np.meshgrid(*[steps] * len(Image.new(mode, (1, 1)).getbands()), indexing="ij")
    pixels = np.stack([channel.ravel() for channel in channels], axis=-1)[None]
    return Image.fromarray(pixels[..., 0] if mode == "L" else pixels, mode=mode)


@lru_cache(maxsize=1)
def _from_lab() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")


def _plain(name: str) -> str:
    """Return a profile's name as it may stand in a note: printable, short, without the separators of notes."""
    return re.sub(r"[;:]|[^\x20-\x7e]", " ", name or "").strip()[:60] or "an unnamed profile"


def stated_colours(data: bytes, info: dict) -> Iterator[str]:
    """List colour information in a file without a profile that differs from sRGB. It is reported, not applied.

    Parameters
    ----------
    data : bytes
        The file.
    info : dict
        Pillow's `Image.info`.

    Yields
    ------
    str
        Notes.
    """
    is_srgb = "srgb" in info
    gamma, chromaticity = info.get("gamma"), info.get("chromaticity")
    if gamma and not is_srgb and abs(gamma - _GAMMA) > 0.03:
        yield f"gamma ignored: the file states {gamma:g}, not {_GAMMA}"
    if chromaticity and not is_srgb and np.abs(np.subtract(chromaticity, _CHROMATICITY)).max() > 0.01:
        yield "colour space ignored: the file states primaries other than sRGB's"
    code = _code_points(data)
    if code and not (code[0] in _PRIMARIES and code[1] in _TRANSFERS):
        yield f"colour space ignored: the file states primaries {code[0]} and transfer {code[1]} of ITU-T H.273"
    exif = info.get("exif")
    if isinstance(exif, bytes) and b"R03\0" in exif:
        yield "colour space ignored: EXIF names Adobe RGB, without a profile"


def _code_points(data: bytes) -> tuple[int, int] | None:
    """Return the H.273 codes of primaries and transfer stated in a PNG (cICP) or an AVIF (nclx)."""
    if data.startswith(b"\x89PNG"):
        match = re.search(rb"\0\0\0\x04cICP(.)(.)", data[: data.find(b"IDAT")], re.DOTALL)
        return (match[1][0], match[2][0]) if match else None
    match = re.search(rb"colrnclx(..)(..)", data[:4096], re.DOTALL) if data[4:8] == b"ftyp" else None
    return (int.from_bytes(match[1], "big"), int.from_bytes(match[2], "big")) if match else None


def lay_over_white(pixels: np.ndarray, alpha: np.ndarray, notes: list[str]) -> np.ndarray:
    """Blend pixels with white by their alpha.

    An alpha channel that is the same everywhere, or nearly 0 everywhere, carries no information and is ignored:
    programs that fill it with zeros, or with the zeros and ones of a mask, mean the colours below it.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width, 3)
    alpha : ndarray of uint8, shape (height, width)
    notes : list of str
        Gets a note on what was done.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)

    Raises
    ------
    DataError
        When the image is fully transparent and its colours are all the same. The message lacks the image's name.
    """
    low, high = int(alpha.min()), int(alpha.max())
    if low == 255:
        return pixels
    if low == high or high < _FAINT:
        if low == high == 0 and (pixels == pixels[:1, :1]).all():
            raise DataError("is fully transparent and has a single colour")
        notes.append(f"alpha ignored: it is {low} everywhere" if low == high else f"alpha ignored: it reaches {high}")
        return pixels
    notes.append(f"transparency laid over white: {(alpha < 255).sum():,} of {alpha.size:,} px")
    share = alpha[..., None].astype(np.float32) / 255
    return np.rint(pixels * share + 255 * (1 - share)).astype(np.uint8)
