"""Folders as people have them: splits above classes, levels too high, what systems leave behind, links, bad names."""

import errno
import os
from functools import partial
from pathlib import Path

import pytest

from helpers.layouts import draw
from nonet.artifacts.system_files import is_leftover
from nonet.data.build import build_dataset
from nonet.data.images.files import read_file
from nonet.data.manifest import Dataset
from nonet.data.sources import SOURCES
from nonet.data.sources.folder import FOLDER
from nonet.errors import DataError
from nonet.inference.inputs import find_inputs

pytestmark = pytest.mark.usefixtures("without_figures")

SOME = ("BA/a.png", "BA/b.png", "EO/a.png", "EO/b.png")


def fill(folder, *names):
    for name in names:
        draw(folder / name, sum(map(ord, str(name))))
    return folder


@pytest.fixture
def cells(tmp_path):
    return fill(tmp_path / "cells", *SOME)


def values(listing, column):
    return [row[column] for row in listing.rows]


def reasons(dataset):
    return dict(zip(dataset.excluded["path"], dataset.excluded["reason"]))


# Levels.


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Training", "Validation_set", "Testing"), ("train_1", "dev", "TestA")]
)
def test_folders_of_a_split_above_the_classes_are_the_split(tmp_path, names):
    fill(tmp_path / "x", *(f"{name}/{label}/{i}.png" for name in names for label in ("BA", "EO") for i in range(2)))
    dataset = build_dataset(f"folder:{tmp_path / 'x'}", tmp_path / "out")
    assert dataset.classes == ["BA", "EO"]
    assert dataset.manifest.groupby("split").size().to_dict() == {"test": 4, "train": 4, "val": 4}
    assert dataset.manifest.loc[dataset.manifest["evaluate"], "split"].isin(["train", "val"]).all()
    assert any("split val" in note for note in dataset.notes)


def test_split_below_the_classes_is_read_too(tmp_path):
    fill(
        tmp_path / "x",
        *(f"{label}/{split}/{i}.png" for label in ("BA", "EO") for split in ("Train", "Test") for i in "ab"),
    )
    dataset = build_dataset(f"folder:{tmp_path / 'x'}", tmp_path / "out")
    assert dataset.classes == ["BA", "EO"]
    assert dataset.manifest.groupby("split").size().to_dict() == {"test": 4, "train": 4}


def test_images_of_a_test_without_classes_are_unlabelled(tmp_path):
    fill(tmp_path / "x", "train/BA/1.png", "train/EO/1.png", "train/2.png", "test/7.png", "test/8.png")
    dataset = build_dataset(f"folder:{tmp_path / 'x'}", tmp_path / "out")
    test = dataset.manifest[dataset.manifest["split"] == "test"]
    assert test["path"].tolist() == ["test/7.png", "test/8.png"] and test["label"].isna().all()
    assert reasons(dataset) == {"train/2.png": "in no class folder"}


