"""`shard_images`: one row an image, files as they are, resumed by the shards that are whole."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.folders import everything_in
from helpers.odd_images import as_file, noise
from helpers.processes import DIES_BEFORE_RENAMING, small_files
from nonet.data.shards.formats import FORMATS, read_shard
from nonet.errors import DamagedError, DataError, RunError, StorageError
from nonet.inference.sharding import shard_images


@pytest.fixture
def cells(tmp_path):
    """Ten files of two cases."""
    for number in range(10):
        file = tmp_path / "cells" / f"case {number % 2}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(as_file(noise(number)))
    return tmp_path / "cells"


def rows(folder):
    index = json.loads((folder / "shards.json").read_text())
    return [one for entry in index["shards"] for one in read_shard(folder / entry["name"])]


@pytest.mark.parametrize("form", FORMATS)
def test_each_image_is_one_row_with_its_bytes_and_case(cells, tmp_path, form):
    made = shard_images(cells, out=tmp_path / "out", format=form, images_per_shard=4, case_from="folder")
    assert (made.num_shards, made.num_images, made.num_unreadable) == (3, 10, 0)
    assert "10 images in 3 shards" in str(made)
    found, files = rows(tmp_path / "out"), sorted(cells.rglob("*.png"))
    assert [(one.name, one.case) for one in found] == [(str(file), file.parent.name) for file in files]
    assert [one.data for one in found] == [file.read_bytes() for file in files]
    index = json.loads((tmp_path / "out" / "shards.json").read_text())
    assert [entry["num_images"] for entry in index["shards"]] == [4, 4, 2]


def test_what_cannot_be_read_is_a_row_with_its_error_and_is_tried_again(cells, tmp_path):
    (cells / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (cells / "empty.png").touch()
    os.mkfifo(cells / "pipe.png")
    made = shard_images(cells, out=tmp_path / "out", images_per_shard=12)
    assert (made.num_images, made.num_unreadable, made.num_to_retry) == (13, 2, 1)
    found = {Path(one.name).name: one for one in rows(tmp_path / "out")}
    assert "missing" in found["gone.png"].error and "pipe" in found["pipe.png"].error
    assert found["empty.png"].error == "" and found["empty.png"].data == b""
    (tmp_path / "nowhere.png").write_bytes(b"there now")
    again = shard_images(cells, out=tmp_path / "out", images_per_shard=12)
    assert (again.num_unreadable, again.num_to_retry) == (1, 0)
    assert b"there now" in [one.data for one in rows(tmp_path / "out")]


@pytest.mark.skipif(sys.platform != "linux", reason="only there can a file's name be no text")
@pytest.mark.parametrize("form", FORMATS)
def test_odd_names(tmp_path, form):
    folder = tmp_path / "cells"
    for part in ("a", "b"):
        (folder / part).mkdir(parents=True)
        (folder / part / "same.png").write_bytes(part.encode())
    place = os.path.join(os.fsencode(folder), b"M\xfcller.png")  # noqa: PTH118
    with open(place, "w"):  # noqa: PTH123
        pass
    (folder / "line\nbreak.png").write_bytes(b"c")
    (folder / "x.tar.png").write_bytes(b"d")
    made = shard_images(folder, out=tmp_path / "out", format=form)
    found = rows(tmp_path / "out")
    assert made.num_images == len(found) == 5
    assert {one.data for one in found} == {b"a", b"b", b"", b"c", b"d"}
    assert len({one.name for one in found}) == 5


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.name.startswith("shard")}


def test_what_is_whole_is_not_written_again(cells, tmp_path):
    options = {"out": tmp_path / "out", "images_per_shard": 4}
    shard_images(cells, **options)
    before = stamps(tmp_path / "out")
    shard_images(cells, **options)
    assert stamps(tmp_path / "out") == before
    damaged, missing = (tmp_path / "out" / f"shard-00000{i}.parquet" for i in (0, 1))
    content = damaged.read_bytes()
    damaged.write_bytes(content[:200] + b"X" + content[201:])
    missing.unlink()
    shard_images(cells, **options)
    assert damaged.read_bytes() == content
    assert stamps(tmp_path / "out")["shard-000002.parquet"] == before["shard-000002.parquet"]
    assert len(rows(tmp_path / "out")) == 10


def test_an_image_that_changed_makes_its_shard_anew(cells, tmp_path):
    options = {"out": tmp_path / "out", "images_per_shard": 4}
    shard_images(cells, **options)
    before = stamps(tmp_path / "out")
    (cells / "case 0" / "0.png").write_bytes(b"another")
    shard_images(cells, **options)
    assert rows(tmp_path / "out")[0].data == b"another"
    after = stamps(tmp_path / "out")
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"shard-000000.parquet", "shard-000000.json", "shards.json"}


def test_other_images_replace_earlier_shards_and_leave_none_of_them(cells, tmp_path):
    out = tmp_path / "out"
    shard_images(cells, out=out, images_per_shard=2)
    (out / "notes.txt").write_text("mine")
    shard_images(cells / "case 0", out=out, images_per_shard=4, format="webdataset")
    assert sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) == [
        *("notes.txt", "shard-000000.json", "shard-000000.tar", "shard-000001.json", "shard-000001.tar"),
        "shards.json",
    ]
    assert len(rows(out)) == 5


KILLED_AT = (
    DIES_BEFORE_RENAMING
    + """
