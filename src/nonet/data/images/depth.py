"""Values of more than 8 bits become 8: by the range that the file states, or the one that instruments would use.

Cameras of 10, 12 or 14 bits write 16-bit files whose values stop at 1,023, 4,095 or 16,383; programs write 8-bit
values as 16-bit or floating-point ones. Scaled by their type's range such images are nearly black. See decision 20.
"""

import numpy as np

from nonet.errors import DataError

RANGES = {8: 255, 10: 1023, 12: 4095, 14: 16383, 16: 65535}  # bits → greatest value, of what instruments write
_CONTENT = 32  # grey levels between the 1st and 99th percentile that an 8-bit picture has, and a black frame has not
_OVERSHOOT = 1.1  # that interpolation may cause, of the range


def to_eight_bits(values: np.ndarray, *, bits: int | None = None) -> tuple[np.ndarray, str]:
    """Scale values to uint8, all channels alike.

    Parameters
    ----------
    values : (height, width) or (height, width, channels); integers or floats.
    bits : how many the file states to be in use; None where it states nothing.

    Returns
    -------
    The scaled values, and a note where their range was not that of their type.

    Raises
    ------
    DataError, without the image's name, where no range fits: negative or huge values, NaN.
    """
    if values.dtype == np.uint8:
        return values, ""
    if values.dtype.kind not in "iuf":
        raise DataError(f"holds values of type {values.dtype}: not an image")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError("holds values that are no numbers (NaN or infinite)")
    low, high = values.min(), values.max()
    floating = values.dtype.kind == "f"
    top, what = _range_of_floats(values, low, high) if floating else _range_of_integers(values, low, high, bits)
    scaled = np.clip(np.rint(values.astype(np.float32) * np.float32(255 / top)), 0, 255).astype(np.uint8)
    return scaled, f"{what}: values reach {_number(high)}" if what else ""


def _range_of_integers(values: np.ndarray, low, high, bits: int | None) -> tuple[float, str]:
    if low < 0:
        raise DataError(f"holds negative values ({low:,} to {high:,}), whose meaning is not known")
    if high > RANGES[16]:
        raise DataError(f"holds values up to {high:,}, beyond 16 bits: their range is not known")
    if bits is not None and high < 2**bits:
        return 2**bits - 1, "" if bits in (8, 16) else f"read as {bits} bits, as the file states"
    used = next(bits for bits, top in RANGES.items() if high <= top)
    if used == 8 and not _has_content(values):
        return RANGES[16], ""  # a black frame stays black
    return RANGES[used], "" if used == 16 else f"read as {used} bits"


def _range_of_floats(values: np.ndarray, low, high) -> tuple[float, str]:
    if high <= _OVERSHOOT:
        top, what = 1.0, "read as 0–1"
    elif high < 16:
        raise DataError(f"holds floating-point values up to {high:.3g}: neither 0–1 nor 0–255")
    else:
        used = next((bits for bits, top in RANGES.items() if high <= _OVERSHOOT * top), None)
        if used is None:
            raise DataError(f"holds floating-point values up to {high:.3g}: their range is not known")
        top, what = float(RANGES[used]), f"read as 0–{RANGES[used]}"
    if low < (1 - _OVERSHOOT) * top:
        raise DataError(f"holds negative values ({low:.3g} to {high:.3g}), whose meaning is not known")
    return top, what


def _has_content(values: np.ndarray) -> bool:
    low, high = np.percentile(values, (1, 99))
    return high - low >= _CONTENT


def _number(value) -> str:
    return f"{value:.4g}" if isinstance(value, np.floating) else f"{value:,}"
