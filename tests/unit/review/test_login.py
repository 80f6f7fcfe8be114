"""Logging in: what is closed until then, how a session ends, and what of another session or site is refused."""

import pytest
from fastapi.routing import APIRoute

from helpers.clocks import Clock
from helpers.reviews import HEADERS, browser, open_page, password_of
from nonet.review.accounts import IDLE_S, LONGEST_S
from nonet.review.limits import MAX_OF_ADDRESS, MAX_OF_NAME
from nonet.review.login import local_path
from nonet.review.roles import ROLES
from nonet.review.security import OPEN

USERS = (("Ada", "admin"), ("Ben", "reviewer"), ("Rea", "reader"))
CELLS = [("a.png", "7", "SNE"), ("b.png", "7", "LY")]
HTML = {"Accept": "text/html"}


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def page(tmp_path, clock):
    return open_page(tmp_path, CELLS, users=USERS, clock=clock)


@pytest.fixture
def accounts(page, clock):
    from nonet.review.accounts import Accounts

    return Accounts(page.run.users, clock=clock)


def try_to_log_in(page, name, password, headers=HEADERS, client=None):
    return (client or page.client).post("/api/login", json={"name": name, "password": password}, headers=headers)


def is_logged_in(page):
    return page.client.get("/api/cases").status_code == 200


def routes(app):
    return [route for route in app.routes if isinstance(route, APIRoute)]


def roles_of(dependant):
    """Return the roles that a route and what it depends on demand."""
    found = {
        cell.cell_contents
        for one in dependant.dependencies
        if one.call is not None
        for cell in getattr(one.call, "__closure__", None) or ()
        if cell.cell_contents in ROLES
    }
    return found.union(*(roles_of(one) for one in dependant.dependencies)) if dependant.dependencies else found


def test_every_route_that_is_not_open_demands_a_role(page):
    listed = routes(page.client.app)
    assert len(listed) > 15
    for route in listed:
        assert bool(roles_of(route.dependant)) != (route.path in OPEN), route.path
    changing = [route for route in listed if route.methods - {"GET", "HEAD"} and route.path not in OPEN]
    own = {"/api/logout", "/api/keys", "/api/predict"}  # what is one's own, or changes nothing
    assert {route.path for route in changing if "reader" in roles_of(route.dependant)} <= own


def test_everything_else_is_closed_to_those_who_are_not_logged_in(page):
    paths = [route.path for route in routes(page.client.app) if "GET" in route.methods]
    for path in [*paths, "/openapi.json", "/nothing", "/static"]:
        path = path.replace("{case_id}", "1").replace("{cell_id}", "1").replace("{kind}", "csv")
        answer = page.client.get(path, follow_redirects=False)
        if path in OPEN:
            assert answer.status_code in (200, 503), path
            continue
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"] == "Bearer"
        shown = page.client.get(path, headers=HTML, follow_redirects=False)
        assert shown.status_code == 303 and shown.headers["location"].startswith("/login"), path
    assert page.post("undo").status_code == 401
    assert page.client.get("/static/login.js").status_code == 200
    assert "b.png" not in page.client.get("/login").text


def test_the_form_cannot_be_sent_before_its_script_is_there(page):
    """A browser would send it by itself, without the header that logging in needs."""
    assert page.client.get("/login").text.count("<button disabled>") == 1


def test_a_person_logs_in_decides_and_logs_out(page):
    ben = page.log_in("Ben")
    assert "Ben" in ben.client.get("/").text and "Log out" in ben.client.get("/").text
    assert ben.decide([0], "EO").status_code == 200
    assert page.store.history(page.case_id)[-1]["who"] == "Ben"
    kept = dict(ben.client.cookies)
    assert ben.client.post("/api/logout", headers=ben.headers).status_code == 204
    assert not is_logged_in(ben)
    ben.client.cookies.update(kept)
    assert not is_logged_in(ben), "a cookie that was kept is worth nothing after logging out"


def test_the_cookie_is_for_this_site_alone_and_out_of_reach_of_scripts(page):
    cookie = try_to_log_in(page, "Ada", password_of("Ada")).headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Path=/" in cookie
    assert "Secure" not in cookie, "http"
    client = browser(page.client.app)
    client.base_url = "https://127.0.0.1:8765"
    origin = HEADERS | {"Origin": "https://127.0.0.1:8765"}
    assert "Secure" in try_to_log_in(page, "Ada", password_of("Ada"), origin, client).headers["set-cookie"]
    assert try_to_log_in(page, "Ada", password_of("Ada"), HEADERS, client).status_code == 403, "from http"


