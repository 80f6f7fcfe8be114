"""The words of the report and of both cards of one small run, pinned here and nowhere else.

Numbers are replaced by #: other tests check them. Where words were changed on purpose, store the new ones and read
what Git shows of them:

    make golden
"""

import re
from pathlib import Path

import pytest

from helpers.pages import visible_text
from helpers.run_folders import make_run
from nonet.report.evaluate import evaluate

GOLDEN = Path(__file__).with_name("golden")
PAGES = {"report.html": "report.txt", "model_card.md": "model_card.md", "datasheet.md": "datasheet.md"}


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("golden") / "run", num_images=400, num_patients=24, num_external=40)
    evaluate(run, num_resamples=50)
    return run / "evaluation"


def words_of(page):
    """Return a page's text without what may differ between two machines or two days."""
    text = page.read_text(encoding="utf-8")
    text = visible_text(text) if page.suffix == ".html" else text
    text = text.replace(str(page.parents[1]), "RUN")
    text = re.sub(r"\b[0-9a-f]{64}", "SHA256", text)
    text = re.sub(r"\d+ [A-Z][a-z]+ \d{4}, \d\d:\d\d UTC", "TIME", text)
    return re.sub(r"[+−]?\d[\d,]*(\.\d+)*", "#", text)


@pytest.mark.parametrize("page", PAGES)
def test_words_are_the_same_as_stored(page, evaluation, request):
    found, stored = words_of(evaluation / page), GOLDEN / PAGES[page]
    if request.config.getoption("--renew-golden"):
        stored.write_text(found, encoding="utf-8")
    expected = stored.read_text(encoding="utf-8").splitlines()
    assert found.splitlines() == expected, 'Are the new words right? Then run "make golden".'
