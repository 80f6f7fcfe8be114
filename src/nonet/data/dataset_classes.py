"""The classes of a dataset that is being built, and what to say where no image, or no class, is left."""

import pandas as pd

from nonet.cells import CLASSES, UNIDENTIFIED
from nonet.data.selection import Selection, wanted_classes
from nonet.data.sources.vocabulary import canonical_form
from nonet.data.unknown_types import count_types
from nonet.errors import DataError, counted


def find_classes(selection: Selection, classes: str | list[str] | None) -> list[str]:
    """Return the classes of a dataset.

    Parameters
    ----------
    selection : Selection
        Gets a note on labels beyond the thirteen, or on classes without images.
    classes : str, list of str, or None
        As the user requested them.

    Returns
    -------
    list of str
        Alphabetical.

    Raises
    ------
    DataError
        When no labelled image is left, or a requested class has none.
    """
    present, wanted = set(selection.rows["label"].dropna()), wanted_classes(classes)
    if not present:
        raise nothing_left(selection)
    if wanted is None:
        others = sorted(present - set(CLASSES))
        if others and present & set(CLASSES):
            selection.notes.append(
                f"Labels outside nonet's thirteen classes are classes too: {', '.join(others)}. "
                "To leave them out: `classes=13`"
            )
        return sorted(present)
    empty = sorted(wanted - present)
    requested = [classes] if isinstance(classes, str) else list(classes or ())
    if empty and "13" not in requested:
        raise DataError(
            f"{'Class' if len(empty) == 1 else 'Classes'} {', '.join(empty)} of `classes` has no image.",
            hint=f"Labels with images: {', '.join(sorted(present))}. What was left out, and why: "
            f"{_example(selection, empty)}.",
        )
    if empty:
        selection.notes.append(f"No image of {', '.join(empty)}. The classes: {', '.join(sorted(present))}.")
    return sorted(present)


def require_free_label(rows: pd.DataFrame) -> None:
    """Require that no label is nonet's word for cells that it cannot name.

    Parameters
    ----------
    rows : DataFrame
        Columns image_id and label.

    Raises
    ------
    DataError
        When there is such a label.
    """
    taken = rows[rows["label"].map(lambda label: isinstance(label, str) and canonical_form(label) == UNIDENTIFIED)]
    if len(taken):
        images = counted(len(taken), "image is", "images are")
        raise DataError(
            f'{images} labelled "{UNIDENTIFIED}", first {taken["image_id"].iloc[0]}: no class can have '
            "that name, which is what nonet calls cells that it cannot name.",
            hint="Leave them out with `classes`, or give them another label.",
        )


def nothing_left(selection: Selection) -> DataError:
    """Return an error that counts why no labelled image is left: unlabelled, or the kinds of exclusions.

    Parameters
    ----------
    selection : Selection

    Returns
    -------
    DataError
    """
    num_unlabelled = int(selection.rows["unknown_type"].isna().sum())
    reasons = pd.Series([row["reason"] for row in selection.excluded], dtype=str)
    groups = {str(kind): group for kind, group in reasons.groupby(reasons.str.split(":").str[0], sort=False)}
    why = [f"{num_unlabelled:,} unlabelled"] if num_unlabelled else []
    if types := count_types(selection.rows):
        why.append(f"unknown cell types {types}")
    why += [f"{len(group):,} {group.iloc[0].removesuffix('.')}" for group in groups.values()]
    return DataError(
        f"No labelled image is left: {'; '.join(why) or 'the sources are empty'}.",
        hint=_what_to_do(set(groups) | ({"unlabelled"} if num_unlabelled else set())),
    )


def _what_to_do(kinds: set[str]) -> str:
    """Return what to do where no image is left, by the kinds of reasons."""
    hints = {
        "unlabelled": "Provide labels: column label, or class folders.",
        "outside": "Paths may not leave the source's folder: for csv, give the folder above all images as `root`.",
        "missing": "For csv, `root` is the folder that paths are relative to; by default it is the table's own.",
        "linked folder": "Links to folders are not followed: give the folder that they lead to, or a table.",
        "label outside the classes": "Check `classes`; `labels=MAP.csv` (from,to) renames labels.",
    }
    matching = [hint for kind, hint in hints.items() if kind in kinds]
    return " ".join(matching or ["Check the source's path and `classes`."])


def _example(selection: Selection, labels: list[str]) -> str:
    rows = [row for row in selection.excluded if row["label"] in labels]
    return f"{rows[0]['path']} ({rows[0]['reason']}), {len(rows)} in all" if rows else "none of that label"
