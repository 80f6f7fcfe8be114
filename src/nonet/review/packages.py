"""The packages of the review page: one that is missing is named, with the command that installs it."""

from collections.abc import Iterator
from contextlib import contextmanager

from nonet.errors import DataError


@contextmanager
def needing_packages() -> Iterator[None]:
    """Turn an ImportError of another package within the block into a DataError."""
    try:
        yield
    except ImportError as error:
        if error.name is None or error.name.startswith("nonet"):
            raise
        raise DataError(
            f"The review page needs the package {error.name}, which is not installed.",
            hint='Install it: pip install "nonet[review]"',
        ) from error


def import_packages() -> tuple:
    """Return uvicorn and `make_app`; DataError if a package of the page is not installed."""
    with needing_packages():
        import uvicorn

        from nonet.review.app import make_app
    return uvicorn, make_app
