"""Each class has a letter of its own, and classes are shown in the order of what an error would cost."""

import pytest

from nonet.cells import CLASSES, UNIDENTIFIED
from nonet.differential.groups import NOT_COUNTED
from nonet.review.keys import RESERVED, assign_letters, gallery_order


@pytest.mark.parametrize("classes", [CLASSES, ("LY", "SNE", "IG", "NEU"), ("zebra", "ibis", "lynx"), ("ß", "日本")])
def test_letters_differ_and_are_no_commands(classes):
    letters = assign_letters(classes)
    assert set(letters) == {*classes, *NOT_COUNTED, UNIDENTIFIED}
    assert len(set(letters.values())) == len(letters)
    assert all(len(letter) == 1 and "a" <= letter <= "z" for letter in letters.values())
    assert not set(letters.values()) & RESERVED


def test_classes_beyond_the_alphabet_have_no_letter():
    letters = assign_letters([f"class {number}" for number in range(40)])
    given = [letter for letter in letters.values() if letter]
    assert len(given) == len(set(given)) == 26 - len(RESERVED)


def test_unidentified_comes_first_then_costly_classes_and_last_what_is_not_counted():
    order = gallery_order([*assign_letters(CLASSES)])
    assert order[:2] == [UNIDENTIFIED, "BL"]
    assert order.index("PMY") < order.index("MO") < order.index("SNE")
    assert set(order[-5:]) == set(NOT_COUNTED)
