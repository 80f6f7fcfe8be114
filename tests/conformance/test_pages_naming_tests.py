"""The pages of odd input and of faults promise that each row is held by a test; here, that the test is there."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGES = ("odd-input.md", "faults.md")


def rows(page):
    lines = (TESTS.parent / "docs/reference" / page).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if re.match(r"\| (?!(input|fault) \|)", line)]


@pytest.mark.parametrize("row", [row for page in PAGES for row in rows(page)])
def test_each_row_names_a_test_that_exists(row):
    cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]
    assert len(cells) == 4 and all(cells)
    for reference in re.findall(r"`([^`]+)`", cells[3]) or [""]:
        file, _, name = reference.partition("::")
        assert (TESTS / file).is_file()
        assert re.search(rf"^def {re.escape(name)}\(", (TESTS / file).read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_rows(page):
    assert len(rows(page)) > 10
