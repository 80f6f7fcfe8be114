"""Folders as publishers lay them out: which files are images, and which folder names their label."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nonet.data.images.file_kinds import detect_file_kind, unpack_hint
from nonet.data.images.formats import IMAGE_SUFFIXES
from nonet.data.sources.listing import LabelMap, Listing
from nonet.data.sources.paths import is_folder, is_there, list_names
from nonet.data.sources.walk import subfolders, walk
from nonet.errors import DataError

#: Written by `nonet data fetch`.
RECORD = "fetched.json"


def require_folder(path: Path, kind: str) -> None:
    """Require that the path of a source is a folder that can be listed.

    Parameters
    ----------
    path : Path
    kind : str
        Key in SOURCES, for the hint.

    Raises
    ------
    DataError
        When it is not.
    """
    layout_hint = f'"nonet data sources {kind}" shows what {kind}: expects.'
    if not is_folder(path):
        if not is_there(path):
            raise DataError(f"{path} does not exist.", hint=layout_hint)
        file_kind = detect_file_kind(path)
        raise DataError(
            f"{path} is {file_kind.words if file_kind else 'a file'}, not a folder.",
            hint=unpack_hint(path, f"{kind}:FOLDER") or layout_hint,
        )
    try:
        list_names(path)
    except OSError as error:
        raise DataError(f"{path} cannot be listed: {error.strerror}.", hint="Ask its owner for permission.") from error


def find_root(path: Path, kind: str, *children: str) -> Path:
    """Find the folder that has certain subfolders: a path, or one or two levels below it, as archives add levels.

    Parameters
    ----------
    path : Path
    kind : str
        Key in SOURCES, for messages.
    *children : str
        Names of subfolders, of which one is enough.

    Returns
    -------
    Path

    Raises
    ------
    DataError
        When there is no such folder, or several.
    """
    wanted = {child.casefold() for child in children}

    def fits(folder: Path) -> bool:
        return any(p.name.casefold() in wanted for p in subfolders(folder))

    level = [path]
    for _ in range(3):
        matching = [folder for folder in level if fits(folder)]
        if len(matching) == 1:
            return matching[0]
        if matching:
            raise DataError(
                f"{path} contains {kind} twice: {matching[0]} and {matching[1]}.", hint="Give the path of one of them."
            )
        level = [p for folder in level for p in subfolders(folder)]
    raise DataError(
        f"{path} has no folder {' or '.join(children[:3])}{' …' if len(children) > 3 else ''}.",
        hint=f'"nonet data sources {kind}" shows what {kind}: expects.',
    )


def list_images(listing: Listing, source: str, *, ignored: tuple[str, ...] = ()) -> Iterator[PurePosixPath]:
    """Yield the images below the root in order, and record other files and unusable images as left out.

    Parameters
    ----------
    listing : Listing
        Gets the exclusions.
    source : str
        Name of the source.
    ignored : tuple of str
        Extensions of files, such as ".csv", that belong to the layout and are not recorded.

    Yields
    ------
    PurePosixPath
        Relative to the root.
    """
    for entry in walk(listing.root):
        suffix = entry.file.suffix.lower()
        if entry.file.name == RECORD or suffix in ignored:
            continue
        problem = entry.problem
        if problem is None and suffix not in IMAGE_SUFFIXES:
            problem = f"not an image: ends in {suffix or 'nothing'}"
        if problem is None:
            yield PurePosixPath(entry.path)
        else:
            listing.exclude(entry.path, source, None, problem)


def label_folder(path: PurePosixPath, labels: LabelMap) -> str:
    """Return the name of the nearest folder above an image that is a known label, else of the folder it is in.

    Parameters
    ----------
    path : PurePosixPath
    labels : LabelMap

    Returns
    -------
    str
    """
    for parent in path.parents:
        if parent.name and labels.known(parent.name) is not None:
            return parent.name
    return path.parent.name


@dataclass(frozen=True)
class ClassFolders:
    """Reader of images that lie in, or anywhere below, a folder named after their label; see `Source.reader`.

    Attributes
    ----------
    labels : LabelMap
    kind : str
        Key in SOURCES, if the class folders may be one or two levels below the given path.
    ignored : tuple of str
        Extensions of files that belong to the layout and are not images.
    first_folder_is_split : bool
        Whether the first of several folders in a path names the split.
    """

    labels: LabelMap
    kind: str = ""
    ignored: tuple[str, ...] = ()
    first_folder_is_split: bool = False

    def __call__(self, path: Path, source: str) -> Listing:
        """List the images of a folder.

        Parameters
        ----------
        path : Path
        source : str
            Name of the source.

        Returns
        -------
        Listing

        Raises
        ------
        DataError
            When there are no class folders, or in several places.
        """
        listing = Listing(find_root(path, self.kind, *self.labels) if self.kind else path)
        for image in list_images(listing, source, ignored=self.ignored):
            if len(image.parts) == 1:
                listing.exclude(str(image), source, None, "in no class folder")
                continue
            split = image.parts[0] if self.first_folder_is_split and len(image.parts) > 2 else None
            label = label_folder(image, self.labels)
            listing.add_upstream(self.labels, label, path=str(image), source=source, split=split)
        return listing


def require_rows(listing: Listing, path: Path, kind: str) -> None:
    """Require that a source has at least one image.

    Parameters
    ----------
    listing : Listing
    path : Path
        As the user gave it.
    kind : str
        Key in SOURCES, for messages.

    Raises
    ------
    DataError
        When it has none, as in a wrong layout.
    """
    if listing.rows:
        return
    unused = ""
    if listing.excluded:
        first = listing.excluded[0]
        unused = f"; {len(listing.excluded):,} files are not used, first {first['path']} ({first['reason']})"
    raise DataError(
        f"{path} contains no images in the layout of {kind}{unused}.",
        hint=f'"nonet data sources {kind}" shows what {kind}: expects.',
    )
