"""Progress bars, on standard error, that stay quiet in a log file."""

import sys

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
