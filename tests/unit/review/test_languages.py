"""The pages in other languages: the browser's, the one that was chosen, and a laboratory's own file."""

import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

from helpers.reviews import HEADERS, browser, open_page
from nonet.cells import CELLS
from nonet.errors import DataError
from nonet.review.app import make_app
from nonet.review.languages import FOLDER, Languages, read_language
from nonet.review.roles import User
from nonet.review.site import Site

HEAD = 'msgid ""\nmsgstr ""\n"Language: {}\\n"\n"Content-Type: text/plain; charset=utf-8\\n"\n\n'


@pytest.fixture
def page(tmp_path):
    return open_page(tmp_path, [("a.png", "7", "SNE"), ("b.png", "7", "unidentified")])


def language_of(answer):
    return re.search(r'<html lang="([^"]+)"', answer.text).group(1)


@pytest.mark.parametrize(
    ("preferred", "shown"),
    [
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("fr, en;q=0.5", "en"),
        ("fr", "en"),
        ("", "en"),
        ("*;;,=", "en"),
    ],
)
def test_the_browser_s_language_is_shown(page, preferred, shown):
    assert language_of(page.client.get("/", headers={"Accept-Language": preferred})) == shown


def test_the_language_that_was_chosen_is_remembered(page):
    for code, status in (("de", 204), ("en", 204), ("de", 204), ("xx", 204)):
        assert page.client.post("/language", json={"code": code}, headers=HEADERS).status_code == status
    assert language_of(page.client.get("/", headers={"Accept-Language": "en"})) == "de"


def test_pages_scripts_classes_and_refusals_are_german(page):
    german = {"Accept-Language": "de"}
    gallery = page.client.get(f"/cases/{page.case_id}", headers=german).text
    assert "Segmentkerniger Neutrophiler" in gallery and "segmented neutrophil" not in gallery
    texts = page.client.get("/texts.js", headers=german)
    assert texts.text.startswith("export default {") and "angesehen" in texts.text
    assert page.client.get("/texts.js").text == "export default {};\n"
    refused = page.post("sign", {"version": 0}, headers=HEADERS | german)
    assert refused.json()["detail"].startswith("Nicht identifizierte Zellen: 1.")
    differential = page.client.get(f"/cases/{page.case_id}/differential", headers=german).text
    assert "Nur für Forschungszwecke" in differential
    assert not re.search(r">\s*(as predicted|as reviewed|unidentified|share)\s*<", differential)


def test_every_text_of_the_pages_is_translated_into_german():
    script = Path(__file__).parents[3] / "docs" / "make_translations.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_no_two_classes_share_a_name_in_german():
    translate = read_language(FOLDER / "de.po").translations.gettext
    assert len({translate(cell.name) for cell in CELLS.values()}) == len(CELLS)


def test_a_laboratory_adds_a_language_by_one_file(tmp_path):
    file = tmp_path / "fr.po"
    file.write_text(HEAD.format("fr") + 'msgid "Cases"\nmsgstr "Cas"\n', encoding="utf-8")
    languages = Languages([file])
    assert [*languages.by_code] == ["en", "de", "fr"]
    french = languages.by_code["fr"]
    assert french.translations.gettext("Cases") == "Cas"
    assert french.translations.gettext("Run") == "Run", "what it does not translate stays English"
    assert french.texts == {"Cases": "Cas"}


def test_a_file_replaces_the_translation_of_its_language(tmp_path):
    file = tmp_path / "mine.po"
    file.write_text(HEAD.format("de") + 'msgid "Cases"\nmsgstr "Proben"\n', encoding="utf-8")
    assert Languages([file]).by_code["de"].translations.gettext("Cases") == "Proben"


@pytest.mark.parametrize(
    "text",
    [
        "not a translation",
        'msgid "Cases"\nmsgstr "Cas"\n',  # of which language?
        HEAD.format("xx-no-language") + 'msgid "Cases"\nmsgstr "Cas"\n',
        HEAD.format("fr") + 'msgid "{num} changed"\nmsgstr "{number} changées"\n',
        HEAD.format("fr") + 'msgid "Sign as %(who)s"\nmsgstr "Signer: %(qui)s"\n',
        HEAD.format("fr") + 'msgid "Signed by %(who)s"\nmsgstr "100 % %(who)s"\n',
        HEAD.format("fr") + 'msgid "Case \\"{name}\\" was signed by {who}."\nmsgstr "{} {who}"\n',
        HEAD.format("fr") + 'msgid "Cases',
        "",
    ],
)
def test_a_file_that_would_fail_later_is_refused_at_once(tmp_path, text):
    file = tmp_path / "fr.po"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"fr\.po") as caught:
        Languages([file])
    assert caught.value.hint


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b"\x00" * 100])
def test_a_missing_or_binary_file_is_named(tmp_path, content):
    from nonet.errors import NonetError

    file = tmp_path / "fr.po"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(NonetError, match=r"fr\.po"):
        Languages([file])


def test_a_translation_is_text_whatever_letters_it_has(tmp_path):
    file = tmp_path / "fr.po"
    file.write_text(HEAD.format("fr") + 'msgid "Cases"\nmsgstr "Cas <b>& \'plus\'"\n', encoding="utf-8")
    page = open_page(tmp_path, [("a.png", "7", "SNE")])
    site = Site(page.run, page.store, User("Ada", "admin"), "run", languages=Languages([file]))
    shown = browser(make_app(site)).get("/", headers={"Accept-Language": "fr"}).text
    assert "Cas <b>" not in shown
    assert "Cas <b>& 'plus'" in unescape(shown)
