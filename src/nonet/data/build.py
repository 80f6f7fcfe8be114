"""`build_dataset`: from sources to a dataset folder. Each file ends in the manifest or in excluded.csv."""

import logging
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from nonet.artifacts.csv_files import write_csv
from nonet.artifacts.run import FORMAT_VERSION, now, sha256_of
from nonet.artifacts.storage import claim, require_ours
from nonet.cells import CLASSES, UNIDENTIFIED
from nonet.data.checks.page import write_checks
from nonet.data.checks.run import run_checks
from nonet.data.decisions import apply_decisions, read_decisions
from nonet.data.duplicates import drop_contested, drop_same_content, drop_same_path
from nonet.data.folds import possible_num_folds
from nonet.data.gather import read_sources, roots_of
from nonet.data.images.image_stats import Look
from nonet.data.labels import apply_label_map, tidy_labels
from nonet.data.manifest import Dataset, in_columns
from nonet.data.names import drop_unprintable_labels, notes_on_names
from nonet.data.patients import patients_from_paths, tidy_patients
from nonet.data.scan import describe_images, sum_up_notes
from nonet.data.selection import (
    drop_other_labels,
    drop_unasked,
    exclude,
    keep_paper,
    mark_external,
    wanted_classes,
)
from nonet.data.sources.columns import parse_columns
from nonet.data.sources.listing import Listing, Packed
from nonet.data.sources.vocabulary import read_alike
from nonet.data.unpack import remove_stale, unpack, unpacked_root
from nonet.errors import DataError, UnreadableNowError

logger = logging.getLogger("nonet")

NOT_NOW = "could not be read now"  # a reason in excluded.csv that may pass

#: How a dataset's folder is told from another's; see `nonet.artifacts.storage.claim`.
OURS = {
    "kind": "dataset",
    "main": "dataset.json",
    "keys": {"format_version", "classes", "roots"},
    "hint": "Give a new or an empty folder as `out`, or that of an earlier build.",
}


def build_dataset(
    sources: str | list[str],
    out: str | Path,
    *,
    classes: str | list[str] | None = None,
    external: str | list[str] = (),
    paper: str | list[str] = (),
    decisions: str | Path | None = None,
    columns: str | list[str] | Mapping[str, str] | None = None,
    root: str | Path | None = None,
    labels: str | Path | None = None,
    layout: str | None = None,
    patient_from: str | None = None,
    num_folds: int | None = None,
    num_workers: int | None = None,
) -> Dataset:
    """Make a dataset from one or more sources: read every image, write the manifest and what was left out.

    Images stay where they are; those inside tables, arrays or photographs of fields are written as files into the
    dataset's folder. Of exact copies with one label one is kept, of copies with different labels none.

    Parameters
    ----------
    sources : each KIND:PATH or NAME=KIND:PATH; KIND is one of SOURCES; `nonet.list_sources()` lists them.
    out : the dataset's folder; new, empty, or a dataset, which is then replaced.
    classes : class codes to keep, or "13" for nonet's thirteen. By default all labels that are found; what a published
        set has beyond the thirteen (erythroblasts, undivided neutrophils) is left out unless its label is named here.
    external : names of sources to train on but leave out of every score.
    paper : names of sources of which only those images are kept that the paper takes.
    decisions : CSV from review (image_id or path; keep, drop or relabel; label; note), applied before anything else and
        recorded in decided.csv.
    columns : of csv sources, ours → theirs: {"path": "filename", "label": "cell_type"} or "path=filename,…".
    root : of csv sources, the folder that paths are relative to; by default the table's own.
    labels : CSV from,to that renames labels of the sources; an empty `to` leaves images out. Applied before `classes`.
    layout : of folder sources, what each level of folders names: "CLASS/PATIENT", "SPLIT/CLASS", ``PATIENT/*/CLASS``;
        by default classes, below folders named train, val, test if there are such.
    patient_from : regular expression for the path of an image of a folder or csv source whose patient is not given:
        its first group is the patient.
    num_folds : that will be trained with: the checks name classes of fewer patients; by default the recipes'.
    num_workers : threads that read images; by default one a core.

    Returns
    -------
    The dataset; `summary()` says what is in it, and what the checks found; checks.html shows it, checks.json lists it.

    Raises
    ------
    DataError where a source, class or name is not there, a decision is about none of the images or contradicts
    another, or no image is left.
    """
    out, num_folds = Path(out).expanduser(), possible_num_folds(num_folds)
    require_ours(out, **OURS)
    options = {"columns": parse_columns(columns), "root": root, "layout": layout}
    build = _Build(read_sources(_listed(sources), options), classes)
    build.tidy(labels, patient_from)
    mark_external(build.table, _listed(external))
    decided = build.decide(decisions)
    others = build.choose(_listed(paper))
    claim(out, **OURS)
    looks = build.read(out, others, num_workers)
    dataset = build.dataset(out)
    _check(dataset, looks, num_folds)
    _save(dataset, decided, decisions)
    return dataset


