"""Addresses of folders and files in object stores, such as s3://bucket/key, as opposed to paths."""

import os
import re
from pathlib import Path

from nonet.errors import NonetError, RunError

#: pathlib makes one slash of two, so both are an address. A single letter would be a Windows drive.
_URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(?=[^/])")


def as_url(place: object) -> str | None:
    """Return the address of an object store without a slash at its end; None for a path.

    Parameters
    ----------
    place : str, path or object
        What a user gave.

    Returns
    -------
    str or None
        Such as "s3://bucket/folder".

    Raises
    ------
    RunError
        If it is the address of a local file.
    """
    text = os.fspath(place) if isinstance(place, (str, os.PathLike)) else ""
    match = _URL.match(text) if isinstance(text, str) else None
    if match is None or not _is_known(match[1]):
        return None
    if match[1] in ("file", "local"):
        raise RunError(f"{text} is the address of a local file.", hint="Give its path instead.")
    return f"{match[1]}://{text[match.end() :].rstrip('/')}"


def _is_known(scheme: str) -> bool:
    from fsspec import available_protocols  # here, as importing it takes a tenth of a second

    return scheme in available_protocols()


def require_path(place: str | Path, what: str, kind: type[NonetError] = RunError) -> None:
    """Raise an error if something that must be on this machine is an address of an object store.

    Parameters
    ----------
    place : str or Path
    what : str
        What it is, as a noun: "run".
    kind : type of NonetError
        Of the error.
    """
    if url := as_url(place):
        raise kind(
            f"{url} is in an object store, and this needs a {what} on this machine.",
            hint="Copy it here first. nonet train, nonet predict (of shards) and nonet count use object stores.",
        )
