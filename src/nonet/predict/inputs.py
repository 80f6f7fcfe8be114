"""What `predict` takes: files, folders, globs, a dataset's or a run's manifest, a table of paths."""

import glob
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nonet.data.manifest import Dataset
from nonet.errors import DataError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"}


@dataclass(frozen=True)
class Input:
    """An image to predict: the name it has in predictions.csv, and where it lies."""

    name: str
    path: Path


def find_inputs(images: Iterable[str | Path], *, split: str | None = None) -> list[Input]:
    """List the images to predict, each once, in the order given (a folder's in order of name).

    Parameters
    ----------
    images : files; folders, searched with what is in them; globs such as "slides/*.png"; a dataset folder; a CSV file
        with a column `path`, relative to the file.
    split : of a dataset, predict only rows of this split, say "test".

    Raises
    ------
    DataError where something named is not there, or nothing is found.
    """
    found: dict[Path, Input] = {}
    for item in images:
        for one in _expand(str(item), split):
            found.setdefault(one.path.resolve(), one)
    if not found:
        raise DataError("There is no image to predict.", hint="Give image files, folders, globs or a dataset.")
    return list(found.values())


def _expand(item: str, split: str | None) -> list[Input]:
    path = Path(item).expanduser()
    if path.is_dir():
        if (path / "manifest.parquet").exists() and (path / "dataset.json").exists():
            return _of_dataset(path, split)
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        if not files:
            raise DataError(
                f"Folder {path} holds no image.",
                hint=f"Looked for {', '.join(sorted(IMAGE_SUFFIXES))}, in subfolders too.",
            )
        return [Input(str(file), file) for file in files]
    if path.suffix.lower() in (".csv", ".parquet") and path.is_file():
        return _of_table(path)
    if path.is_file():
        return [Input(item, path)]
    matches = sorted(glob.glob(str(path), recursive=True)) if glob.has_magic(item) else []
    if not matches:
        raise DataError(f"There is no image, folder or pattern {item}.", hint="Check the path; quote patterns.")
    return [
        one for match in matches for one in _expand(glob.escape(match) if not Path(match).exists() else match, split)
    ]


def _of_dataset(folder: Path, split: str | None) -> list[Input]:
    dataset = Dataset.open(folder)
    rows = dataset.manifest
    if split is not None:
        rows = rows[rows["split"] == split]
        if rows.empty:
            have = sorted(dataset.manifest["split"].dropna().unique())
            raise DataError(f'{folder} has no split "{split}".', hint=f"It has: {', '.join(have) or 'none'}.")
    return [Input(image_id, dataset.path_of(image_id)) for image_id in rows["image_id"]]


def _of_table(path: Path) -> list[Input]:
    if path.name == "manifest.parquet":
        return _expand(str(path.parent), None)
    table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=str)
    if "path" not in table.columns:
        raise DataError(
            f"{path} has no column path; it has {', '.join(map(str, table.columns))}.",
            hint="Name the column of image files path; they are read relative to the table.",
        )
    return [Input(name, path.parent / name) for name in table["path"].astype(str)]