class _Build:
    """The images of a dataset that is being built: a table that gets shorter step by step, and why it does.

    Attributes
    ----------
    table : DataFrame, one row an image: columns of ROW and image_id, and once images are read, those of the manifest.
    roots : source → folder that its paths are relative to; of unpacked images, itself relative to the dataset.
    excluded : dicts of path, source, label, reason.
    notes : sentences.
    """

    def __init__(self, listings: dict[str, Listing], classes: str | list[str] | None):
        self.listings, self.classes = listings, classes
        self.table = pd.concat([listing.table() for listing in listings.values()], ignore_index=True)
        self.table["image_id"] = self.table["source"] + "/" + self.table["path"]
        self.excluded = [row for listing in listings.values() for row in listing.excluded]
        self.notes = [note for listing in listings.values() for note in listing.notes]
        if self.table.empty:
            raise _nothing_left(self.excluded)
        self.roots = roots_of(listings)

    def tidy(self, labels: str | Path | None, patient_from: str | None) -> None:
        """Read labels and patients as they are meant, before anything compares them."""
        if labels is not None:
            self.table = apply_label_map(self.table, labels, self.excluded, self.notes)
        tidy_labels(self.table, wanted_classes(self.classes), self.notes)
        tidy_patients(self.table, self.notes)
        if patient_from is not None:
            own = [listing for listing in self.listings.values() if listing.kind in ("csv", "folder")]
            names = {row["source"] for listing in own for row in listing.rows}
            if not names:
                raise DataError("No source takes `patient_from`.", hint="It is for folder and csv: sources.")
            patients_from_paths(self.table, patient_from, names, self.notes)
            tidy_patients(self.table, self.notes)

    def decide(self, decisions: str | Path | None) -> pd.DataFrame | None:
        """Apply a file of decisions, and return what it decides."""
        if decisions is None:
            return None
        decided = read_decisions(decisions, self.table, classes=wanted_classes(self.classes))
        self.table = apply_decisions(self.table, decided, self.excluded, self.notes)
        return decided

    def choose(self, paper: list[str]) -> pd.DataFrame:
        """Keep what is wanted, before any image is read; return the rows that are left out."""
        listed, wanted = self.table, wanted_classes(self.classes)
        table = keep_paper(listed, self.listings.values(), paper, self.excluded, self.notes)
        for name in ("patient", "original_image_id"):  # names mean something within their source
            known = table[name].notna()
            table.loc[known, name] = table.loc[known, "source"] + "/" + table.loc[known, name]
        table["patient_is_standin"] &= table["patient"].notna()
        table = drop_same_path(table, self.excluded, self.notes)
        table = drop_unasked(table, wanted, self.excluded, self.notes)
        table = drop_other_labels(table, wanted, self.excluded, self.notes)
        self.table = drop_unprintable_labels(table, self.excluded)
        _require_free_label(self.table)
        self.notes += notes_on_names(self.table)
        return listed.drop(index=self.table.index)

    def read(self, out: Path, others: pd.DataFrame, num_workers: int | None) -> dict[str, Look]:
        """Read every image, drop what cannot be read and what is there twice; return the looks by image_id.

        Parameters
        ----------
        out : the dataset's folder; packed images are written there.
        others : rows left out for their label: a copy of one of them is contested.
        """
        self.table = _unpack(self.table, self.listings, self.roots, out, self.excluded)
        places = {source: out / root for source, root in self.roots.items()}
        table, looks = _read_images(self.table, places, self.excluded, self.notes, num_workers)
        table = drop_contested(table, others, places, _packed(self.listings), self.excluded)
        self.table = drop_same_content(table, self.excluded, self.notes)
        return looks

    def dataset(self, out: Path) -> Dataset:
        """Return the dataset, not yet written. Raises DataError where no labelled image is left."""
        # Rows of the test are never predicted out of fold, so they take part in no score.
        self.table["evaluate"] &= self.table["split"].ne("test")
        found = _classes_found(self.table, self.classes, self.notes, self.excluded)
        manifest = in_columns(self.table.sort_values("image_id", ignore_index=True))
        description = {
            "format_version": FORMAT_VERSION,
            "created": now(),
            "classes": found,
            "roots": {source: str(root) for source, root in sorted(self.roots.items())},
            "built_from": list(self.listings),
            "kinds": {row["source"]: listing.kind for listing in self.listings.values() for row in listing.rows},
            "notes": list(dict.fromkeys(self.notes)),
        }
        excluded = pd.DataFrame(self.excluded, columns=["path", "source", "label", "reason"], dtype=str)
        return Dataset(
            out, manifest, description, excluded.sort_values(["source", "path", "reason"], ignore_index=True)
        )


