"""Writing images that lie inside tables, arrays or photographs of fields as files, into the dataset's own folder."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from nonet.artifacts.storage import writing_to
from nonet.data.sources.listing import Packed
from nonet.data.sources.packed import safe_name
from nonet.errors import DataError
from nonet.progress import progress

#: Subfolder of a dataset.
FOLDER = "unpacked"


def unpacked_root(source: str, packed: Packed) -> Path:
    """Return where a source's images go, relative to the dataset; another place when what they are taken from changes.

    So an image that is there is the right one, and a dataset that is built anew does not touch the old one's images.
    """
    return Path(FOLDER) / f"{safe_name(source)}-{packed.stamp()}"


def unpack(packed: Packed, paths: Sequence[str], root: Path) -> dict[str, DataError]:
    """Write those images that are not there yet, each whole or not at all.

    Parameters
    ----------
    packed : gives them.
    paths : of the images wanted, relative to `root`.
    root : folder to write into.

    Returns
    -------
    path → why, for each that could not be had.
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
            place = root / path
            # Not `written_whole`: its wait for the disk takes ten times as long as the rest, and a lost image is
            # written again.
            with writing_to(place):
                place.parent.mkdir(parents=True, exist_ok=True)
                temporary = place.with_name(f".{place.name}.part")
                temporary.write_bytes(data)
                temporary.replace(place)
    return errors


def remove_stale(dataset: Path, roots: set[str]) -> None:
    """Remove unpacked images that the dataset no longer points to; nothing behind a link, which is not ours."""
    folder = dataset / FOLDER
    if not folder.is_dir() or folder.is_symlink():
        return
    for stale in folder.iterdir():
        is_ours = re.fullmatch(r".+-[0-9a-f]{12}", stale.name) and not stale.is_symlink() and stale.is_dir()
        if is_ours and f"{FOLDER}/{stale.name}" not in roots:
            shutil.rmtree(stale)
