"""`check_dataset`: whether a dataset's images are unchanged, and what would spoil training on them."""

from pathlib import Path
from typing import TYPE_CHECKING

from nonet.data.num_folds import require_num_folds
from nonet.data.opening import require_dataset

if TYPE_CHECKING:
    from nonet.data.manifest import Dataset
    from nonet.data.verifying import CheckReport


def check_dataset(
    dataset: "str | Path | Dataset", *, num_folds: int | None = None, num_workers: int | None = None
) -> "CheckReport":
    """Read every image of a dataset again, compare it with the manifest, and repeat the checks of the build.

    Writes checks.html and checks.json into the dataset's folder.

    Parameters
    ----------
    dataset : str, Path or Dataset
        Folder made by `build_dataset`, or a Dataset.
    num_folds : int, optional
        Folds that will be trained with: classes of fewer patients are reported. By default the recipes'.
    num_workers : int, optional
        Threads; by default one per core.

    Returns
    -------
    CheckReport
        Its `ok` is False where an image is missing, changed (by SHA-256) or unreadable.
    """
    require_num_folds(num_folds)
    if isinstance(dataset, (str, Path)):
        require_dataset(Path(dataset).expanduser())
    from nonet.data.manifest import Dataset  # only now: pandas and what reads images take seconds to import
    from nonet.data.verifying import verify

    return verify(Dataset.open(dataset), num_folds, num_workers)
