"""Paths as people write them: with "..", through links, with the separators and spellings of another system."""

import contextlib
import os
import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import unquote

from nonet.data.sources.vocabulary import visible

_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_SAME_SIGNS = str.maketrans("\u2010\u2011\u2012\u2013\u2014\u2212\u2018\u2019\u201c\u201d", "------''\"\"")
_QUOTES = "\"'`\u2018\u2019\u201c\u201d\u00ab\u00bb"


def absolute_path(path: str | Path) -> Path:
    """Return a path from the root of the file system, without "..", its links kept where that is possible.

    Links stay because the user's name for a place may outlive where it points to today.
    """
    path = Path(path)
    with contextlib.suppress(RuntimeError):  # ~name of nobody on this machine: a folder may still be called so
        path = path.expanduser()
    path = path.absolute()
    if ".." not in path.parts:
        return path
    # Behind a link to a folder, ".." is the parent of where the link leads; only then do links have to go.
    shortened = Path(os.path.normpath(path))
    try:
        same = shortened.samefile(path)
    except (OSError, ValueError):
        same = not is_there(path)
    return shortened if same else Path(os.path.realpath(path))


def path_within(root: Path, path: str) -> tuple[str, None] | tuple[None, str]:
    """Return a path relative to `root`, whichever links lead there, or why there is none.

    Parameters
    ----------
    root : absolute.
    path : relative to it, or absolute.

    Returns
    -------
    (path with forward slashes, None), or (None, reason): "outside: …" where the path, or what it links to, does not
    lie in `root`, "bad path: …" where no file can have it. The words up to the colon are the reason's kind.
    """
    if "\0" in path:
        return None, "bad path: it contains a NUL character"
    joined = root / path
    if ".." in joined.parts:
        joined = absolute_path(joined)
    try:
        real, real_root = joined.resolve(), root.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        circle = isinstance(error, RuntimeError)
        return None, f"bad path: {'its link leads in a circle' if circle else reason_of(error)}"
    if not real.is_relative_to(real_root):
        return None, f"outside: {'links to ' if joined.is_relative_to(root) else ''}{printable(str(real))}"
    if joined.is_relative_to(root):
        return joined.relative_to(root).as_posix(), None
    # The table, or the source, names the folder by way of a link: what follows the folder is the path.
    for parent in joined.parents:
        if parent.resolve() == real_root:
            return joined.relative_to(parent).as_posix(), None
    return real.relative_to(real_root).as_posix(), None


def is_there(path: Path) -> bool:
    """Say whether a file or folder is there; False where no file can have that path, or nobody may look."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def is_link(path: Path) -> bool:
    """Say whether a link is there, wherever it leads; False as of `is_there`."""
    try:
        return path.is_symlink()
    except (OSError, ValueError):
        return False


def is_missing(path: Path) -> bool:
    """Say whether a file is not there, as far as one can know: False where it may be and cannot be looked at."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        pass
    return False


def is_folder(path: Path) -> bool:
    """Say whether a folder is there; False as of `is_there`."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder, in order. Raises OSError where it cannot be listed."""
    return sorted(path.name for path in folder.iterdir())


def reason_of(error: Exception) -> str:
    """Return what went wrong, in the system's words where it has some."""
    return getattr(error, "strerror", None) or str(error)


def printable(name: str) -> str:
    """Return a name that tables and terminals can hold: bytes that are not UTF-8 become a replacement character."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def is_utf8(name: str) -> bool:
    """Say whether a file's name is UTF-8, so that a table can hold it."""
    return printable(name) == name


class FileFinder:
    """Finds the files below a folder that a table names, where it spells them in its own way.

    A table made on Windows has backslashes and drives; one made on macOS, or zipped there, another Unicode form of
    the same letters; many have another letter case, or leave the ending out.

    Parameters
    ----------
    root : the folder.
    endings : of image files, lower case, with the dot.
    """

    def __init__(self, root: Path, endings: tuple[str, ...]):
        self.root, self.endings = root, endings
        self._names: dict[str, dict[str, list[str]]] = {}

    def find(self, path: str) -> tuple[str | None, str]:
        """Find a file.

        Returns
        -------
        (path as the disk has it, "") where it is there as written; (path, how it differs) where it is found under
        another spelling; (None, why) where it is not found and the reason is known; (None, "") where it is not.
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
            found = self._by_name(spelled)
            if found:
                return found, "letter case or Unicode form" if spelled == path else how
            elsewhere = self._by_tail(spelled)
            if elsewhere:
                return elsewhere
        if _WINDOWS.match(path):
            return None, f"a path of a Windows machine; write it relative to {self.root}"
        return self._by_ending(path)

    def _is_there(self, path: str) -> bool:
        return bool(path) and os.path.lexists(self.root / path)

    def _by_name(self, path: str) -> str | None:
        """Return the path of which each part is the only one that reads alike, or None."""
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
        """Return the names in a folder by how they read."""
        if where not in self._names:
            self._names[where] = {}
            try:
                names = names_in(self.root / where)
            except OSError:
                names = []
            for name in names:
                self._names[where].setdefault(_alike(name), []).append(name)
        return self._names[where]

    def _by_tail(self, path: str) -> tuple[str, str] | None:
        """Find an absolute path of another machine by its last parts, the most that are here: a folder at least."""
        parts = PureWindowsPath(path).parts if _WINDOWS.match(path) else PurePosixPath(path).parts
        if not parts or not (_WINDOWS.match(path) or path.startswith("/")):
            return None
        for start in range(1, len(parts) - 1):
            found = self._by_name("/".join(parts[start:]))
            if found:
                return found, "an absolute path of another machine"
        return None

    def _by_ending(self, path: str) -> tuple[str | None, str]:
        """Find a file by its name without ending, as tables of IDs have it."""
        given = PurePosixPath(path)
        ending = given.suffix.lower() if given.suffix.lower() in self.endings else ""
        stem = given.name[: len(given.name) - len(ending)]
        folder = self._by_name(str(given.parent)) if str(given.parent) != "." else ""
        if folder is None:
            return None, ""
        wanted = {_alike(stem + other) for other in self.endings}
        alike = [name for read, names in self._folder(folder).items() if read in wanted for name in names]
        found = f"{folder}/{alike[0]}" if folder and alike else "".join(alike[:1])
        if len(alike) == 1 and not ending:
            return found, "its ending left out"
        there = (
            f"there are {printable(' and '.join(sorted(alike)))}" if len(alike) > 1 else f"there is {printable(found)}"
        )
        return None, there if alike else ""


def _alike(name: str) -> str:
    """Return what two names have in common that look the same: in any letter case, with any kind of blank or dash."""
    return visible(name).translate(_SAME_SIGNS).casefold()


def _spellings(path: str):
    """Yield (path, how it was spelled), from what is most to what is least likely."""
    yield path, ""
    bare = path.strip(_QUOTES)
    if bare != path:
        yield bare, "quotation marks"
    if "\\" in bare and not _WINDOWS.match(bare):
        yield bare.replace("\\", "/"), "backslashes"
    if "%" in bare:
        yield unquote(bare), "letters written as %20 and the like"
    if bare.startswith("file://"):
        yield unquote(bare.removeprefix("file://")), "written as file://"
    if bare.startswith(("/", "\\")):
        yield re.sub(r"\\", "/", bare).lstrip("/"), "a slash at its beginning"
