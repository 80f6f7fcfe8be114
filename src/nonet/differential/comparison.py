"""The work of `nonet compare`: pairing two counts, measuring their agreement, writing the comparison."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from nonet.artifacts.csv_files import write_csv
from nonet.artifacts.run import write_text
from nonet.artifacts.storage import prepare_folder
from nonet.cells import UNIDENTIFIED, class_name, in_order_of_maturation
from nonet.differential.agreement import (
    BlandAltman,
    PassingBablok,
    bland_altman,
    cohen_kappa,
    passing_bablok,
)
from nonet.differential.compare import FOLDER
from nonet.differential.comparison_page import render_comparison
from nonet.differential.counting import open_predictions
from nonet.differential.groups import is_white
from nonet.differential.reference import read_reference
from nonet.differential.shares import RESEARCH_USE
from nonet.errors import DataError, counted
from nonet.evaluation.bootstrap import Bootstrap, GroupConfusions, confusions_by_group
from nonet.evaluation.matching import describe_match, match_names
from nonet.evaluation.metrics import per_class_scores
from nonet.evaluation.tables import format_interval


@dataclass(frozen=True)
class Comparison:
    """The result of `nonet.compare`.

    Attributes
    ----------
    folder : Path
        With comparison.html and the tables as CSV files.
    agreement : DataFrame
        A row each for Cohen's kappa and the share of cells with the same class: measure, value, low, high. Empty where
        the reference has counts only.
    per_class : DataFrame
        A row per class: code, name, cells (by the person), sensitivity and specificity with intervals. Empty likewise.
    methods : DataFrame
        A row per class: code, name, cases, the line of Passing and Bablok (slope and intercept) and Bland and Altman's
        bias and limits in percentage points, with intervals; NaN with fewer than five cases.
    shares : DataFrame
        A row per case and class: case, code, reference, predicted, both in per cent.
    notes : list of str
        What was left out, and what intervals refer to.
    """

    folder: Path
    agreement: pd.DataFrame
    per_class: pd.DataFrame
    methods: pd.DataFrame
    shares: pd.DataFrame
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        blocks = ["\n".join(self.notes)] if self.notes else []
        if len(self.agreement):
            rows = self.agreement.to_dict("records")
            blocks.append(
                "\n".join(
                    f"{row['measure']:24} {format_interval(row['value'], row['low'], row['high'])}" for row in rows
                )
            )
            shown = self.per_class[["code", "name", "cells", "sensitivity", "specificity"]]
            blocks.append(shown.to_string(index=False, float_format="%.3f", na_rep="–"))
        shown = self.methods[["code", "cases", "slope", "intercept", "bias", "lower", "upper"]]
        if shown["slope"].notna().any() or shown["bias"].notna().any():
            blocks.append(shown.to_string(index=False, float_format="%.2f", na_rep="–"))
        blocks.append(f"Page: {self.folder / 'comparison.html'}\n{RESEARCH_USE}")
        return "\n\n".join(blocks)


def compare_counts(source: Path, reference: Path, folder: Path, bootstrap: Bootstrap) -> Comparison:
    """Compare a folder of predictions with a person's count, and write the comparison; see `nonet.compare`."""
    table, classes = open_predictions(source)
    person = read_reference(reference, classes)
    if person.cells is not None:
        matched, notes = _match_cells(table, person.cells)
        agreement, per_class, words = _agreement(matched, bootstrap)
        person_shares = _shares_of_cells(matched, "reference")
        ours = _shares_of_cells(matched, "predicted")
        notes += words
    else:
        agreement, per_class, notes = pd.DataFrame(), pd.DataFrame(), []
        assert person.shares is not None  # it has either labels or counts
        person_shares = person.shares
        ours = _shares_of_cells(table, "label")
        _require_common_case(person_shares, ours)
    shares, more = _pair_shares(person_shares, ours, classes)
    notes = [*person.notes, *notes, *more]
    methods = _methods(shares, bootstrap.confidence)
    made = Comparison(folder, agreement, per_class, methods, shares, notes)
    prepare_folder(folder, FOLDER)
    for name in ("agreement", "per_class", "methods", "shares"):
        table, file = getattr(made, name), folder / f"{name}.csv"
        if len(table):
            write_csv(file, table)
        else:  # one of an earlier comparison
            file.unlink(missing_ok=True)
    write_text(
        folder / "comparison.html",
        render_comparison(made, title=source.resolve().name, confidence=bootstrap.confidence),
    )
    return made


