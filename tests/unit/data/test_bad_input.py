"""Bad input gets a clear error or a listed exclusion, and nothing is lost: one test a kind of trouble."""

import io
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nonet.data.build import build_dataset
from nonet.data.folds import make_folds
from nonet.data.images.decode import load_rgb
from nonet.errors import DataError

RED = (200, 40, 90)

pytestmark = pytest.mark.usefixtures("without_figures")


def picture(seed=0, size=(20, 18)):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    return Image.fromarray(pixels)


def write(path, seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed).save(path, **options)
    return path


@pytest.fixture
def cells(tmp_path):
    """A folder of two classes, two images each."""
    for seed, name in enumerate(("BA/a.png", "BA/b.png", "EO/a.png", "EO/b.png")):
        write(tmp_path / "cells" / name, seed)
    return tmp_path / "cells"


def table(cells, text):
    path = cells / "table.csv"
    path.write_text(text)
    return f"csv:{path}"


ALL = "BA/a.png,BA\nBA/b.png,BA\nEO/a.png,EO\nEO/b.png,EO\n"


def reasons(dataset):
    return dict(zip(dataset.excluded["path"], dataset.excluded["reason"]))


# Files that are no whole image: left out and listed.


@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "webp"])
def test_truncated_file_is_listed(cells, tmp_path, kind):
    path = write(cells / f"EO/cut.{kind}", 9)
    path.write_bytes(path.read_bytes()[:-300])
    dataset = build_dataset(f"folder:{cells}", tmp_path / "out")
    assert len(dataset.manifest) == 4
    assert reasons(dataset)[f"EO/cut.{kind}"].startswith("unreadable: ")


@pytest.mark.parametrize("content", [b"", b"no image", b"%PDF-1.7 ...", b"\xff\xd8\xff"])
def test_file_that_is_not_an_image_is_listed(cells, tmp_path, content):
    (cells / "EO/notes.txt").write_bytes(content)
    dataset = build_dataset(f"folder:{cells}", tmp_path / "out")
    assert len(dataset.manifest) == 4
    assert reasons(dataset)["EO/notes.txt"].startswith("unreadable: ")


def test_missing_file_is_listed(cells, tmp_path):
    dataset = build_dataset(table(cells, "path,label\n" + ALL + "EO/c.png,EO\n"), tmp_path / "out")
    assert len(dataset.manifest) == 4
    assert reasons(dataset)["EO/c.png"].startswith("missing: ")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_decompression_bomb_is_refused_before_it_is_decoded(tmp_path):
    buffer = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(buffer, format="png")
    with pytest.raises(DataError, match=r"12000 x 12000 px.*64,000,000 px"):
        load_rgb(buffer.getvalue())
    with pytest.raises(DataError, match="100 px"):
        load_rgb(write(tmp_path / "a.png"), max_pixels=100)


def test_bomb_that_pillow_itself_refuses_is_a_data_error():
    header = b"BM" + (54).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little") + (40).to_bytes(4, "little")
    header += (100_000).to_bytes(4, "little") * 2 + bytes([1, 0, 24, 0]) + bytes(24)
    with pytest.raises(DataError, match="px"):
        load_rgb(header)


def test_bomb_in_a_source_is_listed(cells, tmp_path):
    Image.new("1", (9_000, 9_000)).save(cells / "EO/bomb.png")
    dataset = build_dataset(f"folder:{cells}", tmp_path / "out")
    assert "64,000,000 px allowed" in reasons(dataset)["EO/bomb.png"]


# Images of other modes: converted, and noted.


def test_cmyk_becomes_rgb(cells, tmp_path):
    Image.new("RGB", (20, 18), RED).convert("CMYK").save(cells / "EO/c.tif")
    np.testing.assert_array_equal(load_rgb(cells / "EO/c.tif"), np.full((18, 20, 3), RED, np.uint8))
    dataset = build_dataset(f"folder:{cells}", tmp_path / "out")
    assert any(re.search(r"\b1 image.*CMYK", note) for note in dataset.notes)


def test_cmyk_jpeg_becomes_rgb(tmp_path):
    Image.new("RGB", (32, 32), RED).convert("CMYK").save(tmp_path / "c.jpg", quality=100)
    np.testing.assert_allclose(load_rgb(tmp_path / "c.jpg")[16, 16], RED, atol=3)


def test_greyscale_becomes_rgb(cells, tmp_path):
    Image.new("L", (20, 18), 77).save(cells / "EO/grey.png")
    np.testing.assert_array_equal(load_rgb(cells / "EO/grey.png"), np.full((18, 20, 3), 77, np.uint8))
    assert any(re.search(r"\bL\b", note) for note in build_dataset(f"folder:{cells}", tmp_path / "out").notes)


