"""Progress bars, on standard error, that stay quiet in a log file."""

import sys
from collections.abc import Iterable

from tqdm import tqdm


def progress(iterable=None, *, total: int | None = None, description: str, unit: str, **options) -> tqdm:
    """Return a tqdm bar: smooth on a terminal, a line every half a minute in a file."""
    interval = 0.2 if sys.stderr.isatty() else 30.0
    return tqdm(
        iterable,
        total=total,
        desc=description,
        unit=f" {unit}",
        mininterval=interval,
        maxinterval=max(interval, 10.0),
        dynamic_ncols=True,
        file=sys.stderr,
        **options,
    )


def slowly(batches: Iterable, description: str | None, *, unit: str = "batches") -> Iterable:
    """Go through batches with a bar that comes only where it takes long, and goes again; without one for None."""
    if description is None:
        return batches
    return progress(list(batches), description=description, unit=unit, leave=False, delay=5)
