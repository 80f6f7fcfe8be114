"""The page and the JSON of doubtful labels, and that `data build` takes what was decided."""

import io
import json

import pandas as pd
import pytest
from PIL import Image

from helpers.issue_runs import make_doubted_run, open_issue_page, write_issues
from helpers.reviews import HEADERS, open_page
from nonet.artifacts.csv_files import write_csv
from nonet.data.build import build_dataset


@pytest.fixture
def doubted(tmp_path):
    return make_doubted_run(tmp_path)


@pytest.fixture
def page(doubted):
    return open_issue_page(doubted.run)


def test_decisions_on_the_page_change_exactly_these_labels_in_the_next_dataset(doubted, page, tmp_path):
    issues = page.list()["issues"]
    assert {one["image_id"]: one["suggested"] for one in issues} == doubted.truth
    agreed, kept, dropped, unsure, mistaken = issues[:5]
    assert page.decide(agreed, "relabel", agreed["suggested"], note="=granules").status_code == 200
    assert page.decide(kept, "keep").status_code == 200
    assert page.decide(dropped, "drop", note="two cells").status_code == 200
    assert page.decide(unsure, "unsure").status_code == 200
    assert page.decide(mistaken, "drop").status_code == 200
    assert page.undo().json()["issue"]["decision"] == ""
    text = page.client.get("/api/issues/decisions.csv")
    assert text.text == doubted.run.decisions.read_text(encoding="utf-8")
    assert 'filename="decisions.csv"' in text.headers["content-disposition"]
    assert page.list()["num_left"] == len(issues) - 4
    built = build_dataset([doubted.source], tmp_path / "second", decisions=doubted.run.decisions)
    before = doubted.dataset.manifest.set_index("image_id")["label"]
    after = built.manifest.set_index("image_id")["label"]
    assert set(before.index) - set(after.index) == {dropped["image_id"]}
    changed = {name for name in after.index if after[name] != before[name]}
    assert changed == {agreed["image_id"]} and after[agreed["image_id"]] == doubted.truth[agreed["image_id"]]
    decided = pd.read_csv(tmp_path / "second" / "decided.csv").set_index("image_id")["decision"]
    assert decided.to_dict() == {agreed["image_id"]: "relabel", kept["image_id"]: "keep", dropped["image_id"]: "drop"}


def test_the_page_is_linked_and_names_the_classes_filters_and_the_command(doubted, page):
    cases = page.client.get("/").text
    assert 'href="/issues"' in cases
    text = page.client.get("/issues?state=all").text
    assert "style=" not in text and "<script>" not in text
    assert "--decisions decisions.csv" in text and "/api/issues/decisions.csv" in text
    assert text.count("<option") > 8
    assert 'value="all" selected' in text


def test_a_run_without_issues_has_no_link_and_the_page_says_what_to_do(doubted, page):
    doubted.run.issues.unlink()
    assert 'href="/issues"' not in page.client.get("/").text
    answer = page.client.get("/issues")
    assert answer.status_code == 200
    assert f"nonet issues {doubted.run}" in answer.text and "/static/issues.js" not in answer.text
    refused = page.client.get("/api/issues")
    assert refused.status_code == 404 and "nonet issues" in refused.json()["detail"]


def test_a_list_without_rows_or_of_other_images_says_so(doubted, page):
    table = pd.read_csv(doubted.run.issues)
    write_csv(doubted.run.issues, table.head(0))
    assert "/static/issues.js" not in page.client.get("/issues").text
    assert page.list() == {"issues": [], "num": 0, "num_left": 0}
    write_csv(doubted.run.issues, table.assign(image_id=[f"elsewhere/{i}" for i in range(len(table))]))
    assert "nonet issues" in page.client.get("/issues").text
    doubted.run.issues.write_text("nothing", encoding="utf-8")
    answer = page.client.get("/issues", headers={"Accept": "text/html"})
    assert answer.status_code == 422 and "image_id" in answer.text


def test_pictures_are_encoded_anew_and_an_image_that_changed_is_not_shown(doubted, page):
    issue = page.list()["issues"][0]
    for address, most in ((issue["picture"], 512), (issue["given_neighbours"][0]["picture"], 160)):
        answer = page.client.get(address)
        picture = Image.open(io.BytesIO(answer.content))
        assert (answer.headers["content-type"], picture.format) == ("image/jpeg", "JPEG")
        assert max(picture.size) <= most
    path = doubted.dataset.image_path(issue["image_id"])
    Image.new("RGB", (8, 8)).save(path)
    answer = page.client.get(issue["picture"])
    assert answer.status_code == 404 and str(path) not in answer.text
    path.unlink()
    assert page.client.get(issue["picture"]).status_code == 404
    assert page.decide(issue, "keep").status_code == 200, "it can be decided all the same"


