"""The store of reviews: decisions are only added, undone in order, refused when stale, and survive kills."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from nonet.errors import DataError, StorageError
from nonet.review.records import (
    LockedCaseError,
    NewCell,
    NoReasonError,
    NotFoundError,
    NotSignedError,
    StaleCaseError,
    StaleCellError,
    UnfinishedCaseError,
)
from nonet.review.store import Store

LABELS = ("SNE", "SNE", "LY", "unidentified", "MO", "")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "review" / "reviews.sqlite")


@pytest.fixture
def case_id(store):
    return add(store, "A")


def add(store, name, labels=LABELS):
    cells = [
        NewCell(f"{k}.png", f"/x/{k}.png", f"{k:064d}", label, "doubtful" if label == "unidentified" else "", {"k": k})
        for k, label in enumerate(labels)
    ]
    return store.add_case(name, cells, source="/x", digest="d", model="m")


def versions(cells, *places):
    return {cells[place].id: cells[place].version for place in places}


def sign(store, case_id, **more):
    version = sum(cell.version for cell in store.cells(case_id))
    return store.sign(case_id, version, **more)


def labels(store, case_id):
    return [cell.label for cell in store.cells(case_id)]


def test_a_case_has_its_cells_in_order_and_is_added_once(store, case_id):
    assert labels(store, case_id) == list(LABELS)
    assert [cell.facts["k"] for cell in store.cells(case_id)] == list(range(6))
    case = store.case(case_id)
    assert (case.name, case.num_cells, case.num_unidentified, case.num_changed) == ("A", 5, 1, 0)
    assert case.added_by == ""
    assert not case.is_signed
    assert add(store, "A", ["BA"]) == case_id
    assert labels(store, case_id) == list(LABELS)


def test_cases_are_found_by_a_part_of_their_name_newest_first(store, case_id):
    for name in ("Müller 7", "b%_c"):
        add(store, name)
    assert [case.name for case in store.cases()] == ["b%_c", "Müller 7", "A"]
    assert [case.name for case in store.cases("ller")] == ["Müller 7"]
    assert [case.name for case in store.cases("%_")] == ["b%_c"]
    assert store.cases("nothing") == []
    assert store.find_case("A").id == case_id
    assert store.find_case("a") is None


def test_a_decision_names_who_what_and_when(store, case_id):
    before = store.cells(case_id)
    changed = store.decide(case_id, versions(before, 0, 3), "BNE", who="Ada", is_blind=True)
    assert [(cell.label, cell.version, cell.num_decisions) for cell in changed] == [("BNE", 1, 1)] * 2
    assert labels(store, case_id) == ["BNE", "SNE", "LY", "BNE", "MO", ""]
    rows = store.history(case_id)
    assert [(row["from_label"], row["to_label"], row["who"], row["kind"]) for row in rows] == [
        ("SNE", "BNE", "Ada", "move"),
        ("unidentified", "BNE", "Ada", "move"),
    ]
    assert {row["batch"] for row in rows} == {1}
    assert {(row["is_blind"], row["model"]) for row in rows} == {(1, "m")}
    assert rows[0]["sha256"] == before[0].sha256
    assert rows[0]["at"].endswith("+00:00")
    assert store.case(case_id).num_unidentified == 0


def test_agreeing_keeps_each_label_and_counts_as_a_decision(store, case_id):
    store.decide(case_id, versions(store.cells(case_id), 0, 2), None, who="Ada", kind="accept")
    assert labels(store, case_id) == list(LABELS)
    assert [cell.num_decisions for cell in store.cells(case_id)] == [1, 0, 1, 0, 0, 0]
    assert store.case(case_id).num_changed == 0


def test_undo_goes_back_decision_by_decision_and_is_recorded_as_undo(store, case_id):
    for places, label in (((0, 1), "BNE"), ((0,), "MMY"), ((2,), None)):
        cells = store.cells(case_id)
        store.decide(case_id, versions(cells, *places), label, who="Ada", kind="move" if label else "agree")
    assert labels(store, case_id)[:3] == ["MMY", "BNE", "LY"]
    assert [cell.label for cell in store.undo(case_id, who="Ada")] == ["LY"]
    assert store.cells(case_id)[2].num_decisions == 0
    assert [cell.label for cell in store.undo(case_id, who="Ada")] == ["BNE"]
    assert [cell.label for cell in store.undo(case_id, who="Ada")] == ["SNE", "SNE"]
    assert store.undo(case_id, who="Ada") == []
    assert labels(store, case_id) == list(LABELS)
    history = store.history(case_id)
    assert [row["kind"] for row in history] == ["move"] * 3 + ["agree"] + ["undo"] * 4
    undone = {row["undoes"] for row in history if row["kind"] == "undo"}
    assert undone == {row["id"] for row in history if row["kind"] != "undo"}


def test_what_was_undone_can_be_decided_and_undone_again(store, case_id):
    for label in ("BNE", "MMY"):
        store.decide(case_id, versions(store.cells(case_id), 0), label, who="Ada")
        store.undo(case_id, who="Ada")
    assert labels(store, case_id)[0] == "SNE"
    assert store.undo(case_id, who="Ada") == []


def test_a_stale_cell_is_refused_with_how_it_stands_and_nothing_is_saved(store, case_id):
    seen = store.cells(case_id)
    store.decide(case_id, versions(seen, 1), "BNE", who="Ben")
    with pytest.raises(StaleCellError) as caught:
        store.decide(case_id, versions(seen, 0, 1), "EO", who="Ada")
    assert [(cell.id, cell.label) for cell in caught.value.cells] == [(seen[1].id, "BNE")]
    assert labels(store, case_id)[:2] == ["SNE", "BNE"]
    assert len(store.history(case_id)) == 1


def test_undo_is_one_s_own_and_refused_once_somebody_else_has_decided(store, case_id):
    store.decide(case_id, versions(store.cells(case_id), 0), "BNE", who="Ada")
    assert store.undo(case_id, who="Ben") == []
    store.decide(case_id, versions(store.cells(case_id), 0), "EO", who="Ben")
    with pytest.raises(StaleCellError):
        store.undo(case_id, who="Ada")
    store.undo(case_id, who="Ben")
    assert [cell.label for cell in store.undo(case_id, who="Ada")] == ["SNE"]


def test_signing_waits_for_every_class_then_locks_and_reopens_with_a_reason(store, case_id):
    with pytest.raises(UnfinishedCaseError, match="Unidentified cells: 1"):
        sign(store, case_id, who="Ada")
    store.decide(case_id, versions(store.cells(case_id), 3), "MO", who="Ada")
    with pytest.raises(NotSignedError):
        store.reopen(case_id, who="Ada", reason="too early")
    case = sign(store, case_id, who="Ada", comment="fine")
    assert (case.is_signed, case.signed_by, case.comment, case.was_reopened) == (True, "Ada", "fine", False)
    cells = store.cells(case_id)
    for action in (
        lambda: store.decide(case_id, versions(cells, 0), "EO", who="Ben"),
        lambda: store.undo(case_id, who="Ada"),
        lambda: sign(store, case_id, who="Ben"),
    ):
        with pytest.raises(LockedCaseError, match="Ada"):
            action()
    with pytest.raises(NoReasonError):
        store.reopen(case_id, who="Ben", reason=" ")
    case = store.reopen(case_id, who="Ben", reason="wrong slide")
    assert (case.is_signed, case.was_reopened) == (False, True)
    store.decide(case_id, versions(store.cells(case_id), 0), "EO", who="Ben")
    assert sign(store, case_id, who="Ben").was_reopened
    assert [row["kind"] for row in store.history(case_id)] == ["move", "sign", "reopen", "move", "sign"]


def test_what_is_signed_is_what_the_reviewer_saw(store, case_id):
    store.decide(case_id, versions(store.cells(case_id), 3), "MO", who="Ada")
    seen = store.case(case_id).version
    store.decide(case_id, versions(store.cells(case_id), 0), "BNE", who="Ben")
    with pytest.raises(StaleCaseError):
        store.sign(case_id, seen, who="Ada")
    store.undo(case_id, who="Ben")
    with pytest.raises(StaleCaseError):
        store.sign(case_id, seen, who="Ada")
    assert store.sign(case_id, store.case(case_id).version, who="Ada").is_signed


def test_what_does_not_exist_is_not_found(store, case_id):
    other = add(store, "B")
    foreign, unreadable = store.cells(other)[0], store.cells(case_id)[5]
    for action in (
        lambda: store.case(99),
        lambda: store.cell(99),
        lambda: store.decide(99, {1: 0}, "EO", who="Ada"),
        lambda: store.decide(case_id, {99: 0}, "EO", who="Ada"),
        lambda: store.decide(case_id, {foreign.id: 0}, "EO", who="Ada"),
        lambda: store.decide(case_id, {unreadable.id: 0}, "EO", who="Ada"),
        lambda: store.undo(99, who="Ada"),
        lambda: sign(store, 99, who="Ada"),
    ):
        with pytest.raises(NotFoundError):
            action()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE decisions SET who = 'Eve'",
        "DELETE FROM decisions",
        "UPDATE signatures SET who = 'Eve'",
        "DELETE FROM signatures",
        "UPDATE cells SET predicted = 'EO'",
        "UPDATE cells SET sha256 = ''",
        "DELETE FROM cells",
        "UPDATE cases SET model = ''",
        "DELETE FROM cases",
    ],
)
def test_the_file_itself_refuses_to_change_the_past(store, case_id, statement):
    store.decide(case_id, versions(store.cells(case_id), 3), "MO", who="Ada")
    sign(store, case_id, who="Ada")
    with closing(sqlite3.connect(store.path)) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute(statement)


def test_labels_follow_from_the_decisions_alone(store, case_id):
    for place, label in ((0, "BNE"), (1, "EO"), (0, "MMY"), (3, "MO")):
        store.decide(case_id, versions(store.cells(case_id), place), label, who="Ada")
    store.undo(case_id, who="Ada")
    replayed = {cell.id: cell.predicted for cell in store.cells(case_id)}
    for row in store.history(case_id):
        assert replayed[row["cell_id"]] == row["from_label"]
        replayed[row["cell_id"]] = row["to_label"]
    assert [*replayed.values()] == labels(store, case_id)


def test_classes_are_stored_once_and_others_refused(store):
    assert store.classes() == []
    assert store.classes(["LY", "SNE"]) == ["LY", "SNE"]
    assert store.classes() == ["LY", "SNE"]
    with pytest.raises(DataError, match="LY, MO"):
        store.classes(["LY", "MO"])


def test_a_backup_of_a_store_in_use_is_whole(store, case_id, tmp_path):
    store.decide(case_id, versions(store.cells(case_id), 0), "EO", who="Ada")
    with closing(sqlite3.connect(store.path)) as source, closing(sqlite3.connect(tmp_path / "copy.sqlite")) as copy:
        source.backup(copy)
    assert labels(Store(tmp_path / "copy.sqlite"), case_id)[0] == "EO"


def test_a_file_that_is_no_store_and_one_of_another_layout_are_refused(tmp_path, store):
    (tmp_path / "x.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StorageError, match=r"x\.sqlite"):
        Store(tmp_path / "x.sqlite")
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("UPDATE facts SET value = '99' WHERE name = 'schema_version'")
    with pytest.raises(StorageError, match="99"):
        Store(store.path)


WRITER = """
import json, sys
from nonet.review.store import Store, StaleCellError
path, who, case_id, num = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
store = Store(path := __import__("pathlib").Path(path))
for step in range(num):
    while True:
        cell = store.cells(case_id)[step % 5]
        try:
            store.decide(case_id, {cell.id: cell.version}, f"L{step}", who=who)
            break
        except StaleCellError:
            pass
    print(json.dumps([who, step]), flush=True)