def _match_cells(table: pd.DataFrame, cells: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return image, case, reference and predicted ("unidentified" without a class) of the cells in both tables."""
    found = match_names(cells["image"], table["image"])
    notes = describe_match(cells["image"], table["image"], found)
    rows = table.iloc[found[found >= 0]].reset_index(drop=True)
    theirs = cells[found >= 0].reset_index(drop=True)
    matched = pd.DataFrame(
        {
            "image": rows["image"],
            "case": theirs["case"].where(theirs["case"] != "", rows["case"]),
            "reference": theirs["label"],
            "predicted": rows["label"].where(rows["label"] != "", UNIDENTIFIED),
        }
    )
    return matched, notes


def _agreement(matched: pd.DataFrame, bootstrap: Bootstrap) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Return the tables `agreement` and `per_class` of `Comparison`, and what they refer to."""
    codes = in_order_of_maturation((set(matched["reference"]) | set(matched["predicted"])) - {UNIDENTIFIED})
    by_case = matched["case"].nunique() > 1
    group = matched["case"] if by_case else matched["image"]
    places = pd.Index([*codes, UNIDENTIFIED])
    true, called = (places.get_indexer(pd.Index(matched[name])) for name in ("reference", "predicted"))
    everything = confusions_by_group(true, called, group.to_numpy(dtype=str), len(places))
    measures = {"Cohen's kappa": _kappa_of_named, "same class": _share_of_same}
    intervals = bootstrap.intervals(everything, measures)
    agreement = pd.DataFrame(
        [
            {"measure": name, "value": float(function(everything.total()))}
            | dict(zip(("low", "high"), map(float, intervals[name])))
            for name, function in measures.items()
        ]
    )
    num_unnamed = int((matched["predicted"] == UNIDENTIFIED).sum())
    notes = [
        f"{100 * bootstrap.confidence:g} % intervals over {matched['case'].nunique() if by_case else len(matched):,} "
        f"{'cases' if by_case else 'cells of one case, which are too narrow for other cases'}."
    ]
    if num_unnamed:
        notes.append(
            f"{num_unnamed:,} of {len(matched):,} cells have no class. Kappa leaves them out; sensitivity counts them "
            "as missed."
        )
    return agreement, _per_class(everything, codes, bootstrap), notes


def _kappa_of_named(confusion: np.ndarray) -> np.ndarray:
    return cohen_kappa(confusion[..., :-1, :-1])


def _share_of_same(confusion: np.ndarray) -> np.ndarray:
    named = confusion[..., :-1, :-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.trace(named, axis1=-2, axis2=-1) / named.sum(axis=(-2, -1))


def _per_class(confusions: GroupConfusions, codes: list[str], bootstrap: Bootstrap) -> pd.DataFrame:
    names = {"sensitivity": "recall", "specificity": "specificity"}
    functions = {name: (lambda counts, key=key: per_class_scores(counts)[key]) for name, key in names.items()}
    values = per_class_scores(confusions.total())
    intervals = bootstrap.intervals(confusions, functions)
    rows = []
    for k, code in enumerate(codes):
        num_cells = int(values["support"][k])
        row: dict[str, object] = {"code": code, "name": class_name(code), "cells": num_cells}
        for name, key in names.items():
            low, high = intervals[name]
            known = num_cells > 0 or name == "specificity"
            row[name] = float(values[key][k]) if known else np.nan
            row[f"{name}_low"], row[f"{name}_high"] = (float(low[k]), float(high[k])) if known else (np.nan, np.nan)
        rows.append(row)
    return pd.DataFrame(rows)


def _shares_of_cells(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the shares of white cells with a class: rows cases, columns classes."""
    named = table[~table[column].isin([UNIDENTIFIED, ""]) & table[column].map(is_white)]
    counts = pd.crosstab(named["case"], named[column])
    return counts.div(counts.sum(axis=1), axis=0)


def _require_common_case(person: pd.DataFrame, ours: pd.DataFrame) -> None:
    if not len(person.index.intersection(ours.index)):
        raise DataError(
            f"No case is in both tables: the reference begins with {person.index[0]}, the predictions with "
            f"{ours.index[0] if len(ours) else 'nothing'}.",
            hint='Name the cases alike; "nonet predict --case" or a column case names those of the predictions.',
        )


def _pair_shares(person: pd.DataFrame, ours: pd.DataFrame, classes: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """Return case, code, reference and predicted, in per cent, of the cases in both, and what was left out."""
    both = [case for case in person.index if case in ours.index]
    notes = []
    for absent, what in ((person.index.difference(both), "reference"), (ours.index.difference(both), "predictions")):
        if len(absent):
            cases = counted(len(absent), "case is", "cases are")
            notes.append(f"{cases} in the {what} only, first {absent[0]}.")
    if not both:
        notes.append(
            "No case has white cells with a class in both counts, so there is nothing to compare case by case."
        )
    codes = in_order_of_maturation(set(person.columns) | set(ours.columns))
    strange = [code for code in person.columns if code not in classes]
    if strange:
        notes.append(f"Classes that the run does not know: {', '.join(strange)}.")
    tables = [each.reindex(index=both, columns=codes, fill_value=0).mul(100) for each in (person, ours)]
    rows = [
        {"case": case, "code": code, "reference": tables[0].at[case, code], "predicted": tables[1].at[case, code]}
        for case in both
        for code in codes
    ]
    return pd.DataFrame(rows, columns=["case", "code", "reference", "predicted"]), notes


def _methods(shares: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Return the table `methods` of `Comparison`."""
    rows = []
    for code, part in shares.groupby("code", sort=False):
        line = passing_bablok(part["reference"], part["predicted"], confidence)._asdict()
        limits = bland_altman(part["reference"], part["predicted"], confidence)._asdict()
        rows.append({"code": code, "name": class_name(str(code)), "cases": len(part)} | line | limits)
    numbers = dict.fromkeys((*PassingBablok._fields, *BlandAltman._fields))
    columns = ["code", "name", "cases", *(name for name in numbers if name != "num_cases")]
    return pd.DataFrame(rows, columns=columns)
