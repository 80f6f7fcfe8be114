"""Colours as they are meant: profiles become sRGB, what is transparent shows white."""

import io
import re
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from nonet.errors import DataError

_SAME = 2  # grey levels by which a profile may differ from sRGB and be left alone: variants of sRGB differ by one
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