cells, out, form, _ = sys.argv[1:]
nonet.shard_images(cells, out=out, images_per_shard=4, format=form)
"""
)


@pytest.mark.kill
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("form", FORMATS)
def test_killed_at_any_moment_the_same_call_resumes(cells, tmp_path, form):
    """Kills just before a file gets its name: a shard, what is known of one, the index."""
    out, first = tmp_path / "out", None
    for last in (f"shard-000001{FORMATS[form].suffix}", "shard-000001.json", "shards.json"):
        killed = subprocess.run([sys.executable, "-c", KILLED_AT, cells, out, form, last], capture_output=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert not (out / "shards.json").exists()
        first = first or stamps(out)["shard-000000.json"]
        assert stamps(out)["shard-000000.json"] == first  # what was done is not done again
    shard_images(cells, out=out, images_per_shard=4, format=form)
    shard_images(cells, out=tmp_path / "whole", images_per_shard=4, format=form)
    assert everything_in(out) == everything_in(tmp_path / "whole")


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_leaves_nothing_half_written(cells, tmp_path, form):
    with small_files(3000), pytest.raises(StorageError, match="shard-000000"):
        shard_images(cells, out=tmp_path / "out", format=form)
    assert [path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".nonet.")] == []
    assert shard_images(cells, out=tmp_path / "out", format=form).num_images == 10


def test_folders_and_options_that_cannot_be(cells, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    with pytest.raises(StorageError, match=r"mine\.txt"):
        shard_images(cells, out=tmp_path / "full")
    with pytest.raises(DataError, match="images_per_shard"):
        shard_images(cells, out=tmp_path / "out", images_per_shard=0)
    with pytest.raises(DataError, match="zip"):
        shard_images(cells, out=tmp_path / "out", format="zip")
    assert not (tmp_path / "out").exists()


def test_an_unfinished_or_edited_folder_is_not_taken_for_whole(cells, tmp_path):
    from nonet.data.shards.folder import read_index

    made = shard_images(cells, out=tmp_path / "out")
    index = made.folder / "shards.json"
    index.write_text(index.read_text().replace('"num_images": 10', '"num_images": 11'))
    with pytest.raises(DamagedError, match="edited"):
        read_index(made.folder)
    index.unlink()
    with pytest.raises(RunError, match="not finished"):
        read_index(made.folder)
    shutil.rmtree(made.folder)


def test_from_the_command_line(nonet, cells, tmp_path):
    (cells / "gone.png").symlink_to(tmp_path / "nowhere.png")
    status, out, _ = nonet("data", "shard", cells, "--out", tmp_path / "out", "--images-per-shard", 4)
    assert status == 1 and "11 images, 1 of them unreadable in 3 shards" in out
    (cells / "gone.png").unlink()
    assert nonet("data", "shard", cells, "--out", tmp_path / "out", "--format", "webdataset")[0] == 0
