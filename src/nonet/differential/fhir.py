"""A differential as HL7 FHIR R4B: a Bundle of one DiagnosticReport and an Observation for each share.

Needs the package fhir.resources (`pip install nonet[fhir]`), which checks the structure. It accepts any text as a
status, so statuses are an enum here. LOINC codes carry no display name, as these changed in 2025; `text` is ours.
"""

import json
import uuid
from datetime import UTC, datetime
from enum import StrEnum
from importlib import import_module
from typing import Any

import numpy as np

from nonet.differential.groups import LOINC, LOINC_PANEL, standard_code
from nonet.differential.shares import RESEARCH_USE, Differential, Share
from nonet.errors import DataError

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:nonet:differential")
_LOINC_SYSTEM, _UCUM = "http://loinc.org", "http://unitsofmeasure.org"
_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
_SECTION = "http://terminology.hl7.org/CodeSystem/v2-0074"


class Status(StrEnum):
    """The status of a report and its observations; these are the ones that nonet gives."""

    PRELIMINARY = "preliminary"
    FINAL = "final"
    AMENDED = "amended"


def make_bundle(
    differential: Differential, *, status: Status = Status.PRELIMINARY, issued: datetime | None = None
) -> str:
    """Return a case's differential as FHIR R4B.

    Parameters
    ----------
    differential : Differential
        With at least one cell counted.
    status : Status
        Preliminary until a person has signed.
    issued : datetime, optional
        With a time zone; by default now.

    Returns
    -------
    str
        JSON of a Bundle of type "collection".

    Raises
    ------
    DataError
        If the package fhir.resources is missing, or nothing was counted.
    """
    bundle_class = _bundle_class()
    if not differential.num_counted:
        raise DataError(
            f'Case "{differential.case}" has no white cell with a class, so there is no differential to report.',
            hint="Classify its cells first.",
        )
    status, issued = Status(status), issued or datetime.now(UTC)
    if issued.tzinfo is None:
        raise ValueError("`issued` must have a time zone.")
    instant = issued.isoformat(timespec="seconds")
    observations = [
        _observation(share, kind, differential, status, instant)
        for kind, shares in (
            ("class", differential.classes),
            ("group", differential.groups),
            ("per 100", differential.per_100),
        )
        for share in shares
    ]
    report = _report(differential, observations, status, instant)
    resources = [report, *observations]
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "timestamp": instant,
        "entry": [{"fullUrl": f"urn:uuid:{each['id']}", "resource": each} for each in resources],
    }
    return bundle_class.model_validate_json(json.dumps(bundle)).model_dump_json(indent=2)


def require_fhir() -> None:
    """Raise DataError if the package fhir.resources is missing."""
    _bundle_class()


def _bundle_class() -> Any:
    try:
        return import_module("fhir.resources.R4B.bundle").Bundle
    except ImportError as error:
        raise DataError(
            "FHIR needs the package fhir.resources, which is not installed.",
            hint='Install it: pip install "nonet[fhir]"',
        ) from error


def _report(differential: Differential, observations: list[dict], status: Status, instant: str) -> dict:
    apart = [f"{count:,} {reason}" for reason, count in differential.apart.items()]
    counted = f"{differential.num_counted:,} of {differential.num_images:,} cells counted"
    sentences = [RESEARCH_USE, "; ".join([counted, *apart]) + ".", *differential.notes]
    return {
        "resourceType": "DiagnosticReport",
        "id": _identity(differential, "report"),
        "identifier": [{"system": "urn:nonet:case", "value": differential.case}],
        "status": status.value,
        "category": [{"coding": [{"system": _SECTION, "code": "HM"}], "text": "Hematology"}],
        "code": {
            "coding": [{"system": _LOINC_SYSTEM, "code": LOINC_PANEL}],
            "text": "White blood cell differential from images",
        },
        "issued": instant,
        "result": [{"reference": f"urn:uuid:{each['id']}"} for each in observations],
        "conclusion": " ".join(sentences),
    }


def _observation(share: Share, kind: str, differential: Differential, status: Status, instant: str) -> dict:
    code: dict = {
        "text": f"{share.name}, per 100 white cells" if kind == "per 100" else f"{share.name}, share of white cells"
    }
    loinc = LOINC.get(standard_code(share.key))
    if kind != "group" and loinc is not None:
        code["coding"] = [{"system": _LOINC_SYSTEM, "code": loinc}]
    unit = "/100{WBCs}" if kind == "per 100" else "%"
    percent = f"{differential.confidence:.0%}".replace("%", " %")
    components = [
        {"code": {"text": "Cells"}, "valueInteger": share.count},
        _range(f"Exact {percent} interval", share.low, share.high, unit),
    ]
    if not np.isnan(share.corrected):
        components += [
            {"code": {"text": "Corrected for known confusions"}, "valueQuantity": _quantity(share.corrected, unit)},
            _range(
                f"{percent} interval, corrected for known confusions", share.corrected_low, share.corrected_high, unit
            ),
        ]
    return {
        "resourceType": "Observation",
        "id": _identity(differential, share.key),
        "status": status.value,
        "category": [{"coding": [{"system": _CATEGORY, "code": "laboratory"}]}],
        "code": code,
        "issued": instant,
        "valueQuantity": _quantity(share.share, unit),
        "component": components,
        "note": [{"text": RESEARCH_USE}],
    }


def _range(text: str, low: float, high: float, unit: str) -> dict:
    return {"code": {"text": text}, "valueRange": {"low": _quantity(low, unit), "high": _quantity(high, unit)}}


def _quantity(share: float, unit: str) -> dict:
    shown = "%" if unit == "%" else "per 100 white cells"
    return {"value": round(100 * share, 2), "unit": shown, "system": _UCUM, "code": unit}


def _identity(differential: Differential, part: str) -> str:
    """Return the same id for the same part of the same count, so that a receiver can recognise a repetition."""
    counts = [(each.key, each.count) for each in differential.classes]
    return str(uuid.uuid5(_NAMESPACE, json.dumps([differential.case, counts, part])))