def _check(dataset: Dataset, looks: dict[str, Look], num_folds: int) -> None:
    """Do the checks, write their pages, and put what they found into the description."""
    dataset.folder.mkdir(parents=True, exist_ok=True)
    in_order = [looks[image_id] for image_id in dataset.manifest["image_id"]]
    checks = run_checks(dataset.manifest, in_order, dataset.excluded, num_folds=num_folds)
    dataset.description["checks"] = [finding.text for finding in checks.findings]
    write_checks(dataset, checks)


def _save(dataset: Dataset, decided: pd.DataFrame | None, decisions: str | Path | None) -> None:
    """Write the dataset and what was decided, and remove what an earlier build unpacked and this one has no use for."""
    path = dataset.folder / "decided.csv"
    if decided is None:
        path.unlink(missing_ok=True)
    else:
        file = Path(decisions).expanduser()
        dataset.description["decisions"] = {"file": str(file), "sha256": sha256_of(file), "num_images": len(decided)}
        write_csv(path, decided)
    dataset.save()
    remove_stale(dataset.folder, {Path(root).as_posix() for root in dataset.description["roots"].values()})
    folds = dataset.folder / "folds.csv"
    if folds.exists():
        logger.info(f"{folds} is kept from before, and will be obeyed; delete it unless it is still wanted.")


