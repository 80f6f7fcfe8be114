"""What `predict` takes: every form of it, each image once, and a clear word where there is none."""

import os
import re
import sys
from pathlib import Path

import pandas as pd
import pytest

from helpers.odd_images import RGB, as_file
from nonet.data.build import build_dataset
from nonet.data.preprocess.crop import Crop
from nonet.errors import DataError
from nonet.inference.inputs import find_inputs
from nonet.inference.prepared_input import ImageTask, prepare_or_error
from nonet.recipe import Denoise

FTYP_HEIC = b"\0\0\0\x18ftypheic" + bytes(50)


@pytest.fixture
def folder(tmp_path):
    """Files that are named as images; nothing is read before it is predicted."""
    for name in ("b.png", "a.JPG", "sub/c.tiff", "notes.txt", ".hidden.png", ".cache/d.png", "sub/._c.tiff"):
        (tmp_path / "cells" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cells" / name).touch()
    return tmp_path / "cells"


def names(*images, **options):
    return [Path(one.name).name for one in find_inputs(list(images), **options)]


def test_a_folder_gives_its_images_in_order_without_hidden_ones(folder):
    assert names(folder) == ["a.JPG", "b.png", "c.tiff"]


def test_a_folder_gives_what_a_build_would_read_and_counts_the_rest(tmp_path, caplog):
    cells = tmp_path / "cells" / "LY"
    cells.mkdir(parents=True)
    data = as_file(RGB)
    wanted = ["a.JFIF", "b.avif", "c.gif", "d.jp2", "e.dib", "f.tiff", "g", "h.dat", "i.heic"]
    for number, name in enumerate(wanted):
        (cells / name).write_bytes(data + bytes([number]))
    (cells / "i.heic").write_bytes(FTYP_HEIC)
    for name in ("notes.txt", "more.txt", "table.xlsx", "README", "Thumbs.db", ".DS_Store"):
        (cells / name).write_text("about")
    built = build_dataset(f"folder:{cells.parent}", tmp_path / "out")
    assert set(built.manifest["path"]) == {f"LY/{name}" for name in wanted[:-1]}
    assert names(cells.parent) == wanted
    assert "4 files" in caplog.text and "2 .txt" in caplog.text and "1 .xlsx" in caplog.text
    assert "Thumbs.db" not in caplog.text and ".DS_Store" not in caplog.text


def test_what_is_named_as_an_image_and_is_no_file_has_a_row(tmp_path):
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "cells" / "pipe.jpg")
    os.mkfifo(tmp_path / "cells" / "pipe")  # not opened to see what it begins with
    assert names(tmp_path / "cells") == ["gone.png", "pipe.jpg"]
    found = find_inputs([tmp_path / "cells" / "pipe.jpg"])
    error = prepare_or_error(ImageTask(found[0].path, found[0].name, [Crop(8)], Denoise()))
    assert isinstance(error, DataError) and "named pipe" in error.message


def test_a_folder_below_a_hidden_one_is_searched(tmp_path):
    (tmp_path / ".store" / "cells").mkdir(parents=True)
    (tmp_path / ".store" / "cells" / "a.png").touch()
    assert names(tmp_path / ".store") == ["a.png"]


def test_files_come_in_the_order_given_and_once(folder):
    again = folder / "sub" / ".." / "b.png"
    assert names(folder / "sub" / "c.tiff", folder / "b.png", again, folder) == ["c.tiff", "b.png", "a.JPG"]


