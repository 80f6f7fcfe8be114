"""A dataset: a folder with manifest.parquet, the table of images. The images themselves stay where they are."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from nonet.artifacts.csv_files import read_csv, write_csv
from nonet.artifacts.integrity import read_json, reading
from nonet.artifacts.run import write_json, written_whole
from nonet.cells import class_name, in_order_of_maturation
from nonet.data.opening import require_dataset
from nonet.errors import DataError

#: Columns of manifest.parquet, in this order, with their types.
COLUMNS = {
    "image_id": "str",  # source/path: unique
    "path": "str",  # relative to the source's root
    "label": "object",  # class code, or None where unlabelled
    "patient": "object",  # source/patient, or None where unknown
    "patient_is_standin": "bool",  # guessed, not given
    "source": "str",
    "split": "object",  # "test" rows are never trained on and have no fold
    "evaluate": "bool",  # False: trained on, left out of every score
    "width": "int64",  # px
    "height": "int64",  # px
    "mode": "str",  # as stored: RGB, L, CMYK …
    "num_bytes": "int64",
    "sha256": "str",
    "note": "str",  # what is unusual about the image, or was done to read it: "KIND: DETAIL; …", usually empty
}
#: Columns that follow where a source has them for any image.
OPTIONAL_COLUMNS = {
    "original_image_id": "object",  # source/name of the image that this is a version of; versions share a fold
    "severity": "object",  # of the corruption, in its publishers' words
    "unknown_type": "object",  # of an image outside the classes, which has no label
}
EXCLUDED_COLUMNS = ["path", "source", "label", "reason"]
_AGAIN = "Build the dataset again, with the same command."


class Dataset:
    """A dataset folder.

    Attributes
    ----------
    folder : Path
    manifest : DataFrame
        One row per image; see COLUMNS and OPTIONAL_COLUMNS.
    classes : list of str
        Class codes, alphabetical, which is the column order of every array of logits.
    description : dict
        The content of dataset.json: classes, roots of the sources, notes and more.
    excluded : DataFrame
        What was left out of the manifest: path, source, label, reason.
    """

    def __init__(self, folder: Path, manifest: pd.DataFrame, description: dict, excluded: pd.DataFrame):
        self.folder, self.manifest, self.description, self.excluded = folder, manifest, description, excluded
        self.classes: list[str] = description["classes"]
        self._locations = dict(zip(manifest["image_id"], zip(manifest["source"], manifest["path"])))

    @classmethod
    def open(cls, folder: "str | Path | Dataset") -> "Dataset":
        """Open a dataset folder.

        Parameters
        ----------
        folder : str, Path or Dataset
            A Dataset is returned as it is.

        Returns
        -------
        Dataset

        Raises
        ------
        DataError
            When it does not exist, is not a dataset, or is damaged.
        """
        if isinstance(folder, Dataset):
            return folder
        folder = Path(folder).expanduser()
        require_dataset(folder)
        description = read_json(folder / "dataset.json", hint=_AGAIN, kind=DataError)
        with reading(folder / "dataset.json", hint=_AGAIN, kind=DataError):
            _require_sound(description)
        with reading(folder / "manifest.parquet", hint=_AGAIN, kind=DataError):
            manifest = order_columns(pd.read_parquet(folder / "manifest.parquet"))
            _require_fitting(manifest, description)
        with reading(folder / "excluded.csv", hint=_AGAIN, kind=DataError):
            excluded = read_csv(folder / "excluded.csv", dtype=str, keep_default_na=False)
            excluded = excluded[EXCLUDED_COLUMNS]
        return cls(folder, manifest, description, excluded)

    @property
    def notes(self) -> list[str]:
        """Sentences of the build that are worth knowing."""
        return self.description["notes"]

    def save(self) -> None:
        """Write the folder's files; dataset.json comes last, so that a folder with it is complete."""
        with written_whole(self.folder / "manifest.parquet") as path:
            self.manifest.to_parquet(path, index=False)
        write_csv(self.folder / "excluded.csv", self.excluded)
        write_json(self.folder / "dataset.json", self.description)

    def __contains__(self, image_id: object) -> bool:
        """Whether the manifest has an image."""
        return image_id in self._locations

    def image_path(self, image_id: "str | pd.Series") -> Path:
        """Return where an image is.

        Parameters
        ----------
        image_id : str or Series
            Its image_id, or its row of the manifest.

        Returns
        -------
        Path

        Raises
        ------
        DataError
            When the image_id is unknown.
        """
        if isinstance(image_id, pd.Series):
            image_id = image_id["image_id"]
        if image_id not in self._locations:
            raise DataError(f'{self.folder} has no image "{image_id}".')
        source, path = self._locations[image_id]
        return self.folder / self.description["roots"][source] / path  # an absolute root wins

    def paths(self) -> list[Path]:
        """Return where the images are, in the manifest's order."""
        return [self.image_path(image_id) for image_id in self.manifest["image_id"]]

    def fingerprint(self) -> str:
        """Return a SHA-256 of everything that training depends on: contents, labels, patients, use; not paths."""
        columns = ["image_id", "label", "patient", "source", "split", "evaluate", "sha256"]
        columns += [name for name in ["unknown_type"] if name in self.manifest]
        text = self.manifest[columns].sort_values("image_id").to_csv(index=False)
        return hashlib.sha256((text + ",".join(self.classes)).encode()).hexdigest()

    def summary(self) -> str:
        """Describe in words and a table what is in the dataset and what was left out."""
        table = self.manifest
        labelled = table["label"].notna()
        num_unknown = int(table["unknown_type"].notna().sum()) if "unknown_type" in table else 0
        external = labelled & ~table["evaluate"] & table["split"].ne("test")
        lines = [
            f"{self.folder}: {len(table):,} images, {len(self.classes)} classes, {_describe_patients(table)}; "
            f"{int((~labelled).sum()) - num_unknown:,} unlabelled, {int(external.sum()):,} external"
            f"{f', {num_unknown:,} of unknown cell types' if num_unknown else ''}.",
            "",
            _count_table(table, self.classes),
        ]
        if len(self.excluded):
            lines += ["", f"{len(self.excluded):,} left out, listed in {self.folder / 'excluded.csv'}:"]
            kinds = self.excluded["reason"].str.split(":").str[0]
            lines += [f"  {count:,} {reason}" for reason, count in kinds.value_counts().items()]
        if self.notes:
            lines += ["", *self.notes]
        if "checks" in self.description:
            lines += [
                "",
                format_findings(self.description["checks"], self.description.get("check_notes", [])),
                f"Checks, with pictures: {self.folder / 'checks.html'}",
            ]
        return "\n".join(lines)


