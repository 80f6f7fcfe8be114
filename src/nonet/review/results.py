"""The differential of a reviewed case, and its files."""

import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from nonet.artifacts.csv_files import to_csv
from nonet.cells import UNIDENTIFIED
from nonet.differential.counting import file_name
from nonet.differential.fhir import Status, make_bundle
from nonet.differential.groups import NOT_COUNTED
from nonet.differential.shares import RESEARCH_USE, Differential, count_case
from nonet.differential.tables import to_dict, to_table
from nonet.review.records import Case, Cell

MEDIA_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "fhir": "application/fhir+json",
}


def differential_of(case: Case, cells: Sequence[Cell], classes: Sequence[str], *, reviewed: bool) -> Differential:
    """Count a case.

    Parameters
    ----------
    case : Case
    cells : sequence of Cell
    classes : sequence of str
        Of the run.
    reviewed : bool
        Count the labels as they stand instead of those predicted. What a person decided is not corrected for the
        ensemble's confusions.

    Returns
    -------
    Differential
    """
    used = {cell.label for cell in cells}
    known = [*classes, *(code for code in NOT_COUNTED if code in used and code not in classes)]
    labels = [cell.label if reviewed else cell.predicted for cell in cells]
    reasons = [UNIDENTIFIED if reviewed and cell.predicted else cell.reason for cell in cells]
    return count_case(case.name, Counter(zip(labels, reasons)), known)


def export(case: Case, cells: Sequence[Cell], classes: Sequence[str], kind: str) -> tuple[str, str]:
    """Return a reviewed differential as a file.

    Parameters
    ----------
    case : Case
    cells : sequence of Cell
    classes : sequence of str
        Of the run.
    kind : {"csv", "json", "fhir"}
        FHIR is "final" once the case is signed, "amended" where it had been signed before, otherwise "preliminary".

    Returns
    -------
    text : str
    file_name : str

    Raises
    ------
    DataError
        For FHIR, if no cell has a class or the package fhir.resources is missing.
    """
    differential = differential_of(case, cells, classes, reviewed=True)
    differential = replace(differential, notes=[*differential.notes, _signature_note(case)])
    name = file_name(case.name)
    if kind == "csv":
        stream = io.StringIO()
        about = {"status": get_status(case).value, "signed_by": case.signed_by, "signed_at": case.signed_at}
        to_csv(to_table([differential]).assign(**about, notice=RESEARCH_USE), stream)
        return stream.getvalue(), f"{name}.csv"
    if kind == "fhir":
        issued = datetime.fromisoformat(case.signed_at) if case.is_signed else None
        return make_bundle(differential, status=get_status(case), issued=issued), f"{name}.fhir.json"
    facts = {"status": get_status(case).value, "signed_by": case.signed_by, "signed_at": case.signed_at}
    facts |= {"comment": case.comment, "model": case.model, "notice": RESEARCH_USE}
    return json.dumps(to_dict(differential) | facts, indent=2) + "\n", f"{name}.json"


def get_status(case: Case) -> Status:
    """Return the status of a case's report."""
    if not case.is_signed:
        return Status.PRELIMINARY
    return Status.AMENDED if case.was_reopened else Status.FINAL


def _signature_note(case: Case) -> str:
    if not case.is_signed:
        return "Not signed."
    comment = f" Comment: {case.comment}" if case.comment else ""
    return f"Reviewed and signed by {case.signed_by} at {case.signed_at}.{comment}"