def test_globs_are_expanded(folder):
    assert names(f"{folder}/*.png") == ["b.png"]
    assert names(f"{folder}/**/*.tiff") == ["c.tiff"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(folder):
    (folder / "cell[1].png").touch()
    (folder / "cell1.png").touch()
    assert names(folder / "cell[1].png") == ["cell[1].png"]


def test_a_home_folder_is_expanded(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    assert names("~/b.png") == ["b.png"]


def test_links_to_one_file_are_images_of_their_own(folder):
    """A cache that keeps each content once links two names to it; a submission needs both."""
    (folder / "link.png").symlink_to(folder / "b.png")
    assert names(folder) == ["a.JPG", "b.png", "link.png", "c.tiff"]


def test_a_table_names_images_relative_to_itself(folder):
    (folder / "cells.csv").write_bytes(b"\xef\xbb\xbfpath,label,,\r\nb.png,LY,,\r\nsub/c.tiff,,,\r\n")
    found = find_inputs([folder / "cells.csv"])
    assert [one.name for one in found] == ["b.png", "sub/c.tiff"]
    assert [one.path for one in found] == [folder / "b.png", folder / "sub/c.tiff"]


def test_two_tables_with_the_same_names_are_distinguished(folder, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cells.csv").write_text("path\n1.png\n")
    found = find_inputs([tmp_path / "one" / "cells.csv", tmp_path / "two" / "cells.csv"])
    assert len({one.name for one in found}) == 2
    assert [one.path.parent.name for one in found] == ["one", "two"]


def test_a_dataset_gives_its_images_by_id_and_split(tiny_dataset, tmp_path):
    everything = find_inputs([tiny_dataset.folder])
    assert [one.name for one in everything] == tiny_dataset.manifest["image_id"].tolist()
    assert all(one.path.is_file() for one in everything)
    assert find_inputs([tiny_dataset.folder / "manifest.parquet"]) == everything
    root = Path(tiny_dataset.description["roots"]["cells"])
    rows = [f"{path},{'test' if i < 4 else ''}" for i, path in enumerate(sorted(tiny_dataset.manifest["path"]))]
    rows = [f"{path},{path.split('/')[0]},{split}" for path, split in (row.split(",") for row in rows)]
    (root / "splits.csv").write_text("\n".join(["path,label,split", *rows]))
    split = build_dataset(f"csv:{root / 'splits.csv'}", tmp_path / "split")
    for given in (split.folder, split.folder / "manifest.parquet"):
        assert len(find_inputs([given], split="test")) == 4
    with pytest.raises(DataError, match='"tets"') as caught:
        find_inputs([split.folder], split="tets")
    assert 'Did you mean "test"?' in caught.value.hint


def test_a_split_is_not_ignored_where_there_is_none(folder):
    (folder / "cells.csv").write_text("path\nb.png\n")
    for given in (folder, folder / "b.png", folder / "cells.csv"):
        with pytest.raises(DataError, match="`split=test`"):
            find_inputs([given], split="test")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("file;label\nb.png;LY\n", "semicolons"),
        ("file,label\nb.png,LY\n", "no column path"),
        ("path,label\n,LY\n", "without a path"),
        ("path\n", "no image"),
        ("", "empty"),
    ],
)
def test_a_file_that_is_not_a_table_says_why(folder, content, words):
    (folder / "cells.csv").write_text(content)
    with pytest.raises(DataError, match=words):
        find_inputs([folder / "cells.csv"])


def test_a_broken_parquet_table_says_so(folder):
    (folder / "cells.parquet").write_bytes(b"PAR1 not")
    with pytest.raises(DataError, match="cannot be read as a table"):
        find_inputs([folder / "cells.parquet"])


def test_what_is_not_there_is_named(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    for given, words in [
        (tmp_path / "nowhere", "nowhere"),
        (f"{folder}/*.bmp", "bmp"),
        (tmp_path / "empty", "contains no image"),
        (folder / "manifest.parquet", "manifest.parquet"),
    ]:
        with pytest.raises(DataError, match=words):
            find_inputs([given])
    with pytest.raises(DataError, match="no images to predict"):
        find_inputs([])


@pytest.mark.parametrize("name", ["cells.tsv", "cells.txt"])
def test_a_list_that_is_not_a_csv_file_is_refused(folder, name):
    (folder / name).write_text("path\tlabel\na.png\tSNE\n")
    with pytest.raises(DataError, match=re.escape(name)) as raised:
        find_inputs([folder / name])
    assert "CSV" in raised.value.hint and '"path"' in raised.value.hint


def test_a_run_is_not_images(tiny_run):
    with pytest.raises(DataError, match="is a run, not images"):
        find_inputs([tiny_run.folder])


@pytest.mark.skipif(sys.platform != "linux", reason="only there can a file's name be no text")
def test_a_name_that_is_no_text_can_be_written(folder):
    place = os.path.join(os.fsencode(folder), b"M\xfcller.png")  # noqa: PTH118
    with open(place, "w"):  # noqa: PTH123
        pass
    found = next(one for one in find_inputs([folder]) if "ller" in one.name)
    assert found.path.is_file()
    found.name.encode("utf-8")


# --- Cases ---------------------------------------------------------------------------------------------------------


def cases(*images, **options):
    return [one.case for one in find_inputs(list(images), **options)]


def test_the_case_is_given_or_read_from_a_column(tmp_path, folder):
    (tmp_path / "cells.csv").write_text("path,patient,case\ncells/b.png,P1,S-7\ncells/a.JPG,P1,\n")
    assert cases(tmp_path / "cells.csv") == ["S-7", ""]
    assert cases(tmp_path / "cells.csv", case="all of it") == ["all of it"] * 2
    (tmp_path / "cells.csv").write_text("path,Patient\ncells/b.png,007\ncells/a.JPG,7\n")
    assert cases(tmp_path / "cells.csv") == ["007", "7"]
    assert cases(folder) == ["", "", ""]


def test_numbers_of_cases_are_read_as_they_are_meant(tmp_path, folder):
    pd.DataFrame({"path": ["cells/b.png", "cells/a.JPG"], "case": [12.0, None]}).to_parquet(tmp_path / "cells.parquet")
    assert cases(tmp_path / "cells.parquet") == ["12", ""]


def test_a_case_may_be_a_folder(tmp_path):
    for name in ("A/x.png", "A/deep/y.png", "B/z.png", "w.png"):
        (tmp_path / "slides" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "slides" / name).touch()
    by_name = {Path(one.name).name: one.case for one in find_inputs([tmp_path / "slides"], case_from="folder")}
    assert by_name == {"x.png": "A", "y.png": "A", "z.png": "B", "w.png": "slides"}
    assert sorted(cases(tmp_path / "slides" / "A", case_from="folder")) == ["A", "deep"]
    assert cases(tmp_path / "slides" / "A" / "x.png", case_from="folder") == ["A"]


def test_control_characters_of_a_case_are_escaped(folder):
    assert cases(folder, case="a\x1b[31m\nb")[0].isprintable()


@pytest.mark.parametrize("options", [{"case": " "}, {"case": "A", "case_from": "folder"}, {"case_from": "file"}])
def test_cases_that_contradict_each_other_are_refused(folder, options):
    with pytest.raises(DataError, match="case"):
        find_inputs([folder], **options)


def test_a_table_may_name_its_images(tmp_path):
    for name in ("1.png", "2.png", "3.png"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "list.csv").write_text("path,image,case\n1.png,slide A/7,a\n2.png,,a\n3.png,=x,b\n")
    found = find_inputs([tmp_path / "list.csv"])
    assert [(one.name, one.path.name, one.case) for one in found] == [
        ("slide A/7", "1.png", "a"),
        ("2.png", "2.png", "a"),
        ("=x", "3.png", "b"),
    ]
