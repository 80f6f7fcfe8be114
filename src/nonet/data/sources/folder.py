"""A folder with one subfolder a class."""

import os
from pathlib import Path

from nonet.data.sources.listing import Listing, path_within
from nonet.data.sources.source import Source
from nonet.errors import DataError


def read_folder(path: Path, name: str | None = None) -> Listing:
    """List the files of a folder whose subfolders are named as classes; patients are unknown.

    Parameters
    ----------
    path : the folder. Subfolders of a class folder belong to the class. Hidden files are passed over.
    name : of the source; by default the folder's.

    Raises
    ------
    DataError where it is no folder or has no subfolder.
    """
    if not path.is_dir():
        raise DataError(f"There is no folder {path}.", hint="folder: takes a folder with one subfolder a class.")
    source, listing = name or path.resolve().name, Listing(path)
    folders = [p for p in _visible(path) if p.is_dir() and not (p / "dataset.json").exists()]
    if not folders:
        raise DataError(
            f"Folder {path} has no subfolder.", hint="Put the images of each class into a folder of its name."
        )
    for file in _visible(path):
        if not file.is_dir():
            listing.exclude(file.name, source, None, "in no class folder")
    for folder in folders:
        if not _list_class(listing, folder, source):
            listing.notes.append(f"Class folder {folder} holds no file.")
    return listing


def _list_class(listing: Listing, folder: Path, source: str) -> int:
    before = len(listing.rows) + len(listing.excluded)
    # A link to a folder is not walked into (it may lead in a circle), but listed.
    for where, folders, files in os.walk(folder, followlinks=False):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        links = [f for f in folders if (Path(where) / f).is_symlink()]
        for file in sorted([*links, *(f for f in files if not f.startswith("."))]):
            full = Path(where) / file
            path = full.relative_to(listing.root).as_posix()
            if file in links:
                listing.exclude(path, source, folder.name, "linked folder: not followed")
            elif path_within(listing.root, path) is None:
                listing.exclude(path, source, folder.name, f"outside: links to {full.resolve()}")
            else:
                listing.add(path=path, label=folder.name, source=source)
    return len(listing.rows) + len(listing.excluded) - before


def _visible(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if not p.name.startswith("."))


FOLDER = Source(
    name="folder",
    title="your own folder with one subfolder a class",
    read=read_folder,
    layout="DIR/CLASS/**: every file below a class's folder is an image of it; the folders' names are the labels",
    paper=None,
    paper_words="all that you give",
)
