"""Zip archives from elsewhere: what leaves the folder, links, lies about sizes, or is damaged."""

import contextlib
import stat
import zipfile
from types import SimpleNamespace

import pytest

from nonet.data.sources import archives
from nonet.data.sources.archives import unzip
from nonet.errors import DataError


def write_zip(path, members, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data, **options)
    return path


def files_of(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    "name",
    [
        *("../evil.png", "/evil.png", "a/../../evil.png", "..\\evil.png", "C:\\evil.png", "a/C:evil.png", ".."),
        *(".", "./", "//", "//server/share/evil.png"),
    ],
)
def test_a_path_that_leaves_the_folder_or_is_empty_is_refused_before_anything_is_written(tmp_path, name):
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr("good.png", b"good")
        info = zipfile.ZipInfo("x")
        info.filename = name  # as it is: the constructor would mend it
        opened.writestr(info, b"evil")
    if name.endswith("/"):
        unzip(file, tmp_path / "in" / "out")  # a folder, which holds nothing
        assert files_of(tmp_path / "in") == {"out/good.png": b"good"}
        return
    with pytest.raises(DataError, match=r"leaves its folder|without a name"):
        unzip(file, tmp_path / "in" / "out")
    assert not (tmp_path / "in").exists() and not list(tmp_path.rglob("evil.png"))


def test_a_link_is_refused(tmp_path):
    info = zipfile.ZipInfo("cells")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    file = write_zip(tmp_path / "a.zip", {info: "/etc", "cells/passwd": b"x"})
    with pytest.raises(DataError, match=r"\blink\b"):
        unzip(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_hidden_files_and_what_macos_leaves_are_left_out(tmp_path):
    members = {
        "BA/1.png": b"1",
        "__MACOSX/BA/._1.png": b"2",
        ".DS_Store": b"3",
        ".archives/a.zip": b"4",
        "BA/._1": b"5",
    }
    unzip(write_zip(tmp_path / "a.zip", members), tmp_path / "out")
    assert files_of(tmp_path / "out") == {"BA/1.png": b"1"}


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    file = write_zip(tmp_path / "a.zip", {f"{i}.png": bytes(1_000_000) for i in range(8)})
    with pytest.raises(DataError, match="8,000,000 bytes"):
        unzip(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_more_files_than_anyone_has_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_FILES", 3)
    with pytest.raises(DataError, match="4 files"):
        unzip(write_zip(tmp_path / "a.zip", dict.fromkeys("abcd", b"x")), tmp_path / "out")


def test_what_the_disk_has_no_room_for_is_refused_and_what_is_there_needs_none(tmp_path, monkeypatch):
    file = write_zip(tmp_path / "a.zip", {"a": b"a" * 1000, "b": b"b" * 500})
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: SimpleNamespace(free=archives.RESERVE + 1200))
    with pytest.raises(DataError, match="1,500 bytes"):
        unzip(file, tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b").write_bytes(b"b" * 500)
    unzip(file, tmp_path / "out")
    assert files_of(tmp_path / "out")["a"] == b"a" * 1000


def test_a_file_that_is_a_folder_too_is_refused_in_words(tmp_path):
    with pytest.raises(DataError, match=r"a\.zip.*out/a\b"):
        unzip(write_zip(tmp_path / "a.zip", {"a": b"1", "a/b": b"2"}), tmp_path / "out")


def test_an_archive_with_a_password_is_left_to_the_user(tmp_path):
    content = bytearray(write_zip(tmp_path / "a.zip", {"a": b"1"}).read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1  # the flag in the central directory
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DataError, match="password"):
        unzip(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("place", range(0, 400, 7))
def test_a_flipped_bit_is_never_unpacked_into_other_bytes(tmp_path, place):
    members = {f"a/{i}.png": bytes(range(40)) * (i + 1) for i in range(3)}
    file = write_zip(tmp_path / "a.zip", members)
    content = bytearray(file.read_bytes())
    content[place % len(content)] ^= 1 << (place % 8)
    file.write_bytes(content)
    with contextlib.suppress(DataError):
        unzip(file, tmp_path / "out")
    whole = set(members.values())
    assert all(data in whole for name, data in files_of(tmp_path / "out").items() if not name.endswith(".part"))