@pytest.mark.parametrize("name", ["nothing.png", "..%2F..%2Frecipe.toml", "%2Fetc%2Fpasswd", "drawn%2Fimages", "%00"])
def test_no_path_of_a_request_is_read(page, name):
    for size in ("small", "large", "huge"):
        assert page.client.get(f"/issues/{size}/{name}").status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"decision": "maybe", "version": 0},
        {"decision": "relabel", "version": 0},
        {"decision": "relabel", "label": "NRBC", "version": 0},
        {"decision": "keep", "label": "EO", "version": 0},
        {"decision": "keep"},
        {"decision": "keep", "version": -1},
        {"decision": "keep", "version": "0"},
        {"decision": "keep", "version": 0, "note": "x" * 2001},
        {"decision": "keep", "version": 0, "who": "Ben"},
        [],
        "keep",
    ],
)
def test_odd_decisions_are_refused_and_change_nothing(page, body):
    issue = page.list()["issues"][0]
    answer = page.client.post(f"/api/issues/{issue['image_id']}/decision", json=body, headers=HEADERS)
    assert answer.status_code == 422 and answer.json()["detail"]
    assert page.list(state="decided")["issues"] == []


def test_only_images_of_the_list_are_decided(page):
    for name in ("nothing.png", "undo", "../../x", "drawn/images"):
        body = {"decision": "keep", "version": 0}
        assert page.client.post(f"/api/issues/{name}/decision", json=body, headers=HEADERS).status_code == 404


@pytest.mark.parametrize("query", ["after=-1", "after=x", "limit=0", "limit=9999", "state=some", "pair=" + "x" * 1001])
def test_odd_queries_are_refused(page, query):
    assert page.client.get(f"/api/issues?{query}").status_code == 422


def test_a_stale_decision_comes_back_as_it_stands_and_two_people_do_not_overwrite_each_other(doubted, page):
    other = open_issue_page(doubted.run, "Ben")
    issue = page.list()["issues"][0]
    assert page.decide(issue, "keep").json()["issue"]["who"] == "Ada"
    answer = other.decide(issue, "drop")
    assert answer.status_code == 409 and "Ada" in answer.json()["detail"]
    assert answer.json()["issue"]["decision"] == "keep"
    assert other.decide(answer.json()["issue"], "drop").status_code == 200
    refused = page.undo()
    assert refused.status_code == 409 and refused.json()["issue"]["decision"] == "drop"
    assert other.undo().json()["issue"]["decision"] == "keep"
    assert other.undo().json() == {"issue": None, "image_id": None}


def test_undo_of_an_image_that_is_no_longer_listed_says_which_it_was(doubted, page):
    first, second = page.list()["issues"][:2]
    page.decide(first, "keep")
    write_issues(doubted.run, doubted.dataset.manifest, {second["image_id"]: second["suggested"]})
    assert page.undo().json() == {"issue": None, "image_id": first["image_id"]}


def test_a_reader_looks_and_does_not_decide(doubted):
    reader = open_issue_page(doubted.run, role="reader")
    issue = reader.list()["issues"][0]
    assert reader.client.get(issue["picture"]).status_code == 200
    assert 'id="undo"' not in reader.client.get("/issues").text
    assert reader.decide(issue, "keep").status_code == 403
    assert reader.undo().status_code == 403


def test_changes_from_elsewhere_are_refused(page):
    issue = page.list()["issues"][0]
    path = f"/api/issues/{issue['image_id']}/decision"
    body = {"decision": "keep", "version": 0}
    assert page.client.post(path, json=body).status_code == 403
    foreign = HEADERS | {"Origin": "http://example.org"}
    assert page.client.post(path, json=body, headers=foreign).status_code == 403


def test_what_is_odd_about_the_files_is_said_on_the_page(doubted, page):
    table = pd.read_csv(doubted.run.issues, dtype=str, keep_default_na=False)
    table.loc[0, "image_id"], table.loc[1, "decision"] = "elsewhere.png", "perhaps"
    write_csv(doubted.run.issues, table)
    page.decide(page.list()["issues"][2], "keep")
    doubted.run.decisions.write_text("edited", encoding="utf-8")
    doubted.dataset.folder.rename(doubted.dataset.folder.with_name("moved"))
    text = page.client.get("/issues").text
    for words in ("this run does not have: 1.", "line 3", "decisions.edited.csv", str(doubted.dataset.folder)):
        assert words in text


def test_names_with_markup_stay_text(doubted, page):
    evil = '<img src=x onerror=alert(1)>"'
    table = pd.read_csv(doubted.run.issues, dtype=str, keep_default_na=False).assign(patient=evil, source=evil)
    write_csv(doubted.run.issues, table)
    assert evil not in page.client.get("/issues").text
    assert page.list(patient=evil)["num"] == len(table)


def test_the_page_opens_without_a_case_and_beside_cases(tmp_path):
    page = open_page(tmp_path, [("a.png", "7", "SNE")])
    assert page.client.get("/issues").status_code == 200
    assert json.loads(page.client.get("/api/cases").text)[0]["name"] == "7"
