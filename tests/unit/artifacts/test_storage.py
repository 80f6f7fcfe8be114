"""Whose folder, one writer at a time, and the disk's refusals in words: nothing of a user's is touched, nothing is half
written."""

import errno
import json
import logging
import sys
from dataclasses import replace

import pytest
from filelock import FileLock

from helpers.folders import everything_in
from helpers.processes import small_files
from nonet.artifacts.run import remove_leftovers, write_text, written_whole
from nonet.artifacts.storage import (
    MARKER,
    FolderKind,
    exclusive_lock,
    prepare_folder,
    storage_error,
    waiting_lock,
    writing_to,
)
from nonet.errors import RunError, StorageError, printable

KIND = FolderKind("dataset", main="dataset.json", keys={"roots"})


@pytest.mark.parametrize("junk", [(), (".DS_Store",), ("Thumbs.db", "desktop.ini")])
def test_an_empty_folder_becomes_ours_and_stays_so(tmp_path, junk):
    for name in junk:
        (tmp_path / name).write_text("x")
    prepare_folder(tmp_path, KIND)
    (tmp_path / "half written").write_text("")
    prepare_folder(tmp_path, KIND)
    assert json.loads((tmp_path / MARKER).read_text())["kind"] == "dataset"


@pytest.mark.parametrize("name", ["a.txt", ".bashrc", "manifest.parquet", "folds.csv", "parts/000000.parquet"])
def test_a_folder_of_somebody_is_refused_and_left_as_it_is(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    (tmp_path / "dataset.json").write_text('{"name": "of another program"}')
    before = everything_in(tmp_path)
    with pytest.raises(StorageError, match="dataset"):
        prepare_folder(tmp_path, KIND)
    assert everything_in(tmp_path) == before


def test_a_folder_of_another_kind_is_refused(tmp_path):
    prepare_folder(tmp_path, KIND)
    prepare_folder(tmp_path, replace(KIND, name="run"))  # nothing was in it yet
    (tmp_path / "recipe.toml").write_text("x")
    prepare_folder(tmp_path, replace(KIND, name="run"))
    with pytest.raises(StorageError, match=r"\brun\b.*\bdataset\b"):
        prepare_folder(tmp_path, KIND)


def test_a_folder_that_lost_its_marker_is_known_by_its_main_file(tmp_path):
    (tmp_path / "dataset.json").write_text('{"roots": {}}')
    prepare_folder(tmp_path, KIND)


@pytest.mark.parametrize("text", ["{", "[]", "null", "[" * 100_000, ""])
def test_a_damaged_marker_gives_no_traceback(tmp_path, text):
    (tmp_path / "data.txt").write_text("mine")
    (tmp_path / MARKER).write_text(text)
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(StorageError):
        prepare_folder(tmp_path, KIND)


def test_a_file_or_a_dangling_link_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        with pytest.raises(StorageError, match="is not a folder"):
            prepare_folder(tmp_path / name, KIND)
    assert not (tmp_path / "nowhere").exists()


def test_one_at_a_time(tmp_path):
    with (
        FileLock(tmp_path / "lock"),
        pytest.raises(RunError, match="busy"),
        exclusive_lock(tmp_path / "lock", "busy", "wait"),
    ):
        pytest.fail("two at a time")
    with exclusive_lock(tmp_path / "lock", "busy", "wait"):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")
@pytest.mark.parametrize("refusal", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP])
@pytest.mark.parametrize("lock", [waiting_lock, lambda path: exclusive_lock(path, "busy", "wait")])
def test_a_drive_without_locks_is_worked_on_with_a_warning(tmp_path, monkeypatch, caplog, refusal, lock):
    import fcntl

    def refuse(*arguments):
        raise OSError(refusal, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with caplog.at_level(logging.WARNING), lock(tmp_path / "lock"):
        entered = True
    assert entered
    assert "has no locks" in caplog.text


def test_a_folder_that_may_not_be_written_is_not_a_drive_without_locks(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError), waiting_lock(tmp_path / "file" / "lock"):
        pytest.fail("not locked")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission"),
        (errno.ENAMETOOLONG, "too long"),
        (errno.EFBIG, "larger than"),
        (errno.EIO, "input/output"),
        (errno.EXDEV, "/data/x"),
    ],
)
def test_what_the_system_refuses_is_said_with_its_place(number, words):
    with pytest.raises(StorageError, match=words) as caught, writing_to("/data/x"):
        raise OSError(number, "system's words")
    assert "/data/x" in caught.value.message
    assert caught.value.hint


def test_an_error_that_names_its_file_keeps_it():
    error = FileNotFoundError(errno.ENOENT, "No such file", "/data/y")
    assert "/data/y" in str(storage_error(error))


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path):
    write_text(tmp_path / "a.txt", "before")
    with small_files(1000), pytest.raises(StorageError, match=r"a\.txt"):
        write_text(tmp_path / "a.txt", "x" * 5000)
    assert everything_in(tmp_path) == {(tmp_path / "a.txt").relative_to(tmp_path): b"before"}


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_writer_that_hides_the_reason_is_asked_again(tmp_path):
    """As torch and safetensors do: they raise errors of their own, which do not say that the disk is full."""
    file = tmp_path / "weights.bin"
    with small_files(1000), pytest.raises(StorageError, match=r"weights\.bin"), written_whole(file) as path:
        path.write_bytes(b"x" * 1000)
        raise RuntimeError("file write failed")
    assert not everything_in(tmp_path)
    with pytest.raises(RuntimeError, match="a mistake"), written_whole(tmp_path / "weights.bin"):
        raise RuntimeError("a mistake")


def test_only_leftovers_of_nonet_are_removed(tmp_path):
    mine = [".predictions.csv.bak", ".predictions.csv.x9z", "predictions.csv~", ".~lock.predictions.csv#"]
    for name in mine:
        (tmp_path / name).write_text("mine")
    (tmp_path / ".nonet-tmp.predictions.csv.abc123.csv").write_text("half")
    remove_leftovers(tmp_path / "predictions.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(mine)


def test_control_characters_become_escapes_and_letters_stay():
    assert printable("ü \x1b[31mred\x07 \u202e\r\x9b日本\n\tx") == "ü \\x1b[31mred\\x07 \\u202e\\r\\x9b日本\n\tx"
    assert printable("\udcff.png").encode("utf-8")
