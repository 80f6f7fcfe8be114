"""FHIR R4B that the standard's own classes take, with LOINC and UCUM codes."""

import json
from datetime import UTC, datetime

import pytest

from helpers.prediction_folders import write_predictions
from nonet.cells import CLASSES
from nonet.differential.count import count
from nonet.differential.fhir import Status, make_bundle
from nonet.differential.groups import LOINC
from nonet.errors import DataError

bundle_module = pytest.importorskip("fhir.resources.R4B.bundle")
LABELS = ["SNE"] * 60 + ["LY"] * 30 + ["MO"] * 8 + ["PMY"] * 2 + ["ERB"] * 5 + ["unidentified"] * 3


@pytest.fixture
def case(tmp_path):
    cells = [(f"{i}.png", "P-7", label) for i, label in enumerate(LABELS)]
    return count(write_predictions(tmp_path / "predictions", cells)).cases[0]


def test_it_validates_and_refers_to_each_observation(case):
    text = make_bundle(case)
    bundle = bundle_module.Bundle.model_validate_json(text)
    report, *observations = [entry.resource for entry in bundle.entry]
    assert [each.reference for each in report.result] == [entry.fullUrl for entry in bundle.entry[1:]]
    assert report.identifier[0].value == "P-7"
    assert "Research use only" in report.conclusion
    assert all("Research use only" in each.note[0].text for each in observations)


def test_shares_are_per_cent_with_loinc_and_without_display(case):
    entries = json.loads(make_bundle(case))["entry"]
    assert entries[0]["resource"]["code"]["coding"] == [{"system": "http://loinc.org", "code": "69738-3"}]
    by_code = {
        each["resource"]["code"]["coding"][0]["code"]: each["resource"]
        for each in entries[1:]
        if "coding" in each["resource"]["code"]
    }
    sne = by_code["26505-8"]
    assert sne["valueQuantity"] == {"value": 60, "unit": "%", "system": "http://unitsofmeasure.org", "code": "%"}
    cells, interval = sne["component"][:2]
    assert cells["valueInteger"] == 60
    assert interval["valueRange"]["low"]["value"] == pytest.approx(49.72, abs=0.01)  # Clopper and Pearson, 60 of 100
    assert interval["valueRange"]["high"]["value"] == pytest.approx(69.67, abs=0.01)
    assert by_code["58413-6"]["valueQuantity"]["value"] == 5  # erythroblasts per 100 white cells
    assert by_code["58413-6"]["valueQuantity"]["code"] == "/100{WBCs}"
    assert "display" not in json.dumps(entries)


def test_each_class_has_a_loinc_code():
    assert set(CLASSES) <= set(LOINC) and len(set(LOINC.values())) == len(LOINC)


@pytest.mark.parametrize("status", list(Status))
def test_status_is_that_of_the_report_and_its_observations(case, status):
    entries = json.loads(make_bundle(case, status=status))["entry"]
    assert {each["resource"]["status"] for each in entries} == {status.value}


def test_other_statuses_are_refused(case):
    with pytest.raises(ValueError):
        make_bundle(case, status="signed")


def test_the_same_count_has_the_same_ids_and_another_has_others(case, tmp_path):
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert make_bundle(case, issued=moment) == make_bundle(case, issued=moment)
    other = count(write_predictions(tmp_path / "other", [("1.png", "P-7", "LY")])).cases[0]
    ids = [{each["fullUrl"] for each in json.loads(make_bundle(one))["entry"]} for one in (case, other)]
    assert not ids[0] & ids[1]
    with pytest.raises(ValueError):
        make_bundle(case, issued=datetime(2026, 1, 2))


def test_a_case_without_a_cell_has_no_report(tmp_path):
    empty = count(write_predictions(tmp_path / "predictions", [("1.png", "A", "unidentified")])).cases[0]
    with pytest.raises(DataError, match="A"):
        make_bundle(empty)
