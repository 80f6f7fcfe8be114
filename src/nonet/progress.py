"""Progress on standard error: a bar on a terminal; elsewhere, in a log file say, a plain line every half a minute."""

import io
import re
import sys
from collections.abc import Iterable

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30.0
_LINE = "{desc}: {n_fmt} of {total_fmt}{unit} ({percentage:.0f} %), {elapsed}, {remaining} left{postfix}"
_LINE_WITHOUT_TOTAL = "{desc}: {n_fmt}{unit}, {elapsed}{postfix}"

_hidden = False


def hide_progress(hidden: bool = True) -> None:
    """Show no progress from now on in this process, or show it again."""
    global _hidden
    _hidden = hidden


def progress_is_hidden() -> bool:
    """Return whether `hide_progress` was called; for processes started from here, and for bars of other libraries."""
    return _hidden


class _Lines(io.TextIOBase):
    """A stream that writes what tqdm draws as lines: no carriage return, no moves of the cursor, no blanks."""

    def __init__(self, stream):
        self._stream, self._last = stream, ""

    def write(self, text: str) -> int:
        for line in re.split(r"[\r\n]|\x1b\[[0-9;]*[A-Za-z]", text):
            line = line.strip()
            if line and line != self._last:
                self._stream.write(f"{line}\n")
                self._last = line
        return len(text)

    def flush(self) -> None:
        self._stream.flush()


def progress(iterable=None, *, total: int | None = None, description: str, unit: str, **options) -> tqdm:
    """Return a tqdm bar: smooth on a terminal, a line every half a minute in a file."""
    options["disable"] = _hidden or options.get("disable", False)
    if sys.stderr.isatty():
        options |= {"file": sys.stderr, "mininterval": 0.2, "dynamic_ncols": True}
    else:
        known = total is not None or hasattr(iterable, "__len__")
        options |= {
            "file": _Lines(sys.stderr),
            "mininterval": SECONDS_BETWEEN_LINES,
            "maxinterval": SECONDS_BETWEEN_LINES,
            "delay": SECONDS_BETWEEN_LINES,  # what is done sooner needs no line
            "bar_format": _LINE if known else _LINE_WITHOUT_TOTAL,
        }
    return tqdm(iterable, total=total, desc=description, unit=f" {unit}", **options)


def slowly(batches: Iterable, description: str | None) -> Iterable:
    """Go through batches with a bar that comes only where it takes long, and goes again; without one for None."""
    if description is None:
        return batches
    return progress(list(batches), description=description, unit="batches", leave=False, delay=5)
