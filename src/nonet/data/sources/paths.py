"""Paths as people write them: with "..", through links, with the separators and spellings of another system."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import unquote

from nonet.data.sources.vocabulary import visible

_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_SAME_SIGNS = str.maketrans("\u2010\u2011\u2012\u2013\u2014\u2212\u2018\u2019\u201c\u201d", "------''\"\"")
_QUOTES = "\"'`\u2018\u2019\u201c\u201d\u00ab\u00bb"


def absolute_path(path: str | Path) -> Path:
    """Return an absolute path without "..", keeping links where possible.

    Links are kept because the user's name for a place may outlive its current target.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    Path
    """
    path = Path(path)
    with contextlib.suppress(RuntimeError):  # ~name without such a user: a folder may still have that name
        path = path.expanduser()
    path = path.absolute()
    if ".." not in path.parts:
        return path
    # After a link to a folder, ".." is the parent of the link's target; only then links must be resolved.
    shortened = Path(os.path.normpath(path))
    try:
        same = shortened.samefile(path)
    except (OSError, ValueError):
        same = not is_there(path)
    return shortened if same else Path(os.path.realpath(path))


def path_within(root: Path, path: str) -> tuple[str, None] | tuple[None, str]:
    """Return a path relative to a root, whichever links lead there, or why that is impossible.

    Parameters
    ----------
    root : Path
        Absolute.
    path : str
        Relative to it, or absolute.

    Returns
    -------
    path : str or None
        With forward slashes.
    problem : str or None
        Where there is no path: "outside: …" if it, or the target of a link, is not in `root`; "bad path: …" if no file
        can have it. The words up to the colon are the kind of reason.
    """
    if "\0" in path:
        return None, "bad path: it contains a NUL character"
    joined = root / path
    if ".." in joined.parts:
        joined = absolute_path(joined)
    try:
        real, real_root = joined.resolve(), root.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        circular = isinstance(error, RuntimeError)
        return None, f"bad path: {'its link is circular' if circular else error_reason(error)}"
    if not real.is_relative_to(real_root):
        return None, f"outside: {'links to ' if joined.is_relative_to(root) else ''}{valid_unicode(str(real))}"
    if joined.is_relative_to(root):
        return joined.relative_to(root).as_posix(), None
    # The table or the source reaches the folder through a link: what follows the folder is the path.
    for parent in joined.parents:
        if parent.resolve() == real_root:
            return joined.relative_to(parent).as_posix(), None
    return real.relative_to(real_root).as_posix(), None


#: Unlike the methods of Path, False where no file can have that path, or access is denied.
is_there, is_folder, is_link = os.path.exists, os.path.isdir, os.path.islink


def is_missing(path: Path) -> bool:
    """Tell whether a file certainly does not exist; False where it cannot be determined.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bool
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        pass
    return False


def list_names(folder: Path) -> list[str]:
    """Return the names in a folder, in order.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    list of str

    Raises
    ------
    OSError
        When it cannot be listed.
    """
    return sorted(path.name for path in folder.iterdir())


def error_reason(error: Exception) -> str:
    """Return what went wrong, in the system's words if it has some.

    Parameters
    ----------
    error : Exception

    Returns
    -------
    str
    """
    return getattr(error, "strerror", None) or str(error)