"""


def start_writer(store, who, case_id, num):
    command = [sys.executable, "-c", WRITER, store.path, who, str(case_id), str(num)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_processes_at_once_lose_nothing(store, case_id):
    writers = [start_writer(store, who, case_id, 40) for who in ("Ada", "Ben")]
    for writer in writers:
        assert len(writer.communicate(timeout=60)[0].splitlines()) == 40
        assert writer.returncode == 0
    rows = store.history(case_id)
    assert [sum(row["who"] == who for row in rows) for who in ("Ada", "Ben")] == [40, 40]
    assert len({row["batch"] for row in rows}) == 80
    assert sum(cell.version for cell in store.cells(case_id)) == 80


@pytest.mark.kill
@pytest.mark.parametrize("after", [1, 17, 60])
def test_a_kill_in_the_middle_of_a_hundred_decisions_loses_nothing_acknowledged(store, case_id, after):
    writer = start_writer(store, "Ada", case_id, 100)
    try:
        said = [json.loads(writer.stdout.readline()) for _ in range(after)]
    finally:
        writer.kill()
        rest, _ = writer.communicate(timeout=60)
    said += [json.loads(line) for line in rest.splitlines() if line.endswith("]")]
    rows = store.history(case_id)
    assert len(said) <= len(rows) <= len(said) + 1 < 100
    assert [row["to_label"] for row in rows] == [f"L{step}" for step in range(len(rows))]
    with closing(sqlite3.connect(store.path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    store.decide(case_id, versions(store.cells(case_id), 0), "EO", who="Ben")
