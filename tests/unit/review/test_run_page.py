"""The page about the run: report, cards, networks, settings; and what is missing is said."""

import json

import pytest

from helpers.reviews import open_page
from helpers.run_folders import make_run


@pytest.fixture
def page(tmp_path):
    return open_page(tmp_path, [("a.png", "7", "SNE")])


def evaluation_of(page):
    folder = page.run.evaluation
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_a_run_without_anything_says_what_is_missing(page):
    text = page.client.get("/run").text
    assert "nonet evaluate" in text
    assert text.count('class="open"') == 2, "neither ensemble.json nor provenance.json can be read"
    for path in ("/run/report.html", "/run/model_card.md", "/run/datasheet.md"):
        assert page.client.get(path).status_code == 404


def test_networks_settings_and_versions_are_shown(page, tmp_path):
    made = make_run(tmp_path / "other", num_images=60, num_patients=6)
    for name in ("ensemble.json", "provenance.json", "checksums.json"):
        if (made / name).exists():
            (page.run.folder / name).write_bytes((made / name).read_bytes())
    text = page.client.get("/run").text
    members = json.loads((made / "ensemble.json").read_text())["members"]
    assert text.count('<th scope="row">') == len(members) > 0
    assert "name = &#34;drawn&#34;" in text, "the recipe"
    assert text.count('class="open"') == 0


def test_the_report_is_shown_by_itself_and_can_run_nothing(page):
    (evaluation_of(page) / "report.html").write_text("<style>p {}</style><p>report</p><script>alert(1)</script>")
    answer = page.client.get("/run/report.html")
    assert "report" in answer.text
    policy = answer.headers["content-security-policy"]
    assert "sandbox" in policy and "script-src" not in policy and "default-src 'none'" in policy


def test_markup_in_a_card_is_text(page):
    links = "[a](javascript:alert(1)) [b](report.html)"
    card = f"# Card\n\n<script>alert(1)</script>\n\n{links}\n\n| x | y |\n|---|---:|\n| 1 | 2 |\n"
    (evaluation_of(page) / "model_card.md").write_text(card)
    text = page.client.get("/run/model_card.md").text
    assert "<script>alert" not in text and "&lt;script&gt;" in text
    assert 'href="javascript' not in text and 'href="report.html"' in text
    assert "<td>1</td>" in text and '<td class="num">2</td>' in text
    assert "style=" not in text, "the policy forbids styles in the page"
    assert 'href="/run/model_card.md"' in page.client.get("/run").text


@pytest.mark.parametrize("name", ["recipe.md", "../recipe.md", "..%2Frecipe.md", "report", "x.html"])
def test_no_other_file_of_the_run_is_shown(page, name):
    assert page.client.get(f"/run/{name}").status_code == 404