def _listed(names: str | list[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _unpack(
    table: pd.DataFrame, listings: dict[str, Listing], roots: dict[str, Path], out: Path, excluded: list[dict]
) -> pd.DataFrame:
    """Write packed images as files, point their source's root to them, relative to `out`; exclude what fails."""
    failed: list[int] = []
    for source, packed in _packed(listings).items():
        here = table[table["source"] == source]
        roots[source] = unpacked_root(source, packed)
        errors = unpack(packed, list(here["path"]), out / roots[source])
        for row in here[here["path"].isin(list(errors))].itertuples():
            exclude(excluded, row, f"unreadable: {errors[row.path].message}")
            failed.append(row.Index)
    return table.drop(index=failed)


def _packed(listings: dict[str, Listing]) -> dict[str, Packed]:
    """Source → what gives its images, of those whose images are no files yet."""
    return {row["source"]: listing.packed for listing in listings.values() if listing.packed for row in listing.rows}


def _read_images(
    table: pd.DataFrame, roots: dict[str, Path], excluded: list[dict], notes: list[str], num_workers: int | None
) -> tuple[pd.DataFrame, dict[str, Look]]:
    """Add width, height, mode, num_bytes, sha256; exclude what is missing, unreadable or not what its table says.

    Returns the table, and the look of each image by its image_id.
    """
    paths = [roots[source] / path for source, path in zip(table["source"], table["path"])]
    kept, facts_kept = [], []
    for row, path, facts in zip(table.itertuples(), paths, describe_images(paths, num_workers=num_workers)):
        if isinstance(facts, DataError):
            exclude(excluded, row, _why(path, facts))
        elif isinstance(row.sha256, str) and row.sha256 != facts.sha256:
            exclude(excluded, row, f"changed: its sha256 is {facts.sha256}, its table says {row.sha256}")
        else:
            kept.append(row.Index)
            facts_kept.append(facts)
    not_now = sum(row["reason"].startswith(NOT_NOW) for row in excluded)
    if not_now:
        notes.append(
            f"{not_now:,} {'image' if not_now == 1 else 'images'} could not be read now, for a reason that may pass. "
            "When they can be, run the same command again."
        )
    table = table.loc[kept].copy()
    for column in ("width", "height", "mode", "num_bytes", "sha256", "note"):
        table[column] = [getattr(facts, column) for facts in facts_kept]
    for mode, count in table.loc[table["mode"] != "RGB", "mode"].value_counts().sort_index().items():
        images = "1 image is" if count == 1 else f"{count:,} images are"
        notes.append(f"{images} stored as {mode} and read as RGB, 8 bits a channel.")
    notes += sum_up_notes(table)
    return table, dict(zip(table["image_id"], (facts.look for facts in facts_kept)))


def _why(path: Path, error: DataError) -> str:
    if isinstance(error.__cause__, FileNotFoundError):
        return f"missing: there is no {path}"
    if isinstance(error, UnreadableNowError):
        return f"{NOT_NOW}: {error.message}"
    return f"unreadable: {error.message}"


def _require_free_label(table: pd.DataFrame) -> None:
    taken = table[table["label"].map(lambda label: isinstance(label, str) and read_alike(label) == UNIDENTIFIED)]
    if len(taken):
        images = "1 image is" if len(taken) == 1 else f"{len(taken):,} images are"
        raise DataError(
            f'{images} labelled "{UNIDENTIFIED}", first {taken["image_id"].iloc[0]}: no class can have '
            "that name, which is what nonet calls cells that it cannot name.",
            hint="Leave them out with `classes`, or give them another label.",
        )


def _nothing_left(excluded: list[dict], *, num_unlabelled: int = 0) -> DataError:
    """Say how many images are unlabelled, or were left out for each kind of reason, with the first of each."""
    reasons = pd.Series([row["reason"] for row in excluded], dtype=str)
    kinds = reasons.groupby(reasons.str.split(":").str[0], sort=False)
    why = [f"{num_unlabelled:,} unlabelled"] if num_unlabelled else []
    why += [f"{len(of_kind):,} {of_kind.iloc[0].removesuffix('.')}" for _, of_kind in kinds]
    return DataError(
        f"No labelled image is left: {'; '.join(why) or 'the sources are empty'}.",
        hint=_what_to_do(set(kinds.groups) | ({"unlabelled"} if num_unlabelled else set())),
    )


def _what_to_do(kinds: set[str]) -> str:
    """Return what to do where no image is left, by the kinds of reasons that there are."""
    hints = {
        "unlabelled": "Give labels: column label, or folders of classes.",
        "outside": "Paths may not leave the source's folder: for csv, give the folder above all images as `root`.",
        "missing": "For csv, `root` names the folder that paths are relative to; by default it is the table's own.",
        "linked folder": "Links to folders are not followed: give the folder that they lead to, or a table.",
        "label outside the classes": "Check `classes`; `labels=MAP.csv` (from,to) renames labels.",
    }
    found = [hint for kind, hint in hints.items() if kind in kinds]
    return " ".join(found or ["Check the source's path and `classes`."])


def _classes_found(
    table: pd.DataFrame, classes: str | list[str] | None, notes: list[str], excluded: list[dict]
) -> list[str]:
    found, wanted = set(table["label"].dropna()), wanted_classes(classes)
    if not found:
        raise _nothing_left(excluded, num_unlabelled=len(table))
    if wanted is None:
        strange = sorted(found - set(CLASSES))
        if strange and found & set(CLASSES):
            notes.append(
                f"Labels outside nonet's thirteen classes are classes too: {', '.join(strange)}. "
                "To leave them out: `classes=13`"
            )
        return sorted(found)
    empty = sorted(wanted - found)
    if empty and "13" not in ([classes] if isinstance(classes, str) else classes):
        raise DataError(
            f"{'Class' if len(empty) == 1 else 'Classes'} {', '.join(empty)} of `classes` has no image.",
            hint=f"Labels with images: {', '.join(sorted(found))}. What was left out, and why: "
            f"{_example(excluded, empty)}.",
        )
    if empty:
        notes.append(f"No image of {', '.join(empty)}. The classes: {', '.join(sorted(found))}.")
    return sorted(found)


def _example(excluded: list[dict], labels: list[str]) -> str:
    rows = [row for row in excluded if row["label"] in labels]
    return f"{rows[0]['path']} ({rows[0]['reason']}), {len(rows)} in all" if rows else "none of that label"
