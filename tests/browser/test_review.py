"""The review page in a real browser: from the list of cases to a signed differential, by keys, and by two people."""

import signal

import pytest

from helpers.browsing import NEEDS_BROWSER, PHONE, fits, get_json, opened, press, served, until
from helpers.prediction_folders import write_reviewable, write_run

pytestmark = NEEDS_BROWSER
LABELS = ["SNE"] * 12 + ["LY"] * 8 + ["MO"] * 3 + ["BL", "unidentified", "unidentified", "reason:unknown cell type", ""]


@pytest.fixture
def folder(tmp_path):
    run = write_run(tmp_path / "run")
    cells = [(f"{k}.png", "Müller <7>", label) for k, label in enumerate(LABELS)]
    write_reviewable(tmp_path / "predictions", run, cells)
    table = tmp_path / "predictions" / "predictions.csv"
    table.write_text(table.read_text(encoding="utf-8").replace(",unidentified,unidentified,", ",unidentified,EO,"))
    return tmp_path


#: What two reviewers, a killed program, and a run without networks make a browser write.
EXPECTED = ("409 (Conflict)", "ERR_CONNECTION_REFUSED", "503 (Service Unavailable)")


def serving(folder, reviewer="Ada"):
    return served(folder / "run", "--cases", folder / "predictions", reviewer=reviewer)


def open_gallery(page):
    page.click("text=Müller <7>")
    page.wait_for_selector("body[data-ready]")


def section(page, code):
    return [
        int(tile.get_attribute("data-id")) for tile in page.query_selector_all(f'section[data-code="{code}"] .tile')
    ]


def wait_until_saved(page):
    until(page, "!document.getElementById('left').textContent.includes('saving')")


def left(page):
    wait_until_saved(page)
    return page.inner_text("#left")


def test_from_the_list_of_cases_to_a_signed_differential_by_keys_alone(browser, folder):
    with serving(folder) as (address, _), opened(browser, address, accept_downloads=True, expected=EXPECTED) as page:
        assert page.inner_text("tbody .open") == "3"
        open_gallery(page)
        assert left(page) == "27 cells · 3 unidentified · 0 changed · 27 to look at"
        first = section(page, "unidentified")
        assert page.get_attribute(".tile.current", "data-id") == str(first[0])
        press(page, "Enter")
        assert "need a class each" in page.inner_text("#message")
        press(page, "Space", "m")  # takes the suggestion, EO; then a monocyte
        assert len(section(page, "EO")) == 1
        press(page, "Space")  # of an unknown cell type: nothing to agree with
        assert "no suggestion" in page.inner_text("#message")
        press(page, "x")
        assert len(section(page, "ART")) == 1
        assert page.is_hidden('section[data-code="unidentified"]')
        press(page, "z", "z", "z")
        wait_until_saved(page)
        assert len(section(page, "unidentified")) == 3
        press(page, "z")
        wait_until_saved(page)
        assert "Nothing is left to undo" in page.inner_text("#message")
        press(page, "Space", "m", "x", "Enter", "Enter")  # all blasts, then all other monocytes
        assert left(page) == "27 cells · 0 unidentified · 3 changed · 20 to look at"
        press(page, "Shift+ArrowRight", "Shift+ArrowRight", "b")  # three lymphocytes
        assert len(section(page, "BNE")) == 3
        press(page, "Enter", "Enter")
        until(page, "document.activeElement.id === 'next'")
        press(page, "Enter")
        page.wait_for_selector(".sign button:focus")
        press(page, "Enter")
        page.wait_for_selector("text=Signed by Ada")
        for kind in ("CSV", "JSON", "FHIR"):
            with page.expect_download() as download:
                page.click(f"text={kind} >> nth=0")
            assert download.value.path().stat().st_size > 100
        case = get_json(page, "/api/cases/1")
        assert case["is_signed"] and case["num_unidentified"] == 0
        kinds = [row["kind"] for row in get_json(page, "/api/cases/1/history")]
        assert kinds[:6] == ["agree", "move", "move", "undo", "undo", "undo"]
        assert kinds.count("accept") > 15 and kinds[-1] == "sign"
        page.click("text=Cells")
        page.wait_for_selector("body[data-ready]")
        press(page, "s")
        assert "is signed" in page.inner_text("#message")
        page.click("text=Differential >> nth=0")
        page.fill("#comment", "wrong slide")
        page.click('button:has-text("Reopen")')
        page.wait_for_selector("text=Sign as Ada")


def test_what_is_selected_moves_together(browser, folder):
    with serving(folder) as (address, _), opened(browser, address, expected=EXPECTED) as page:
        open_gallery(page)
        neutrophils = section(page, "SNE")
        page.click(f"#cell-{neutrophils[2]}")
        page.click(f"#cell-{neutrophils[5]}")
        press(page, "b")
        assert section(page, "BNE") == [neutrophils[2], neutrophils[5]]
        page.hover(f"#cell-{neutrophils[0]}")
        press(page, "Shift+ArrowRight", "b")
        assert len(section(page, "BNE")) == 4
        page.drag_and_drop(f"#cell-{neutrophils[8]}", 'section[data-code="LY"]')
        assert neutrophils[8] in section(page, "LY")
        grid = page.query_selector('section[data-code="MO"] .grid').bounding_box()
        page.mouse.move(grid["x"] + grid["width"] - 5, grid["y"] + 90)
        page.mouse.down()
        page.mouse.move(grid["x"] + 20, grid["y"] + 10, steps=5)
        page.mouse.up()
        press(page, "k")
        assert len(section(page, "BL")) == 4
        wait_until_saved(page)
        stored = {cell["id"]: cell["label"] for cell in get_json(page, "/api/cases/1/cells")}
        for code in ("BNE", "LY", "BL", "SNE"):
            assert {stored[cell] for cell in section(page, code)} == {code}
        batches = {row["batch"] for row in get_json(page, "/api/cases/1/history")}
        assert len(batches) == 4


