"""Walking folders as publishers lay them out: what is an image, and which folder names its label."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from nonet.data.images.file_kinds import kind_of, unpack_hint
from nonet.data.images.formats import IMAGE_SUFFIXES
from nonet.data.sources.listing import LabelMap, Listing
from nonet.data.sources.paths import is_folder, is_there, names_in
from nonet.data.sources.walk import subfolders, walk
from nonet.errors import DataError

#: Written by `nonet data fetch`; no image.
RECORD = "fetched.json"


def require_folder(path: Path, kind: str) -> None:
    """Raise DataError where a source's path is not a folder that can be listed."""
    takes = f'"nonet data sources {kind}" says what {kind}: takes.'
    if not is_folder(path):
        if not is_there(path):
            raise DataError(f"There is no folder {path}.", hint=takes)
        kind = kind_of(path)
        raise DataError(
            f"{path} is {kind.words if kind else 'a file'}, not a folder.",
            hint=unpack_hint(path, f"{kind}:FOLDER") or takes,
        )
    try:
        names_in(path)
    except OSError as error:
        raise DataError(f"{path} cannot be listed: {error.strerror}.", hint="Ask its owner for permission.") from error


def find_root(path: Path, kind: str, *children: str) -> Path:
    """Return the folder, `path` or one or two levels below it, that has one of `children`; archives add levels.

    Raises
    ------
    DataError where there is none, or several.
    """
    require_folder(path, kind)
    wanted = {child.casefold() for child in children}

    def fits(folder: Path) -> bool:
        return any(p.name.casefold() in wanted for p in subfolders(folder))

    level = [path]
    for _ in range(3):
        found = [folder for folder in level if fits(folder)]
        if len(found) == 1:
            return found[0]
        if found:
            raise DataError(
                f"{path} holds {kind} twice: {found[0]} and {found[1]}.", hint="Give the path of one of them."
            )
        level = [p for folder in level for p in subfolders(folder)]
    raise DataError(
        f"{path} has no folder {' or '.join(children[:3])}{' …' if len(children) > 3 else ''}.",
        hint=f'"nonet data sources {kind}" says what {kind}: takes.',
    )


def list_images(listing: Listing, source: str, *, beside: tuple[str, ...] = ()) -> Iterator[PurePosixPath]:
    """Give the paths of the root's images in order; list the other files, and images that cannot be used, as left out.

    Parameters
    ----------
    listing : gets the exclusions.
    source : name of the source.
    beside : endings of files, like ".csv", that belong to the layout and need no mention.
    """
    for entry in walk(listing.root):
        suffix = entry.file.suffix.lower()
        if entry.file.name == RECORD or suffix in beside:
            continue
        problem = entry.problem
        if problem is None and suffix not in IMAGE_SUFFIXES:
            problem = f"not an image: ends in {suffix or 'nothing'}"
        if problem is None:
            yield PurePosixPath(entry.path)
        else:
            listing.exclude(entry.path, source, None, problem)


def label_folder(path: PurePosixPath, labels: LabelMap) -> str:
    """Return the nearest folder above an image whose name the map knows, else its own folder's name."""
    for parent in path.parents:
        if parent.name and labels.known(parent.name) is not None:
            return parent.name
    return path.parent.name


def list_class_folders(
    listing: Listing, source: str, labels: LabelMap, *, beside: tuple[str, ...] = (), split_at: int | None = None
) -> None:
    """List a root whose images lie in, or anywhere below, a folder named by their label.

    Parameters
    ----------
    listing : gets the rows.
    source : name of the source.
    labels : its map.
    beside : as of `list_images`.
    split_at : which part of the path names the split, from 0; None where there is none.
    """
    for path in list_images(listing, source, beside=beside):
        if len(path.parts) == 1:
            listing.exclude(str(path), source, None, "in no class folder")
            continue
        split = path.parts[split_at] if split_at is not None and len(path.parts) > split_at + 2 else None
        listing.add_upstream(labels, label_folder(path, labels), path=str(path), source=source, split=split)


def require_rows(listing: Listing, path: Path, kind: str) -> Listing:
    """Return the listing; raise DataError where the folder gave no image at all, as in a wrong layout."""
    if not listing.rows:
        unused = ""
        if listing.excluded:
            first = listing.excluded[0]
            unused = f"; {len(listing.excluded):,} files are not used, first {first['path']} ({first['reason']})"
        raise DataError(
            f"{path} has no image in the layout of {kind}{unused}.",
            hint=f'"nonet data sources {kind}" says what {kind}: takes.',
        )
    return listing
