"""Logging in with a real browser: to where one wanted to be, out again, and what a login that has ended looks like."""

import pytest

import nonet
from helpers.browsing import NEEDS_BROWSER, PHONE, fits, get_json, opened, press, served, until
from helpers.prediction_folders import write_reviewable, write_run

pytestmark = NEEDS_BROWSER
LABELS = ["SNE"] * 6 + ["LY"] * 3 + ["unidentified"]
PASSWORD = "correct horse battery"
REFUSED = ("401 (Unauthorized)", "403 (Forbidden)")


@pytest.fixture
def run(tmp_path):
    run = write_run(tmp_path / "run")
    write_reviewable(tmp_path / "predictions", run, [(f"{k}.png", "Case 7", label) for k, label in enumerate(LABELS)])
    for name, role in (("Ada", "admin"), ("Ben", "reviewer"), ("Rea", "reader")):
        nonet.add_user(run, name, password=PASSWORD, role=role)
    return run


@pytest.fixture
def address(run):
    with served(run, "--cases", run.parent / "predictions", reviewer=None) as (address, _):
        yield address


def log_in(page, name, password=PASSWORD):
    until(page, "!document.querySelector('#login button').disabled")
    page.fill("#name", name)
    page.fill("#password", password)
    page.keyboard.press("Enter")


def wait_until_saved(page):
    until(page, "!document.getElementById('left').textContent.includes('saving')")


def test_from_the_login_to_a_decision_and_out_again(browser, address):
    with opened(browser, f"{address}/cases/1", expected=REFUSED) as page:
        log_in(page, "ada", "wrong password")
        page.wait_for_selector("text=Name or password is wrong.")
        log_in(page, "ada")
        page.wait_for_selector("body[data-ready]")
        assert page.url == f"{address}/cases/1"
        assert page.inner_text(".who") == "Ada"
        press(page, "e")
        wait_until_saved(page)
        assert [row["who"] for row in get_json(page, "/api/cases/1/history")] == ["Ada"]
        page.goto(f"{address}/cases/1/differential")
        page.click("#log-out")
        page.wait_for_selector("#login")
        page.go_back()
        page.wait_for_selector("#login")
        assert "Case 7" not in page.content() and not page.query_selector(".tile")


def test_two_people_see_each_other_s_names(browser, address):
    with opened(browser, f"{address}/cases/1") as ada, opened(browser, f"{address}/cases/1") as ben:
        for page, name in ((ada, "Ada"), (ben, "Ben")):
            log_in(page, name)
            page.wait_for_selector("body[data-ready]")
        press(ada, "e")
        wait_until_saved(ada)
        ben.reload()
        ben.wait_for_selector("body[data-ready]")
        press(ben, "m")
        wait_until_saved(ben)
        for page in (ada, ben):
            page.goto(f"{address}/cases/1/differential")
            page.click("summary")
            history = page.inner_text(".history")
            assert "Ada moved" in history and "Ben moved" in history


@pytest.mark.parametrize("other", [None, "Ben"])
def test_a_page_whose_login_has_ended_keeps_nothing_half_done(browser, address, other):
    """Another window logs out, or somebody else in: decisions of the first are shown as they stand, under no name."""
    with opened(browser, f"{address}/cases/1", expected=REFUSED) as page:
        log_in(page, "Ada")
        page.wait_for_selector("body[data-ready]")
        press(page, "e")
        wait_until_saved(page)
        second = page.context.new_page()
        second.goto(address)
        second.click("#log-out")
        second.wait_for_selector("#login")
        if other:
            log_in(second, other)
            second.wait_for_selector("text=Case 7")
        press(page, "m", "m", "z")
        page.wait_for_selector("#message a")
        wait_until_saved(page)
        assert len(page.query_selector_all('section[data-code="MO"] .tile')) == 0
        assert len(page.query_selector_all('section[data-code="EO"] .tile')) == 1
        page.click("#message a")
        if not other:
            log_in(page, "Ada")
        page.wait_for_selector("body[data-ready]")
        assert page.url == f"{address}/cases/1"
        assert page.inner_text(".who") == (other or "Ada")
        assert [row["who"] for row in get_json(page, "/api/cases/1/history")] == ["Ada"]


def test_a_reader_looks_and_is_told_why_nothing_moves(browser, address):
    with opened(browser, address, **PHONE) as page:
        assert fits(page)
        log_in(page, "Rea")
        page.click("text=Case 7")
        page.wait_for_selector("body[data-ready]")
        assert page.is_visible("text=As a reader")
        assert page.is_hidden("#undo") and page.is_hidden("#moves") and not page.query_selector(".accept")
        press(page, "e")
        assert "As a reader" in page.inner_text("#message")
        assert get_json(page, "/api/cases/1/history") == []
        assert get_json(page, "/api/cases/1/cells")[0]["image"] == "cell 1"
        assert fits(page)
