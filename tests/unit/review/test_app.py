"""Pages and JSON of a review: what is shown, decided, signed and exported, and what odd requests are told."""

import io
import json
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from helpers.reviews import open_page
from nonet.differential.shares import RESEARCH_USE

EVIL = '<script>alert(1)</script>" onload="x'
CELLS = [
    *[(f"{k}.png", "7", label) for k, label in enumerate(["SNE", "SNE", "LY", "unidentified", "MO", ""])],
    (EVIL, EVIL, "BL"),
]


@pytest.fixture
def page(tmp_path):
    return open_page(tmp_path, CELLS)


def test_every_page_is_shown_with_its_notice(page):
    for path in (
        "/",
        f"/cases/{page.case_id}",
        f"/cases/{page.case_id}/differential",
        "/?search=7",
        "/?search=nothing",
    ):
        answer = page.client.get(path)
        assert answer.status_code == 200, path
        assert RESEARCH_USE in answer.text
        assert "style=" not in answer.text and "<style" not in answer.text, "the policy forbids inline styles"
        assert "<script>" not in answer.text, "the policy forbids inline scripts"
        assert "onclick" not in answer.text
    assert "No case has" in answer.text


def test_pages_and_files_of_a_case_with_a_hostile_name_do_not_contain_it_as_markup(page):
    evil = page.store.find_case(EVIL)
    for path in ("/", f"/cases/{evil.id}", f"/cases/{evil.id}/differential"):
        text = page.client.get(path).text
        assert EVIL not in text
        assert "&lt;script&gt;alert" in text
    for kind in ("csv", "json", "fhir"):
        disposition = page.get(f"differential.{kind}", evil.id).headers["content-disposition"]
        assert disposition.isascii() and "<" not in disposition and disposition.count('"') == 2


def test_headers_let_a_browser_load_nothing_from_elsewhere(page):
    for path in ("/", "/static/gallery.js", "/labels.css", "/nothing", "/api/cases"):
        headers = page.client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == ("no-cache" if path.startswith("/static/") else "no-store")


def test_cells_are_listed_as_they_stand_without_paths(page):
    cells = page.get("cells").json()
    assert [cell["label"] for cell in cells] == ["SNE", "SNE", "LY", "unidentified", "MO"]
    assert not any("path" in cell or "facts" in cell for cell in cells)
    assert cells[0]["confidence"] == 0.9
    assert len(cells[0]["proba"]) == 10


def test_decide_undo_sign_and_reopen(page):
    assert page.sign().status_code == 409
    answer = page.decide([3], "EO")
    assert answer.status_code == 200
    assert [(cell["label"], cell["decided"], cell["version"]) for cell in answer.json()["cells"]] == [("EO", True, 1)]
    assert page.post("undo").json()["cells"][0]["label"] == "unidentified"
    assert page.decide([3], "MO").status_code == 200
    assert page.decide([0, 1], None, kind="accept").status_code == 200
    signed = page.sign(" fine ").json()
    assert (signed["is_signed"], signed["signed_by"], signed["comment"]) == (True, "Ada", "fine")
    locked = page.decide([0], "EO")
    assert locked.status_code == 409 and "signed by Ada" in locked.json()["detail"]
    assert page.post("reopen", {"comment": ""}).status_code == 422
    assert page.post("reopen", {"comment": "wrong slide"}).json()["was_reopened"]
    kinds = [row["kind"] for row in page.get("history").json()]
    assert kinds == ["move", "undo", "move", "accept", "accept", "sign", "reopen"]


def test_a_stale_cell_comes_back_as_it_stands(page):
    cells = page.get("cells").json()
    page.store.decide(page.case_id, {cells[0]["id"]: 0}, "EO", who="Ben")
    answer = page.post("decisions", {"cells": {str(cells[0]["id"]): 0}, "label": "BA"})
    assert answer.status_code == 409
    assert "omebody else" in answer.json()["detail"]
    assert [(cell["label"], cell["version"]) for cell in answer.json()["cells"]] == [("EO", 1)]


def test_a_form_cannot_be_sent_before_its_script_is_there(page):
    """A browser would send it to nobody by itself, with the comment in the address, and sign nothing."""
    page.decide([3], "MO")
    for _ in range(2):
        text = page.client.get(f"/cases/{page.case_id}/differential").text
        assert text.count("data-action=") == text.count("<button disabled>") == 1
        page.sign()


