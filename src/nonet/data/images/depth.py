"""Converting images of more than 8 bits to 8, by the range that the file states or that instruments usually use.

Cameras of 10, 12 or 14 bits write 16-bit files whose values stop at 1,023, 4,095 or 16,383, and programs write 8-bit
values as 16-bit or floating-point ones. Scaled by the range of their type such images would be nearly black. See
decision 20.
"""

import numpy as np

from nonet.errors import DataError

RANGES = {8: 255, 10: 1023, 12: 4095, 14: 16383, 16: 65535}  # bits → greatest value that instruments write
_CONTENT = 32  # grey levels from the 1st to the 99th percentile: an 8-bit picture has as many, a black frame fewer
_OVERSHOOT = 1.1  # values beyond the range by this factor may come from interpolation


def to_eight_bits(values: np.ndarray, *, bits: int | None = None) -> tuple[np.ndarray, str]:
    """Scale values to uint8, all channels alike.

    Parameters
    ----------
    values : ndarray of int or float, shape (height, width) or (height, width, channels)
    bits : int, optional
        How many bits are in use according to the file; None where it does not say.

    Returns
    -------
    scaled : ndarray of uint8
        Same shape as `values`.
    note : str
        Which range was used, where it was not that of the type; else empty.

    Raises
    ------
    DataError
        When no range fits: negative or huge values, NaN. The message lacks the image's name.
    """
    if values.dtype == np.uint8:
        return values, ""
    if values.dtype.kind not in "iuf":
        raise DataError(f"contains values of type {values.dtype}: not an image")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError("contains values that are NaN or infinite")
    low, high = values.min(), values.max()
    floating = values.dtype.kind == "f"
    top, what = _range_of_floats(values, low, high) if floating else _range_of_integers(values, low, high, bits)
    scaled = np.clip(np.rint(values.astype(np.float32) * np.float32(255 / top)), 0, 255).astype(np.uint8)
    return scaled, f"{what}: values reach {_number(high)}" if what else ""


def _range_of_integers(values: np.ndarray, low: int, high: int, bits: int | None) -> tuple[float, str]:
    if low < 0:
        raise DataError(f"contains negative values ({low:,} to {high:,}), whose meaning is unknown")
    if high > RANGES[16]:
        raise DataError(f"contains values up to {high:,}, beyond 16 bits: their range is unknown")
    if bits is not None and high < 2**bits:
        return 2**bits - 1, "" if bits in (8, 16) else f"read as {bits} bits, as the file states"
    used = next(bits for bits, top in RANGES.items() if high <= top)
    if used == 8 and not _has_content(values):
        return RANGES[16], ""  # a black frame stays black
    return RANGES[used], "" if used == 16 else f"read as {used} bits"


def _range_of_floats(values: np.ndarray, low: float, high: float) -> tuple[float, str]:
    if high <= _OVERSHOOT:
        top, what = 1.0, "read as 0–1"
    elif high < 16:
        raise DataError(f"contains floating-point values up to {high:.3g}: neither 0–1 nor 0–255")
    else:
        used = next((bits for bits, top in RANGES.items() if high <= _OVERSHOOT * top), None)
        if used is None:
            raise DataError(f"contains floating-point values up to {high:.3g}: their range is unknown")
        top, what = float(RANGES[used]), f"read as 0–{RANGES[used]}"
    if low < (1 - _OVERSHOOT) * top:
        raise DataError(f"contains negative values ({low:.3g} to {high:.3g}), whose meaning is unknown")
    return top, what


def _has_content(values: np.ndarray) -> bool:
    low, high = np.percentile(values, (1, 99))
    return high - low >= _CONTENT


def _number(value: float | np.number) -> str:
    return f"{value:.4g}" if isinstance(value, np.floating) else f"{value:,}"