def _require_sound(description: dict) -> None:
    """Raise KeyError or ValueError where dataset.json lacks something that is used."""
    checks = {name: list for name in ("checks", "check_notes") if name in description}  # written by the checks
    for name, kind in ({"classes": list, "roots": dict, "kinds": dict, "notes": list} | checks).items():
        values = description[name]
        if not isinstance(values, kind):
            raise ValueError(f"its {name} are {str(values)[:80]}")
        if not all(isinstance(value, str) for value in (values.values() if isinstance(values, dict) else values)):
            raise ValueError(f"its {name} are not all text")
    decisions = description.get("decisions")
    if decisions is not None:
        decisions["num_images"], decisions["sha256"]
    if not description["classes"] or description["classes"] != sorted(set(description["classes"])):
        raise ValueError("its classes are not in alphabetical order")


def _require_fitting(manifest: pd.DataFrame, description: dict) -> None:
    """Raise ValueError where the manifest does not fit dataset.json, or lists an image twice."""
    for column, kind in {**COLUMNS, **OPTIONAL_COLUMNS}.items():
        if kind in ("str", "object") and column in manifest:
            values = manifest[column] if kind == "str" else manifest[column].dropna()
            if invalid := [value for value in values if not isinstance(value, str)]:
                raise ValueError(f"{column} is {invalid[0]!r} once, and must be text")
    twice = manifest["image_id"][manifest["image_id"].duplicated()]
    if len(twice):
        raise ValueError(f"it has {twice.iloc[0]} twice")
    for column, allowed in (("source", description["roots"]), ("label", description["classes"])):
        unknown = manifest.loc[manifest[column].notna() & ~manifest[column].isin(list(allowed)), column]
        if len(unknown):
            raise ValueError(f"{column} {unknown.iloc[0]!r} is not in dataset.json")


def format_findings(findings: list[str], notes: list[str]) -> str:
    """Format what the checks found as lines of text.

    Parameters
    ----------
    findings, notes : list of str
        What to look at before training, and what the data are like.

    Returns
    -------
    str
    """
    if findings:
        lines = ["Checks, before you train:", *(f"- {text}" for text in findings)]
    else:
        lines = ["Checks: no leak, no shortcut, nothing unreadable; every class can be scored."]
    if notes:
        lines += ["About these data:", *(f"- {text}" for text in notes)]
    return "\n".join(lines)


def order_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Bring a manifest's columns into order and type; missing values become None.

    Parameters
    ----------
    table : DataFrame

    Returns
    -------
    DataFrame

    Raises
    ------
    KeyError
        When a column is missing.
    """
    known = {name: kind for name, kind in OPTIONAL_COLUMNS.items() if name in table and table[name].notna().any()}
    columns = COLUMNS | known
    table = table[list(columns)].copy()
    for column, kind in columns.items():
        if kind == "object":
            values = table[column].astype(object)
            table[column] = values.where(values.notna(), None)
        else:
            table[column] = table[column].astype(np.dtype(kind) if kind != "str" else "str")
    return table


def _describe_patients(table: pd.DataFrame) -> str:
    num_patients = table["patient"].nunique()
    num_standins = table.loc[table["patient_is_standin"], "patient"].nunique()
    unknown = int(table["patient"].isna().sum())
    text = f"{num_patients:,} patients"
    if num_standins:
        text += " (all stand-ins)" if num_standins == num_patients else f" ({num_standins:,} of them stand-ins)"
    return text + (f", {unknown:,} images of unknown patient" if unknown else "")


def _count_table(manifest: pd.DataFrame, classes: list[str]) -> str:
    """Return the images, and patients if known, per class and source as text."""
    rows, sources = [], sorted(manifest["source"].unique())
    for code in in_order_of_maturation(classes):
        row: dict[str, object] = {"class": code, "name": class_name(code) if class_name(code) != code else ""}
        for source in sources:
            part = manifest[(manifest["label"] == code) & (manifest["source"] == source)]
            row[f"{source}: images"] = len(part)
            if manifest.loc[manifest["source"] == source, "patient"].notna().any():
                row["patients"] = part["patient"].nunique()
                row = {(f"{source}: patients" if key == "patients" else key): value for key, value in row.items()}
        rows.append(row)
    return pd.DataFrame(rows).to_string(index=False)
