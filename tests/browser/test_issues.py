"""The queue of doubtful labels in a real browser: decided by keys, by two people, by a finger."""

import re
from contextlib import contextmanager

import pytest

from helpers.browsing import NEEDS_BROWSER, PHONE, fits, get_json, opened, press, served, until
from helpers.issue_runs import make_doubted_run

pytestmark = NEEDS_BROWSER


@pytest.fixture
def doubted(tmp_path):
    return make_doubted_run(tmp_path)


@contextmanager
def opened_queue(browser, address, **options):
    with opened(browser, f"{address}/issues", **options) as page:
        page.wait_for_selector("body[data-ready]")
        yield page


def left(page):
    until(page, "!document.getElementById('left').textContent.includes('saving')")
    return int(re.match(r"\d+", page.inner_text("#left")).group())


def rank(page):
    return int(re.search(r"no\. (\d+)", page.inner_text("#left")).group(1))


def stored(page):
    """Return what the program has stored, once nothing is under way."""
    left(page)
    issues = get_json(page, "/api/issues?state=decided")["issues"]
    return {one["rank"]: (one["decision"], one["label"], one["note"]) for one in issues}


def test_the_queue_is_worked_off_by_keys(browser, doubted):
    with served(doubted.run.folder) as (address, _), opened_queue(browser, address) as page:
        total = left(page)
        issues = get_json(page, "/api/issues")["issues"]
        assert total == len(issues) == len(doubted.truth)
        until(page, "document.querySelector('#cell img').naturalWidth > 0")
        assert page.eval_on_selector_all(".strip img", "(all) => all.length") == 6
        press(page, "Space")  # as suggested
        assert rank(page) == 2
        press(page, "Enter", ".", "Delete", "l")  # keep, unsure, drop, a lymphocyte
        assert left(page) == total - 5
        expected = {1: ("relabel", issues[0]["suggested"], ""), 2: ("keep", "", ""), 3: ("unsure", "", "")}
        expected |= {4: ("drop", "", ""), 5: ("relabel", "LY", "")}
        assert stored(page) == expected
        press(page, "z", "z")
        until(page, "document.getElementById('left').textContent.includes('no. 4')")
        assert left(page) == total - 3 and [*stored(page)] == [1, 2, 3]
        press(page, "ArrowRight", "ArrowRight", "ArrowLeft")
        assert rank(page) == 5
        press(page, "ArrowLeft", "ArrowLeft")
        assert rank(page) == 3 and "Unsure" in page.inner_text("#decision")
        press(page, "Backspace")
        assert rank(page) == 4, "the next that is undecided"
        assert stored(page)[3][0] == "drop"
        page.fill("#note", "  two nuclei, zoom later ")  # letters in a field decide nothing
        press(page, "Enter", "Enter")
        assert left(page) == total - 4
        assert stored(page)[4] == ("keep", "", "two nuclei, zoom later")
        press(page, *["Enter"] * (total - 4))
        page.wait_for_selector("text=Every label has been decided.")
        assert left(page) == 0
        press(page, "Enter", "Space", "x", ".")
        assert len(stored(page)) == total
        press(page, "z")
        page.wait_for_selector("#issue:not([hidden])")
        assert left(page) == 1


def test_filters_are_in_the_address_and_survive_a_reload(browser, doubted):
    with served(doubted.run.folder) as (address, _), opened_queue(browser, address) as page:
        pair = page.eval_on_selector("[name=pair] option:nth-child(2)", "(one) => one.value")
        expected = get_json(page, "/api/issues")["issues"]
        matching = [one["rank"] for one in expected if f"{one['given']} → {one['suggested']}" == pair]
        page.select_option("[name=pair]", pair)
        until(page, f"document.getElementById('left').textContent.startsWith('{len(matching)} ')")
        assert rank(page) == matching[0]
        assert "pair=" in page.url
        page.evaluate("document.activeElement.blur()")
        press(page, "Enter")
        assert left(page) == len(matching) - 1
        page.reload()
        page.wait_for_selector("body[data-ready]")
        assert left(page) == len(matching) - 1
        page.select_option("[name=state]", "decided")
        until(page, "document.getElementById('decision').textContent.includes('Kept')")
        page.select_option("[name=state]", "all")
        until(page, f"document.getElementById('left').textContent.includes('no. {[*matching, 0][1] or matching[0]}')")
        page.goto(f"{address}/issues?patient=nobody")
        page.wait_for_selector("text=Nothing matches these filters.")


def test_two_people_do_not_overwrite_each_other(browser, doubted):
    with (
        served(doubted.run.folder) as (ada, _),
        served(doubted.run.folder, reviewer="Ben") as (ben, _),
        opened_queue(browser, ada) as first,
        opened_queue(browser, ben, expected=["409 (Conflict)"]) as second,
    ):
        total = left(first)
        press(first, "Delete")
        assert left(first) == total - 1
        press(second, "Enter", "Enter")  # the first is stale, the second is not
        second.wait_for_selector("#message:not([hidden])")
        assert "Ada has decided" in second.inner_text("#message")
        until(second, f"document.getElementById('left').textContent.startsWith('{total - 2} ')")
        assert stored(second) == {1: ("drop", "", ""), 2: ("keep", "", "")}
        press(second, "ArrowLeft", "ArrowLeft")
        assert "Dropped" in second.inner_text("#decision") and "Ada" in second.inner_text("#decision")


@pytest.mark.kill
def test_what_a_killed_program_had_not_stored_is_shown_as_it_was(browser, doubted):
    with (
        served(doubted.run.folder) as (address, process),
        opened_queue(browser, address, expected=["ERR_CONNECTION_REFUSED", "ERR_EMPTY_RESPONSE"]) as page,
    ):
        total = left(page)
        press(page, "Space")
        assert left(page) == total - 1
        process.kill()
        process.wait()
        press(page, "Enter")
        page.wait_for_selector("text=The program does not answer")
        assert left(page) == total - 1
    with served(doubted.run.folder) as (address, _), opened_queue(browser, address) as page:
        assert left(page) == total - 1 and rank(page) == 2


def test_a_finger_on_a_phone_and_a_mouse_decide(browser, doubted):
    with served(doubted.run.folder) as (address, _), opened_queue(browser, address, **PHONE) as page:
        assert fits(page)
        total = left(page)
        page.tap("[data-decision=drop]")
        page.tap("[data-code=MO]")
        page.tap("#undo")
        until(page, f"document.getElementById('left').textContent.startsWith('{total - 1} ')")
        assert stored(page) == {1: ("drop", "", "")}
    with served(doubted.run.folder) as (address, _), opened_queue(browser, address) as page:
        page.click("[data-decision=unsure]")
        press(page, "Enter")  # keeps the label: the button that was clicked has not kept the focus
        assert left(page) == total - 3
        assert [one[0] for one in stored(page).values()] == ["drop", "unsure", "keep"]


def test_missing_images_are_said_on_their_tiles_and_can_be_decided(browser, doubted):
    first = next(iter(doubted.truth))
    doubted.dataset.image_path(first).unlink()
    with (
        served(doubted.run.folder) as (address, _),
        opened_queue(browser, address, expected=["404 (Not Found)"]) as page,
    ):
        page.wait_for_selector("#cell .why:not([hidden])")
        press(page, "Delete")
        until(page, "document.querySelector('#cell img').naturalWidth > 0")
        assert page.is_hidden("#cell .why")
