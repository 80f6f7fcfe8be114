"""axe-core on every page: contrast, names, roles and order, light and dark, on a desk and on a phone."""

from pathlib import Path

import pytest

import nonet
from helpers.browsing import NEEDS_BROWSER, PHONE, fits, press, served
from helpers.issue_runs import make_doubted_run
from helpers.prediction_folders import write_reviewable, write_run

pytestmark = NEEDS_BROWSER
axe = pytest.importorskip("axe_playwright_python", reason="the package axe-playwright-python is not installed")
SCRIPT = Path(axe.__file__).parent / "axe.min.js"
LABELS = ["SNE", "SNE", "LY", "MO", "BL", "unidentified", "unidentified", ""]
PATHS = ("/", "/?search=nothing", "/cases/1", "/cases/1/differential", "/issues", "/run", "/nothing")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    run = make_doubted_run(folder).run
    classes = ("BNE", "EO", "LY", "MO", "SNE", "BL")
    cells = [(f"{k}.png", "Müller <7>", label) for k, label in enumerate(LABELS)]
    write_reviewable(folder / "predictions", run.folder, cells, classes)
    with served(run.folder, "--cases", folder / "predictions") as (address, _):
        yield address


def problems(page):
    """Return what axe finds serious or critical, with the first element of each."""
    page.evaluate(SCRIPT.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run().then((result) => result.violations)")
    return [(one["id"], one["nodes"][0]["html"][:150]) for one in found if one["impact"] in ("serious", "critical")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_on_which_one_logs_in_has_none(browser, tmp_path, scheme):
    run = write_run(tmp_path / "run")
    write_reviewable(tmp_path / "predictions", run, [("a.png", "7", "SNE")])
    nonet.add_user(run, "Ada", password="a long password for tests")
    with served(run, "--cases", tmp_path / "predictions", reviewer=None) as (address, _):
        for options in (PHONE, {}):
            page = browser.new_page(color_scheme=scheme, bypass_csp=True, **options)
            page.goto(address)
            assert "/login" in page.url
            assert (problems(page), fits(page)) == ([], True)
            page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", ["desk", "phone"])
def test_no_page_has_a_serious_finding(browser, address, scheme, screen):
    options = PHONE if screen == "phone" else {"viewport": {"width": 1280, "height": 800}}
    context = browser.new_context(color_scheme=scheme, bypass_csp=True, **options)  # the policy stops axe as well
    page = context.new_page()
    found = {}
    for path in PATHS:
        page.goto(address + path)
        if path in ("/cases/1", "/issues"):
            page.wait_for_selector("body[data-ready]")
        found[path] = problems(page), fits(page)
        if path == "/cases/1":
            press(page, "?", "i", "s", "Shift+ArrowRight")
            page.wait_for_timeout(500)
            found["panel and keys"] = problems(page), fits(page)
    context.close()
    assert found == dict.fromkeys(found, ([], True))


def test_axe_sees_what_is_wrong(browser):
    page = browser.new_page()
    page.set_content('<html lang="en"><title>x</title><img src="x"><p style="color: #ccc; background: #fff">pale</p>')
    assert {"image-alt", "color-contrast"} <= {name for name, _ in problems(page)}
    page.close()
