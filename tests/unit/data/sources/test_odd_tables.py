"""Tables as people have them: columns, paths and files in other forms than ours."""

import unicodedata

import pytest

from helpers.layouts import draw
from helpers.tables import draw_cells, table, values
from nonet.data.build import build_dataset
from nonet.data.manifest import Dataset
from nonet.data.sources.csv_table import CSV
from nonet.data.sources.tables import read_table
from nonet.errors import DataError
from nonet.inference.inputs import find_inputs

pytestmark = pytest.mark.usefixtures("without_figures")


@pytest.fixture
def cells(tmp_path):
    return draw_cells(tmp_path / "cells")


# Columns.


def test_columns_in_another_letter_case_are_ours(cells, tmp_path):
    path = table(cells, "Path,LABEL,Patient,Split", "BA/a.png,BA,1,train", "EO/a.png,EO,2,Test")
    dataset = build_dataset(f"csv:{path}", tmp_path / "out")
    assert dataset.manifest["patient"].tolist() == ["table/1", "table/2"]
    assert dataset.manifest["split"].tolist() == ["train", "test"]
    assert [one.path.name for one in find_inputs([path])] == ["a.png", "a.png"]


def test_a_column_of_ours_comes_before_one_in_another_letter_case(cells):
    listing = CSV.read(table(cells, "path,label,Label", "BA/a.png,BA,x"))
    assert values(listing, "label") == ["BA"]


def test_all_wrong_columns_are_named_at_once_with_what_to_write(cells):
    path = table(cells, "filename,cell_type,Case", "BA/a.png,BA,1")
    with pytest.raises(DataError) as caught:
        CSV.read(path)
    assert "`columns=path=filename,label=cell_type,patient=Case`" in caught.value.hint


def test_columns_may_have_other_names(cells, tmp_path):
    path = table(cells, "file,type,who,label", "BA/a.png,BA,7,x", "EO/a.png,EO,8,y")
    for columns in ("path=file,label=type,patient=who", {"path": "file", "label": "type", "patient": "who"}):
        dataset = build_dataset(f"csv:{path}", tmp_path / "out", columns=columns)
        assert dataset.manifest[["path", "label", "patient"]].values.tolist() == [
            ["BA/a.png", "BA", "table/7"],
            ["EO/a.png", "EO", "table/8"],
        ]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ("path=flie,label=type", 'Did you mean "file"'),
        ("file=path", 'Did you mean "path=file"'),
        ("path", "NAME=COLUMN"),
        ("path=file,path=type", "given twice"),
    ],
)
def test_columns_that_are_not_there(cells, tmp_path, columns, words):
    with pytest.raises(DataError, match=words):
        build_dataset(f"csv:{table(cells, 'file,type', 'BA/a.png,BA')}", tmp_path / "out", columns=columns)


def test_option_that_no_source_takes_is_refused(cells, tmp_path):
    for option in ({"columns": "path=x"}, {"root": "x"}):
        with pytest.raises(DataError, match=next(iter(option))):
            build_dataset(f"folder:{cells}", tmp_path / "out", **option)


def test_root_of_a_table_elsewhere(cells, tmp_path):
    (tmp_path / "tables").mkdir()
    path = table(tmp_path / "tables", "path,label", "BA/a.png,BA", f"{cells}/EO/a.png,EO", "../tables/x.png,BA")
    dataset = build_dataset(f"csv:{path}", tmp_path / "out", root=cells)
    assert dataset.manifest["path"].tolist() == ["BA/a.png", "EO/a.png"]
    assert dataset.paths() == [cells / "BA/a.png", cells / "EO/a.png"]
    assert dataset.excluded["reason"].str.startswith("outside").all()


# Paths.


@pytest.mark.parametrize(
    "path",
    [
        *(r"BA\a.png", r".\BA\a.png", r"C:\Users\me\cells\BA\a.png", "ba/A.PNG", "BA/a", "'BA/a.png'", "/BA/a.png"),
        *("BA/%61.png", "/home/someone/cells/BA/a.png", "BA//a.png", "./BA/../BA/a.png"),
    ],
)
def test_path_in_another_spelling_is_found(cells, path):
    listing = CSV.read(table(cells, "path,label", f"{path},BA"))
    assert values(listing, "path") == ["BA/a.png"]


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_path_in_another_unicode_form_is_found(cells, forms):
    on_disk, in_table = (unicodedata.normalize(form, "Zellen-ä/é.png") for form in forms)
    draw(cells / on_disk, 9)
    listing = CSV.read(table(cells, "path,label", f"{in_table},BA"))
    assert values(listing, "path") == [on_disk]
    assert any("Unicode form" in note for note in listing.notes)


@pytest.mark.parametrize("in_table", ["EO/x-y z.png", "file:///home/someone/cells/EO/x\u2013y%20z.png"])
def test_path_with_another_kind_of_dash_or_blank_is_found(cells, in_table):
    draw(cells / "EO/x\u2013y\u00a0z.png", 9)
    listing = CSV.read(table(cells, "path,label", f"{in_table},EO"))
    assert values(listing, "path") == ["EO/x\u2013y\u00a0z.png"]


def test_path_that_fits_two_files_is_not_guessed(cells):
    draw(cells / "EO/A.png", 9)
    draw(cells / "EO/a.jpg", 9)
    listing = CSV.read(table(cells, "path,label", "eo/a.PNG,EO", "EO/a,EO"))
    assert [row["path"] for row in listing.rows if (cells / row["path"]).exists()] == []


