"""Folds: which images are held out together. A file that anyone may edit, and that is used as it is after a check."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from nonet.artifacts.csv_files import read_csv, write_csv
from nonet.data.num_folds import require_num_folds
from nonet.errors import DataError
from nonet.recipe import Folds

NUM_FOLDS = Folds().num_folds  # the recipes' default


def make_folds(
    manifest: pd.DataFrame,
    *,
    num_folds: int = NUM_FOLDS,
    by: str = "patient",
    seed: int = 0,
    hold_out_external: bool = False,
) -> tuple[pd.DataFrame, list[str]]:
    """Divide the labelled images into folds, each with about the same share of every class.

    Parameters
    ----------
    manifest : DataFrame
    num_folds : int
    by : str
        "patient" keeps all images of a patient in one fold; "image" does not. Versions of one image, which have the
        same original_image_id, stay together either way.
    seed : int
        Of the shuffle.
    hold_out_external : bool
        Whether to divide images that are not evaluated as well, instead of training on them in every fold.

    Returns
    -------
    folds : DataFrame
        Columns image_id and fold (Int64); the fold is missing where an image is trained on in every fold.
    notes : list of str
        What a reader of the scores should know.

    Raises
    ------
    DataError
        When there are fewer images or patients than folds.
    """
    require_num_folds(num_folds)
    if by not in ("patient", "image"):
        raise DataError(f'Folds by "{by}" are not possible.', hint="Give patient or image.")
    rows = _in_folds(manifest)
    scored = rows[rows["evaluate"]]
    if len(scored) < num_folds:
        raise DataError(
            f"{len(scored)} images cannot be divided into {num_folds} folds.",
            hint="Only labelled images that are not of split test and not external count.",
        )
    divided = rows if hold_out_external else scored
    groups = _groups(divided, by)
    num_scored = groups[divided["evaluate"]].nunique()
    notes = _notes(scored, num_folds, by)
    folds = pd.Series(pd.NA, index=rows.index, dtype="Int64")
    if num_scored < num_folds:
        raise DataError(
            f"{num_scored} {'patients' if by == 'patient' else 'different images'} cannot be divided into "
            f"{num_folds} folds.",
            hint="Use fewer folds (folds.num_folds), or folds.by=image, whose scores look too good.",
        )
    fold = _split(divided["label"], groups, num_folds, seed)
    folds.loc[divided.index] = _none_empty(fold, groups.to_numpy(), num_folds, divided["evaluate"].to_numpy())
    table = pd.DataFrame({"image_id": rows["image_id"].to_numpy(), "fold": folds.array})
    return table, notes


def _split(labels: pd.Series, groups: pd.Series, num_folds: int, seed: int) -> np.ndarray:
    """Return the fold of each row, int64 (n,), without dividing a group; a fold may be left empty."""
    fold = np.full(len(labels), -1, dtype=np.int64)
    counts = labels.value_counts()
    if counts.max() < num_folds:
        # scikit-learn refuses where every class is that small; there is nothing to stratify, so groups are dealt out.
        shuffled = np.random.default_rng(seed).permutation(groups.unique())
        fold[:] = groups.map({group: i % num_folds for i, group in enumerate(shuffled)}).to_numpy()
        return fold
    grouped = groups.duplicated().any()
    splitter = (StratifiedGroupKFold if grouped else StratifiedKFold)(num_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # Small classes are reported in the notes, in terms of patients rather than y.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        for k, (_, held_out) in enumerate(splitter.split(labels, labels, groups if grouped else None)):
            fold[held_out] = k
    return fold


def _none_empty(fold: np.ndarray, groups: np.ndarray, num_folds: int, evaluated: np.ndarray) -> np.ndarray:
    """Move a group to each fold without an evaluated image: the smallest of the fold with most of them.

    A few large patients can leave a fold empty.
    """
    for empty in set(range(num_folds)) - set(fold[evaluated].tolist()):
        table = pd.DataFrame({"fold": fold, "group": groups})[evaluated]
        sizes = table.groupby(["fold", "group"]).size()
        fullest = sizes.groupby(level="fold").size().idxmax()
        fold[groups == sizes.xs(fullest, level="fold").idxmin()] = empty
    return fold


def _in_folds(manifest: pd.DataFrame) -> pd.DataFrame:
    return manifest[manifest["label"].notna() & (manifest["split"].fillna("") != "test")]


def patient_or_image(rows: pd.DataFrame) -> pd.Series:
    """Return the patient of each image, or the image itself where the patient is unknown.

    Parameters
    ----------
    rows : DataFrame
        Of a manifest.

    Returns
    -------
    Series of str
    """
    return rows["patient"].where(rows["patient"].notna(), "image " + rows["image_id"])


def spread_over_patients(images: pd.DataFrame, random_state: int | np.random.Generator) -> pd.DataFrame:
    """Shuffle images so that the first image of each patient comes before any patient's second one, within each class.

    Parameters
    ----------
    images : DataFrame
        Of a manifest.
    random_state : int or numpy.random.Generator

    Returns
    -------
    DataFrame
        The same rows in another order.
    """
    shuffled = images.sample(frac=1, random_state=random_state)
    turn = shuffled.groupby([shuffled["label"], patient_or_image(shuffled)]).cumcount()
    return shuffled.iloc[turn.to_numpy().argsort(kind="stable")]


def _groups(rows: pd.DataFrame, by: str = "patient") -> pd.Series:
    """Return the group of each row, which must stay in one fold: images of a patient, and versions of an image."""
    # By image, exact copies must stay together; build_dataset removes them, but a manifest made by hand may have them.
    groups = patient_or_image(rows) if by == "patient" else rows["sha256"]
    if "original_image_id" not in rows or rows.empty:
        return groups
    original = rows["original_image_id"].where(rows["original_image_id"].notna(), "image " + rows["image_id"])
    # Images that share a patient or an original, directly or through others, are one group.
    first, second = pd.factorize(groups)[0], pd.factorize(original)[0]
    size = int(first.max() + second.max() + 2)
    links = sparse.coo_array((np.ones(len(rows)), (first, first.max() + 1 + second)), shape=(size, size))
    return pd.Series(connected_components(links, directed=False)[1][first], index=rows.index)


def _notes(scored: pd.DataFrame, num_folds: int, by: str) -> list[str]:
    notes = []
    if by == "image":
        notes.append(
            "Folds by image: a patient's cells are on both sides, so scores will look better than on the next patient."
        )
    unknown = int(scored["patient"].isna().sum())
    if by == "patient" and unknown:
        notes.append(
            f"The patient of {unknown:,} of {len(scored):,} evaluated images is unknown; each counts as a patient of "
            "its own, so scores may look better than on the next patient."
        )
    if by == "patient" and scored["patient_is_standin"].any():
        notes.append(
            "Patients are stand-ins, guessed from the order of images: folds are by patient only approximately."
        )
    noun = "image" if by == "image" else "patient"
    counts = scored.groupby("label")["image_id"].nunique() if by == "image" else patients_per_class(scored)
    for label, count in counts[counts < num_folds].items():
        notes.append(
            f"Class {label} has {count} {noun}{'s' if count != 1 else ''}, fewer than the {num_folds} folds: "
            "it cannot be scored honestly."
        )
    return notes


def patients_per_class(manifest: pd.DataFrame) -> pd.Series:
    """Count the patients of each class among the images that are scored; an image of unknown patient counts as one.

    Parameters
    ----------
    manifest : DataFrame

    Returns
    -------
    Series of int
        Indexed by class code.
    """
    rows = _in_folds(manifest)
    scored = rows[rows["evaluate"]]
    return _groups(scored).groupby(scored["label"]).nunique()


def write_folds(path: str | Path, folds: pd.DataFrame) -> None:
    """Write a folds.csv with the columns image_id and fold; images without a fold are trained on and never held out.

    Parameters
    ----------
    path : str or Path
    folds : DataFrame
        As `make_folds` returns it.
    """
    write_csv(Path(path), folds)


def read_folds(
    path: str | Path, manifest: pd.DataFrame, *, by: str = "patient", hold_out_external: bool = False
) -> pd.DataFrame:
    """Read a folds.csv, which may have been edited by hand.

    Parameters
    ----------
    path : str or Path
    manifest : DataFrame
    by : str
    hold_out_external : bool
        As of `make_folds` and in the recipe.

    Returns
    -------
    DataFrame
        Columns image_id and fold (Int64).

    Raises
    ------
    DataError
        When it does not fit the manifest, or a patient or image is on both sides of a split; the row is named.
    """
    path = Path(path)
    try:
        table = read_csv(path, dtype=str, encoding="utf-8-sig", keep_default_na=False)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", hint="Check its permissions.") from error
    except ValueError as error:  # pandas' parser errors, and text that is not UTF-8
        raise DataError(
            f"{path} is not CSV: {error}.", hint="Give the columns image_id,fold, separated by commas."
        ) from error
    if list(table.columns[:2]) != ["image_id", "fold"]:
        raise DataError(
            f"{path} has columns {', '.join(map(str, table.columns))}.", hint="Give the columns image_id,fold."
        )
    twice = table["image_id"][table["image_id"].duplicated()]
    if len(twice):
        raise DataError(f"{path} has {len(twice)} images twice, first {twice.iloc[0]}.", hint="Remove one row of each.")
    given = table["fold"].str.strip()
    given = given.mask(given == "")
    wrong = table[given.notna() & ~given.fillna("0").str.fullmatch(r"[0-9]{1,6}(\.0{1,20})?")]
    if len(wrong):
        raise DataError(
            f"{path}: fold {wrong['fold'].iloc[0]!r} of {wrong['image_id'].iloc[0]} is not a number from 0.",
            hint="Give 0, 1, 2 … or nothing for images trained on in every fold.",
        )
    trainable = _in_folds(manifest)["image_id"]
    unknown = table["image_id"][~table["image_id"].isin(trainable)]
    if len(unknown):
        raise DataError(
            f"{path} has {len(unknown)} images that are not among the dataset's training images, first "
            f"{unknown.iloc[0]}.",
            hint="Remove these rows, or build the dataset that they belong to.",
        )
    missing = trainable[~trainable.isin(table["image_id"])]
    if len(missing):
        raise DataError(
            f"{path} lacks {len(missing)} images of the dataset, first {missing.iloc[0]}.",
            hint="Add them, with an empty fold to train on them in every fold.",
        )
    folds = pd.DataFrame({"image_id": table["image_id"], "fold": given.astype("Float64").astype("Int64")})
    used = sorted(folds["fold"].dropna().unique())
    if len(used) < 2 or used != list(range(len(used))):
        raise DataError(f"{path} uses folds {', '.join(map(str, used)) or 'none'}.", hint="Use 0, 1, 2 without gaps.")
    check_folds(folds, manifest, by, hold_out_external=hold_out_external)
    return folds


def check_folds(folds: pd.DataFrame, manifest: pd.DataFrame, by: str, *, hold_out_external: bool = False) -> None:
    """Require that folds fit the manifest and do not leak.

    No image (by content, or another version of it) may be on both sides of a split, and no patient either where folds
    are by patient; external images may have a fold only with `hold_out_external`; each fold must contain an evaluated
    image.

    Parameters
    ----------
    folds : DataFrame
        Columns image_id and fold (Int64).
    manifest : DataFrame
    by : str
    hold_out_external : bool
        As of `make_folds`.

    Raises
    ------
    DataError
        Names the first patient, image or fold for which that does not hold.
    """
    table = folds.merge(manifest, on="image_id", validate="one_to_one")
    place = table["fold"].astype("Int64").fillna(-1)  # -1: in every training set
    stray = table[(place >= 0) & ~table["evaluate"]]
    if len(stray) and not hold_out_external:
        raise DataError(
            f"{len(stray)} images that are not evaluated have a fold, first {stray['image_id'].iloc[0]}.",
            hint="Leave their fold empty, or hold them out too: folds.hold_out_external=true.",
        )
    unscored = sorted(set(place[place >= 0]) - set(place[table["evaluate"]]))
    if unscored:
        raise DataError(
            f"Fold {unscored[0]} contains no evaluated image, so its members could not be scored.",
            hint="Give it evaluated images, or use fewer folds.",
        )
    keys = [("image content", table["sha256"])]
    if "original_image_id" in table:
        keys.append(("original image", table["original_image_id"]))
    if by == "patient":
        keys.append(("patient", table["patient"]))
    for noun, key in keys:
        num_folds = place.groupby(key).nunique()
        both = num_folds[num_folds > 1]
        if len(both):
            where = table[key == both.index[0]]
            example = ", ".join(where.groupby(place)["image_id"].first().head(2))
            raise DataError(
                f"{noun.capitalize()} {both.index[0]} is on both sides of a split ({len(both)} in all), as in "
                f"{example}.",
                hint="Put all images of a patient into one fold, evaluate all of them or none, and keep one copy of "
                "each image.",
            )
