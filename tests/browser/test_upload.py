"""Images on the page of cases in a real browser: dropped or chosen, sent, predicted, and shown in the gallery."""

import base64
import shutil

import pandas as pd
import pytest

from helpers.browsing import NEEDS_BROWSER, PHONE, fits, get_json, opened, press, served, until
from helpers.odd_images import as_file, noise, zipped

pytestmark = NEEDS_BROWSER
#: Drops files, [name, base64], onto the page.
DROP = """(files) => {
  const transfer = new DataTransfer();
  for (const [name, data] of files) {
    transfer.items.add(new File([Uint8Array.from(atob(data), (one) => one.charCodeAt(0))], name));
  }
  for (const type of ["dragenter", "dragover", "drop"]) {
    const event = new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true });
    document.querySelector("h1").dispatchEvent(event);
  }
}"""


@pytest.fixture
def run(random_run, tmp_path):
    return shutil.copytree(random_run.folder, tmp_path / "run")


def cell(seed):
    return as_file(noise(seed))


def drop(page, files):
    page.evaluate(DROP, [[name, base64.b64encode(data).decode()] for name, data in files.items()])


def images_shown(page):
    page.wait_for_selector("body[data-ready]", timeout=120_000)
    number = page.url.rsplit("/", 1)[-1]
    return sorted(cell["image"] for cell in get_json(page, f"/api/cases/{number}/cells"))


def label_and_sign(page):
    """Give every unidentified cell a class, accept all others, and sign: by keys alone."""
    for _ in range(20):
        if page.evaluate("document.activeElement.id === 'next'"):
            break
        is_unidentified = page.evaluate("document.activeElement.closest('section').dataset.code === 'unidentified'")
        press(page, "s" if is_unidentified else "Enter")
    until(page, "!document.getElementById('left').textContent.includes('saving')")
    assert "· 0 unidentified" in page.inner_text("#left"), page.inner_text("body")
    press(page, "Enter")
    page.wait_for_selector(".sign button:focus")
    press(page, "Enter")
    page.wait_for_selector("text=Signed by Ada")


def test_a_zip_and_loose_files_that_are_dropped_become_a_case_that_is_signed(browser, run):
    with served(run) as (address, _), opened(browser, address, accept_downloads=True) as page:
        assert "Drop images" in page.inner_text("#no-cases")
        archive = zipped({f"slide/{k}.png": cell(k) for k in range(5)})
        drop(page, {"slides.zip": archive, "a.png": cell(10), "b.png": cell(11), ".DS_Store": b"x"})
        until(page, "!document.querySelector('#upload form').hidden")
        assert page.inner_text("#chosen").startswith("3 files")
        page.fill("#case", "Müller <7>")
        page.press("#case", "Enter")
        assert images_shown(page) == ["0.png", "1.png", "2.png", "3.png", "4.png", "a.png", "b.png"]
        assert len(page.query_selector_all(".tile")) == 7
        label_and_sign(page)
        with page.expect_download() as download:
            page.click("text=CSV")
        counted = pd.read_csv(download.value.path()).query("part == 'class'")
        assert counted["count"].sum() == 7 and set(counted["status"]) == {"final"}
        page.goto(address)
        assert page.inner_text(".cases tbody th") == "Müller <7>"
        assert "signed by Ada" in page.inner_text(".cases tbody")
        assert page.query_selector(".unfinished") is None


def test_files_that_are_not_taken_are_listed_before_the_gallery_opens(browser, run, tmp_path):
    folder = tmp_path / "slide 3"
    folder.mkdir()
    (folder / "a.png").write_bytes(cell(0))
    (folder / "<b>notes.txt").write_bytes(b"hello")
    with served(run) as (address, _), opened(browser, address, **PHONE) as page:
        page.set_input_files("#folder", folder)
        assert page.input_value("#case") == "slide 3", "the name of the folder"
        assert fits(page)
        page.click("#begin")
        page.wait_for_selector("#progress a.go", timeout=120_000)
        assert "<b>notes.txt" in page.inner_text("#progress li")
        assert "text, not an image" in page.inner_text("#progress li")
        assert fits(page)
        page.click("#progress a.go")
        assert images_shown(page) == ["a.png"]


def test_an_upload_that_was_interrupted_is_continued_or_deleted(browser, run):
    with served(run) as (address, process), opened(browser, address) as page:
        page.evaluate(
            """async (data) => {
              const headers = { "X-Nonet": "1", "Content-Type": "application/json" };
              for (const name of ["first", "second"]) {
                const about = JSON.stringify({ case: name });
                const { id } = await (await fetch("/api/uploads", { method: "POST", headers, body: about })).json();
                const body = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
                await fetch(`/api/uploads/${id}/files?name=a.png`, { method: "PUT", headers, body });
              }
            }""",
            base64.b64encode(cell(0)).decode(),
        )
        process.kill()
    with served(run) as (address, _), opened(browser, address) as page:
        assert "1 image received, not finished" in page.inner_text(".unfinished")
        with page.expect_navigation():
            page.click("li[data-case=second] [data-action=delete]")
        assert len(page.query_selector_all(".unfinished li")) == 1
        drop(page, {"b.png": cell(1)})
        page.fill("#case", "first")
        page.click("#begin")
        assert images_shown(page) == ["a.png", "b.png"]
