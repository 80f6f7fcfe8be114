"""Only regular files of a bearable size are read; what may be mended by trying again is told from what may not."""

import errno
import os
import pickle
import sys
from pathlib import Path

import pytest

from nonet.data.images.decode import describe_image, load_rgb
from nonet.data.images.file_kinds import read_head
from nonet.data.images.files import MAX_BYTES, read_file
from nonet.errors import DataError, UnreadableNowError

posix = pytest.mark.skipif(sys.platform == "win32", reason="has no such files")


def refusal(path, read=read_file):
    with pytest.raises(DataError) as caught:
        read(path)
    return caught.value


@posix
@pytest.mark.parametrize("read", [read_file, load_rgb, describe_image])
def test_a_pipe_and_a_device_are_refused_and_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").symlink_to("/dev/zero")
    assert "a named pipe" in refusal(tmp_path / "a.jpg", read).message
    assert "a device" in refusal(tmp_path / "b.jpg", read).message


@posix
def test_a_huge_sparse_file_is_refused_unread(tmp_path):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(30 * 2**30)
    error = refusal(tmp_path / "a.png", load_rgb)
    assert f"{30 * 2**30:,} bytes" in error.message and not isinstance(error, UnreadableNowError)
    assert MAX_BYTES >= 64_000_000 * 8


def test_a_file_that_grows_while_it_is_read_is_bounded(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"x" * 100)
    small = os.stat_result([*(tmp_path / "a").stat()[:6], 10, 0, 0, 0])
    monkeypatch.setattr(Path, "stat", lambda self: small)
    assert "more than the 50 bytes" in refusal(tmp_path / "a", lambda path: read_file(path, max_bytes=50)).message


def test_a_folder_is_refused(tmp_path):
    assert "is a folder" in refusal(tmp_path).message


@posix
def test_a_link_in_a_circle_and_a_name_that_no_file_can_have_stay_errors(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "a")
    (tmp_path / "file").touch()
    for path in (tmp_path / "a", tmp_path / "file" / "b", tmp_path / ("x" * 400), f"{tmp_path}/a\0b"):
        assert not isinstance(refusal(path), UnreadableNowError)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE, errno.EIO, errno.ESTALE, errno.ENOMEM, errno.EINTR])
def test_an_error_of_the_moment_says_so(tmp_path, monkeypatch, number):
    (tmp_path / "a").write_bytes(b"a")

    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", fail)
    error = refusal(tmp_path / "a")
    assert isinstance(error, UnreadableNowError) and os.strerror(number) in error.message
    assert isinstance(pickle.loads(pickle.dumps(error)), UnreadableNowError)  # workers send it to their parent


@pytest.mark.skipif(not Path("/proc/uptime").exists(), reason="needs Linux's /proc")
def test_what_the_system_only_calls_a_file_is_not_opened(tmp_path, monkeypatch):
    """Reading /proc/kmsg never ends; like all of /proc it has size 0."""
    (tmp_path / "a.png").symlink_to("/proc/uptime")
    monkeypatch.setattr(Path, "open", None)
    assert read_file(tmp_path / "a.png") == b""
    assert "0 bytes" in refusal(tmp_path / "a.png", load_rgb).message
    assert read_head(tmp_path / "a.png") == b""


def test_short_memory_is_an_error_of_the_moment(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr("nonet.data.images.decode.Image.open", fail)
    with pytest.raises(UnreadableNowError, match="memory"):
        load_rgb(b"something")


def test_a_missing_file_may_come_back(tmp_path):
    assert isinstance(refusal(tmp_path / "nowhere.png"), UnreadableNowError)
