"""Shards of every format: what is written is read again, damage is noticed, and shards of others are read."""

import io
import json
import tarfile

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.odd_images import RGB, as_file
from nonet.data.images.files import MAX_BYTES
from nonet.data.shards.formats import FORMATS, read_shard
from nonet.data.shards.shard_image import ShardError, ShardImage

IMAGES = [
    ShardImage("cells/a.png", "cells/a.png", "S-7", as_file(RGB)),
    ShardImage("same name", "x/b.JPG", "", b"\xff\xd8\xff any bytes"),
    ShardImage("same name", "no suffix", "", b""),
    ShardImage("名前\n=1+1", "odd/../../name.tar.gz", "a case", b"\0" * 1000),
    ShardImage("gone.png", "gone.png", "S-7", b"", "gone.png is missing."),
]


@pytest.fixture(params=FORMATS)
def form(request):
    return FORMATS[request.param]


@pytest.fixture
def shard(form, tmp_path):
    path = tmp_path / f"shard{form.suffix}"
    form.write(path, iter(IMAGES))
    return path


def test_what_is_written_is_read_again(shard):
    assert list(read_shard(shard)) == IMAGES


def test_the_same_images_give_the_same_bytes(form, shard, tmp_path):
    form.write(tmp_path / "again", iter(IMAGES))
    assert (tmp_path / "again").read_bytes() == shard.read_bytes()


def test_a_shard_without_images_is_one(form, tmp_path):
    form.write(tmp_path / f"none{form.suffix}", iter(()))
    assert list(read_shard(tmp_path / f"none{form.suffix}")) == []


def test_a_shard_that_is_cut_short_is_an_error_wherever_it_is_cut(form, shard):
    whole, end = shard.read_bytes(), 1024 if form.suffix == ".tar" else 1  # a tar archive ends with two blocks of zeros
    content = len(whole.rstrip(b"\0")) if form.suffix == ".tar" else len(whole)
    for size in (0, 100, 512, 1024, content // 2, content - 600, content - end):
        shard.write_bytes(whole[:size])
        with pytest.raises(ShardError, match="shard"):
            list(read_shard(shard))


def test_a_flipped_bit_in_what_describes_the_images_is_an_error(form, shard):
    whole = bytearray(shard.read_bytes())
    place = whole.rindex(b"ustar\0") if form.suffix == ".tar" else whole.index(b"any bytes")
    whole[place] ^= 1
    shard.write_bytes(whole)
    with pytest.raises(ShardError, match="shard"):
        list(read_shard(shard))


def test_a_shard_that_is_missing_or_of_another_kind(tmp_path, form):
    with pytest.raises(ShardError, match=r"missing\.(tar|parquet) is missing"):
        list(read_shard(tmp_path / f"missing{form.suffix}"))
    with pytest.raises(ShardError, match=r"\.tar"):
        read_shard(tmp_path / "shard.zip")


def test_images_are_read_as_they_are_asked_for(form, tmp_path):
    """A reader that takes one image has read a few, not all of them."""
    written = []

    def images():
        for number in range(300):
            written.append(number)
            yield ShardImage(f"{number}", f"{number}.png", "", bytes(100_000))

    path = tmp_path / f"large{form.suffix}"
    form.write(path, images())
    assert len(written) == 300
    reader = read_shard(path)
    assert next(reader).name == "0"
    if form.suffix == ".parquet":
        assert pq.ParquetFile(path).num_row_groups >= 5
    reader.close()


# --- Shards of others ----------------------------------------------------------------------------------------------


def test_parquet_files_as_the_hub_has_them(tmp_path):
    rows = [{"bytes": b"one", "path": "one.jpg"}, {"bytes": None, "path": "two.jpg"}, {"bytes": b"three", "path": None}]
    table = pd.DataFrame({"label": [1, 2, 3], "image": rows, "patient": ["P1", "P1", None]})
    table.to_parquet(tmp_path / "train-00000.parquet")
    found = list(read_shard(tmp_path / "train-00000.parquet"))
    assert [(one.name, one.case, one.data) for one in found] == [
        ("one.jpg", "P1", b"one"),
        ("two.jpg", "P1", b""),
        ("train-00000/000002", "", b"three"),
    ]
    assert [bool(one.error) for one in found] == [False, True, False]


def test_names_are_those_of_the_column_of_ids(tmp_path):
    kind = pa.struct([("bytes", pa.large_binary()), ("path", pa.string())])
    picture = pa.array([{"bytes": b"one", "path": "x.jpg"}], kind)
    pq.write_table(pa.table({"picture": picture, "image_id": ["cell-1"]}), tmp_path / "a.parquet")
    assert [one.name for one in read_shard(tmp_path / "a.parquet")] == ["cell-1"]


def test_a_table_without_images_is_not_a_shard(tmp_path):
    pd.DataFrame({"path": ["a.png"]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ShardError, match="no column"):
        list(read_shard(tmp_path / "a.parquet"))


def archive_of(path, *members):
    """Write a tar archive of (name, content), or of TarInfo."""
    with tarfile.open(path, "w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                name, data = member
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return path


def test_archives_as_others_make_them(tmp_path):
    path = archive_of(
        tmp_path / "a.tar",
        ("train/0001.cls", b"3"),
        ("train/0001.input.png", b"one"),
        ("train/0001.other.png", b"not this one"),
        ("train/._0001.png", b"left by macOS"),
        ("train/0002.JPG", b"two"),
        ("train/0002.json", json.dumps({"case": "S-7", "label": 3}).encode()),
        ("0002.png", b"three"),
        ("0002.json", b"{not JSON"),
        ("0003.txt", b"no image"),
    )
    found = list(read_shard(path))
    assert [(one.name, one.case, one.data) for one in found] == [
        ("train/0001.input.png", "", b"one"),
        ("train/0002.JPG", "S-7", b"two"),
        ("0002.png", "", b"three"),
        ("0003.txt", "", b""),
    ]
    assert [bool(one.error) for one in found] == [False, False, False, True]


def test_links_and_huge_files_in_an_archive_are_images_with_an_error(tmp_path):
    link, huge = tarfile.TarInfo("1.png"), tarfile.TarInfo("2.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    huge.size = MAX_BYTES + 1
    path = tmp_path / "a.tar"
    path.write_bytes(link.tobuf() + huge.tobuf())
    with path.open("r+b") as file:
        file.truncate(1024 + (MAX_BYTES // 512 + 1) * 512 + 1024)  # a hole: it takes no room
    found = list(read_shard(path))
    assert [(one.name, one.data) for one in found] == [("1.png", b""), ("2.png", b"")]
    assert "link" in found[0].error and "bytes" in found[1].error


def test_archives_that_were_concatenated_are_refused(tmp_path):
    one, two = (archive_of(tmp_path / name, (f"{name}.png", b"x")) for name in ("a", "b"))
    (tmp_path / "both.tar").write_bytes(one.read_bytes() + two.read_bytes())
    with pytest.raises(ShardError, match="concatenated"):
        list(read_shard(tmp_path / "both.tar"))


def test_names_that_no_table_can_store_are_replaced(tmp_path):
    info = tarfile.TarInfo(b"M\xfcller.png".decode("utf-8", "surrogateescape"))
    about = ("M\ufffdller.json", b'{"case": "\\ud800"}')
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(info)
    archive_of(tmp_path / "b.tar", ("x.png", b""), ("x.json", about[1]))
    for name in ("a.tar", "b.tar"):
        for one in read_shard(tmp_path / name):
            f"{one.name}{one.case}".encode()
