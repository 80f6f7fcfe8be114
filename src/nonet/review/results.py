"""The differential of a reviewed case, and its files."""

import json
from collections.abc import Sequence

from nonet.cells import UNIDENTIFIED
from nonet.differential.count import as_json, file_name
from nonet.differential.fhir import Status, make_bundle
from nonet.differential.shares import Differential, count_case
from nonet.review.store import Case, Cell


def differential_of(case: Case, cells: Sequence[Cell], classes: list[str], *, reviewed: bool) -> Differential:
    """Count a case.

    Parameters
    ----------
    case : Case
    cells : sequence of Cell
    classes : list of str
        Of the run.
    reviewed : bool
        Count the labels as they stand instead of those predicted. What a person decided is not corrected for the
        ensemble's confusions.

    Returns
    -------
    Differential
    """
    labels = [cell.label if reviewed else cell.predicted for cell in cells]
    reasons = [_reason(cell, label) for cell, label in zip(cells, labels)]
    return count_case(case.name, labels, reasons, classes)


def _reason(cell: Cell, label: str) -> str:
    if not cell.predicted:
        return "unreadable"
    return UNIDENTIFIED if label == UNIDENTIFIED else ""


def export(case: Case, cells: Sequence[Cell], classes: list[str], kind: str) -> tuple[str, str, str]:
    """Return a reviewed differential as text, its media type and a file name.

    Parameters
    ----------
    case, cells, classes : as for `differential_of`
        What to count.
    kind : {"csv", "json", "fhir"}
        FHIR is "final" once the case is signed, otherwise "preliminary".

    Returns
    -------
    text, media_type, file_name : str
    """
    differential = differential_of(case, cells, classes, reviewed=True)
    name = file_name(case.name)
    if kind == "csv":
        return to_csv_text(differential), "text/csv; charset=utf-8", f"{name}.csv"
    if kind == "fhir":
        status = Status.FINAL if case.is_signed else Status.PRELIMINARY
        return make_bundle(differential, status=status), "application/fhir+json", f"{name}.fhir.json"
    facts = {"signed_by": case.signed_by, "signed_at": case.signed_at, "comment": case.comment}
    return json.dumps(as_json(differential) | facts, indent=2), "application/json", f"{name}.json"