def test_an_image_below_two_splits_is_listed(tmp_path):
    fill(tmp_path / "x", "train/BA/test/1.png", "train/BA/1.png", "train/EO/1.png", "test/EO/test/2.png")
    dataset = build_dataset(f"folder:{tmp_path / 'x'}", tmp_path / "out")
    assert list(reasons(dataset)) == ["train/BA/test/1.png"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("train/BA/1.png", "test/BA/1.png", "EO/1.png"), "beside others"),
        (("train/BA/1.png", "eval/BA/1.png"), "validation or test"),
        (("data/BA/1.png", "data/EO/1.png"), "folder:.*/data"),
        (("data/x/1.png", "data/y/1.png"), "CLASS/PATIENT"),
        (("train/images/x/1.png", "train/images/y/1.png", "test/images/x/1.png"), r"SPLIT/\*/CLASS"),
        (("P1/lymphocyte/1.png", "P1/monocytes/1.png", "P2/Monocyte/1.png"), "PATIENT/CLASS"),
        (
            ("images/train/BA/1.png", "images/train/EO/1.png", "images/test/BA/1.png"),
            r"folder:.*/images.*\*/SPLIT/CLASS",
        ),
        (("fold1/train/BA/1.png", "fold1/test/EO/1.png", "fold2/test/BA/1.png"), r"\*/SPLIT/CLASS"),
        (("BA_train/1.png", "EO_train/1.png", "BA_Test/1.png"), "train/CLASS"),
    ],
)
def test_levels_that_cannot_be_meant_stop_the_build(tmp_path, names, words):
    fill(tmp_path / "x", *names)
    with pytest.raises(DataError, match=words):
        build_dataset(f"folder:{tmp_path / 'x'}", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_class_folder_given_as_the_source_stops_the_build(tmp_path):
    fill(tmp_path / "cells", "EO/P1/1.png", "EO/P2/1.png")
    with pytest.raises(DataError, match=f"folder:{tmp_path / 'cells'}"):
        FOLDER.read(tmp_path / "cells/EO")


def test_one_class_with_folders_of_patients_is_a_class(tmp_path):
    fill(tmp_path / "x", "PLY/P1/1.png", "PLY/P2/1.png")
    assert values(FOLDER.read(tmp_path / "x"), "label") == ["PLY", "PLY"]


@pytest.mark.parametrize(
    ("layout", "name", "known"),
    [
        ("CLASS/PATIENT", "EO/P1/a.png", ("EO", "P1", None)),
        ("patient/class", "P1/EO/a.png", ("EO", "P1", None)),
        ("SPLIT/CLASS/PATIENT", "Testing/EO/P1/deep/a.png", ("EO", "P1", "test")),
        ("PATIENT/*/CLASS/", "P1/slide/EO/a.png", ("EO", "P1", None)),
        ("CLASS/PATIENT", "EO/a.png", ("EO", None, None)),
        ("CLASS", "test/a.png", ("test", None, None)),
    ],
)
def test_layout(tmp_path, layout, name, known):
    fill(tmp_path / "x", name)
    (row,) = FOLDER.read(tmp_path / "x", layout=layout).rows
    assert (row["label"], row["patient"], row["split"]) == known


@pytest.mark.parametrize("layout", ["PATIENT", "CLASS/CLASS", "KLASS", "CLASS//PATIENT", ""])
def test_layout_that_cannot_be_meant(cells, layout):
    if layout:
        with pytest.raises(DataError, match="`layout"):
            FOLDER.read(cells, layout=layout)
    else:
        assert len(FOLDER.read(cells, layout=layout).rows) == 4


@pytest.mark.parametrize("pattern", [r"(P\d+)_", r"(?P<patient>P\d+)", r"P\d+"])
def test_patients_from_paths(tmp_path, pattern):
    fill(tmp_path / "x", "BA/P1_a.png", "BA/P2_a.png", "EO/P1_b.png", "EO/c.png")
    dataset = build_dataset(f"folder:{tmp_path / 'x'}", tmp_path / "out", patient_from=pattern)
    assert dataset.manifest["patient"].tolist() == ["x/P1", "x/P2", "x/P1", None]


@pytest.mark.parametrize("pattern", ["(", "Q(.)"])
def test_pattern_for_patients_that_fits_nothing(cells, tmp_path, pattern):
    with pytest.raises(DataError, match="`patient_from`"):
        build_dataset(f"folder:{cells}", tmp_path / "out", patient_from=pattern)


# What systems leave behind.


@pytest.mark.parametrize(
    "name",
    [
        "__MACOSX",
        ".DS_Store",
        "Thumbs.db",
        "desktop.ini",
        "@eaDir",
        "$RECYCLE.BIN",
        "lost+found",
        "._a.png",
        "~$x.xlsx",
        "System Volume Information",
        ".Trash-1000",
        ".ipynb_checkpoints",
        "a.png:Zone.Identifier",
        "#recycle",
        ".git",
    ],
)
def test_what_systems_leave_is_known(name):
    assert is_leftover(name)


@pytest.mark.parametrize("name", ["BA", "train", "a.png", "thumbs.png", "desktop", "lost", "recycle", "E.O"])
def test_what_people_name_is_not(name):
    assert not is_leftover(name)


def test_what_systems_leave_is_no_class_and_no_image_but_listed_once(cells, tmp_path):
    fill(
        cells, "__MACOSX/BA/._a.png", "__MACOSX/EO/._b.png", "BA/@eaDir/a.png/S.jpg", ".Trash-1000/x.png", "EO/._a.png"
    )
    for name in ("Thumbs.db", "BA/.DS_Store", "EO/desktop.ini"):
        (cells / name).write_bytes(b"x")
    dataset = build_dataset(f"folder:{cells}", tmp_path / "out")
    assert dataset.classes == ["BA", "EO"] and len(dataset.manifest) == 4
    left = {path for path, reason in reasons(dataset).items() if reason.startswith("left by a system or program")}
    assert left == {
        *("__MACOSX", "BA/@eaDir", ".Trash-1000", "EO/._a.png", "Thumbs.db", "BA/.DS_Store", "EO/desktop.ini"),
    }
    assert reasons(dataset)["__MACOSX"].endswith("2 files in it")
    assert "7 left by a system or program" in dataset.summary()


def test_a_second_tree_by_macos_does_not_make_a_published_set_ambiguous(tmp_path):
    fill(tmp_path / "x", "PBC/basophil/BA_1.png", "__MACOSX/PBC/basophil/._BA_1.png")
    listing = SOURCES["acevedo"].read(tmp_path / "x", None)
    assert values(listing, "path") == ["basophil/BA_1.png"]


def test_files_of_the_operating_system_do_not_make_an_out_folder_someone_elses(cells, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/Thumbs.db").write_bytes(b"x")
    assert len(build_dataset(f"folder:{cells}", tmp_path / "out").manifest) == 4


def test_a_dataset_inside_the_source_is_not_read(cells, tmp_path):
    for _ in range(2):
        assert len(build_dataset(f"folder:{cells}", cells / "dataset").manifest) == 4


# Paths to the source.


@pytest.mark.parametrize("kind", ["folder", "acevedo", "wbcbench"])
def test_source_by_a_path_with_dots_or_a_link(tmp_path, monkeypatch, kind):
    names = {
        "folder": SOME,
        "acevedo": ("basophil/BA_1.png", "monocyte/MO_1.png"),
        "wbcbench": ("phase1/1.jpg", "phase1/2.jpg"),
    }
    x = fill(tmp_path / "x", *names[kind])
    (x / "phase1_label.csv").write_text("ID,labels\n1.jpg,BA\n2.jpg,EO\n")
    (x / "BA").mkdir(exist_ok=True)
    (tmp_path / "link").symlink_to(x)
    monkeypatch.chdir(x / "BA")
    for path in ("..", "../../x", "../../link", f"{tmp_path}/nowhere/../x", f"{tmp_path}/link/../x/."):
        listing = build_dataset(f"{kind}:{path}", tmp_path / "out")
        assert len(listing.manifest) == len(names[kind])
        assert not listing.excluded["reason"].str.startswith("outside").any()


def test_dots_behind_a_link_lead_where_the_system_says(tmp_path):
    fill(tmp_path / "far/cells", *SOME)
    (tmp_path / "far/inner").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far/inner")
    assert len(build_dataset(f"folder:{tmp_path}/link/../cells", tmp_path / "out").manifest) == 4


def test_home_of_nobody_is_not_there(tmp_path):
    with pytest.raises(DataError, match="nobody-of-that-name"):
        build_dataset("folder:~nobody-of-that-name/x", tmp_path / "out")


# What cannot be read.


def test_name_that_is_not_utf8_is_listed(cells, tmp_path):
    bad = os.fsencode(cells) + b"/BA/\xe4.png"
    try:
        Path(os.fsdecode(bad)).write_bytes((cells / "BA/a.png").read_bytes())
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    (cells / "BA/table.csv").write_text("path,label\na.png,BA\nb.png,BA\n")
    for spec in (f"folder:{cells}", f"lmu-aml:{fill(tmp_path / 'lmu', 'BAS/a.png', 'EOS/b.png')}"):
        dataset = build_dataset(spec, tmp_path / "out")
        Dataset.open(tmp_path / "out")
    dataset = build_dataset(f"folder:{cells}", tmp_path / "out")
    assert len(dataset.manifest) == 4
    assert reasons(dataset)["BA/\N{REPLACEMENT CHARACTER}.png"].startswith("bad name: ")
    assert "bad name" in dataset.summary()


@pytest.fixture
def locked(monkeypatch):
    """A function that makes a folder one that may not be listed; root may list all, so the system is overheard."""

    def lock(folder):
        for name in ("scandir", "listdir"):
            monkeypatch.setattr(os, name, partial(list_unless_locked, getattr(os, name), folder))

    def list_unless_locked(real, folder, path="."):
        if Path(os.fsdecode(path)) == folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    return lock


@pytest.mark.parametrize("kind", ["folder", "lmu-aml"])
def test_folder_that_may_not_be_listed_is_a_row(tmp_path, locked, kind):
    cells = fill(tmp_path / "cells", "BAS/a.png", "EOS/a.png", "EOS/deep/b.png")
    locked(cells / "EOS/deep")
    dataset = build_dataset(f"{kind}:{cells}", tmp_path / "out")
    assert len(dataset.manifest) == 2
    assert reasons(dataset) == {"EOS/deep": "unreadable: the folder cannot be listed: Permission denied"}
    assert "1 image is missing, changed or unreadable" in dataset.summary()


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("source", SOURCES)
def test_source_that_may_not_be_listed_is_an_error_in_words(tmp_path, source):
    (tmp_path / "x").mkdir(mode=0o000)
    with pytest.raises(DataError):
        SOURCES[source].read(tmp_path / "x", None)


def test_archive_given_as_a_folder_is_said_to_be_one(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(DataError, match="zip archive"):
        find_inputs([tmp_path / "x.zip"])
    for kind in ("folder", "wbcbench", "acevedo"):
        with pytest.raises(DataError, match=r"zip archive(.|\n)*unzip"):
            SOURCES[kind].read(tmp_path / "x.zip", None)


def test_spec_without_a_kind_is_answered_with_one(cells, tmp_path):
    with pytest.raises(DataError, match=f"folder:{cells}"):
        build_dataset(str(cells), tmp_path / "out")


# Prediction reads the same folders.


def test_predict_passes_over_what_systems_leave_and_keeps_what_cannot_be_listed(cells, locked):
    fill(cells, "__MACOSX/BA/a.png", "BA/@eaDir/a.png/S.jpg", "EO/deep/c.png", ".Trash-1000/x.png")
    locked(cells / "EO/deep")
    found = [one.path.relative_to(cells).as_posix() for one in find_inputs([cells])]
    assert found == ["BA/a.png", "BA/b.png", "EO/a.png", "EO/b.png", "EO/deep"]
    with pytest.raises(DataError, match="Permission denied"):
        read_file(cells / "EO/deep")


def test_predict_takes_paths_that_no_file_can_have_as_rows(cells):
    (cells / "new.csv").write_text(f"path\nBA\\a.png\n{'x' * 400}.png\nBA/\0.png\n")
    found = find_inputs([cells / "new.csv"])
    assert [one.path == cells / "BA/a.png" for one in found] == [True, False, False]
    for one in found[1:]:
        with pytest.raises(DataError):
            read_file(one.path)
    with pytest.raises(DataError, match="x" * 400):
        find_inputs(["x" * 400])


def test_predict_takes_links_that_lead_nowhere_as_rows(cells):
    for name, target in (("nowhere.png", "gone.png"), ("circle.png", "circle.png")):
        (cells / "BA" / name).symlink_to(target)
    found = [one.path.name for one in find_inputs([f"{cells}/BA/*.png"])]
    assert found == ["a.png", "b.png", "circle.png", "nowhere.png"]


def test_a_pattern_passes_over_what_systems_leave_and_an_empty_path_is_no_folder(cells):
    fill(cells, "__MACOSX/BA/._a.png")
    assert len(find_inputs([f"{cells}/*"])) == 4
    for nothing in ("", " "):
        with pytest.raises(DataError, match="is empty"):
            find_inputs([nothing])


def test_pattern_for_all_depths_goes_into_no_link(cells):
    for name in ("again", "more"):  # of two links, each way through them would be another path
        (cells / "BA" / name).symlink_to("..")
    found = [one.path.relative_to(cells).as_posix() for one in find_inputs([f"{cells}/**/*.png"])]
    assert found == ["BA/a.png", "BA/b.png", "EO/a.png", "EO/b.png"]
    assert len(find_inputs([f"{cells}/**"])) == len(find_inputs([f"{cells}/**/**/?.png"])) == 4


def test_predict_reads_names_that_are_not_utf8(cells):
    bad = Path(os.fsdecode(os.fsencode(cells) + b"/BA/\xe4.png"))
    try:
        bad.write_bytes((cells / "BA/a.png").read_bytes())
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    (one,) = [one for one in find_inputs([cells / "BA"]) if one.path == bad]
    one.name.encode("utf-8")
    assert read_file(one.path) == (cells / "BA/a.png").read_bytes()
