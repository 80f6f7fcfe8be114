"""Who may call the page: other names of the host, other origins and oversized requests are refused."""

import pytest

from helpers.reviews import HEADERS, open_page

BODY = {"comment": "x"}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return open_page(tmp_path_factory.mktemp("page"), [("a.png", "7", "SNE")])


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost", "LOCALHOST:1", "[::1]:8765"])
def test_this_machine_is_let_in_under_its_own_names(page, host):
    assert page.client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8765", "", "[", "x@127.0.0.2", "0.0.0.0"]
)
def test_another_name_of_the_host_is_refused(page, host):
    """As after DNS rebinding: the browser believes that this machine is evil.example."""
    for path in ("/", "/api/cases", "/static/gallery.js", "/openapi.json"):
        assert page.client.get(path, headers={"Host": host}).status_code == 421


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://127.0.0.1:9999", "https://127.0.0.1:8765", "http://localhost:8765"],
)
def test_changes_from_another_origin_are_refused(page, origin):
    answer = page.post("reopen", BODY, headers=HEADERS | {"Origin": origin})
    assert answer.status_code == 403


def test_changes_without_the_page_s_header_are_refused(page):
    """A form of another site can send a POST, but no such header."""
    assert page.post("reopen", BODY, headers={}).status_code == 403
    form = page.client.post(f"/api/cases/{page.case_id}/reopen", data=BODY)
    assert form.status_code == 403
    assert page.post("reopen", BODY, headers={"X-Nonet": "1"}).status_code == 409, "without an origin: not a browser"


def test_other_methods_change_nothing(page):
    for method in ("PUT", "PATCH", "DELETE"):
        assert page.client.request(method, f"/api/cases/{page.case_id}/sign", headers=HEADERS).status_code in (405, 411)


def test_oversized_and_unmeasured_requests_are_refused(page):
    path = f"/api/cases/{page.case_id}/sign"
    assert page.client.post(path, content=b"x" * 1_000_001, headers=HEADERS).status_code == 413
    assert page.client.post(path, content=iter([b"{}"]), headers=HEADERS).status_code == 411
    assert page.client.post(path, content=b"{}", headers=HEADERS | {"Content-Length": "x"}).status_code == 413
    both = {"Content-Length": "2", "Transfer-Encoding": "chunked"}  # as many bytes as it likes would follow
    assert page.client.post(path, content=b"{}", headers=HEADERS | both).status_code == 411
    assert page.post("reopen", {"comment": "x" * 2001}).status_code == 422


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static//etc/passwd"]
)
def test_only_static_files_are_served_as_such(page, path):
    assert page.client.get(path).status_code == 404