def test_a_case_that_was_changed_since_is_not_signed(page):
    page.decide([3], "MO")
    shown = page.client.get(f"/cases/{page.case_id}/differential").text
    version = page.get("").json()["version"]
    assert f'data-version="{version}"' in shown
    page.decide([0], "BNE")
    answer = page.post("sign", {"version": version})
    assert answer.status_code == 409 and "Reload" in answer.json()["detail"]
    assert page.post("sign", {"comment": "x"}).status_code == 422, "it must say what was seen"


def test_blind_decisions_are_recorded_as_such(page):
    page.decide([0], "EO", is_blind=True)
    assert [row["is_blind"] for row in page.get("history").json()] == [1]


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        "x",
        {"cells": {}, "label": "EO"},
        {"cells": {"1": -1}, "label": "EO"},
        {"cells": {"1": True}, "label": "EO"},
        {"cells": {"1": "0"}, "label": "EO"},
        {"cells": {"1": 2**70}, "label": "EO"},
        {"cells": {"x": 0}, "label": "EO"},
        {"cells": {"٣": 0}, "label": "EO"},
        {"cells": {"1": 0}, "label": "no such class"},
        {"cells": {"1": 0}, "label": "\ud800"},
        {"cells": {"1": 0}, "label": None},
        {"cells": {"1": 0}, "label": "EO", "kind": "accept"},
        {"cells": {"1": 0}, "label": "EO", "kind": "undo"},
        {"cells": {"1": 0}, "label": "EO", "who": "Eve"},
        {"cells": {str(k): 0 for k in range(1, 10_002)}, "label": "EO"},
    ],
)
def test_an_odd_decision_is_refused_in_a_sentence(page, body):
    text = json.dumps(body).encode()
    headers = {"X-Nonet": "1", "Content-Type": "application/json"}
    answer = page.client.post(f"/api/cases/{page.case_id}/decisions", content=text, headers=headers)
    assert answer.status_code == 422
    assert isinstance(answer.json()["detail"], str)
    assert page.store.history(page.case_id) == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"null", b"[" * 20_000])
def test_a_body_that_is_no_json_is_refused(page, content):
    headers = {"X-Nonet": "1", "Content-Type": "application/json"}
    answer = page.client.post(f"/api/cases/{page.case_id}/decisions", content=content, headers=headers)
    assert answer.status_code in (400, 422)
    assert isinstance(answer.json()["detail"], str)


@pytest.mark.parametrize("number", ["0", "-1", "99", "x", "1e3", "9" * 30])
def test_what_does_not_exist_is_404(page, number):
    for path in (
        f"/cases/{number}",
        f"/cells/{number}/thumbnail",
        f"/api/cases/{number}/cells",
        f"/api/cases/{number}",
    ):
        answer = page.client.get(path)
        assert answer.status_code == 404, path
        assert answer.json()["detail"].endswith("does not exist.")
    assert page.post("undo", case_id=number).status_code == 404
    shown = page.client.get(f"/cases/{number}", headers={"Accept": "text/html"})
    assert shown.status_code == 404 and "<h1>" in shown.text


def test_other_cells_of_other_cases_are_404(page):
    foreign = page.store.cells(page.store.find_case(EVIL).id)[0]
    assert page.post("decisions", {"cells": {str(foreign.id): 0}, "label": "EO"}).status_code == 404


def test_pictures_are_encoded_anew_and_refused_once_the_file_has_changed(page):
    cell = page.store.cells(page.case_id)[0]
    small, whole = (page.client.get(f"/cells/{cell.id}/{name}") for name in ("thumbnail", "image"))
    assert (small.headers["content-type"], whole.headers["content-type"]) == ("image/jpeg", "image/png")
    with Image.open(io.BytesIO(whole.content)) as shown, Image.open(cell.path) as stored:
        assert shown.size == stored.size == (24, 20)
        assert shown.tobytes() == stored.convert("RGB").tobytes()
    Image.new("RGB", (24, 20), "red").save(cell.path)
    other = page.client.get(f"/cells/{cell.id}/image")
    assert other.status_code == 422 and "changed" in other.json()["detail"]


