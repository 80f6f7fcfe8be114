"""Letters of classes as a person chooses them."""

import pytest

from helpers.reviews import HEADERS, open_page
from nonet.review.keys import RESERVED


@pytest.fixture
def page(tmp_path):
    return open_page(tmp_path, [("a.png", "7", "SNE")])


def put(page, label, letter):
    return page.client.put("/api/keys", json={"label": label, "letter": letter}, headers=HEADERS)


def test_a_letter_is_changed_for_its_person_and_swapped_where_it_is_taken(page):
    before = page.client.get("/api/keys").json()
    assert before["SNE"] == "s" and before["LY"] == "l"
    assert put(page, "SNE", "W").json() == before | {"SNE": "w"}
    assert put(page, "SNE", "l").json() == before | {"SNE": "l", "LY": "w"}
    assert put(page, "LY", "ü").json()["LY"] == "ü"
    assert 'data-code="LY"' in page.client.get(f"/cases/{page.case_id}").text
    assert page.client.delete("/api/keys", headers=HEADERS).json() == before
    assert page.client.get("/api/keys").json() == before


def test_every_label_keeps_one_letter_of_its_own(page):
    for label, letter in [("SNE", "l"), ("MO", "s"), ("BL", "w"), ("EO", "w"), ("SNE", "w"), ("SNE", "w")]:
        put(page, label, letter)
        letters = [one for one in page.client.get("/api/keys").json().values() if one]
        assert len(set(letters)) == len(letters)


@pytest.mark.parametrize("letter", ["", "ab", "1", " ", "?", "<", *sorted(RESERVED)])
def test_what_is_not_a_letter_or_is_a_command_is_refused(page, letter):
    before = page.client.get("/api/keys").json()
    assert put(page, "SNE", letter).status_code == 422
    assert put(page, "no such class", "w").status_code == 422
    assert page.client.get("/api/keys").json() == before


def test_another_person_s_letters_stay(page):
    from nonet.review.preferences import Letters

    letters = Letters(page.store, page.store.classes())
    letters.change("Ben", "SNE", "w")
    assert page.client.get("/api/keys").json()["SNE"] == "s"
    assert letters.of("Ben")["SNE"] == "w"
