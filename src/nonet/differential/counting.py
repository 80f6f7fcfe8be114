"""The work of `nonet count`: reading predictions, counting the cells of each case, writing the differentials."""

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nonet.artifacts.confusions import NAME, REJECTED, KnownConfusions
from nonet.artifacts.csv_files import write_csv
from nonet.artifacts.predictions_csv import predicted_classes, read_predictions
from nonet.artifacts.run import now, write_json, write_text
from nonet.artifacts.shard_results import AGAIN, is_of_shards, read_counts, read_results
from nonet.artifacts.storage import prepare_folder, read_json
from nonet.cells import UNIDENTIFIED
from nonet.differential.count import FOLDER, require_predictions
from nonet.differential.fhir import make_bundle, require_fhir
from nonet.differential.page import render_page
from nonet.differential.shares import RESEARCH_USE, Differential, Tally, count_case
from nonet.differential.tables import to_dict, to_table
from nonet.errors import DataError, counted, printable
from nonet.page.numbers import percent, percent_range
from nonet.progress import progress

logger = logging.getLogger("nonet")

#: The case of images that have none.
NO_CASE = "all images"


@dataclass(frozen=True)
class Differentials:
    """The result of `nonet.count`.

    Attributes
    ----------
    folder : Path
        With differential.csv, differential.json, differential.html and, where requested, fhir/.
    cases : list of Differential
        In the order of the predictions.
    notes : list of str
        What holds for all of them.
    """

    folder: Path
    cases: list[Differential]
    notes: list[str]

    def table(self) -> pd.DataFrame:
        """Return the content of differential.csv.

        Returns
        -------
        DataFrame
            A row per case and class, group of classes, cell counted per 100 white cells, and kind of image that is not
            counted. Columns case, part, key, name, count, of (white cells counted), percent, low, high, and
            corrected_percent, corrected_low, corrected_high; NaN where there is none.
        """
        return to_table(self.cases)

    def __str__(self) -> str:
        texts = [_terminal_text(case) for case in self.cases]
        return "\n\n".join(
            [*texts, "\n".join([*self.notes, f"Page: {self.folder / 'differential.html'}", RESEARCH_USE])]
        )


def count_cases(source: Path, folder: Path, place: str, *, confidence: float, fhir: bool) -> Differentials:
    """Count the cells of each case of a folder of predictions, and write the differentials; see `nonet.count`.

    Parameters
    ----------
    source : Path
        The predictions; of those in an object store, a copy without the results of shards.
    folder : Path
        For the differentials.
    place : str
        Path or address of the predictions.
    confidence : float
    fhir : bool
    """
    if fhir:
        require_fhir()
    tallies, classes = _tally_shards(source, place) if is_of_shards(source) else _tally_table(source)
    known = _known_confusions(source, classes)
    notes = list(_notes(source, sum(tally.total() for tally in tallies.values()), known))
    cases = [
        count_case(name, tally, classes, known=known, confidence=confidence)
        for name, tally in progress(tallies.items(), total=len(tallies), description="counting", unit="cases")
    ]
    made = Differentials(folder, cases, notes)
    prepare_folder(folder, FOLDER)
    for name in read_json(folder / FOLDER.main).get("fhir", []):  # of an earlier count, which may have had other cases
        (folder / "fhir" / Path(name).name).unlink(missing_ok=True)
    write_csv(folder / "differential.csv", made.table())
    write_text(folder / "differential.html", render_page(made.cases, made.notes, title=source.resolve().name))
    files = [f"{file_name(case.case)}.json" for case in cases if case.num_counted] if fhir else []
    write_json(folder / FOLDER.main, _as_json(made, files))
    if fhir:
        _write_fhir(made)
    return made


def _tally_table(folder: Path) -> tuple[dict[str, Tally], list[str]]:
    """Count the labels of each case in predictions.csv, and return the classes of the run as well."""
    table, classes = open_predictions(folder)
    parts = table.groupby("case", sort=False)
    return {str(name): Counter(zip(part["label"], part["reason"])) for name, part in parts}, classes


def _tally_shards(folder: Path, place: str) -> tuple[dict[str, Tally], list[str]]:
    """Count the labels of each case in the results of shards, of which a few thousand rows are in memory at a time."""
    tallies: dict[str, Tally] = {}
    index = read_results(folder)
    for kinds in progress(read_counts(place, index), total=len(index["shards"]), description="reading", unit="shards"):
        for (case, label, reason), num in kinds.items():
            if label not in (*index["classes"], UNIDENTIFIED, ""):
                raise DataError(f'{folder} has the label "{label}", which is none of the classes.', hint=AGAIN)
            tallies.setdefault(case or NO_CASE, Counter())[label, reason] += num
    if not tallies:
        raise DataError(f"{folder} has no result of a shard.", hint=AGAIN)
    return tallies, index["classes"]


