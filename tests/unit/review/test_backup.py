"""A backup while people decide: whole, of one moment, and restored elsewhere it has all that was acknowledged."""

import sqlite3
import stat
import threading
import zipfile
from contextlib import closing

import pytest

import nonet
from helpers.prediction_folders import write_run
from helpers.reviews import open_page
from nonet.artifacts.run import Run
from nonet.errors import DataError, StorageError
from nonet.review.accounts import Accounts
from nonet.review.store import Store

CELLS = [(f"{number}.png", "7", "SNE") for number in range(6)]


@pytest.fixture
def page(tmp_path):
    return open_page(tmp_path, CELLS)


def restored(archive, folder):
    run = Run(write_run(folder))
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(run.folder)
    return run


def test_a_backup_while_people_decide_has_all_that_was_acknowledged_before(page, tmp_path):
    stop, acknowledged = threading.Event(), []

    def decide():
        step = 0
        while not stop.is_set():
            cell = page.store.cells(page.case_id)[step % len(CELLS)]
            page.store.decide(page.case_id, {cell.id: cell.version}, ("EO", "BA")[step % 2], who="Ada")
            acknowledged.append(step := step + 1)

    thread = threading.Thread(target=decide)
    thread.start()
    try:
        for number in range(5):
            while len(acknowledged) < 10 * (number + 1):
                assert thread.is_alive()
            before = len(acknowledged)
            nonet.backup(page.run, tmp_path / f"{number}.zip")
            after = len(acknowledged) + 1
            store = Store(restored(tmp_path / f"{number}.zip", tmp_path / f"restored{number}").reviews)
            rows = store.history(page.case_id)
            assert before <= len(rows) <= after
            labels = {cell.id: cell.label for cell in store.cells(page.case_id)}
            last = {row["cell_id"]: row["to_label"] for row in rows}
            assert {cell: labels[cell] for cell in last} == last, "of one moment"
            with closing(sqlite3.connect(store.path)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    finally:
        stop.set()
        thread.join()
    cell = store.cells(page.case_id)[0]
    store.decide(page.case_id, {cell.id: cell.version}, "MO", who="Ben")


def test_users_uploads_and_decisions_on_labels_are_in_it(page, tmp_path):
    nonet.add_user(page.run, "Ada", password="correct horse battery", role="admin")
    kept = {"decisions.csv": b"image_id\n", "uploads/1/Zell\u00e9 1.png": b"picture", "uploads/1/state.json": b"{}"}
    for name, data in kept.items():
        file = page.run.reviews.parent / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    said = nonet.backup(page.run, tmp_path / "out.zip")
    assert "5 files" in said
    run = restored(tmp_path / "out.zip", tmp_path / "restored")
    assert Accounts(run.users).log_in("ada", "correct horse battery")
    for name, data in kept.items():
        assert (run.reviews.parent / name).read_bytes() == data
    names = zipfile.ZipFile(tmp_path / "out.zip").namelist()
    assert not [name for name in names if name.endswith(("-wal", "-shm"))], "a snapshot needs none"
    assert stat.S_IMODE((tmp_path / "out.zip").stat().st_mode) == 0o600


def test_a_file_that_exists_is_not_overwritten(page, tmp_path):
    out = tmp_path / "out.zip"
    out.write_text("precious")
    with pytest.raises(DataError, match="exists already"):
        nonet.backup(page.run, out)
    assert out.read_text() == "precious"
    with pytest.raises(DataError, match="in the folder that is copied"):
        nonet.backup(page.run, page.run.reviews.parent / "out.zip")


def test_nothing_is_left_of_a_backup_that_failed(page, tmp_path, monkeypatch):
    before = {path for path in tmp_path.rglob("*") if "sqlite" not in path.name}

    def full(self, *_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "open", full)
    with pytest.raises(StorageError, match="full"):
        nonet.backup(page.run, tmp_path / "out.zip")
    assert {path for path in tmp_path.rglob("*") if "sqlite" not in path.name} == before


def test_a_damaged_file_is_not_copied_as_if_it_were_whole(page, tmp_path):
    with closing(sqlite3.connect(page.run.reviews)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(page.run.reviews.read_bytes())
    data[4096 : 3 * 4096] = b"x" * (2 * 4096)
    page.run.reviews.write_bytes(data)
    with pytest.raises(StorageError, match=r"reviews\.sqlite"):
        nonet.backup(page.run, tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()


def test_a_run_without_reviews_has_nothing_to_copy(tmp_path):
    with pytest.raises(DataError, match="no reviews"):
        nonet.backup(write_run(tmp_path / "run"), tmp_path / "out.zip")


def test_the_command_says_what_was_copied(page, nonet, refused, tmp_path):
    status, said, _ = nonet("backup", page.run, "--out", tmp_path / "out.zip")
    assert status == 0 and "1 file of" in said
    assert "--out" in refused("backup", page.run, "--out", tmp_path / "out.zip")
