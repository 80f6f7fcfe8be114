"""Progress on standard error: a bar on a terminal; otherwise, as in a log file, a plain line every 30 seconds."""

import contextlib
import functools
import logging
import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30.0
_LINE = "{desc}: {n_fmt} of {total_fmt}{unit} ({percentage:.0f} %), {elapsed}, {remaining} left{postfix}"
_LINE_WITHOUT_TOTAL = "{desc}: {n_fmt}{unit}, {elapsed}{postfix}"

_hidden = False


def hide_progress(hidden: bool = True) -> None:
    """Hide or show the progress of this process from now on.

    Parameters
    ----------
    hidden : bool
    """
    global _hidden
    _hidden = hidden


def progress_is_hidden() -> bool:
    """Return whether progress is hidden, for processes started from this one and for bars of other libraries."""
    return _hidden


class _Lines:
    """A stream that writes the bars of tqdm as lines, without carriage returns and cursor movements.

    Not a subclass of `io.TextIOBase`: that would flush when it is deleted, perhaps after the stream was closed.
    """

    def __init__(self, stream: TextIO):
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


class AboveBars(logging.StreamHandler):
    """Writes log lines above the bars that are on the screen, so that they do not cut through them."""

    def emit(self, record: logging.LogRecord) -> None:
        bars = sys.modules.get("tqdm.std")  # before the first bar it is not imported, as that takes a while
        with contextlib.nullcontext() if bars is None else bars.tqdm.external_write_mode(file=self.stream):
            super().emit(record)


@functools.cache
def _bar_class() -> "type[tqdm]":
    from tqdm import tqdm  # here, as many commands end before they show a bar

    class Bar(tqdm):
        """A bar that an interrupt while it is being made leaves without a traceback."""

        def __del__(self) -> None:
            with contextlib.suppress(AttributeError):  # of a bar that has no position yet
                super().__del__()

    return Bar


def progress(
    iterable: Iterable | None = None, *, total: int | None = None, description: str, unit: str, **options: Any
) -> "tqdm":
    """Return a tqdm bar: smooth on a terminal, a line every 30 seconds in a file.

    Parameters
    ----------
    iterable : iterable, optional
        What to iterate over; without it, call `update`.
    total : int, optional
        Number of steps, if the iterable has no length.
    description : str
        Shown before the bar.
    unit : str
        Plural name of a step, such as "images".
    **options
        For tqdm.

    Returns
    -------
    tqdm
    """
    options["disable"] = _hidden or options.get("disable", False)
    if sys.stderr.isatty():
        options |= {"file": sys.stderr, "mininterval": 0.2, "dynamic_ncols": True}
    else:
        known = total is not None or hasattr(iterable, "__len__")
        options |= {
            "file": _Lines(sys.stderr),
            "mininterval": SECONDS_BETWEEN_LINES,
            "maxinterval": SECONDS_BETWEEN_LINES,
            "delay": SECONDS_BETWEEN_LINES,  # shorter work needs no line
            "bar_format": _LINE if known else _LINE_WITHOUT_TOTAL,
        }
    return _bar_class()(iterable, total=total, desc=description, unit=f" {unit}", **options)


def progress_if_slow(batches: Iterable, description: str | None) -> Iterable:
    """Iterate over batches with a bar that appears only if it takes longer than 5 seconds.

    Parameters
    ----------
    batches : iterable
    description : str or None
        Shown before the bar; None shows no bar.

    Returns
    -------
    iterable
    """
    if description is None:
        return batches
    return progress(list(batches), description=description, unit="batches", leave=False, delay=5)