def _notes(folder: Path, num_rows: int, known: KnownConfusions | None) -> Iterator[str]:
    predicted = read_json(folder / "plan.json").get("num_images")
    if predicted not in (None, num_rows):
        yield f"predictions.csv has {num_rows:,} rows, but {predicted:,} images were predicted: it was changed since."
    if is_of_shards(folder) and (aside := read_results(folder)["set_aside"]):
        yield f"{counted(len(aside), 'shard was', 'shards were')} set aside and not counted, first {aside[0]}."
    if known is None:
        yield "The ensemble's confusions are not known, so nothing is corrected for them."


def open_predictions(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """Read the predictions of a folder and check them.

    Returns
    -------
    table : DataFrame
        predictions.csv with a case in each row.
    classes : list of str
        Of the run.

    Raises
    ------
    DataError
        If there are none, a column is missing, or a label is not one of the classes.
    """
    file = require_predictions(folder)
    table = read_predictions(file)
    classes = predicted_classes(table)
    missing = [name for name in ("image", "label", "reason", "case") if name not in table]
    if missing or not classes:
        raise DataError(f"{file} has no column {missing[0] if missing else 'p_…'}.", hint='Run "nonet predict" again.')
    if table.empty:
        raise DataError(f"{file} has a header line and no rows.", hint='Run "nonet predict" again.')
    unknown = table[~table["label"].isin([*classes, UNIDENTIFIED, ""])]
    if len(unknown):
        row = unknown.iloc[0]
        raise DataError(
            f'{file}: {len(unknown):,} labels are none of the classes, first "{row["label"]}" of image {row["image"]}.',
            hint=f"The classes are {', '.join(classes)}.",
        )
    return table.assign(case=table["case"].where(table["case"] != "", NO_CASE)), classes


def _known_confusions(folder: Path, classes: list[str]) -> KnownConfusions | None:
    file = folder / NAME
    return KnownConfusions.read(file, classes, [*classes, UNIDENTIFIED, REJECTED]) if file.is_file() else None


def _as_json(made: Differentials, files: list[str]) -> dict:
    return {
        "format_version": 1,
        "notice": RESEARCH_USE,
        "written": now(),
        "notes": made.notes,
        "fhir": files,
        "cases": [to_dict(case) for case in made.cases],
    }


def _terminal_text(case: Differential) -> str:
    """Return a case as a table for the terminal; classes without a cell are left out."""
    head = f"{case.case}: {case.num_counted:,} white cells counted of {case.num_images:,} images"
    apart = "".join(f"; {num:,} {reason}" for reason, num in case.apart.items())
    rows = []
    for share in [*(each for each in case.classes if each.count), *case.groups]:
        row = {"": share.key if share in case.classes else "", "name": share.name, "cells": f"{share.count:,}"}
        row |= {"share": percent(share.share, 1), "interval": percent_range(share.low, share.high, 1)}
        if case.is_corrected:
            row["corrected"] = percent(share.corrected, 1)
            row[" "] = percent_range(share.corrected_low, share.corrected_high, 1)
        rows.append(row)
    rows += [
        {
            "": share.key,
            "name": f"{share.name}s per 100",
            "cells": f"{share.count:,}",
            "share": f"{100 * share.share:.1f}",
        }
        for share in case.per_100
    ]
    table = pd.DataFrame(rows).fillna("").to_string(index=False) if case.num_counted else ""
    return "\n".join(line for line in [printable(head + apart), table, *case.notes] if line)


def _write_fhir(made: Differentials) -> None:
    for case in made.cases:
        if case.num_counted:
            write_text(made.folder / "fhir" / f"{file_name(case.case)}.json", make_bundle(case))
        else:
            logger.warning(
                f'Case "{printable(case.case)}" has no white cell with a class, so no FHIR was written for it.'
            )


def file_name(case: str) -> str:
    """Return a name that any file system takes; different ones for different cases, whose letter case may not count."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", case).strip("-")[:60]
    if plain == case.upper():
        return plain
    return f"{plain or 'case'}-{hashlib.sha256(case.encode()).hexdigest()[:8]}"
