"""Unknown cell types: images whose label says what they are, but is none of the classes, such as erythroblasts.

No network is trained on them and no class is scored on them. They teach rejection: what a run makes of cells that it
has no class for.
"""

import hashlib

import numpy as np
import pandas as pd

from nonet.data.labels import match_label
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
        Labels that are unknown types; ["none"] for none. None stands for those of `UNKNOWN_TYPES` that are no class.
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
            raise DataError('`unknown` is "none" and more.', hint="Give either labels or none.")
        return
    labels = sorted(rows["label"].dropna().unique())
    types = set(UNKNOWN_TYPES) if named is None else {_find(name, labels) for name in named}
    if named is not None and (both := sorted(types & (wanted or set()))):
        raise DataError(f"{both[0]} is in `classes` and in `unknown`.", hint="Give it in one of them.")
    chosen = rows["label"].isin(types) & ~rows["source"].isin(paper)
    if named is None:  # a label that is a class stays one
        chosen &= rows["opt_in_reason"].notna() if wanted is None else ~rows["label"].isin(wanted)
        chosen &= ~rows["label"].isin(wanted or ())
    if not chosen.any():
        return
    rows.loc[chosen, COLUMN] = rows.loc[chosen, "label"]
    rows.loc[chosen, ["label", "opt_in_reason"]] = None
    selection.notes.append(
        f"Kept as unknown cell types, which teach rejection and are no class: {count_types(rows)}. To leave them out: "
        "`unknown=none`."
    )


def _find(name: str, labels: list[str]) -> str:
    """Return the label that a person means by a name."""
    found = match_label(name, labels) or (match_label(name, EXTRA_LABELS) if name not in labels else None)
    if found is None or found not in labels:
        raise DataError(f'No image is labelled "{name}", which `unknown` names.', hint=f"Labels: {', '.join(labels)}.")
    return found


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
        patient's other cells; without such, one drawn by the patient's name, or the image's where the patient is not
        known; missing for external images, which every fold learns from. Images of the split "test" are left out.
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
    fold = rows["patient"].map(of_patient).astype("Int64").fillna(pd.Series(drawn, index=rows.index, dtype="Int64"))
    fold = fold.where(rows["evaluate"].astype(bool).to_numpy())
    return rows[columns].assign(fold=fold.array).reset_index(drop=True)


def type_numbers(types: pd.Series) -> tuple[list[str], np.ndarray]:
    """Return the names of the types in alphabetical order, and each image's number among them, int64 (n,)."""
    names = sorted(types.unique())
    return names, types.map({name: k for k, name in enumerate(names)}).to_numpy(dtype=np.int64)
