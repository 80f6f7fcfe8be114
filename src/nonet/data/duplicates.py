"""Copies: of those with one label one is kept; of those with different labels none, as nobody knows the right one."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from nonet.data.images.files import read_file
from nonet.data.sources.listing import Packed
from nonet.errors import DataError
from nonet.progress import progress


def drop_same_path(table: pd.DataFrame, excluded: list[dict], notes: list[str]) -> pd.DataFrame:
    """Drop rows that name the same file of the same source.

    Parameters
    ----------
    table : columns image_id, path, label, patient, source, split, evaluate; one row an image as the sources list it.
    excluded : gets a row for each that is dropped.
    notes : gets a sentence where copies differ in patient.
    """
    return _drop_copies(table, table["image_id"], "duplicate row", excluded, notes)


def drop_same_content(table: pd.DataFrame, excluded: list[dict], notes: list[str]) -> pd.DataFrame:
    """Drop images with the same bytes, so that none can be on both sides of a split.

    Rows of split "test" are neither dropped nor counted as copies: each of them awaits a prediction. Parameters as of
    `drop_same_path`, and column sha256.
    """
    test = table["split"].eq("test")
    rest = _drop_copies(table[~test], table.loc[~test, "sha256"], "duplicate image", excluded, notes)
    both = table.loc[test, "sha256"].isin(rest["sha256"]).sum()
    if both:
        notes.append(f'{both:,} images of split "test" are also among the others: a score on the test is too good.')
    return pd.concat([rest, table[test]])


def drop_contested(
    table: pd.DataFrame,
    others: pd.DataFrame,
    roots: dict[str, Path],
    packed: dict[str, Packed],
    excluded: list[dict],
) -> pd.DataFrame:
    """Drop images of which a copy with another label was left out for its label: nobody knows which label is right.

    Parameters
    ----------
    table : images that were read, with columns num_bytes and sha256 beside those of `drop_same_path`.
    others : rows left out for their label, which were not read; only those as large as one that was are.
    roots : source → folder that paths are relative to.
    packed : source → what gives its images, where they are no files.
    excluded : gets a row for each that is dropped.
    """
    sizes, labels = set(table["num_bytes"]), {}
    for source, rows in others.dropna(subset=["label"]).groupby("source"):
        labels_of = rows.groupby("path")["label"].unique()
        contents = _packed_contents if source in packed else _file_contents
        for path, data in contents(packed.get(source, roots[source]), labels_of.index, sizes):
            sha256 = hashlib.sha256(data).hexdigest()
            labels.setdefault(sha256, {}).update(dict.fromkeys(labels_of[path], f"{source}/{path}"))
    dropped = []
    for row in table[table["sha256"].isin(list(labels)) & table["split"].ne("test")].itertuples():
        contrary = {label: image for label, image in labels[row.sha256].items() if label != row.label}
        if row.label is not None and contrary:
            dropped.append(row.Index)
            label, image = next(iter(contrary.items()))
            reason = f"conflicting labels: duplicate image, labelled {row.label} and, left out, {label}: {image}"
            excluded.append({"path": row.path, "source": row.source, "label": row.label, "reason": reason})
    return table.drop(index=dropped)


def _file_contents(root: Path, paths: Iterable[str], sizes: set[int]) -> Iterator[tuple[str, bytes]]:
    """Yield path and bytes of the files that have one of these sizes."""
    for path in paths:
        try:
            if (root / path).stat().st_size in sizes:
                yield path, read_file(root / path)
        except (OSError, ValueError, DataError):
            continue  # left out for its label anyway


def _packed_contents(packed: Packed, paths: Iterable[str], sizes: set[int]) -> Iterator[tuple[str, bytes]]:
    """The same of packed images, as they would be written to files; nothing is written."""
    with progress(total=len(paths), description="comparing what is left out", unit="images", delay=2) as bar:
        for path, data in packed.images(list(paths)):
            bar.update()
            if not isinstance(data, DataError) and len(data) in sizes:
                yield path, data


def _drop_copies(
    table: pd.DataFrame, key: pd.Series, what: str, excluded: list[dict], notes: list[str]
) -> pd.DataFrame:
    if not key.duplicated().any():
        return table
    # The one kept: labelled before unlabelled, evaluated before external, then by name; whatever the sources' order.
    unlabelled, external = table["label"].isna(), ~table["evaluate"]
    ranked = table.assign(_key=key, _unlabelled=unlabelled, _external=external)
    ranked = ranked.sort_values(["_unlabelled", "_external", "image_id"], kind="stable")
    dropped, patients_differ = {}, 0
    for _, copies in ranked[ranked["_key"].duplicated(keep=False)].groupby("_key", sort=False):
        labels = sorted(copies["label"].dropna().unique())
        kept = copies.iloc[0]
        patients_differ += copies["patient"].dropna().nunique() > 1
        for row in copies.itertuples():
            if len(labels) > 1:
                others = ", ".join(copies["image_id"].drop_duplicates())
                dropped[row.Index] = f"conflicting labels: {what}, labelled {' and '.join(labels)}: {others}"
            elif row.Index != copies.index[0]:
                dropped[row.Index] = f"{what}: of {kept['image_id']}, which is kept"
    if patients_differ:
        images = "1 image was" if patients_differ == 1 else f"{patients_differ:,} images were"
        notes.append(f"{images} given with different patients ({what}); a copy that is kept keeps its patient.")
    for index, reason in dropped.items():
        row = table.loc[index]
        excluded.append({"path": row["path"], "source": row["source"], "label": row["label"] or "", "reason": reason})
    return table.drop(index=list(dropped))
