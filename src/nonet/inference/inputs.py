"""The images that `predict` accepts: files, folders, globs, a dataset, a table of paths.

Pandas is imported for tables and datasets only, so that a path that does not exist is an error at once.
"""

import glob
import logging
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from nonet.artifacts.system_files import is_leftover
from nonet.data.images.file_kinds import WORKBOOK, as_text, detect_file_kind, read_head, unpack_hint
from nonet.data.images.formats import FORMATS_IN_WORDS, IMAGE_SUFFIXES, is_named_as_image, looks_like_picture
from nonet.data.shards.folder import INDEX
from nonet.data.sources.columns import plain_names
from nonet.data.sources.paths import FileFinder, absolute_path, is_folder, is_link, is_there, valid_unicode
from nonet.data.sources.splits import parse_split
from nonet.data.sources.walk import Entry, walk
from nonet.errors import DataError, did_you_mean, one_line

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger("nonet")

_LISTS = (".tsv", ".tab", ".txt", ".lst")  # suffixes of text files that people list images in


#: How cases are named.
CaseFrom = Literal["column", "folder"]
CASE_FROM = get_args(CaseFrom)


@dataclass(frozen=True)
class Input:
    """An image to predict.

    Attributes
    ----------
    name : str
        In predictions.csv.
    path : Path
        The file.
    case : str
        Whose cells are counted together; "" where that is not known.
    folder : str
        The folder that would name its case: the first one below the folder given, or the one that it lies in.
    """

    name: str
    path: Path
    case: str = ""
    folder: str = ""

    @property
    def source(self) -> Path:
        """What is read: the file."""
        return self.path


def find_inputs(
    images: Iterable[str | Path],
    *,
    split: str | None = None,
    case: str | None = None,
    case_from: CaseFrom = "column",
) -> list[Input]:
    """List the images to predict, each once, in the order given (a folder's in order of name).

    Parameters
    ----------
    images : iterable of paths
        Files; folders with their subfolders, of which the same files are read as by `build_dataset` (hidden files are
        skipped; other files that are not images are counted in the log); globs such as "slides/*.png"; a dataset
        folder; a CSV file with a column "path", relative to the file, and perhaps "image": a name of each.
    split : str, optional
        Only this split of a dataset, for example "test".
    case : str, optional
        The case of all images.
    case_from : {"column", "folder"}
        Without `case`: the column "case" or else "patient" of a CSV file or dataset, or `Input.folder`.

    Returns
    -------
    list of Input

    Raises
    ------
    DataError
        If a path does not exist, there is no image, or the options for cases contradict each other.
    """
    _check_case(case, case_from)
    inputs: dict[str, Input] = {}
    for item in images:
        for one in _expand(str(item), split):
            # Links are images of their own: in a cache that stores each content once, one file has several names.
            inputs.setdefault(os.path.normpath(one.path.absolute()), one)
    if not inputs:
        raise DataError("There are no images to predict.", hint="Give image files, folders, globs or a dataset.")
    counts = Counter(one.name for one in inputs.values())
    return [
        replace(
            one,
            name=valid_unicode(one.name if counts[one.name] == 1 else str(one.path)),
            case=one_line(valid_unicode(case or (one.folder if case_from == "folder" else one.case))),
        )
        for one in inputs.values()
    ]


def _check_case(case: str | None, case_from: str) -> None:
    if case_from not in CASE_FROM:
        raise DataError(
            f'`case_from` is "{case_from}"; it must be one of {", ".join(CASE_FROM)}.',
            hint=did_you_mean(case_from, CASE_FROM),
        )
    if case is not None and not case.strip():
        raise DataError("The name of the case is empty.", hint="Give a name, or leave `case` out.")
    if case is not None and case_from == "folder":
        raise DataError("`case` and `case_from=folder` contradict each other.", hint="Leave one of them out.")


def _expand(item: str, split: str | None) -> list[Input]:
    if not item.strip():
        raise DataError("One of the paths to predict is empty.", hint="Give image files, folders, globs or a dataset.")
    path = absolute_path(item) if item.startswith("~") else Path(item)
    if is_folder(path):
        if (path / INDEX).exists():
            raise DataError(
                f"{path} is a folder of shards, not of images.",
                hint='"nonet predict RUN SHARDS --out FOLDER" and `nonet.predict_shards` predict shards.',
            )
        if (path / "manifest.parquet").exists() and (path / "dataset.json").exists():
            return _list_dataset(path, split)
        _require_no_split(item, split)
        return _list_folder(path)
    if path.suffix.lower() in (".csv", ".parquet") and is_there(path):
        return _list_table(path, split)
    if is_there(path) or is_link(path):  # a broken link becomes a row with an error
        _require_no_split(item, split)
        kind, hint = detect_file_kind(path), unpack_hint(path, "FOLDER")
        if kind is not None and (hint or kind.group == WORKBOOK):
            raise DataError(f"{path} is {kind.words}, not an image.", hint=hint or 'Save it as "CSV UTF-8".')
        if path.suffix.lower() in _LISTS and as_text(read_head(path)):
            raise DataError(
                f"{path} is text, not an image.",
                hint='Save a list of images as a CSV file, separated by commas, with a column "path".',
            )
        return [Input(item, path, folder=path.absolute().parent.name)]
    matches = _glob(str(path)) if glob.has_magic(item) else []
    matches = [match for match in matches if not is_leftover(Path(match).name)]
    if not matches:
        raise DataError(
            f"{item} does not exist, and no file matches it as a pattern.", hint="Check the path; quote patterns."
        )
    return [one for match in matches for one in _expand(match, split)]


