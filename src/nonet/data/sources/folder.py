"""A folder with one subfolder per class, perhaps below folders of a split, perhaps above folders of patients."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from nonet.cells import class_code
from nonet.data.images.formats import is_named_as_image
from nonet.data.sources.base import Source
from nonet.data.sources.listing import Listing
from nonet.data.sources.splits import TEST, VAL, is_ambiguous_split, parse_split
from nonet.data.sources.walk import subfolders, walk
from nonet.errors import DataError, did_you_mean

LEVELS = ("CLASS", "PATIENT", "SPLIT", "*")
_HINT = 'Write the levels of folders from the top, like "CLASS/PATIENT", "SPLIT/CLASS" or "PATIENT/*/CLASS".'


def _read(path: Path, name: str | None, *, layout: str | None = None) -> Listing:
    """List the files of a folder whose subfolders are named after classes.

    Subfolders of a class folder belong to the class. Folders named train, val, test, or another word for these, above
    or below the classes, are the split. Hidden files and those left by systems are recorded as left out. `layout`,
    such as "CLASS/PATIENT", says what each level is; without it the levels are inferred, and patients are unknown.
    """
    source, listing = name or path.resolve().name, Listing(path)
    if not subfolders(path):
        raise DataError(
            f"Folder {path} has no subfolder.", hint="Put the images of each class into a folder with its name."
        )
    entries = list(walk(path))
    usable = [PurePosixPath(entry.path) for entry in entries if entry.problem is None]
    levels = parse_layout(layout) if layout else _infer_levels(path, [file.parts for file in usable])
    for entry in entries:
        file = PurePosixPath(entry.path)
        if entry.problem is None:
            _add(listing, file, levels, source, is_given=layout is not None)
        else:
            label = _folders_by_level(file, levels).get("CLASS")
            listing.exclude(entry.path, source, label, entry.problem)
    listing.notes += _notes(listing, source, path, levels)
    return listing


def parse_layout(layout: str) -> tuple[str, ...]:
    """Parse a layout such as "CLASS/PATIENT".

    Parameters
    ----------
    layout : str

    Returns
    -------
    tuple of str
        The levels, from the top.

    Raises
    ------
    DataError
        When a level is unknown or there twice, or CLASS is missing.
    """
    parts = [part.strip() for part in layout.strip().strip("/").split("/")]
    while len(parts) > 1 and parts[-1] in ("*", "**", "…", "..."):
        parts.pop()  # deeper levels are ignored anyway
    levels = tuple(part.strip("{}<>").upper() for part in parts)
    wrong = [part for part, level in zip(parts, levels) if level not in LEVELS]
    if wrong:
        raise DataError(
            f'`layout={layout}`: "{wrong[0]}" is not a level.', hint=did_you_mean(wrong[0].upper(), LEVELS) + _HINT
        )
    twice = [level for level, count in Counter(levels).items() if count > 1 and level != "*"]
    if "CLASS" not in levels or twice:
        why = f"{twice[0]} is given twice" if twice else "CLASS is missing"
        raise DataError(f"`layout={layout}`: {why}.", hint=_HINT)
    return levels


def _infer_levels(path: Path, files: list[tuple[str, ...]]) -> tuple[str, ...]:
    """Infer which levels of folders are split and class. Raises DataError where that is ambiguous."""
    images = [parts for parts in files if is_named_as_image(parts[-1])] or files
    tops = sorted({parts[0] for parts in images if len(parts) > 1})
    splits = [top for top in tops if parse_split(top)]
    ambiguous = [top for top in tops if is_ambiguous_split(top) and not parse_split(top)]
    if splits and ambiguous and len(splits) + len(ambiguous) == len(tops):
        raise DataError(
            f"{path}: folder {ambiguous[0]} may be validation or test; the word is used for both.",
            hint="Rename it to val (trained on and scored out of fold) or test (never trained on).",
        )
    if splits and len(splits) < len(tops):
        others = [top for top in tops if top not in splits]
        raise DataError(
            f"{path} has folders named as a split ({_some(splits)}) beside others ({_some(others)}).",
            hint="Put the folders of classes below those of the split, or move the others away; if all of them are "
            "classes, add: `layout=CLASS`.",
        )
    levels = ("SPLIT", "CLASS") if splits else ("CLASS",)
    _require_classes(path, [parts[len(levels) - 1 :] for parts in images if len(parts) > len(levels)], levels)
    return levels


def _require_classes(path: Path, files: list[tuple[str, ...]], levels: tuple[str, ...]) -> None:
    """Raise DataError where the classes seem to be the folders one level below, or `path` itself.

    Parameters
    ----------
    path : Path
        Of the source.
    files : list of tuple of str
        Parts of each image's path, from the folder that should be its class.
    levels : tuple of str
        Levels inferred so far, CLASS last.
    """
    here = {parts[0] for parts in files}
    _require_no_split_in_names(path, here)
    if any(class_code(name) for name in here):
        return
    # A split may be named between the two levels.
    inner = [[part for part in parts[1:-1] if not parse_split(part)] for parts in files]
    below, all_deeper = {parts[0] for parts in inner if parts}, all(inner)
    known = sorted(name for name in below if class_code(name))
    above = "".join(f"{level}/" for level in levels[:-1])
    between = "SPLIT/" if any(parse_split(part) for parts in files for part in parts[1:-1]) else ""
    if len(here) == 1 and all_deeper and len(below) > 1:
        top = next(iter(here))
        below_it = f"folder:{path / top}" if levels == ("CLASS",) else "a folder without that level"
        raise DataError(
            f"{path} has one class folder, {top}, which has folders of its own: {_some(sorted(below))}.",
            hint=f"If these are the classes, give {below_it}, or add: `layout={above}*/{between}CLASS`. "
            f"If {top} is a class and they are its patients, add: `layout={above}CLASS/{between}PATIENT`.",
        )
    if len(known) > 1 and all_deeper:
        raise DataError(
            f"{path}: the folders {_some(sorted(here))} would be the classes, but their subfolders are named after "
            f"cells: {_some(known)}.",
            hint=f"If the upper folders are patients, add: `layout={above}PATIENT/{between}CLASS`; if not, "
            f"add: `layout={above}*/{between}CLASS`.",
        )
    if levels == ("CLASS",) and class_code(path.name):
        raise DataError(
            f"{path} itself has the name of a class, and its folders {_some(sorted(here))} do not.",
            hint=f"Give the folder above, folder:{path.parent}; if these are the classes, add: `layout=CLASS`.",
        )


def _require_no_split_in_names(path: Path, classes: set[str]) -> None:
    """Raise DataError where folder names combine class and split, such as LY_train and LY_test."""
    splits: dict[str, dict[str, str]] = {}
    for name in sorted(classes):
        words = re.findall(r"[^\W_]+", name)
        rest = " ".join(word.casefold() for word in words if not parse_split(word))
        for word in words:
            if rest and (split := parse_split(word)):
                splits.setdefault(rest, {})[split] = name
    for names in splits.values():
        if len(names) > 1:
            raise DataError(
                f"{path}: the folders {' and '.join(names.values())} combine a class and a split in one name.",
                hint="Use two levels, train/CLASS and test/CLASS; if they are classes by themselves, add: "
                "`layout=CLASS`.",
            )


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (" …" if len(names) > 4 else "")


def _folders_by_level(file: PurePosixPath, levels: tuple[str, ...]) -> dict[str, str]:
    """Return level → name of its folder, for the levels that the path has."""
    return dict(zip(levels, file.parts[:-1]))


def _add(listing: Listing, file: PurePosixPath, levels: tuple[str, ...], source: str, *, is_given: bool) -> None:
    """Add a file with what its folders say, or record why it cannot be used."""
    folders = _folders_by_level(file, levels)
    split = parse_split(folders["SPLIT"]) if "SPLIT" in folders else None
    if "SPLIT" in folders and split is None:
        raise DataError(
            f'{listing.root}: folder "{folders["SPLIT"]}" is not the name of a split.',
            hint="Rename it to train, val or test.",
        )
    label = folders.get("CLASS")
    if not is_given:
        # CLASS/test/… gives a split, too.
        below = {parse_split(part) for part in file.parts[len(levels) : -1]} - {None}
        if len(below | {split} - {None}) > 1:
            listing.exclude(str(file), source, label, "two splits: its folders name both")
            return
        split = next(iter(below), split)
    if label is None and not (split == TEST and is_named_as_image(file)):
        listing.exclude(str(file), source, None, "in no class folder")
        return
    listing.add(path=str(file), label=label, patient=folders.get("PATIENT"), source=source, split=split)


def _notes(listing: Listing, source: str, path: Path, levels: tuple[str, ...]) -> Iterator[str]:
    counts = Counter(row["split"] for row in listing.rows)
    without = counts.pop(None, 0)
    if counts:
        numbers = ", ".join(f"{split} {count:,}" for split, count in sorted(counts.items()))
        yield f"{source}: split read from folders: {numbers}{f', none {without:,}' if without else ''}."
    if counts[VAL]:
        yield (
            f"{source}: images of split val are trained on and scored out of fold like those of train, as nonet makes "
            "its own folds. If they are a test set, name the folder test."
        )
    if levels == ("CLASS",):
        used = {PurePosixPath(row["path"]).parts[0] for row in [*listing.rows, *listing.excluded]}
        yield from (f"Class folder {folder} is empty." for folder in subfolders(path) if folder.name not in used)


FOLDER = Source(
    name="folder",
    title="your own folder with one subfolder per class",
    reader=_read,
    named_by_path=True,
    layout="DIR/CLASS/**: every file below a class folder is an image of the class; folder names are the labels\n"
    "or DIR/{train,val,test}/CLASS/**: test is never trained on\n"
    "or other levels, by `layout`: CLASS/PATIENT, PATIENT/CLASS, SPLIT/CLASS/PATIENT",
    paper=None,
    paper_words="all that you give",
    options=("layout",),
)
