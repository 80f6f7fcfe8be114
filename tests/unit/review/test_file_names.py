"""Names of image files, which often name patients: who sees them, and that nothing else gives them away."""

from pathlib import Path

import pytest

from helpers.reviews import browser, open_page

SECRET = "Mustermann-1970"
CELLS = [(f"{SECRET}-{number}.png", "7", "SNE") for number in range(3)]
USERS = (("Ada", "admin"), ("Ben", "reviewer"), ("Cy", "reviewer"), ("Rea", "reader"))


@pytest.fixture
def page(tmp_path):
    return open_page(tmp_path, CELLS, users=USERS, added_by="Ben")


def everything(page):
    """Return what a person gets to see of the case, in one text."""
    case = page.case_id
    cell = page.store.cells(case)[0].id
    paths = [
        "/",
        f"/cases/{case}",
        f"/cases/{case}/differential",
        "/api/cases",
        f"/api/cases/{case}",
        "/run",
        "/issues",
    ]
    paths += [f"/api/cases/{case}/{what}" for what in ("cells", "history", "differential.csv", "differential.json")]
    paths += [
        f"/cells/{cell}/image",
        f"/cells/{cell}/thumbnail",
        f"/api/cells/{cell}/inspection",
        "/readyz",
        "/api/uploads",
    ]
    answers = [page.client.get(path, headers={"Accept": "text/html"} if "/api/" not in path else {}) for path in paths]
    answers.append(page.decide([1], "EO"))
    answers.append(page.post("decisions", {"cells": {str(page.store.cells(case)[1].id): 0}, "label": "BA"}))
    answers.append(page.post("undo"))
    return "".join(f"{answer.headers} {answer.text}" for answer in answers)


@pytest.mark.parametrize(("name", "sees"), [("Ada", True), ("Ben", True), ("Cy", False), ("Rea", False)])
def test_admins_and_whoever_added_a_case_see_its_file_names(page, name, sees):
    person = page.log_in(name)
    images = [cell["image"] for cell in person.get("cells").json()]
    assert images == ([image for image, _, _ in CELLS] if sees else ["cell 1", "cell 2", "cell 3"])
    assert (SECRET in everything(person)) == sees


@pytest.mark.parametrize("name", ["Cy", "Rea"])
def test_the_others_learn_neither_names_nor_paths_from_errors(page, name, tmp_path):
    person = page.log_in(name)
    for number, cell in enumerate(page.store.cells(page.case_id)):
        if number:
            Path(cell.path).unlink()
        else:
            Path(cell.path).write_bytes(b"changed")
    shown = everything(person)
    assert SECRET not in shown and str(tmp_path) not in shown and ".png" not in shown


def test_cases_of_the_command_line_are_nobody_s(tmp_path):
    page = open_page(tmp_path, CELLS, users=(("Ada", "admin"), ("Ben", "reviewer")))
    assert SECRET not in everything(page.log_in("Ben"))
    assert SECRET in everything(page.log_in("Ada"))


def test_without_a_login_names_are_shown(tmp_path):
    assert SECRET in everything(open_page(tmp_path, CELLS))


def test_a_laboratory_may_show_them_to_everybody(tmp_path):
    from nonet.review.accounts import Accounts
    from nonet.review.app import make_app
    from nonet.review.site import Site

    page = open_page(tmp_path, CELLS, users=USERS)
    site = Site(page.run, page.store, None, "run", accounts=Accounts(page.run.users), show_file_names=True)
    assert SECRET in everything(page._replace(client=browser(make_app(site))).log_in("Rea"))


def test_readers_are_shown_no_buttons_that_they_may_not_use(page):
    rea, ben = page.log_in("Rea"), page.log_in("Ben")
    gallery, differential = f"/cases/{page.case_id}", f"/cases/{page.case_id}/differential"
    assert 'data-locked="reader"' in rea.client.get(gallery).text
    assert 'data-locked=""' in ben.client.get(gallery).text
    assert "<form" not in rea.client.get(differential).text and "As a reader" in rea.client.get(differential).text
    assert 'data-action="sign"' in ben.client.get(differential).text
    ben.sign()
    assert 'data-locked="signed"' in ben.client.get(gallery).text
    assert "<form" not in rea.client.get(differential).text
    assert 'data-action="reopen"' in ben.client.get(differential).text