def test_a_polyglot_is_shown_without_what_hangs_on_it(tmp_path, monkeypatch):
    save = Image.Image.save

    def save_with_markup(image, path, *arguments, **options):
        save(image, path, *arguments, **options)
        if isinstance(path, Path):
            path.write_bytes(path.read_bytes() + b"<script>alert(1)</script>")

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", save_with_markup)
        page = open_page(tmp_path, CELLS[:1])
    cell = page.store.cells(page.case_id)[0]
    assert b"<script>" in Path(cell.path).read_bytes()
    for name in ("image", "thumbnail"):
        answer = page.client.get(f"/cells/{cell.id}/{name}")
        assert answer.status_code == 200 and b"<script>" not in answer.content


def test_exports_say_the_same_and_how_it_was_signed(page):
    page.decide([3], "SNE")
    page.decide([2], "ERB")
    preliminary = page.get("differential.json").json()
    assert preliminary["status"] == "preliminary" and preliminary["num_counted"] == 4
    page.sign("=1+1")
    made = page.get("differential.json").json()
    assert (made["status"], made["signed_by"], made["comment"]) == ("final", "Ada", "=1+1")
    assert made["notice"] == RESEARCH_USE
    counts = {row["key"]: row["count"] for row in made["shares"] if row["part"] == "class"}
    assert {key: num for key, num in counts.items() if num} == {"SNE": 3, "MO": 1}
    assert made["not_counted"] == {"erythroblast": 1, "unreadable": 1}
    table = pd.read_csv(io.StringIO(page.get("differential.csv").text))
    assert table[table["part"] == "class"].set_index("key")["count"].to_dict() == counts
    assert set(table["status"]) == {"final"}
    page.post("reopen", {"comment": "again"})
    page.sign()
    assert page.get("differential.json").json()["status"] == "amended"


def test_fhir_validates_and_is_final_once_signed(page):
    bundle = pytest.importorskip("fhir.resources.R4B.bundle").Bundle
    for status in ("preliminary", "final"):
        text = page.get("differential.fhir").text
        resources = [entry.resource for entry in bundle.model_validate_json(text).entry]
        assert {resource.status for resource in resources} == {status}
        page.decide([3], "SNE")
        page.sign()
    assert "signed by Ada" in resources[0].conclusion


def test_a_case_without_any_class_has_no_fhir_and_says_why(tmp_path):
    page = open_page(tmp_path, [("a.png", "7", "unidentified")])
    answer = page.get("differential.fhir")
    assert answer.status_code == 422 and "no white cell" in answer.json()["detail"]
    assert page.client.get(f"/cases/{page.case_id}/differential").status_code == 200


def test_a_person_may_mark_what_the_run_does_not_know(tmp_path):
    page = open_page(tmp_path, [("a.png", "7", "LY"), ("b.png", "7", "SNE")], classes=("LY", "SNE"))
    assert page.decide([0], "ART").status_code == 200
    assert page.decide([0], "ERB").status_code == 200
    assert "erythroblast" in page.client.get(f"/cases/{page.case_id}/differential").text
    assert page.get("differential.json").json()["num_counted"] == 1


def test_an_own_class_of_a_laboratory_can_be_given(tmp_path):
    classes = ('CD4+ "big"', "Zelle <ß>")
    page = open_page(tmp_path, [("a.png", "7", classes[0])], classes=classes)
    assert page.decide([0], classes[1]).json()["cells"][0]["label"] == classes[1]
    for path in (f"/cases/{page.case_id}", f"/cases/{page.case_id}/differential", "/labels.css"):
        assert page.client.get(path).status_code == 200


def test_the_disk_s_errors_are_told(page, monkeypatch):
    import sqlite3

    def fail(*_, **__):
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(page.store, "decide", fail)
    answer = page.decide([0], "EO")
    assert answer.status_code == 503
    assert "nothing was saved" in answer.json()["detail"]


def test_the_program_says_that_it_lives_and_describes_its_json(page):
    assert page.client.get("/healthz").json() == {"status": "ok"}
    described = page.client.get("/openapi.json").json()["paths"]
    assert "/api/cases/{case_id}/decisions" in described
    assert page.client.get("/api/cases?search=7").json()[0]["name"] == "7"
