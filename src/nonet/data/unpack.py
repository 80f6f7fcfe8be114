"""Writing images from tables, arrays or photographs of fields as files into the dataset's own folder."""

import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from nonet.artifacts.storage import writing_to
from nonet.data.selection import Selection
from nonet.data.sources.listing import Listing, Packed
from nonet.data.sources.packed import safe_name
from nonet.errors import DataError
from nonet.progress import progress

#: Subfolder of a dataset.
FOLDER = "unpacked"


def packed_sources(listings: Iterable[Listing]) -> dict[str, Packed]:
    """Find the sources whose images are not files.

    Parameters
    ----------
    listings : iterable of Listing

    Returns
    -------
    dict
        Source → Packed.
    """
    return {row["source"]: listing.packed for listing in listings if listing.packed for row in listing.rows}


def unpack_images(selection: Selection, packed: dict[str, Packed], dataset: Path) -> dict[str, Path]:
    """Write packed images as files, and exclude those that cannot be read.

    Parameters
    ----------
    selection : Selection
    packed : dict
        Source → Packed.
    dataset : Path
        Folder of the dataset.

    Returns
    -------
    dict
        Source → folder that its paths are relative to; itself relative to the dataset's.
    """
    roots = {}
    for source, images in packed.items():
        roots[source] = unpacked_root(source, images)
        paths = selection.rows.loc[selection.rows["source"].eq(source), "path"]
        errors = unpack(images, list(paths), dataset / roots[source])
        selection.exclude_each(
            {index: f"unreadable: {errors[path].message}" for index, path in paths.items() if path in errors}
        )
    return roots


def unpacked_root(source: str, packed: Packed) -> Path:
    """Return where a source's images go, relative to the dataset.

    It is a different folder when the files that the images come from change. So an existing image is the right one,
    and building a dataset again does not touch the images of the earlier one.

    Parameters
    ----------
    source : str
    packed : Packed

    Returns
    -------
    Path
    """
    return Path(FOLDER) / f"{safe_name(source)}-{packed.fingerprint()}"


def unpack(packed: Packed, paths: Sequence[str], root: Path) -> dict[str, DataError]:
    """Write the images that do not exist yet, each completely or not at all.

    Parameters
    ----------
    packed : Packed
    paths : sequence of str
        Of the images, relative to `root`.
    root : Path
        Folder to write into.

    Returns
    -------
    dict
        Path → error, for each image that cannot be read.
    """
    missing = [path for path in paths if not (root / path).exists()]
    errors: dict[str, DataError] = {}
    if not missing:
        return errors
    with progress(total=len(missing), description="unpacking images", unit="images") as bar:
        for path, data in packed.images(missing):
            bar.update()
            if isinstance(data, DataError):
                errors[path] = data
                continue
            file = root / path
            # Not `written_whole`: waiting for the disk would take ten times as long as the rest, and a lost image is
            # written again.
            with writing_to(file):
                file.parent.mkdir(parents=True, exist_ok=True)
                temporary = file.with_name(f".{file.name}.part")
                temporary.write_bytes(data)
                temporary.replace(file)
    return errors


def remove_stale(dataset: Path, roots: set[str]) -> None:
    """Remove unpacked images that the dataset no longer refers to, except behind links, which are not nonet's.

    Parameters
    ----------
    dataset : Path
        Folder of the dataset.
    roots : set of str
        Folders in use, relative to the dataset's.
    """
    folder = dataset / FOLDER
    if not folder.is_dir() or folder.is_symlink():
        return
    for stale in folder.iterdir():
        is_ours = re.fullmatch(r".+-[0-9a-f]{12}", stale.name) and not stale.is_symlink() and stale.is_dir()
        if is_ours and f"{FOLDER}/{stale.name}" not in roots:
            shutil.rmtree(stale)
