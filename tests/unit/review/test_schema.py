"""Every route of the JSON, called with drawn requests: no failure of the program, and answers as /openapi.json says."""

import importlib
import json
import shutil

import pytest
from hypothesis import Phase, given, settings

from helpers.odd_images import RGB, as_file
from helpers.reviews import PROGRAM, predicting

schemathesis = pytest.importorskip("schemathesis", reason="the package schemathesis is not installed")

NAMES = ("status_code_conformance", "content_type_conformance", "response_schema_conformance")


@pytest.fixture(scope="module")
def page(tiny_run, tmp_path_factory):
    run = shutil.copytree(tiny_run.folder, tmp_path_factory.mktemp("schema") / "run")
    with predicting(run) as made:
        for case in ("a", "b"):
            number = made.begin(case)
            made.send(number, "a.png", as_file(RGB))
            made.finish(number)
        made.site.hosts.add("testserver")
        yield made


@pytest.fixture(scope="module")
def drawn(page):
    return schemathesis.openapi.from_asgi("/openapi.json", page.client.app)


def test_answers_are_as_described(page, drawn):
    described = importlib.import_module("schemathesis.specs.openapi.checks")
    checks = [schemathesis.checks.not_a_server_error, *(getattr(described, name) for name in NAMES)]
    wrong, there = [], {"case_id": 1, "upload_id": page.begin("c")}
    seen: set[int] = set()
    for found in drawn.get_all_operations():
        operation = found.ok()

        @settings(max_examples=15, derandomize=True, phases=[Phase.explicit, Phase.generate], database=None)
        @given(case=operation.as_strategy())
        def call(case):
            seen.add(case.call_and_validate(headers=PROGRAM, checks=checks).status_code)
            case.path_parameters.update({name: there[name] for name in case.path_parameters if name in there})
            seen.add(case.call_and_validate(headers=PROGRAM, checks=checks).status_code)

        try:
            call()
        except (Exception, BaseExceptionGroup) as error:
            wrong.append(f"{operation.label}: {error} {getattr(error, 'exceptions', '')}")
    assert not wrong, "\n\n".join(wrong)
    assert {200, 201, 204, 404, 409, 422} <= seen, "requests got past the first refusal"


def test_bodies_and_answers_are_described(page):
    paths = page.client.get("/openapi.json").json()["paths"]
    for path, methods in paths.items():
        for method, about in methods.items():
            content = about["responses"].get("200", about["responses"].get("201", {})).get("content", {})
            assert "204" in about["responses"] or all(each.get("schema") for each in content.values()), path
            assert content or "204" in about["responses"], f"{method} {path}"
    body = paths["/api/predict"]["post"]["requestBody"]["content"]
    assert body == {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    assert json.dumps(paths).count("HTTPValidationError") == 0, "refusals are a sentence"
