"""Whether a folder is a dataset, decided at once, before pandas is imported."""

from pathlib import Path

from nonet.artifacts.urls import require_path
from nonet.errors import DataError

MAKE_ONE = "Make one with: nonet data build SOURCE:PATH --out DATASET"


def require_dataset(folder: Path) -> None:
    """Require that a folder is a dataset.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    DataError
        When it does not exist, or lacks a file that makes it a dataset.
    """
    require_path(folder, "dataset", DataError)
    missing = [name for name in ("dataset.json", "manifest.parquet") if not (folder / name).exists()]
    if not folder.exists():
        raise DataError(f"The dataset {folder} does not exist.", hint=MAKE_ONE)
    if not folder.is_dir():
        raise DataError(f"{folder} is a file, not a dataset.", hint=MAKE_ONE)
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise DataError(f"{folder} is not a dataset: {' and '.join(missing)} {verb} missing.", hint=MAKE_ONE)
