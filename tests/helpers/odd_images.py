"""Image files as instruments and programs write them, made in memory; and the colour profiles that come with some."""

import io
import struct
import zipfile
import zlib

import numpy as np
import tifffile
from PIL import Image, ImageCms

_Y, _X = np.mgrid[:60, :80]
#: A picture whose channels differ everywhere, and none of which fills its 8 bits.
RGB = np.stack([_Y * 4, _X * 3, _X + _Y], axis=-1).astype(np.uint8)
GREY = RGB[..., 1]
CHANNELS = np.moveaxis(RGB, -1, 0)  # (3, height, width)


def as_rgb(grey):
    return np.repeat(grey[..., None], 3, axis=2)


def as_file(pixels, kind="PNG", **options):
    """Return an image file's bytes, of an array or an image of Pillow's."""
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(seed, side=40):
    """Return pixels of a picture that no other seed has."""
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def zipped(files, **options):
    """Return a zip archive's bytes, of name → content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def as_tiff(pixels, **options):
    """Return a TIFF file's bytes, as tifffile writes it."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def pages_as_tiff(*pages):
    """Return a TIFF file's bytes, of pages (pixels, options)."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for pixels, options in pages:
            writer.write(pixels, metadata=None, **options)
    return buffer.getvalue()


#: Columns and rows of an interlaced PNG: first x, first y, step in x, step in y.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def as_png16(values, colour_type, *, interlaced=False):
    """Return a PNG file's bytes with 16 bits a sample; colour type 0 L, 2 RGB, 4 LA, 6 RGBA. Pillow writes L alone."""
    height, width = values.shape[:2]
    parts = [values[y::dy, x::dx] for x, y, dx, dy in _PASSES] if interlaced else [values]
    rows = [row.astype(">u2").tobytes() for part in parts if part.size for row in part.reshape(len(part), -1)]
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, interlaced)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def with_chunk(png, name, data):
    """Return a PNG file's bytes with a further chunk after its header."""
    return png[:33] + _chunk(name, data) + png[33:]


def _chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def srgb_profile():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped_profile():
    """Return a profile in which red means blue: what it makes of an image can be told to the level."""
    profile = bytearray(srgb_profile())
    places = {
        bytes(profile[at : at + 4]): at for at in range(132, 132 + 12 * struct.unpack(">I", profile[128:132])[0], 12)
    }
    red, blue = places[b"rXYZ"] + 4, places[b"bXYZ"] + 4
    profile[red : red + 8], profile[blue : blue + 8] = profile[blue : blue + 8], profile[red : red + 8]
    return bytes(profile)


def linear_grey_profile():
    """Return a profile of greys whose values are proportional to light."""
    curve = b"curv" + struct.pack(">III", 0, 0, 0)[:8]
    white = b"XYZ " + struct.pack(">Iiii", 0, 63190, 65536, 54061)
    name = b"desc" + struct.pack(">II", 0, 6) + b"light\0" + b"\0" * 78
    tags, table, at = [(b"desc", name), (b"wtpt", white), (b"kTRC", curve)], b"", 128 + 4 + 12 * 3
    body = b""
    for tag, data in tags:
        data += b"\0" * (-len(data) % 4)
        table += tag + struct.pack(">II", at + len(body), len(data))
        body += data
    size = at + len(body)
    head = struct.pack(">I", size) + b"\0" * 4 + struct.pack(">I", 0x02400000) + b"mntrGRAYXYZ "
    head += b"\0" * 12 + b"acsp" + b"\0" * 28 + struct.pack(">III", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", 3) + table + body