def test_transparency_is_laid_over_white(tmp_path):
    image = Image.new("RGBA", (3, 1), (*RED, 255))
    image.putpixel((1, 0), (*RED, 0))
    image.putpixel((2, 0), (0, 0, 0, 128))
    image.save(tmp_path / "a.png")
    np.testing.assert_allclose(load_rgb(tmp_path / "a.png")[0], [RED, (255,) * 3, (127,) * 3], atol=1)


def test_palette_with_transparency_is_laid_over_white(tmp_path):
    image = Image.new("P", (2, 1), 0)
    image.putpalette([*RED, 0, 0, 0])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=1)
    np.testing.assert_array_equal(load_rgb(tmp_path / "a.png")[0], [RED, (255,) * 3])


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_sixteen_bits_are_scaled_by_their_range(tmp_path, kind):
    values = np.array([[0, 257 * 100, 65535, 200]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{kind}")
    np.testing.assert_array_equal(load_rgb(tmp_path / f"a.{kind}")[0, :, 0], [0, 100, 255, 1])


def test_dark_sixteen_bit_image_is_not_stretched(tmp_path):
    Image.fromarray(np.full((4, 4), 250, dtype=np.uint16)).save(tmp_path / "dark.png")
    assert load_rgb(tmp_path / "dark.png").max() == 1


def test_exif_rotation_is_undone(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    write(tmp_path / "a.jpg", exif=exif)
    assert load_rgb(tmp_path / "a.jpg").shape == (20, 18, 3)


# Tables: what cannot be right stops the build, with the line and what to do.


def test_duplicate_rows_count_once(cells, tmp_path):
    dataset = build_dataset(table(cells, "path,label\n" + ALL + "EO/b.png,EO\n./EO/b.png,EO\n"), tmp_path / "out")
    assert len(dataset.manifest) == 4
    assert list(dataset.excluded["reason"].str.startswith("duplicate row")) == [True, True]


def test_duplicate_rows_with_different_labels_are_all_left_out(cells, tmp_path):
    dataset = build_dataset(table(cells, "path,label\n" + ALL + "EO/b.png,BA\n"), tmp_path / "out")
    assert "table/EO/b.png" not in set(dataset.manifest["image_id"])
    assert list(dataset.excluded["reason"].str.startswith("conflicting labels")) == [True, True]


@pytest.mark.parametrize(
    ("column", "meant"),
    [
        ("patient_id", "patient"),
        ("sorce", "source"),
        ("subject", "patient"),
    ],
)
def test_column_that_seems_misspelt_is_an_error(cells, tmp_path, column, meant):
    with pytest.raises(DataError, match=f'"{column}"(.|\n)*"{meant}"'):
        build_dataset(table(cells, f"path,label,{column}\nBA/a.png,BA,1\n"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("header", ["filename,label", "path,labels", "image,label", "path,class"])
def test_misnamed_path_or_label_is_an_error(cells, tmp_path, header):
    with pytest.raises(DataError, match="|".join(set(header.split(",")) - {"path", "label"})):
        build_dataset(table(cells, f"{header}\nBA/a.png,BA\n"), tmp_path / "out")


def test_other_unknown_columns_are_noted(cells, tmp_path):
    text = "path,label,magnification,\n" + "".join(f"{line},100,\n" for line in ALL.splitlines())
    dataset = build_dataset(table(cells, text), tmp_path / "out")
    assert len(dataset.manifest) == 4
    assert any("magnification" in note for note in dataset.notes)


def test_missing_column_lists_those_there_are(cells, tmp_path):
    with pytest.raises(DataError, match=r"\blabel\b(.|\n)*path, magnification"):
        build_dataset(table(cells, "path,magnification\nBA/a.png,100\n"), tmp_path / "out")


@pytest.mark.parametrize(("delimiter", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_other_delimiter_is_named(cells, tmp_path, delimiter, name):
    with pytest.raises(DataError, match=name):
        build_dataset(table(cells, ("path,label\n" + ALL).replace(",", delimiter)), tmp_path / "out")


@pytest.mark.parametrize("text", ["", "\n\n", "path,label\nBA/a.png,BA,3,4\n", 'path,label\n"BA/a.png,BA\n'])
def test_table_that_is_empty_or_ragged_is_an_error(cells, tmp_path, text):
    with pytest.raises(DataError, match=r"table\.csv"):
        build_dataset(table(cells, text), tmp_path / "out")


def test_table_that_is_not_utf8_is_an_error(cells, tmp_path):
    (cells / "table.csv").write_bytes("path,label\nBA/ä.png,BA\n".encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8"):
        build_dataset(f"csv:{cells / 'table.csv'}", tmp_path / "out")


def test_evaluate_that_is_neither_true_nor_false_names_the_line(cells, tmp_path):
    with pytest.raises(DataError, match=r'line 3: evaluate .*"maybe"'):
        build_dataset(table(cells, "path,label,evaluate\nBA/a.png,BA,yes\nEO/a.png,EO,maybe\n"), tmp_path / "out")


# Labels and classes.


def test_labels_outside_the_class_list_are_listed(cells, tmp_path):
    write(cells / "XX/a.png", 7)
    dataset = build_dataset(f"folder:{cells}", tmp_path / "out", classes=["13"])
    assert dataset.classes == ["BA", "EO"]
    assert reasons(dataset) == {"XX/a.png": "label outside the classes: XX"}


def test_empty_class_of_an_explicit_list_is_an_error(cells, tmp_path):
    with pytest.raises(DataError, match=r"PLY.*`classes`"):
        build_dataset(f"folder:{cells}", tmp_path / "out", classes=["BA", "EO", "PLY"])


def test_empty_class_among_the_thirteen_is_noted(cells, tmp_path):
    dataset = build_dataset(f"folder:{cells}", tmp_path / "out", classes="13")
    assert any("PLY" in note for note in dataset.notes)


def test_class_folder_without_a_file_is_noted(cells, tmp_path):
    (cells / "MO").mkdir()
    dataset = build_dataset(f"folder:{cells}", tmp_path / "out")
    assert any(re.search(r"\bMO\b", note) for note in dataset.notes)


def folds_table(patients_of_rare):
    rows = [{"label": "SNE", "patient": f"s/{i % 9}"} for i in range(60)]
    rows += [{"label": "PLY", "patient": patient} for patient in patients_of_rare]
    frame = pd.DataFrame(rows)
    frame["image_id"] = frame["sha256"] = [f"s/{i}" for i in range(len(frame))]
    return frame.assign(source="s", split=None, evaluate=True, patient_is_standin=False)


def test_class_with_fewer_images_than_folds_is_noted():
    _, notes = make_folds(folds_table(["s/1", "s/2"]), num_folds=3, by="image")
    assert any("PLY" in note and "2 images" in note for note in notes)


def test_class_with_fewer_patients_than_folds_is_noted():
    _, notes = make_folds(folds_table(["s/1"] * 14), num_folds=3)
    assert any("PLY" in note and "1 patient," in note for note in notes)


def test_fewer_images_than_folds_is_an_error():
    with pytest.raises(DataError, match=r"2 images .*3 folds"):
        make_folds(folds_table(["s/1"]).iloc[-2:], num_folds=3)


# Paths that leave the dataset's folder.


def test_paths_that_leave_the_folder_are_listed(cells, tmp_path):
    outside = write(tmp_path / "secret.png", 5)
    (cells / "EO/link.png").symlink_to(outside)
    text = "path,label\n" + ALL + f"../secret.png,EO\n{outside},EO\nEO/link.png,EO\nEO/../../secret.png,EO\n"
    dataset = build_dataset(table(cells, text), tmp_path / "out")
    assert len(dataset.manifest) == 4
    assert len(dataset.excluded) == 4
    assert dataset.excluded["reason"].str.startswith("outside").all()


def test_links_in_class_folders_that_leave_are_listed(cells, tmp_path):
    (cells / "EO/link.png").symlink_to(write(tmp_path / "secret.png", 5))
    (cells / "EO/more").symlink_to(tmp_path)
    dataset = build_dataset(f"folder:{cells}", tmp_path / "out")
    assert len(dataset.manifest) == 4
    assert reasons(dataset)["EO/link.png"].startswith("outside")
    assert reasons(dataset)["EO/more"].startswith("linked folder")


def test_absolute_path_within_the_folder_is_fine(cells, tmp_path):
    dataset = build_dataset(table(cells, f"path,label\n{cells / 'EO/a.png'},EO\nBA/a.png,BA\n"), tmp_path / "out")
    assert sorted(dataset.manifest["path"]) == ["BA/a.png", "EO/a.png"]


def test_every_file_is_in_the_manifest_or_listed(cells, tmp_path):
    (cells / "readme.txt").write_text("about")
    (cells / "EO/thumbs.db").write_text("x")
    write(cells / "BA/copy.png", 0)
    write(cells / "EO/deep/er/c.png", 8)
    dataset = build_dataset(f"folder:{cells}", tmp_path / "out")
    told = set(dataset.manifest["path"]) | set(dataset.excluded["path"])
    assert told == {p.relative_to(cells).as_posix() for p in cells.rglob("*") if p.is_file()}
