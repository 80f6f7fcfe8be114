"""Addresses of folders and files in object stores, such as s3://bucket/key, as opposed to paths."""

import os
import re
from pathlib import Path

from nonet.errors import NonetError, RunError

#: Of the stores of fsspec; "memory" is one within a process, for trying things out.
SCHEMES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "memory")
#: pathlib makes one slash of two, and none of two at the end, so all of these are an address.
_URL = re.compile(rf"({'|'.join(SCHEMES)}):(?:/+(.*))?", re.IGNORECASE)


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
        If it is an address without a bucket, or with a part such as "..".
    """
    text = os.fspath(place) if isinstance(place, (str, os.PathLike)) else ""
    match = _URL.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    key = (match[2] or "").rstrip("/")
    if not key or {".", ".."} & set(key.split("/")):
        raise RunError(f"{text} is not an address.", hint="Give one such as s3://bucket/folder.")
    return f"{match[1].lower()}://{key}"


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
