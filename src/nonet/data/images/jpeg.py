"""What no decoder says of a JPEG file: that a part of it was never written."""

_HUFFMAN_TABLES, _START_OF_SCAN, _END = 0xC4, 0xDA, b"\xff\xd9"
_ZEROS = bytes(512)  # a sector of a disk


def zeros_in_jpeg(data: bytes) -> int:
    """Count the zero bytes of the first long run in what codes the picture; 0 where there is none, or no JPEG.

    A copy that was not finished, or a bad block of a disk, leaves zeros, which decode to something. An even area gives
    zeros, too, where the file has tables of its own by which zero means no change, as all progressive ones have: then
    nothing can be told.
    """
    at, zero_is_no_change = 2, []
    while data[:2] == b"\xff\xd8" and data[at : at + 1] == b"\xff":  # over the segments, which may hold zeros
        marker, size = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _HUFFMAN_TABLES:
            zero_is_no_change += _by_table(data[at + 4 : at + 2 + size])
        if marker == _START_OF_SCAN:
            end = data.find(_END, at)
            coded = data[at : end if end >= 0 else len(data)]
            first = coded.find(_ZEROS)
            return 0 if first < 0 or all(zero_is_no_change) else len(coded[first:]) - len(coded[first:].lstrip(b"\0"))
        at += 2 + size
    return 0


def _by_table(tables: bytes) -> list[bool]:
    """Say of each table for AC coefficients whether its shortest code, zeros, ends a block."""
    found = []
    while len(tables) > 17:
        if tables[0] >> 4:
            found.append(tables[17] == 0)
        tables = tables[17 + sum(tables[1:17]) :]
    return found