def _glob(pattern: str) -> list[str]:
    """Return the sorted matches of a pattern; "**" does not follow links to folders, which may form a loop."""
    parts = Path(pattern).parts
    if "**" not in parts:
        return sorted(glob.glob(pattern))
    wildcard = parts.index("**")
    starts = glob.glob(str(Path(*parts[:wildcard]))) if wildcard else ["."]
    if wildcard + 1 == len(parts):
        return sorted(starts)  # all images below them are predicted
    matches = set()
    for start in starts:
        for folder, folders, _ in os.walk(start):
            folders[:] = [name for name in folders if not name.startswith(".")]
            matches.update(_glob(str(Path(glob.escape(folder), *parts[wildcard + 1 :]))))
    return sorted(matches)


def _list_folder(folder: Path) -> list[Input]:
    """List the images of a folder, as `build_dataset` does; log the other files, except those that systems leave."""
    files, skipped = [], []
    for entry in walk(folder):
        if _is_input(entry):
            files.append(entry.file)
        elif (entry.problem or "").split(":")[0] not in ("hidden", "left by a system or program"):
            skipped.append(entry.file)
    if not files and (folder / "recipe.toml").exists():
        raise DataError(f"{folder} is a run, not images.", hint="Write: nonet predict RUN IMAGES… --out FOLDER")
    rest = _skipped_text(skipped, folder)
    if not files:
        raise DataError(
            f"Folder {folder} contains no image{rest}.", hint=f"Looked for {FORMATS_IN_WORDS}, also in subfolders."
        )
    if skipped:
        num_files = (
            "1 file that is not an image" if len(skipped) == 1 else f"{len(skipped):,} files that are not images"
        )
        logger.warning(f"Skipped {num_files}{rest}.")
    return [Input(str(file), file, folder=_case_folder(file, folder)) for file in sorted(files)]


def _case_folder(file: Path, folder: Path) -> str:
    """Return the first folder below `folder` that contains the file, or the name of `folder` itself."""
    below = file.relative_to(folder).parts[:-1]
    return below[0] if below else folder.absolute().name


def _skipped_text(skipped: list[Path], folder: Path) -> str:
    """Count files by suffix and name the first; an empty string if there are none."""
    if not skipped:
        return ""
    counts = Counter(file.suffix.lower() or "without a suffix" for file in skipped)
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in counts.most_common(8))
    more = f" and {len(counts) - 8} other kinds" if len(counts) > 8 else ""
    return valid_unicode(f" ({kinds}{more}; first {min(skipped).relative_to(folder)})")


def _is_input(entry: Entry) -> bool:
    """Whether an entry of a folder is to be predicted; one that cannot be read is a row with an error.

    Unlike in a source, an image may have any name and may be a link that leads out of the folder, as in caches. A
    folder that cannot be listed is a row as well: its images are unknown.
    """
    kind = (entry.problem or "").split(":")[0]
    if kind == "unreadable":
        return True
    usable = kind in ("", "outside", "bad path", "bad name") and not entry.file.is_dir()
    return usable and (is_named_as_image(entry.file) or looks_like_picture(read_head(entry.file)))


def _require_no_split(item: str, split: str | None) -> None:
    if split is not None:
        raise DataError(f"`split={split}` is for datasets, and {item} is not one.", hint="Leave `split` out.")


def _list_dataset(folder: Path, split: str | None) -> list[Input]:
    from nonet.data.manifest import Dataset
    from nonet.data.unknown_types import has_unknown_type

    dataset = Dataset.open(folder)
    rows = dataset.manifest[~has_unknown_type(dataset.manifest)]  # what it is of no class is known, and no case's cell
    if split is not None:
        rows = rows[rows["split"].isin([split, parse_split(split)] if parse_split(split) else [split])]
        if rows.empty:
            splits = sorted(dataset.manifest["split"].dropna().unique())
            hint = f"{did_you_mean(split, splits)}Its splits: {', '.join(splits) or 'none'}."
            raise DataError(f'{folder} has no split "{split}".', hint=hint)
    cases = _read_cases(rows)
    paths = [dataset.image_path(image_id) for image_id in rows["image_id"]]
    return [Input(*each, each[1].parent.name) for each in zip(rows["image_id"], paths, cases)]


def _read_cases(table: "pd.DataFrame") -> list[str]:
    """Return the case of each row: column "case", or else "patient"; "" where unknown."""
    column = next((name for name in ("case", "patient") if name in table), None)
    if column is None:
        return [""] * len(table)
    values = table[column].astype(object).where(table[column].notna(), "")
    whole = [int(value) if isinstance(value, float) and value.is_integer() else value for value in values]
    return [str(value).strip() for value in whole]


def _list_table(path: Path, split: str | None) -> list[Input]:
    if path.name == "manifest.parquet":
        return _list_dataset(path.parent, split)
    _require_no_split(str(path), split)
    import pandas as pd

    from nonet.data.sources.tables import read_table

    try:
        table = pd.read_parquet(path) if path.suffix.lower() == ".parquet" else read_table(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a table: {error}.") from error
    table = table.rename(columns=plain_names(map(str, table.columns)))
    if "path" not in table.columns:
        raise DataError(
            f"{path} has no column path; it has {', '.join(map(str, table.columns))}.",
            hint="Name the column of image files path; they are read relative to the table.",
        )
    names = table["path"].fillna("").astype(str)
    if (names == "").any():
        raise DataError(
            f"{path} has {int((names == '').sum())} rows without a path.", hint="Fill them in or remove them."
        )
    finder = FileFinder(path.parent, IMAGE_SUFFIXES)
    files = [path.parent / (finder.find(name)[0] or name) for name in names]
    given = table["image"].fillna("").astype(str) if "image" in table else names
    shown = given.where(given != "", names)
    return [
        Input(name, file, case, file.absolute().parent.name)
        for name, file, case in zip(shown, files, _read_cases(table))
    ]
