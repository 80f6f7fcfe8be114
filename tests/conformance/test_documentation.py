"""The documentation names what there is: every public name, and every column of the tables."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from nonet.data.decisions import DECIDED_COLUMNS
from nonet.data.manifest import COLUMNS, EXCLUDED_COLUMNS, OPTIONAL_COLUMNS

DOCS = Path(__file__).parents[2] / "docs"
FILES_PAGE = (DOCS / "reference" / "run-folder.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_public_name_has_a_docstring_and_a_page():
    done = subprocess.run([sys.executable, DOCS / "check.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("column", [*COLUMNS, *OPTIONAL_COLUMNS, *EXCLUDED_COLUMNS, *DECIDED_COLUMNS])
def test_every_column_of_a_dataset_is_explained(column):
    assert re.search(rf"`{column}`", FILES_PAGE)


def check(tmp_path, *pages):
    for name, text in pages:
        (tmp_path / name).write_text(text, encoding="utf-8")
    return subprocess.run([sys.executable, DOCS / "check.py", tmp_path], capture_output=True, text=True)


def test_a_whole_site_passes(tmp_path):
    done = check(tmp_path, ("a.html", '<a href="b.html#x">b</a>'), ("b.html", '<p id="x"><a href="https://x.org">'))
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    "page",
    [
        '<a href="missing.html">',
        '<a href="#nowhere">',
        '<img src="https://x.org/a.png">',
        '<script src="//x.org/a.js">',
    ],
)
def test_a_broken_link_and_what_another_machine_would_serve_are_found(tmp_path, page):
    done = check(tmp_path, ("a.html", page))
    assert done.returncode == 1
    assert "a.html" in done.stdout


def test_a_link_that_leads_nowhere_in_the_repository_is_found(tmp_path):
    (tmp_path / "docs" / "how-to").mkdir(parents=True)
    (tmp_path / "docs" / "how-to" / "a.md").write_text("[b](../b.md#x) [c](../../c.md) [d](https://x.org/d.md) [e](#e)")
    (tmp_path / "docs" / "b.md").touch()
    found = runpy.run_path(str(DOCS / "check.py"))["misplaced"](tmp_path)
    assert found == ["docs/how-to/a.md links to ../../c.md, which is not there"]
