"""Object stores by fsspec: S3, Google Cloud Storage and others. The only module that talks to them.

An object is whole or not there, as a store replaces it at once. Nothing else of a file system can be relied on: there
are no locks and no renames.
"""

import contextlib
import errno
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from nonet.artifacts.storage import DISK_ERRORS, TEMPORARY, storage_error, writing_to
from nonet.artifacts.urls import as_url
from nonet.errors import NonetError, StorageError

#: Packages for addresses whose package is not one of fsspec's own: scheme → what to install.
PACKAGES = {"s3": "'nonet[s3]'", "s3a": "'nonet[s3]'", "gs": "'nonet[gcs]'", "gcs": "'nonet[gcs]'"}


class Store:
    """A folder in an object store.

    Parameters
    ----------
    url : str
        From `as_url`.

    Raises
    ------
    StorageError
        If a package is missing.
    """

    def __init__(self, url: str):
        import fsspec

        self.url, scheme = url, url.partition(":")[0]
        try:
            with _reaching(url):
                self._system, self._root = fsspec.url_to_fs(url)
        except ImportError as error:
            package = PACKAGES.get(scheme)
            raise StorageError(
                f"{url} cannot be reached: {error}.", hint=f"Install it: pip install {package}" if package else None
            ) from error

    def __str__(self) -> str:
        return self.url

    def files(self) -> dict[str, str]:
        """Return what is in the folder and below: names relative to it, and what changes when a file does.

        Raises
        ------
        StorageError
            If a name would lead out of a folder of this machine.
        """
        with _reaching(self.url):
            self._system.invalidate_cache()
            found = self._system.find(self._root, detail=True)
        prefix = len(self._root.rstrip("/")) + 1
        # Names that end in a slash are not files: consoles of stores make them to show a folder.
        names = {path[prefix:]: about for path, about in found.items() if not path.endswith("/")}
        for name in names:
            if {"", ".", ".."} & set(name.split("/")):
                raise StorageError(
                    f'{self.url} contains "{name}", which cannot be a file of a folder.', hint="Remove or rename it."
                )
        return {name: _state(about) for name, about in names.items()}

    def first_names(self) -> list[str]:
        """Return the names of the first three things in the folder."""
        with _reaching(self.url):
            self._system.invalidate_cache()
            try:
                found = self._system.ls(self._root, detail=False)
            except FileNotFoundError:
                return []
        own = self._root.strip("/")
        return sorted(path.rstrip("/").rpartition("/")[2] for path in found if path.strip("/") != own)[:3]

    def state(self, name: str) -> tuple[int, str] | None:
        """Return the size of a file in bytes, and what changes when it does; None if it is not there."""
        with _reaching(self.url):
            self._system.invalidate_cache()
            try:
                about = self._system.info(self._path(name))
            except FileNotFoundError:
                return None
        return (about["size"] or 0, _state(about)) if about["type"] == "file" else None

    def get(self, name: str, file: Path) -> None:
        """Copy a file to this machine, whole or not at all; FileNotFoundError if it is not there."""
        with writing_to(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(dir=file.parent, prefix=TEMPORARY)) / file.name
        try:
            with _reaching(f"{self.url}/{name}", file):
                self._system.get_file(self._path(name), str(temporary))
                temporary.replace(file)
        finally:
            shutil.rmtree(temporary.parent, ignore_errors=True)

    def put(self, file: Path, name: str) -> None:
        """Copy a file to the store; FileNotFoundError if it is not on this machine."""
        with _reaching(f"{self.url}/{name}"):
            self._system.put_file(str(file), self._path(name))

    def remove(self, names: Iterable[str]) -> None:
        """Remove files, those that are there."""
        with _reaching(self.url):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    self._system.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}" if name else self._root


def _state(about: dict[str, Any]) -> str:
    """Return what changes when a file does: its size, and its tag or else its time."""
    tags = (about.get(key) for key in ("ETag", "etag", "md5Hash", "LastModified", "updated", "mtime", "created"))
    return f"{about.get('size')} {next((tag for tag in tags if tag), '')}"


@contextlib.contextmanager
def _reaching(url: str, local: Path | None = None) -> Iterator[None]:
    """Turn the errors of a store within the block into a StorageError; a missing file stays a FileNotFoundError."""
    try:
        yield
    except ImportError:
        raise
    except FileNotFoundError as error:
        if "specified bucket" in str(error):
            raise StorageError(f"{url} cannot be used: {str(error).rstrip('.')}.", hint="Check the address.") from error
        raise
    except Exception as error:  # each store has exceptions of its own, which share nothing
        if isinstance(error, OSError) and error.errno in DISK_ERRORS - {errno.EACCES, errno.EPERM}:
            raise storage_error(error, local) from error
        reason = (str(error).splitlines() or [""])[0].rstrip(".") or type(error).__name__
        raise StorageError(
            f"{url} cannot be used now: {reason}.",
            hint="Check the address, the network and the credentials, then run the same command again.",
        ) from error


def split(url: str) -> tuple[Store, str]:
    """Return the folder of a file in a store, and the file's name in it; StorageError if the address is a bucket."""
    folder, _, name = url.rpartition("/")
    if folder.endswith("/"):
        raise StorageError(f"{url} is the address of a bucket, not of a file.", hint="Give s3://bucket/file.")
    return Store(folder), name


def has_file(url: str) -> bool:
    """Whether there is a file at an address."""
    store, name = split(url)
    return store.state(name) is not None


@contextlib.contextmanager
def naming(url: str, copy: Path) -> Iterator[None]:
    """Let errors of nonet within the block name the address, not the copy on this machine that they are about."""
    try:
        yield
    except NonetError as error:
        words = [text and text.replace(str(copy), url) for text in (error.message, error.hint)]
        if words == [error.message, error.hint]:
            raise
        raise type(error)(words[0] or "", hint=words[1]) from error


@contextlib.contextmanager
def local_copy(place: str | Path) -> Iterator[Path]:
    """Give a file of a store as a file of this machine while the block runs; a file of this machine is given as it is.

    Parameters
    ----------
    place : str or Path
        Address or path of a file.

    Yields
    ------
    Path

    Raises
    ------
    FileNotFoundError
        If it is not in the store.
    StorageError
        If the store cannot be reached.
    """
    if (url := as_url(place)) is None:
        yield Path(place)
        return
    store, name = split(url)
    with tempfile.TemporaryDirectory(prefix="nonet-") as folder:
        store.get(name, Path(folder) / name)
        with naming(store.url, Path(folder)):
            yield Path(folder) / name


@contextlib.contextmanager
def copied_out(place: str | Path) -> Iterator[Path]:
    """Give a path to write a file to, and files beside it; copied to the store, if it is there, when the block ends.

    Parameters
    ----------
    place : str or Path
        Address or path of the file.

    Yields
    ------
    Path
        The path itself, or one in a temporary folder. The file is copied first, then those beside it.
    """
    if (url := as_url(place)) is None:
        yield Path(place)
        return
    store, name = split(url)
    with tempfile.TemporaryDirectory(prefix="nonet-") as folder:
        with naming(store.url, Path(folder)):
            yield Path(folder) / name
        for file in sorted(Path(folder).iterdir(), key=lambda one: one.name != name):
            store.put(file, file.name)