def valid_unicode(name: str) -> str:
    """Return a name as tables and terminals can show it: bytes that are not UTF-8 become a replacement character.

    Parameters
    ----------
    name : str

    Returns
    -------
    str
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


class FileFinder:
    """Finds the files below a folder that a table names in a spelling of its own.

    Tables made on Windows have backslashes and drive letters; those made or zipped on macOS another Unicode form of the
    same letters; many have another letter case, or no extension.

    Parameters
    ----------
    root : Path
    endings : tuple of str
        Extensions of image files, in lower case with the dot.
    """

    def __init__(self, root: Path, endings: tuple[str, ...]):
        self.root, self.endings = root, endings
        self._names: dict[str, dict[str, list[str]]] = {}

    def find(self, path: str) -> tuple[str | None, str]:
        """Find a file.

        Parameters
        ----------
        path : str
            As the table has it.

        Returns
        -------
        path : str or None
            As on disk; None where there is no such file.
        how : str
            How the spelling differs, empty where it does not; or why there is no such file, if known.
        """
        if "\0" in path:
            return None, ""  # `path_within` says so
        if self._is_there(path):
            return path, ""
        if _ADDRESS.match(path) and not path.startswith("file://"):
            return None, "an address, not a file; download it first"
        for spelled, how in _spellings(path):
            if self._is_there(spelled):
                return spelled, how
            match = self._by_name(spelled)
            if match:
                return match, "letter case or Unicode form" if spelled == path else how
            elsewhere = self._by_tail(spelled)
            if elsewhere:
                return elsewhere
        if _WINDOWS.match(path):
            return None, f"a path on a Windows machine; write it relative to {self.root}"
        return self._by_ending(path)

    def _is_there(self, path: str) -> bool:
        return bool(path) and os.path.lexists(self.root / path)

    def _by_name(self, path: str) -> str | None:
        """Return the path whose parts are each the only name that reads alike, or None."""
        if PurePosixPath(path).is_absolute():
            return None
        where = ""
        for part in PurePosixPath(os.path.normpath(path)).parts:
            names = self._folder(where)
            alike = [part] if part in names.get(_alike(part), ()) else names.get(_alike(part), [])
            if len(alike) != 1:
                return None
            where = f"{where}/{alike[0]}" if where else alike[0]
        return where or None

    def _folder(self, where: str) -> dict[str, list[str]]:
        """Return the names in a folder, grouped by `_alike`."""
        if where not in self._names:
            self._names[where] = {}
            try:
                names = list_names(self.root / where)
            except OSError:
                names = []
            for name in names:
                self._names[where].setdefault(_alike(name), []).append(name)
        return self._names[where]

    def _by_tail(self, path: str) -> tuple[str, str] | None:
        """Find an absolute path of another machine by as many of its last parts as exist here, at least a folder."""
        parts = PureWindowsPath(path).parts if _WINDOWS.match(path) else PurePosixPath(path).parts
        if not parts or not (_WINDOWS.match(path) or path.startswith("/")):
            return None
        for start in range(1, len(parts) - 1):
            match = self._by_name("/".join(parts[start:]))
            if match:
                return match, "an absolute path of another machine"
        return None

    def _by_ending(self, path: str) -> tuple[str | None, str]:
        """Find a file by its name without the extension, as in tables of IDs."""
        given = PurePosixPath(path)
        ending = given.suffix.lower() if given.suffix.lower() in self.endings else ""
        stem = given.name[: len(given.name) - len(ending)]
        folder = self._by_name(str(given.parent)) if str(given.parent) != "." else ""
        if folder is None:
            return None, ""
        wanted = {_alike(stem + other) for other in self.endings}
        alike = [name for read, names in self._folder(folder).items() if read in wanted for name in names]
        match = f"{folder}/{alike[0]}" if folder and alike else "".join(alike[:1])
        if len(alike) == 1 and not ending:
            return match, "without its extension"
        if len(alike) > 1:
            return None, f"there are {valid_unicode(' and '.join(sorted(alike)))}"
        return None, f"there is {valid_unicode(match)}" if alike else ""


def _alike(name: str) -> str:
    """Return a form that is the same for names that look alike: ignoring case, and kinds of blanks and dashes."""
    return visible(name).translate(_SAME_SIGNS).casefold()


def _spellings(path: str) -> Iterator[tuple[str, str]]:
    """Yield (path, how it was spelled), from the most to the least likely."""
    yield path, ""
    bare = path.strip(_QUOTES)
    if bare != path:
        yield bare, "quotation marks"
    if "\\" in bare and not _WINDOWS.match(bare):
        yield bare.replace("\\", "/"), "backslashes"
    if "%" in bare:
        yield unquote(bare), "characters written as %20 and the like"
    if bare.startswith("file://"):
        yield unquote(bare.removeprefix("file://")), "written as file://"
    if bare.startswith(("/", "\\")):
        yield re.sub(r"\\", "/", bare).lstrip("/"), "a leading slash"