@pytest.mark.parametrize("name", ["ada", " ADA ", "Ａda"])
def test_capitals_and_forms_of_letters_do_not_matter_to_a_name(page, name):
    assert is_logged_in(page.log_in(name, password_of("Ada")))


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("Ada", "wrong password"),
        ("Ada", password_of("Ben")),
        ("Ada", password_of("ada")),
        ("Ada", ""),
        ("Eve", password_of("Ada")),
        ("", ""),
        ("\x00", "\x00"),
        ("' OR 1=1 --", "x"),
        ("Ada", "x" * 1000),
    ],
)
def test_a_wrong_name_or_password_is_refused_in_the_same_words(page, name, password):
    answer = try_to_log_in(page, name, password)
    assert answer.status_code == 401
    assert answer.json() == {"detail": "Name or password is wrong."}
    assert not page.client.cookies


@pytest.mark.parametrize(
    "body", [{}, {"name": "Ada"}, {"name": 1, "password": 2}, {"name": "Ada", "password": "x" * 1001}, [], None]
)
def test_an_odd_request_to_log_in_is_refused(page, body):
    assert page.client.post("/api/login", json=body, headers=HEADERS).status_code == 422


def test_a_session_from_before_the_login_is_not_taken_on(page):
    """Fixation: whoever planted a cookie is not logged in by it."""
    ben = page.log_in("Ben")
    ((name, planted),) = ben.client.cookies.items()
    cookie = {"Cookie": f"{name}={planted}"}
    answer = browser(page.client.app).post(
        "/api/login", json={"name": "Ada", "password": password_of("Ada")}, headers=HEADERS | cookie
    )
    assert answer.status_code == 204 and answer.cookies[name] != planted
    assert not is_logged_in(ben), "the login ends what the browser had before"
    unknown = browser(page.client.app).post(
        "/api/login", json={"name": "Ada", "password": password_of("Ada")}, headers=HEADERS | {"Cookie": f"{name}=mine"}
    )
    assert unknown.cookies[name] != "mine"
    assert browser(page.client.app).get("/api/cases", headers={"Cookie": f"{name}=mine"}).status_code == 401


@pytest.mark.parametrize(
    "change", [lambda one: one[:-1], lambda one: one + "A", lambda one: one.swapcase(), lambda _: "x"]
)
def test_a_cookie_that_was_tampered_with_is_nobody_s(page, change):
    ben = page.log_in("Ben")
    name, value = next(iter(ben.client.cookies.items()))
    client = browser(page.client.app)
    client.cookies.set(name, change(value))
    assert client.get("/api/cases").status_code == 401


def test_neither_cookies_nor_tokens_nor_passwords_are_in_the_file(page, accounts):
    ben = page.log_in("Ben")
    token = accounts.add_token("Ben", "laptop", days=1)
    stored = b"".join(file.read_bytes() for file in page.run.users.parent.glob("users.sqlite*"))
    for secret in (*ben.client.cookies.values(), token, ben.headers["X-Nonet"], password_of("Ben")):
        assert secret.encode() not in stored


def test_a_session_ends_when_it_rests_and_after_a_week_in_any_case(page, clock):
    ben = page.log_in("Ben")
    clock.now += IDLE_S - 1
    assert is_logged_in(ben)
    clock.now += IDLE_S - 1
    assert is_logged_in(ben)
    clock.now += IDLE_S
    assert not is_logged_in(ben)
    ben, began = page.log_in("Ben"), clock.now
    while clock.now - began < LONGEST_S - IDLE_S // 2:
        assert is_logged_in(ben)
        clock.now += IDLE_S // 2
    clock.now = began + LONGEST_S
    assert not is_logged_in(ben)


@pytest.mark.parametrize(
    "end",
    [
        lambda accounts: accounts.set_password("Ben", "another password"),
        lambda accounts: accounts.set_role("Ben", "reader"),
        lambda accounts: accounts.remove("Ben"),
        lambda accounts: accounts.revoke("Ben"),
    ],
)
def test_a_session_ends_with_a_change_of_its_user(page, accounts, end):
    ben, ada = page.log_in("Ben"), page.log_in("Ada")
    end(accounts)
    assert not is_logged_in(ben)
    assert ben.post("undo").status_code == 401
    assert is_logged_in(ada)


def test_changes_need_what_belongs_to_their_own_session(page):
    ada, ben = page.log_in("Ada"), page.log_in("Ben")
    for given in ("1", "", ada.headers["X-Nonet"], ben.headers["X-Nonet"][:-1], "é"):
        assert ben.post("undo", headers=HEADERS | {"X-Nonet": given.encode()}).status_code == 403, given
    assert ben.post("undo", headers={}).status_code == 403
    assert ben.post("undo", headers=ben.headers | {"Origin": "http://evil.example"}).status_code == 403
    assert ben.post("undo").status_code == 200


