"""The work of `build_dataset`: selecting images, reading them, writing the manifest and what was left out."""

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from nonet.artifacts.csv_files import write_csv
from nonet.artifacts.run import FORMAT_VERSION, file_sha256, now
from nonet.artifacts.storage import prepare_folder
from nonet.data.build import FOLDER
from nonet.data.checks.page import write_checks
from nonet.data.checks.run import run_checks
from nonet.data.dataset_classes import find_classes, nothing_left, require_free_label
from nonet.data.decisions import apply_decisions, read_decisions
from nonet.data.duplicates import drop_contested, drop_same_content, drop_same_path
from nonet.data.folds import NUM_FOLDS
from nonet.data.gather import collect_roots
from nonet.data.images.image_stats import ImageStats
from nonet.data.labels import apply_label_map, tidy_labels
from nonet.data.manifest import EXCLUDED_COLUMNS, Dataset, order_columns
from nonet.data.names import drop_unprintable_labels, notes_on_names
from nonet.data.patients import patients_from_paths, tidy_patients
from nonet.data.scan import read_images
from nonet.data.selection import (
    Selection,
    drop_opt_in,
    drop_other_labels,
    limit_to_paper,
    mark_external,
    select_from_listings,
    wanted_classes,
)
from nonet.data.sources.listing import Listing
from nonet.data.unknown_types import take_unknown_types
from nonet.data.unpack import packed_sources, remove_stale, unpack_images
from nonet.errors import DataError

logger = logging.getLogger("nonet")


@dataclass(frozen=True)
class Selecting:
    """Which images of the sources are used, and how; the arguments of `build_dataset` of these names."""

    classes: str | list[str] | None
    external: list[str]
    paper: list[str]
    decisions: str | Path | None
    labels: str | Path | None
    patient_from: str | None
    unknown: list[str] | None


def build_listed(
    listings: dict[str, Listing], out: Path, selecting: Selecting, *, num_folds: int | None, num_workers: int | None
) -> Dataset:
    """Build a dataset from the listings of its sources; see `nonet.build_dataset`."""
    selection = select_from_listings(listings.values())
    if selection.rows.empty:
        raise nothing_left(selection)
    roots, wanted = collect_roots(listings), wanted_classes(selecting.classes)
    _tidy(selection, list(listings.values()), wanted, selecting.labels, selecting.patient_from)
    mark_external(selection, selecting.external)
    decided = None
    if selecting.decisions is not None:
        decided = read_decisions(selecting.decisions, selection.rows, classes=wanted)
        apply_decisions(selection, decided)
    left_out = _select(selection, list(listings.values()), wanted, selecting)
    prepare_folder(out, FOLDER)
    packed = packed_sources(listings.values())
    roots |= unpack_images(selection, packed, out)
    places = {source: out / folder for source, folder in roots.items()}
    stats = read_images(selection, places, num_workers)
    drop_contested(selection, left_out, places, packed)
    drop_same_content(selection)
    dataset = _make_dataset(selection, listings, roots, out, selecting.classes)
    _check(dataset, stats, num_folds)
    _save(dataset, decided, selecting.decisions)
    return dataset


def _tidy(
    selection: Selection,
    listings: list[Listing],
    wanted: set[str] | None,
    labels: str | Path | None,
    patient_from: str | None,
) -> None:
    """Bring labels and patients into their final form, before anything compares them."""
    if labels is not None:
        apply_label_map(selection, labels)
    tidy_labels(selection, wanted)
    tidy_patients(selection)
    if patient_from is not None:
        own = [listing for listing in listings if listing.kind in ("csv", "folder")]
        names = {row["source"] for listing in own for row in listing.rows}
        if not names:
            raise DataError("No source accepts `patient_from`.", hint="It is for folder and csv: sources.")
        patients_from_paths(selection, patient_from, names)
        tidy_patients(selection)


def _select(
    selection: Selection, listings: list[Listing], wanted: set[str] | None, selecting: Selecting
) -> pd.DataFrame:
    """Select the images to read; return the rows that were left out."""
    listed = selection.rows
    limit_to_paper(selection, listings, selecting.paper)
    for name in ("patient", "original_image_id"):  # names are unique only within their source
        known = selection.rows[name].notna()
        selection.rows.loc[known, name] = selection.rows.loc[known, "source"] + "/" + selection.rows.loc[known, name]
    selection.rows["patient_is_standin"] &= selection.rows["patient"].notna()
    drop_same_path(selection)
    take_unknown_types(selection, wanted, selecting.unknown, selecting.paper)
    drop_opt_in(selection, wanted)
    drop_other_labels(selection, wanted)
    drop_unprintable_labels(selection)
    require_free_label(selection.rows)
    selection.notes += notes_on_names(selection.rows)
    return listed.drop(index=selection.rows.index)


def _make_dataset(
    selection: Selection,
    listings: dict[str, Listing],
    roots: dict[str, Path],
    out: Path,
    classes: str | list[str] | None,
) -> Dataset:
    """Return the dataset, not yet written. Raises DataError where no labelled image is left."""
    # Rows of the test split are never predicted out of fold, so they take part in no score.
    selection.rows["evaluate"] &= selection.rows["split"].ne("test")
    codes = find_classes(selection, classes)
    manifest = order_columns(selection.rows.sort_values("image_id", ignore_index=True))
    description = {
        "format_version": FORMAT_VERSION,
        "created": now(),
        "classes": codes,
        "roots": {source: str(root) for source, root in sorted(roots.items())},
        "built_from": list(listings),
        "kinds": {row["source"]: listing.kind for listing in listings.values() for row in listing.rows},
        "notes": list(dict.fromkeys(selection.notes)),
    }
    excluded = pd.DataFrame(selection.excluded, columns=EXCLUDED_COLUMNS, dtype=str)
    return Dataset(out, manifest, description, excluded.sort_values(["source", "path", "reason"], ignore_index=True))


def _check(dataset: Dataset, stats: dict[str, ImageStats], num_folds: int | None) -> None:
    """Run the checks, write their page, and add their findings to the description."""
    dataset.folder.mkdir(parents=True, exist_ok=True)
    in_order = [stats[image_id] for image_id in dataset.manifest["image_id"]]
    check = partial(run_checks, dataset.manifest, in_order, dataset.excluded, num_folds=num_folds or NUM_FOLDS)
    checks = write_checks(dataset, check)
    dataset.description["checks"] = [finding.text for finding in checks.findings]
    dataset.description["check_notes"] = [note.text for note in checks.notes]


def _save(dataset: Dataset, decided: pd.DataFrame | None, decisions: str | Path | None) -> None:
    """Write the dataset and the decisions, and remove images that only an earlier build unpacked."""
    path = dataset.folder / "decided.csv"
    if decided is None or decisions is None:
        path.unlink(missing_ok=True)
    else:
        file = Path(decisions).expanduser()
        dataset.description["decisions"] = {"file": str(file), "sha256": file_sha256(file), "num_images": len(decided)}
        write_csv(path, decided)
    dataset.save()
    remove_stale(dataset.folder, {Path(root).as_posix() for root in dataset.description["roots"].values()})
    folds = dataset.folder / "folds.csv"
    if folds.exists():
        logger.info(f"{folds} of an earlier build still applies; delete it if it is no longer wanted.")
