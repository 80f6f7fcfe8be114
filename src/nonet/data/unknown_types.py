"""Unknown cell types: labelled images outside the classes, such as erythroblasts.

Networks are not trained on them, and no score includes them. Rejection learns from them.
"""

import hashlib

import numpy as np
import pandas as pd

from nonet.data.labels import match_label, name_code
from nonet.data.selection import Selection
from nonet.data.sources.base import EXTRA_LABELS
from nonet.errors import DataError

#: Kept wherever they are not classes. The others of EXTRA_LABELS are white cells that a class exists for.
UNKNOWN_TYPES = ("ART", "ERB", "GT", "PLT", "SMU")
NONE = "none"
COLUMN = "unknown_type"


def take_unknown_types(
    selection: Selection, wanted: set[str] | None, named: list[str] | None, paper: list[str]
) -> None:
    """Keep images of unknown cell types, with no label and their type in a column of its own.

    Parameters
    ----------
    selection : Selection
        After labels were brought into their final form.
    wanted : set of str or None
        Labels of `classes`; None for all.
    named : list of str or None
        Labels to keep as unknown types; ["none"] keeps none. None keeps those of `UNKNOWN_TYPES` that are not classes.
    paper : list of str
        Sources that are limited to what the paper used of them: it used no unknown types.

    Raises
    ------
    DataError
        When there is no image of a label that is named, it is a class as well, or "none" is not alone.
    """
    rows = selection.rows
    if named is not None and NONE in named:
        if len(named) > 1:
            raise DataError('`unknown` has "none" beside labels.', hint="Give either labels or none.")
        return
    labels = sorted(rows["label"].dropna().unique())
    if named is None:
        classes = _classes(rows, wanted)
        outside = [label for label in labels if label not in classes]
        types = {label: code for label in outside if (code := name_code(label)) in UNKNOWN_TYPES}
    else:
        types = {label: _code(label) for name in named for label in _find(name, labels)}
        if both := sorted(set(types) & (wanted or set())):
            raise DataError(f"{both[0]} is in `classes` and in `unknown`.", hint="Give it in one of them.")
    chosen = rows["label"].isin(list(types)) & ~rows["source"].isin(paper)
    if not chosen.any():
        return
    rows.loc[chosen, COLUMN] = rows.loc[chosen, "label"].map(types)
    rows.loc[chosen, ["label", "opt_in_reason"]] = None
    selection.notes.append(
        f"Kept as unknown cell types, from which only rejection learns: {count_types(rows)}. To leave them out: "
        "`unknown=none`."
    )


def _classes(rows: pd.DataFrame, wanted: set[str] | None) -> set[str]:
    """Return the labels that are classes: those of `classes`, or all that have images without being asked for."""
    return set(rows.loc[rows["opt_in_reason"].isna(), "label"].dropna()) if wanted is None else wanted


def _find(name: str, labels: list[str]) -> list[str]:
    """Return the labels that a person means by a name."""
    exact = match_label(name, labels)
    found = [label for label in labels if label == exact or ((code := name_code(name)) and name_code(label) == code)]
    if not found:
        raise DataError(f'No image is labelled "{name}", which `unknown` names.', hint=f"Labels: {', '.join(labels)}.")
    return found


def _code(label: str) -> str:
    """Return the code of a kind of cell that has one, else the label as it is."""
    code = name_code(label)
    return code if code in EXTRA_LABELS else label


def has_unknown_type(manifest: pd.DataFrame) -> pd.Series:
    """Return which images of a manifest are of unknown types, a Series of bool."""
    return manifest[COLUMN].notna() if COLUMN in manifest else pd.Series(False, index=manifest.index)


def count_types(manifest: pd.DataFrame) -> str:
    """Return the unknown types of a manifest with their numbers of images, as in "ERB 40, SMU 50"; "" for none."""
    if COLUMN not in manifest:
        return ""
    counts = manifest[COLUMN].value_counts().sort_index()
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def divide_unknown(manifest: pd.DataFrame, folds: pd.DataFrame) -> pd.DataFrame:
    """Return the images of unknown types, each with the fold that does not learn from it.

    Parameters
    ----------
    manifest : DataFrame
        Of a dataset.
    folds : DataFrame
        Columns image_id and fold, of the images with a class.

    Returns
    -------
    DataFrame
        Columns image_id, unknown_type, patient, source, sha256 and fold (Int64), by image_id. The fold is that of the
        patient's other cells. Without such it is missing for external images, which every fold learns from, and for
        others drawn by the patient's name, or the image's where the patient is not known. Images of the split "test"
        are left out.
    """
    columns = ["image_id", COLUMN, "patient", "source", "sha256"]
    if COLUMN not in manifest:
        return pd.DataFrame({name: pd.Series(dtype=object) for name in columns} | {"fold": pd.Series(dtype="Int64")})
    rows = manifest[manifest[COLUMN].notna() & (manifest["split"].fillna("") != "test")].sort_values("image_id")
    known = folds.merge(manifest[["image_id", "patient"]], on="image_id").dropna(subset=["fold", "patient"])
    of_patient = known.groupby("patient")["fold"].first()
    num_folds = int(folds["fold"].max()) + 1
    names = rows["patient"].where(rows["patient"].notna(), rows["image_id"])
    drawn = [int(hashlib.sha256(name.encode()).hexdigest(), 16) % num_folds for name in names]
    own = pd.Series(drawn, index=rows.index, dtype="Int64").where(rows["evaluate"].astype(bool))
    fold = rows["patient"].map(of_patient).astype("Int64").fillna(own)
    return rows[columns].assign(fold=fold.array).reset_index(drop=True)


def is_learned_from(unknown: pd.DataFrame, fold: int) -> np.ndarray:
    """Return which images of unknown types, from `divide_unknown`, the members of a fold learn from, bool (u,)."""
    return (unknown["fold"] != fold).fillna(True).to_numpy(dtype=bool)


def type_numbers(types: pd.Series) -> tuple[list[str], np.ndarray]:
    """Return the names of the types in alphabetical order, and each image's number among them, int64 (n,)."""
    names = sorted(types.unique())
    return names, types.map({name: k for k, name in enumerate(names)}).to_numpy(dtype=np.int64)