def test_a_program_with_a_token_needs_neither_header_nor_origin(page, accounts):
    token = accounts.add_token("ben", "laptop", days=1)
    program = browser(page.client.app)
    program.headers["Authorization"] = f"Bearer {token}"
    cells = program.get(f"/api/cases/{page.case_id}/cells").json()
    body = {"cells": {str(cells[0]["id"]): 0}, "label": "EO"}
    assert program.post(f"/api/cases/{page.case_id}/decisions", json=body).status_code == 200
    assert page.store.history(page.case_id)[-1]["who"] == "Ben"
    accounts.set_role("Ben", "reader")
    assert program.post(f"/api/cases/{page.case_id}/undo").status_code == 403
    accounts.revoke("Ben", "laptop")
    assert program.get("/api/cases").status_code == 401


def test_a_token_that_is_wrong_is_refused_even_beside_a_session(page, accounts, clock):
    ada = page.log_in("Ada")
    token = accounts.add_token("Ada", "laptop", days=1)
    for wrong in ("x", token[:-1], "", "Bearer", token + " x"):
        ada.client.headers["Authorization"] = f"Bearer {wrong}"
        assert not is_logged_in(ada), wrong
        assert ada.post("undo").status_code == 401
    ada.client.headers["Authorization"] = f"bearer {token}"
    assert is_logged_in(ada)
    clock.now = accounts.users()[0].tokens["laptop"]
    assert not is_logged_in(ada)


def test_roles_say_what_a_person_may_do(page):
    rea, ben = page.log_in("Rea"), page.log_in("Ben")
    assert rea.get("cells").status_code == 200
    for what, body in (("undo", None), ("sign", {"version": 0}), ("reopen", {"comment": "x"})):
        assert rea.post(what, body).status_code == 403
    assert rea.decide([0], "EO").status_code == 403
    assert page.store.history(page.case_id) == []
    assert ben.sign().status_code == 200


def test_a_name_is_locked_after_five_failures_and_others_are_not(page):
    for _ in range(MAX_OF_NAME):
        assert try_to_log_in(page, "Ada", "wrong").status_code == 401
    locked = try_to_log_in(page, "ADA", password_of("Ada"))
    assert locked.status_code == 429
    assert 0 < int(locked.headers["retry-after"]) <= 15 * 60
    assert try_to_log_in(page, "Ben", password_of("Ben")).status_code == 204


def test_one_who_logs_in_has_all_attempts_again(page):
    for _ in range(3):
        for _ in range(MAX_OF_NAME - 1):
            assert try_to_log_in(page, "Ada", "wrong").status_code == 401
        assert try_to_log_in(page, "Ada", password_of("Ada")).status_code == 204


@pytest.mark.slow
def test_an_address_is_locked_after_thirty_failures(page):
    for number in range(MAX_OF_ADDRESS):
        assert try_to_log_in(page, f"name {number}", "wrong").status_code == 401
    assert try_to_log_in(page, "Ada", password_of("Ada")).status_code == 429


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("/cases/7?x=1", "/cases/7?x=1"),
        ("/", "/"),
        ("", "/"),
        ("cases", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/\t/evil.example", "/"),
        ("\\\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/login?next=/login", "/"),
        ("/cases\n", "/"),
    ],
)
def test_a_login_leads_to_pages_of_this_site_only(page, address, place):
    assert local_path(address) == place
    assert f'data-next="{place}"' in page.client.get("/login", params={"next": address}).text
    ada = page.log_in("Ada")
    answer = ada.client.get("/login", params={"next": address}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, place)


def test_a_page_that_was_asked_for_is_kept_for_after_the_login(page):
    answer = page.client.get("/cases/1?a=b&c=d", headers=HTML)
    assert answer.status_code == 200 and 'data-next="/cases/1?a=b&amp;c=d"' in answer.text
    assert page.client.get("/", headers=HTML).url.path == "/login"


def test_two_see_each_other_s_names_in_the_history(page):
    ada, ben = page.log_in("Ada"), page.log_in("Ben")
    ada.decide([0], "EO")
    ben.decide([0], "BA")
    for one in (ada, ben):
        text = one.client.get(f"/cases/{page.case_id}/differential").text
        assert "Ada moved" in text and "Ben moved" in text


def test_without_users_nobody_logs_in(tmp_path):
    page = open_page(tmp_path, CELLS)
    assert page.client.get("/login").status_code == 404
    assert "Log out" not in page.client.get("/").text
    assert page.post("undo", headers={"X-Nonet": "anything"}).status_code == 200
