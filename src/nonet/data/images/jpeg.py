"""JPEG files: decoding the usual kind at speed, and finding those of which a part was never written."""

import numpy as np
import simplejpeg

_HUFFMAN_TABLES, _START_OF_SCAN, _END = 0xC4, 0xDA, b"\xff\xd9"
_ZEROS = bytes(512)  # a sector of a disk


def count_zero_run(data: bytes) -> int:
    """Count the zero bytes of the first long run of zeros in a JPEG's entropy-coded data.

    An unfinished copy or a bad disk block leaves zeros, which still decode to something. A uniform area also codes as
    zeros where the file has its own Huffman tables in which zero means "no change"; all progressive files do. Such
    files cannot be judged.

    Parameters
    ----------
    data : bytes
        The file.

    Returns
    -------
    int
        0 where there is no such run, where it cannot be judged, or where the file is not a JPEG.
    """
    at, zero_is_no_change = 2, list[bool]()
    while data[:2] == b"\xff\xd8" and data[at : at + 1] == b"\xff":  # skip the segments, which may contain zeros
        marker, size = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _HUFFMAN_TABLES:
            zero_is_no_change += _zero_ends_block(data[at + 4 : at + 2 + size])
        if marker == _START_OF_SCAN:
            end = data.find(_END, at)
            coded = data[at : end if end >= 0 else len(data)]
            first = coded.find(_ZEROS)
            return 0 if first < 0 or all(zero_is_no_change) else len(coded[first:]) - len(coded[first:].lstrip(b"\0"))
        at += 2 + size
    return 0


def _zero_ends_block(tables: bytes) -> list[bool]:
    """Tell for each Huffman table of AC coefficients whether its shortest code, all zeros, ends a block."""
    results = []
    while len(tables) > 17:
        if tables[0] >> 4:
            results.append(tables[17] == 0)
        tables = tables[17 + sum(tables[1:17]) :]
    return results


def decode_plain(data: bytes, size: tuple[int, int]) -> np.ndarray | None:
    """Decode an intact JPEG of three channels stored as YCbCr: the pixels that Pillow gives, in half of the time.

    Parameters
    ----------
    data : bytes
        The file.
    size : tuple of int
        Width and height as Pillow read them, and as they were found not to be too large.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3), or None
        None where the file is of another kind or damaged in any way, so that Pillow must read or refuse it.
    """
    try:
        height, width, colour_space, _ = simplejpeg.decode_jpeg_header(data)
        if colour_space != "YCbCr" or (width, height) != size:
            return None
        # The exact transform and interpolation, as in Pillow; libjpeg's faster ones give other pixels.
        return simplejpeg.decode_jpeg(data, fastdct=False, fastupsample=False)
    except (ValueError, MemoryError):
        return None
