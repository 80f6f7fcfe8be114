"""Exact copies: of those with one label one is used; those with different labels are all left out."""

import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path

import pandas as pd

from nonet.data.images.files import read_file
from nonet.data.selection import Selection
from nonet.data.sources.listing import Packed
from nonet.errors import DataError, counted
from nonet.progress import progress


def drop_same_path(selection: Selection) -> None:
    """Drop rows that name the same file of the same source.

    Parameters
    ----------
    selection : Selection
        Gets a note where copies differ in patient.
    """
    _drop_copies(selection, selection.rows["image_id"], "duplicate row")


def drop_same_content(selection: Selection) -> None:
    """Drop images with the same bytes, so that none can be on both sides of a split.

    Rows of split "test" are neither dropped nor count as copies, as each of them awaits a prediction.

    Parameters
    ----------
    selection : Selection
        After the images were read.
    """
    test = selection.rows["split"].eq("test")
    _drop_copies(selection, selection.rows.loc[~test, "sha256"], "duplicate image")
    test = selection.rows["split"].eq("test")
    both = selection.rows.loc[test, "sha256"].isin(selection.rows.loc[~test, "sha256"]).sum()
    if both:
        selection.notes.append(
            f'{both:,} images of split "test" are also among the others: a score on the test set would be too good.'
        )


def drop_contested(
    selection: Selection, others: pd.DataFrame, roots: dict[str, Path], packed: dict[str, Packed]
) -> None:
    """Drop images of which a copy with another label was left out for its label: either label may be wrong.

    Parameters
    ----------
    selection : Selection
        After the images were read.
    others : DataFrame
        Rows that were left out for their label and not read. Only those are read whose size is that of an image of the
        selection.
    roots : dict
        Source → folder that paths are relative to.
    packed : dict
        Source → Packed, for sources whose images are not files.
    """
    sizes = set(selection.rows["num_bytes"])
    labels: dict[str, dict[str, str]] = {}  # SHA-256 → label → image that has it
    for source, rows in others.dropna(subset=["label"]).groupby("source"):
        source = str(source)
        labels_by_path = rows.groupby("path")["label"].unique()
        paths = [str(path) for path in labels_by_path.index]
        if source in packed:
            contents = _packed_contents(packed[source], paths, sizes)
        else:
            contents = _file_contents(roots[source], paths, sizes)
        for path, data in contents:
            sha256 = hashlib.sha256(data).hexdigest()
            labels.setdefault(sha256, {}).update(dict.fromkeys(labels_by_path[path], f"{source}/{path}"))
    reasons: dict[object, str] = {}
    candidates = selection.rows["sha256"].isin(list(labels)) & selection.rows["split"].ne("test")
    for index, row in selection.rows[candidates].iterrows():
        contrary = {label: image for label, image in labels[row["sha256"]].items() if label != row["label"]}
        if row["label"] is not None and contrary:
            label, image = next(iter(contrary.items()))
            reasons[index] = (
                f"conflicting labels: duplicate image, labelled {row['label']} and, left out, {label}: {image}"
            )
    selection.exclude_each(reasons)


def _file_contents(root: Path, paths: Collection[str], sizes: set[int]) -> Iterator[tuple[str, bytes]]:
    """Yield path and bytes of the files that have one of these sizes."""
    for path in paths:
        try:
            if (root / path).stat().st_size in sizes:
                yield path, read_file(root / path)
        except (OSError, ValueError, DataError):
            continue  # left out for its label anyway


def _packed_contents(packed: Packed, paths: Collection[str], sizes: set[int]) -> Iterator[tuple[str, bytes]]:
    """Do the same for packed images, without writing them to files."""
    with progress(total=len(paths), description="comparing what is left out", unit="images", delay=2) as bar:
        for path, data in packed.images(list(paths)):
            bar.update()
            if not isinstance(data, DataError) and len(data) in sizes:
                yield path, data


def _drop_copies(selection: Selection, key: pd.Series, what: str) -> None:
    """Drop rows with the same key; `key` may have part of the rows' index."""
    if not key.duplicated().any():
        return
    rows = selection.rows.loc[key.index]
    # Labelled before unlabelled, evaluated before external, then by name, whatever the order of sources: the first of
    # the copies stays.
    what_it_is = rows["label"].where(rows["label"].notna(), rows["unknown_type"])
    ranked = rows.assign(_key=key, _label=what_it_is, _unlabelled=what_it_is.isna(), _external=~rows["evaluate"])
    ranked = ranked.sort_values(["_unlabelled", "_external", "image_id"], kind="stable")
    reasons: dict[object, str] = {}
    num_patients_differ = 0
    for _, copies in ranked[ranked["_key"].duplicated(keep=False)].groupby("_key", sort=False):
        labels = sorted(copies["_label"].dropna().unique())
        num_patients_differ += copies["patient"].dropna().nunique() > 1
        images = ", ".join(copies["image_id"].drop_duplicates())
        for index in copies.index:
            if len(labels) > 1:
                reasons[index] = f"conflicting labels: {what}, labelled {' and '.join(labels)}: {images}"
            elif index != copies.index[0]:
                reasons[index] = f"{what}: of {copies['image_id'].iloc[0]}, which is used"
    if num_patients_differ:
        count = counted(num_patients_differ, "image was", "images were")
        selection.notes.append(
            f"{count} given with different patients ({what}); the copy that is used determines the patient."
        )
    selection.exclude_each(reasons)