def test_two_reviewers_see_each_other_s_decisions_and_none_is_overwritten(browser, folder):
    with (
        serving(folder, "Ada") as (ada, _),
        serving(folder, "Ben") as (ben, _),
        opened(browser, ada, expected=EXPECTED) as first,
        opened(browser, ben, expected=EXPECTED) as second,
    ):
        for page in (first, second):
            open_gallery(page)
        press(first, "b")
        wait_until_saved(first)
        cell = section(first, "BNE")[0]
        press(second, "e", "l")  # the first is stale, the second is not
        wait_until_saved(second)
        assert "omebody else has changed" in second.inner_text("#message")
        assert cell in section(second, "BNE"), "as it stands"
        rows = get_json(second, "/api/cases/1/history")
        assert [(row["who"], row["to_label"]) for row in rows] == [("Ada", "BNE"), ("Ben", "LY")]
        second.focus(f"#cell-{cell}")
        second.click(f"#cell-{cell}")
        press(second, "e")
        wait_until_saved(second)
        assert get_json(second, "/api/cases/1/history")[-1]["to_label"] == "EO"
        press(first, "z")
        wait_until_saved(first)
        assert "omebody else has changed" in first.inner_text("#message")


def test_blind_cells_show_no_suggestion_until_they_are_labelled(browser, folder):
    with serving(folder) as (address, _), opened(browser, address, expected=EXPECTED) as page:
        open_gallery(page)
        page.check("#blind")
        assert len(section(page, "")) == 27
        assert page.is_hidden('section[data-code="SNE"]')
        assert set(page.eval_on_selector_all(".mark", "(all) => all.map((one) => one.textContent)")) == {""}
        tile = page.query_selector('section[data-code=""] .tile')
        assert (tile.get_attribute("title"), tile.get_attribute("aria-label")) == ("", "cell, suggestion hidden")
        tile.focus()
        press(page, "Home", "Space")
        assert "suggestion is hidden" in page.inner_text("#message")
        press(page, "b")
        assert len(section(page, "")) == 26 and len(section(page, "BNE")) == 1
        wait_until_saved(page)
        assert [row["is_blind"] for row in get_json(page, "/api/cases/1/history")] == [1]
        page.uncheck("#blind")
        press(page, "b")
        wait_until_saved(page)
        assert [row["is_blind"] for row in get_json(page, "/api/cases/1/history")] == [1, 0]


def test_the_cell_s_own_panel_and_the_keys(browser, folder):
    with serving(folder) as (address, _), opened(browser, address, expected=EXPECTED) as page:
        open_gallery(page)
        press(page, "?")
        assert page.is_visible("#keys")
        press(page, "?", "i")
        assert page.is_hidden("#keys")
        until(page, "document.getElementById('native').naturalWidth === 24")
        assert "24.png" in page.inner_text("#facts")
        until(page, "document.getElementById('networks').textContent.length > 10")  # why they say nothing
        press(page, "ArrowRight")
        assert "25.png" in page.inner_text("#facts")
        page.fill("#brightness", "150")
        assert "150" in page.eval_on_selector("#native", "(image) => image.style.filter")
        press(page, "Escape", "PageDown", "i")
        assert page.is_hidden("#panel")


def test_a_finger_on_a_phone_labels_and_accepts(browser, folder):
    with serving(folder) as (address, _), opened(browser, address, **PHONE, expected=EXPECTED) as page:
        open_gallery(page)
        assert fits(page)
        for cell in section(page, "unidentified"):
            page.tap(f"#cell-{cell}")
        page.tap("#moves >> text=MO")
        assert len(section(page, "MO")) == 6
        page.tap('section[data-code="MO"] .accept')
        assert "0 unidentified" in left(page)
        page.tap("#next")
        page.wait_for_selector("text=Sign as Ada")
        assert fits(page)
        page.goto(address)
        assert fits(page)


@pytest.mark.kill
def test_a_killed_program_is_reported_and_what_it_had_stored_is_there_again(browser, folder):
    with serving(folder) as (address, process), opened(browser, address, expected=EXPECTED) as page:
        open_gallery(page)
        press(page, "b", "b")
        wait_until_saved(page)
        process.kill()
        process.wait()
        press(page, "m")
        page.wait_for_selector("text=The program does not answer")
        assert len(section(page, "unidentified")) == 1
    with serving(folder) as (address, _), opened(browser, address, expected=EXPECTED) as page:
        open_gallery(page)
        assert len(section(page, "BNE")) == 2
        assert "1 unidentified" in left(page)


@pytest.mark.kill
def test_ctrl_c_ends_the_page_quietly(folder):
    with serving(folder) as (_, process):
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "Traceback" not in errors and "Stopped" in errors
