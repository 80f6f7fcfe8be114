"""Walking a folder of images: what belongs to it, and what systems, storage and programs only left there."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nonet.artifacts.system_files import is_leftover
from nonet.data.sources.paths import error_reason, list_names, path_within, valid_unicode
from nonet.errors import counted


@dataclass(frozen=True)
class Entry:
    """One result of a walk.

    Attributes
    ----------
    path : str
        Relative to the folder, with forward slashes; printable, so that it can be put into a table.
    file : Path
    problem : str or None
        Why it cannot be used, its kind up to a colon; None for a usable file.
    """

    path: str
    file: Path
    problem: str | None = None


def walk(root: Path) -> Iterator[Entry]:
    """Yield what is in a folder and below, folder by folder, in order of name.

    Each file comes once, usable or with its problem. A folder is only yielded when it has a problem, in place of its
    files: it was left by a system, is hidden, is a link (which may lead outside or be circular), is a nonet dataset, or
    cannot be listed.

    Parameters
    ----------
    root : Path

    Yields
    ------
    Entry
    """
    failed: list[OSError] = []
    for where, folders, files in os.walk(root, onerror=failed.append, followlinks=False):
        yield from _not_listed(root, failed)
        names = sorted([*folders, *files])
        inner = set(folders)
        folders[:] = []
        for name in names:
            file = Path(where) / name
            path = file.relative_to(root).as_posix()
            problem = _problem(root, path, file, is_folder=name in inner)
            if name in inner and problem is None:
                folders.append(name)
            else:
                yield Entry(valid_unicode(path), file, problem)
    yield from _not_listed(root, failed)


def walk_files(root: Path, *endings: str) -> list[Path]:
    """Return the usable files below a folder that have certain extensions, in order.

    Parameters
    ----------
    root : Path
    *endings : str
        Extensions, in lower case with the dot.

    Returns
    -------
    list of Path
    """
    files = [entry.file for entry in walk(root) if entry.problem is None]
    return sorted(file for file in files if file.suffix.lower() in endings)


def subfolders(folder: Path) -> list[Path]:
    """Return the usable folders in a folder in order of name, including links to folders.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    list of Path
        Empty where the folder cannot be listed, which `walk` reports.
    """
    try:
        names = list_names(folder)
    except OSError:
        return []
    return [folder / name for name in names if not _is_ignored(name) and (folder / name).is_dir()]


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or is_leftover(name)


def _problem(root: Path, path: str, file: Path, *, is_folder: bool) -> str | None:
    name = file.name
    if _is_ignored(name):
        why = "left by a system or program" if is_leftover(name) else "hidden"
        detail = f"{_count(file)} in it" if is_folder and not file.is_symlink() else valid_unicode(name)
        return f"{why}: {detail}"
    if valid_unicode(name) != name:
        return "bad name: it is not UTF-8; rename it"
    if is_folder and (file / "dataset.json").exists() and (file / "manifest.parquet").exists():
        return "nonet dataset: not part of the images beside it"
    if file.is_symlink():
        if is_folder:
            return "linked folder: not followed"
        return path_within(root, path)[1]
    return None


def _count(folder: Path) -> str:
    num_files = sum(len(files) for _, _, files in os.walk(folder))
    return counted(num_files, "file", "files")


def _not_listed(root: Path, failed: list[OSError]) -> Iterator[Entry]:
    """Yield an entry for each folder that could not be listed since the last call."""
    for error in failed:
        file = Path(error.filename)
        path = valid_unicode(file.relative_to(root).as_posix())
        yield Entry(path, file, f"unreadable: the folder cannot be listed: {error_reason(error)}")
    failed.clear()
