"""The page of odd input promises that each row is held by a test; here, that the test is there."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs/reference/odd-input.md"
ROWS = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if re.match(r"\| (?!input )", line)]


@pytest.mark.parametrize("row", ROWS)
def test_each_row_names_a_test_that_exists(row):
    cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]
    assert len(cells) == 4 and all(cells)
    for reference in re.findall(r"`([^`]+)`", cells[3]) or [""]:
        file, _, name = reference.partition("::")
        assert (TESTS / file).is_file()
        assert re.search(rf"^def {re.escape(name)}\(", (TESTS / file).read_text(encoding="utf-8"), re.MULTILINE)