@pytest.mark.parametrize(
    ("path", "hint"),
    [(r"C:\q.png", "Windows"), ("https://example.org/a.png", "address"), ("BA/a.tif", "there is BA/a.png")],
)
def test_path_that_is_not_found_is_listed_with_its_reason(cells, path, hint):
    listing = CSV.read(table(cells, "path,label", f"{path},BA", "BA/a.png,BA"))
    assert len(listing.rows) == 1
    assert listing.excluded[0]["reason"].startswith("missing: ") and hint in listing.excluded[0]["reason"]


@pytest.mark.parametrize("path", ["x" * 400 + ".png", "BA/\0.png", "BA/" + "y/" * 3000 + "a.png"])
def test_one_path_that_no_file_can_have_does_not_end_the_build(cells, tmp_path, path):
    dataset = build_dataset(
        f"csv:{table(cells, 'path,label', f'{path},BA', 'BA/a.png,BA', 'EO/a.png,EO')}", tmp_path / "out"
    )
    assert len(dataset.manifest) == 2 and len(dataset.excluded) == 1
    assert len(Dataset.open(tmp_path / "out").excluded) == 1


def test_link_in_a_circle_is_listed(cells, tmp_path):
    (cells / "BA/loop.png").symlink_to(cells / "BA/loop.png")
    path = table(cells, "path,label", "BA/loop.png,BA", "BA/a.png,BA", "EO/a.png,EO")
    for spec in (f"csv:{path}", f"folder:{cells}"):
        dataset = build_dataset(spec, tmp_path / "out")
        assert len(dataset.excluded[dataset.excluded["path"] == "BA/loop.png"]) == 1


@pytest.mark.parametrize("direction", ["table by the link", "source by the link"])
def test_absolute_paths_through_a_link_are_found(cells, tmp_path, direction):
    (tmp_path / "link").symlink_to(cells)
    there, here = (tmp_path / "link", cells) if direction == "table by the link" else (cells, tmp_path / "link")
    table(cells, "path,label", f"{there}/BA/a.png,BA", f"{there}/EO/a.png,EO")
    dataset = build_dataset(f"csv:{here}/table.csv", tmp_path / "out")
    assert dataset.manifest["path"].tolist() == ["BA/a.png", "EO/a.png"]


def test_table_by_a_path_with_dots(cells, tmp_path, monkeypatch):
    table(cells, "path,label", "BA/a.png,BA", "EO/a.png,EO")
    monkeypatch.chdir(cells / "BA")
    dataset = build_dataset("csv:../table.csv", "../../out")
    assert len(dataset.manifest) == 2 and dataset.excluded.empty
    assert dataset.description["roots"] == {"table": str(cells)}


# Files that hold a table.


@pytest.mark.parametrize(
    "data",
    [
        b"sep=,\r\npath,label\r\na,b\r\n",
        b'\xef\xbb\xbf"sep=,"\npath,label\na,b\n',
        b"path,label\ra,b\r",
        b"\n\npath,label\na,b\n",
        "\ufeff\ufeffpath,label\na\u200b,b\n".encode(),
        "path,label\r\na,b\r\n".encode("utf-16"),
        b' "path", label \n a ,b\n'.lstrip(),
        b'path, label\n"a", "b"\n',
        b'path,label\n="a","=""b"""\n',
        b"'path','label'\n'a','b'\n",
        b"path,label\na,b\npath,label\n",
        b"path,label,pixels\na,b," + b"0" * 200_000 + b"\n",
    ],
)
def test_table_as_programs_save_it_is_read(tmp_path, data):
    (tmp_path / "t.csv").write_bytes(data)
    assert read_table(tmp_path / "t.csv")[["path", "label"]].values.tolist() == [["a", "b"]]


def test_lines_are_counted_with_the_line_that_names_the_separator(tmp_path):
    (tmp_path / "t.csv").write_text("sep=,\npath,label\na,b\nc,d,e\n")
    with pytest.raises(DataError, match="line 4"):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK\x03\x04....[Content_Types].xml", "an Excel workbook"),
        (b"PK\x03\x04....a.csv", "a zip archive(.|\n)*unzip"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Excel workbook(.|\n)*CSV UTF-8"),
        (b"PAR1\x15", "a Parquet file"),
        (b"\x1f\x8b\x08", "a gzip archive"),
        (b"<!DOCTYPE html>\n<html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"sep=;\npath;label\n", "semicolons"),
        ("path\tlabel\n".encode("utf-16"), "tabs"),
        (("path,label\n" * 30).encode("utf-16-le"), "UTF-16"),
        (b'[{"path": "a"}]', "JSON"),
        (b'<?xml version="1.0"?>\n<Workbook>', "an XML file"),
        (b"\x93NUMPY\x01\x00", "a NumPy array"),
        (b"path label\na b\n", "blanks"),
        (b'path,label\na,b\nc,"d\ne,f\n', "line 3: a quotation mark"),
        (b"# my cells\npath,label\na,b\n", "line 2, has 2 values(.|\n)*title or comment"),
        ("path,label\nä,b\n".encode("latin-1"), "line 2 has the byte 0xe4(.|\n)*Latin-1"),
    ],
)
def test_file_that_is_not_a_table_is_said_to_be_what_it_is(tmp_path, data, words):
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(DataError, match=words):
        read_table(tmp_path / "t.csv")


def test_folder_given_as_a_table(tmp_path):
    with pytest.raises(DataError, match="is a folder"):
        read_table(tmp_path)
