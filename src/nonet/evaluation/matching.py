"""Which images of two tables are the same, by the names of their files."""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from nonet.errors import DataError

_MOST = 3  # examples in a sentence


def match_names(wanted: Iterable[str], given: Iterable[str]) -> np.ndarray:
    """Match image names as `score` does.

    Parameters
    ----------
    wanted, given : iterable of str
        Names of images, with or without folders.

    Returns
    -------
    ndarray of int64, shape (num_wanted,)
        The place in `given` of each wanted image; -1 where there is none.

    Raises
    ------
    DataError
        If a name fits several images, or two names fit the same.
    """
    theirs, ours = ([PurePosixPath(name.replace("\\", "/")) for name in names] for names in (given, wanted))
    places_by_key: dict[tuple[int, str], list[int]] = {}
    for place, path in enumerate(theirs):
        for key in {*_keys(path.name), *_keys(_stem(path))}:
            places_by_key.setdefault(key, []).append(place)
    match = np.full(len(ours), -1, dtype=np.int64)
    for i, path in enumerate(ours):
        keys = zip(_keys(path.name), _keys(_stem(path)))  # as written first, and then as much alike
        candidates = next((places_by_key[key] for pair in keys for key in pair if key in places_by_key), [])
        depths = [_agreement(path, theirs[place]) for place in candidates]
        best = [place for place, depth in zip(candidates, depths) if depth == max(depths)]
        if len(best) > 1:
            raise DataError(
                f"{path} fits {len(best)} predictions, as {theirs[best[0]]} and {theirs[best[1]]}.",
                hint="Write more of the path into the table of labels, or predict one folder.",
            )
        if best:
            match[i] = best[0]
    places, first = np.unique(match[match >= 0], return_index=True)
    if len(places) < (match >= 0).sum():
        matched = np.flatnonzero(match >= 0)
        twice = matched[~np.isin(np.arange(len(matched)), first)][0]
        other = matched[first[np.searchsorted(places, match[twice])]]
        raise DataError(
            f"{ours[other]} and {ours[twice]} of the table of labels fit one prediction, {theirs[match[twice]]}.",
            hint="Give each image one row.",
        )
    return match


def _keys(name: str) -> list[tuple[int, str]]:
    """Return a name as written, and as other systems may write it: accents composed, case folded."""
    return [(0, name), (1, unicodedata.normalize("NFC", name).casefold())]


def _stem(path: PurePosixPath) -> str:
    """Return a file's name without its extension; "cell.01" has none."""
    return path.stem if re.fullmatch(r"\.[A-Za-z][A-Za-z0-9]{1,4}", path.suffix) else path.name


def _agreement(one: PurePosixPath, other: PurePosixPath) -> int:
    """Return the number of matching folders, counted from the file upwards."""
    depth = 0
    for a, b in zip(reversed(one.parts[:-1]), reversed(other.parts[:-1])):
        if a != b:
            break
        depth += 1
    return depth


def describe_match(labelled: pd.Series, predicted: pd.Series, match: np.ndarray) -> list[str]:
    """Describe how many images are in one table only, with the first of them.

    Parameters
    ----------
    labelled, predicted : Series of str
        Names of the images that have a label, and of those that have a prediction.
    match : ndarray of int, shape (num_labelled,)
        As `match_names` returns it.

    Returns
    -------
    list of str
        Sentences.

    Raises
    ------
    DataError
        If no image is in both.
    """
    if not (match >= 0).any():
        raise DataError(
            f"No image is in both tables: labels begin with {labelled.iloc[0]}, predictions with "
            f"{predicted.iloc[0] if len(predicted) else 'nothing'}.",
            hint="Images are matched by the file's name, with or without its ending.",
        )
    notes = []
    without = labelled[match < 0]
    if len(without):
        notes.append(
            f"{len(without):,} of {len(labelled):,} labels have no prediction and are left out: {_few(without)}."
        )
    unused = predicted[~np.isin(np.arange(len(predicted)), match)]
    if len(unused):
        notes.append(
            f"{len(unused):,} of {len(predicted):,} predictions have no label and are left out: {_few(unused)}."
        )
    return notes


def _few(names: pd.Series) -> str:
    listed = ", ".join(names.head(_MOST))
    return listed + (" …" if len(names) > _MOST else "")
