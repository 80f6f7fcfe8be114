"""CytologIA: cells that boxes mark in frames, in a tiny copy of its layout."""

import os

import numpy as np
import pytest
from PIL import Image

from helpers.layouts import draw, labels, left_out, unknown_types
from nonet.data.build import build_dataset
from nonet.data.folds import make_folds
from nonet.data.gather import read_sources
from nonet.data.sources import SOURCES
from nonet.data.sources.boxes import Box
from nonet.data.sources.frames import Frame, frame_around, image_size, is_cut
from nonet.data.verify import check_dataset
from nonet.errors import DataError

pytestmark = pytest.mark.usefixtures("without_figures")

HEADER = "NAME,x1,y1,x2,y2,class"
IN_THE_MIDDLE = "10,10,30,32"  # of 40 x 44 px


@pytest.fixture
def cytologia(tmp_path):
    """Write 40 x 44 px images, 0.jpg to 7.jpg; return a function that writes the tables and returns the source."""
    root = tmp_path / "cytologia"
    for number in range(8):
        draw(root / f"images_cytologia/{number}.jpg", number, height=44, width=40)

    def write(*rows, test=()):
        (root / "train.csv").write_text("\n".join([HEADER, *rows]))
        (root / "test.csv").write_text("\n".join(["trustii_id,NAME", *(f"7,{name}" for name in test)]))
        return f"cytologia:{root}"

    return write


def pixels_of(dataset, image_id):
    return np.asarray(Image.open(dataset.image_path(image_id)))


def reasons(dataset):
    return dict(zip(dataset.excluded["path"], dataset.excluded["reason"]))


# Labels


def test_each_label_becomes_its_code_or_is_left_out_with_its_reason(tmp_path):
    root, rows = tmp_path / "all", []
    for number, label in enumerate(SOURCES["cytologia"].labels):
        draw(root / f"images_cytologia/{number}.jpg", height=44, width=40)
        rows.append(f"{number}.jpg,{IN_THE_MIDDLE},{label}")
    (root / "train.csv").write_text("\n".join([HEADER, *rows]))
    dataset = build_dataset(f"cytologia:{root}", tmp_path / "out")
    assert labels(dataset) == {"BL": 4} | dict.fromkeys(("LY", "MO", "EO", "BA", "PMY", "MY", "MMY", "VLY"), 1)
    assert unknown_types(dataset) == {"ERB": 1, "GT": 1, "SMU": 1}
    outside = ("PNN", "LAM3", "LLC", "LF", "LM", "LZMG", "LGL", "SS")
    assert left_out(dataset) == {f"no code for {label}": 1 for label in outside}


def test_undivided_neutrophils_are_a_class_on_request(cytologia, tmp_path):
    spec = cytologia(f"0.jpg,{IN_THE_MIDDLE},PNN", f"1.jpg,{IN_THE_MIDDLE},LY")
    assert labels(build_dataset(spec, tmp_path / "a")) == {"LY": 1}
    assert labels(build_dataset(spec, tmp_path / "b", classes=["13", "NEU"])) == {"LY": 1, "NEU": 1}


def test_an_unknown_or_empty_label_is_left_out(cytologia, tmp_path):
    rows = (f"0.jpg,{IN_THE_MIDDLE},LY", f"1.jpg,{IN_THE_MIDDLE},XY", f"2.jpg,{IN_THE_MIDDLE},")
    dataset = build_dataset(cytologia(*rows), tmp_path / "out")
    assert labels(dataset) == {"LY": 1}
    assert reasons(dataset)["images_cytologia/1/0.jpg"].startswith("unknown label XY")
    assert reasons(dataset)["images_cytologia/2/0"] == "no label: train.csv, line 4"


# Frames


def test_an_image_with_its_cell_in_the_middle_stays_as_it_is(cytologia, tmp_path):
    dataset = build_dataset(cytologia(f"0.jpg,{IN_THE_MIDDLE},LY"), tmp_path / "out")
    (path,) = dataset.paths()
    assert path.read_bytes() == (tmp_path / "cytologia/images_cytologia/0.jpg").read_bytes()
    assert dataset.manifest.loc[0, ["width", "height"]].tolist() == [40, 44]


def test_a_cell_elsewhere_gets_a_frame_of_its_own_mirrored_at_the_border(cytologia, tmp_path):
    dataset = build_dataset(cytologia("0.jpg,4,6,12,14,LY"), tmp_path / "out")
    (image_id,) = dataset.manifest["image_id"]
    assert image_id == "cytologia/images_cytologia/0/0.png"
    image = np.asarray(Image.open(tmp_path / "cytologia/images_cytologia/0.jpg"))
    frame = pixels_of(dataset, image_id)
    assert frame.shape == (40, 40, 3)
    # The box's middle, (8, 10), is the frame's, (20, 20): the frame begins 12 px left of the image, 10 above it.
    np.testing.assert_array_equal(frame[10:, 12:], image[:30, :28])
    np.testing.assert_array_equal(frame[10:, :12], image[:30, 11::-1])
    np.testing.assert_array_equal(frame[:10, 12:], image[9::-1, :28])


def test_a_frame_beyond_the_far_borders_is_mirrored_there():
    image = np.arange(40 * 44 * 3, dtype=np.uint32).reshape(44, 40, 3).astype(np.uint8)
    frame = Frame(12, 20, 40).crop(image)
    np.testing.assert_array_equal(frame[:24, :28], image[20:, 12:])
    np.testing.assert_array_equal(frame[:24, 28:], image[20:, 39:27:-1])
    np.testing.assert_array_equal(frame[24:, :28], image[43:27:-1, 12:])


@pytest.mark.parametrize(
    ("box", "frame"),
    [
        ((80, 80, 120, 130), None),
        ((85, 80, 135, 120), None),  # 10 px right of the middle, 5 % of 200
        ((86, 80, 136, 120), Frame(11, 0, 200)),
        ((80, 91, 120, 131), Frame(0, 11, 200)),
        ((10, 20, 30, 40), Frame(-80, -70, 200)),
    ],
)
def test_a_frame_has_the_cell_in_its_middle(box, frame):
    assert frame_around(Box(*box), 200, 200) == frame


def test_a_frame_keeps_the_scale_whatever_the_size_of_the_cell():
    for radius in (10, 60):
        assert frame_around(Box(70 - radius, 70 - radius, 70 + radius, 70 + radius), 368, 370) == Frame(-114, -114, 368)


def test_several_cells_of_an_image_each_have_a_frame_and_share_a_stand_in_patient(cytologia, tmp_path):
    rows = (f"0.jpg,{IN_THE_MIDDLE},LY", "0.jpg,3,3,9,9,MO", "0.jpg,30,2,37,9,Er", f"1.jpg,{IN_THE_MIDDLE},LY")
    manifest = build_dataset(cytologia(*rows), tmp_path / "out").manifest.set_index("path")
    assert set(manifest.index) == {f"images_cytologia/{name}" for name in ("0/0.jpg", "0/1.png", "0/2.png", "1/0.jpg")}
    shared = manifest[manifest["patient"].notna()]
    assert set(shared["patient"]) == {"cytologia/image-images_cytologia/0"} and len(shared) == 3
    assert shared["patient_is_standin"].all()
    assert manifest.loc["images_cytologia/1/0.jpg", "patient"] is None


def test_cells_of_an_image_share_a_fold_and_unknown_patients_are_reported(cytologia, tmp_path):
    rows = [f"{n}.jpg,{box},{label}" for n in range(8) for box, label in ((IN_THE_MIDDLE, "LY"), ("3,3,9,9", "MO"))]
    dataset = build_dataset(cytologia(*rows[:12], *rows[12::2]), tmp_path / "out")
    folds, _ = make_folds(dataset.manifest, num_folds=3)
    joined = folds.merge(dataset.manifest[["image_id", "patient"]], on="image_id").dropna(subset=["patient"])
    assert len(joined) == 12 and (joined.groupby("patient")["fold"].nunique() == 1).all()
    assert any("2 of the 14 scored images have no patient" in text for text in dataset.description["checks"])


# Boxes


def test_cells_cut_by_the_border_are_left_out(cytologia, tmp_path):
    boxes = ("0,10,20,30", "10,1,30,20", "20,10,39,30", "10,20,30,50", "-9,-5,20,20", "60,60,80,80")
    rows = [f"{number}.jpg,{box},LY" for number, box in enumerate(boxes)]
    dataset = build_dataset(cytologia(*rows, f"6.jpg,{IN_THE_MIDDLE},LY", "7.jpg,2,2,38,42,MO"), tmp_path / "out")
    assert labels(dataset) == {"LY": 1, "MO": 1}
    assert left_out(dataset) == {"cut by the border": 6}
    assert reasons(dataset)["images_cytologia/4/0"] == (
        "cut by the border: train.csv, line 6, has the box -9, -5, 20, 20 in an image of 40 x 44 px"
    )


@pytest.mark.parametrize(("edge", "cut"), [(1, True), (2, False)])
def test_a_box_reaches_the_border_at_a_pixel(edge, cut):
    for box in ((edge, 9, 20, 20), (9, edge, 20, 20), (9, 9, 40 - edge, 20), (9, 9, 20, 44 - edge)):
        assert is_cut(Box(*box), 40, 44) == cut


@pytest.mark.parametrize("corners", ["12,14,4,6", "12,6,4,14", "4.0,14.0,12.0,6.0"])
def test_corners_in_any_order_mean_the_same_box(corners, cytologia):
    (expected,) = read_sources([cytologia("0.jpg,4,6,12,14,LY")]).values()
    (listing,) = read_sources([cytologia(f"0.jpg,{corners},LY")]).values()
    assert listing.rows == expected.rows and len(listing.rows) == 1
    assert listing.packed == expected.packed


def test_boxes_that_are_empty_or_no_numbers_are_left_out(cytologia, tmp_path):
    bad = ("5,5,5,20", "5,5,20,5", "5,,20,20", "a,5,20,20", "nan,5,20,20", "inf,5,20,20")
    rows = [f"{number}.jpg,{box},LY" for number, box in enumerate(bad)]
    dataset = build_dataset(cytologia(*rows, f"6.jpg,{IN_THE_MIDDLE},LY", test=["7.jpg"]), tmp_path / "out")
    assert left_out(dataset) == {"empty box": 2, "no box": 4, "no label": 1}  # 7.jpg
    assert reasons(dataset)["images_cytologia/2/0"] == "no box: 5, , 20, 20 are not all numbers: train.csv, line 4"


def test_one_picture_under_two_labels_is_left_out_and_a_repeated_row_used_once(cytologia, tmp_path):
    rows = [f"0.jpg,{IN_THE_MIDDLE},LY", f"0.jpg,{IN_THE_MIDDLE},MO"]
    rows += [f"1.jpg,{IN_THE_MIDDLE},LY", f"1.jpg,{IN_THE_MIDDLE},LY"]
    dataset = build_dataset(cytologia(*rows), tmp_path / "out")
    assert labels(dataset) == {"LY": 1}
    assert left_out(dataset) == {"conflicting labels": 2, "duplicate image": 1, "in no table": 6}


# Images and tables that do not match


def test_images_of_the_test_or_of_no_table_and_rows_without_image_are_reported(cytologia, tmp_path):
    rows = (f"0.jpg,{IN_THE_MIDDLE},LY", f"99.jpg,{IN_THE_MIDDLE},LY", f",{IN_THE_MIDDLE},LY")
    dataset = build_dataset(cytologia(*rows, test=["1.jpg", "2.jpg", "1.jpg"]), tmp_path / "out")
    assert len(dataset.manifest) == 1
    assert left_out(dataset) == {"missing": 1, "no image": 1, "no label": 2, "in no table": 5}
    assert reasons(dataset)["99.jpg"] == "missing: train.csv lists it, line 3, but it is not there"
    assert reasons(dataset)["images_cytologia/1.jpg"] == "no label: test.csv lists it without boxes and labels"


def test_damaged_images_are_reported_and_the_others_used(cytologia, tmp_path):
    folder = tmp_path / "cytologia/images_cytologia"
    for number in (0, 1):
        whole = (folder / f"{number}.jpg").read_bytes()
        (folder / f"{number}.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "2.jpg").write_bytes(b"")
    (folder / "3.jpg").write_text("no image")
    rows = (f"0.jpg,{IN_THE_MIDDLE},LY", "1.jpg,3,3,9,9,LY", "2.jpg,3,3,9,9,LY", "3.jpg,3,3,9,9,LY")
    dataset = build_dataset(cytologia(*rows, f"4.jpg,{IN_THE_MIDDLE},LY"), tmp_path / "out")
    assert labels(dataset) == {"LY": 1}
    assert left_out(dataset) == {"unreadable": 4, "in no table": 3}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_is_no_image(tmp_path):
    os.mkfifo(tmp_path / "x.jpg")
    assert image_size(tmp_path / "x.jpg") is None


def test_an_image_that_lies_in_two_folders_is_not_guessed(cytologia, tmp_path):
    draw(tmp_path / "cytologia/more/0.jpg")
    rows = (f"0.jpg,{IN_THE_MIDDLE},LY", f"1.jpg,{IN_THE_MIDDLE},LY")
    assert left_out(build_dataset(cytologia(*rows), tmp_path / "out"))["name twice"] == 2


def test_images_with_one_name_and_two_endings_are_told_apart(cytologia, tmp_path):
    draw(tmp_path / "cytologia/images_cytologia/0.png", 77, height=44, width=40)
    dataset = build_dataset(cytologia("0.jpg,3,3,9,9,LY", "0.png,3,3,9,9,MO"), tmp_path / "out")
    paths = dataset.manifest.set_index("label")["path"]
    assert sorted(paths) == ["images_cytologia/0/0.png", "images_cytologia/0/1.png"]
    mirrored = Frame(-14, -14, 40).crop(np.asarray(Image.open(tmp_path / "cytologia/images_cytologia/0.png")))
    np.testing.assert_array_equal(pixels_of(dataset, f"cytologia/{paths['MO']}"), mirrored)


def test_images_may_lie_beside_the_table_and_the_table_below(cytologia, tmp_path):
    cytologia(f"0.jpg,{IN_THE_MIDDLE},LY")
    folder = tmp_path / "cytologia"
    (folder / "images_cytologia/0.jpg").rename(folder / "0.jpg")
    dataset = build_dataset(f"cytologia:{tmp_path}", tmp_path / "out")
    assert list(dataset.manifest["path"]) == ["cytologia/0/0.jpg"]


def test_a_table_that_is_absent_twice_or_of_other_columns_is_refused(cytologia, tmp_path):
    spec, folder = cytologia(f"0.jpg,{IN_THE_MIDDLE},LY"), tmp_path / "cytologia"
    (folder / "more").mkdir()
    (folder / "more/train.csv").write_text(HEADER)
    with pytest.raises(DataError, match=r"train\.csv twice: .*more.train\.csv and .*train\.csv"):
        build_dataset(spec, tmp_path / "out")
    (folder / "more/train.csv").unlink()
    (folder / "test.csv").write_text("id,file\n1,x.jpg\n")
    with pytest.raises(DataError, match=r"test\.csv has no column NAME\. Its columns: id, file"):
        build_dataset(spec, tmp_path / "out")
    (folder / "train.csv").write_text("NAME,x1,y1,class\n0.jpg,1,2,LY\n")
    with pytest.raises(DataError, match=r"train\.csv has no column x2, y2(.|\n)*NAME, x1, y1, x2, y2, class"):
        build_dataset(spec, tmp_path / "out")
    (folder / "train.csv").unlink()
    with pytest.raises(DataError, match=r"has no train\.csv"):
        build_dataset(spec, tmp_path / "out")


# Built again, and beside others


def test_a_changed_box_is_cut_again_and_an_unchanged_one_is_not(cytologia, tmp_path):
    spec = cytologia("0.jpg,4,6,12,14,LY")
    first = build_dataset(spec, tmp_path / "out")
    (path,) = first.paths()
    written = path.stat().st_mtime_ns
    assert build_dataset(spec, tmp_path / "out").paths()[0].stat().st_mtime_ns == written
    again = build_dataset(cytologia("0.jpg,5,6,13,14,LY"), tmp_path / "out")
    assert again.paths()[0] != path and not path.exists()
    assert again.fingerprint() != first.fingerprint()


def test_it_is_trained_on_and_not_scored_beside_images_of_ones_own(cytologia, tmp_path):
    draw(tmp_path / "ours/LY/1.png")
    spec = cytologia(f"0.jpg,{IN_THE_MIDDLE},LY", "1.jpg,3,3,9,9,MO")
    dataset = build_dataset([f"folder:{tmp_path / 'ours'}", spec], tmp_path / "out", external="cytologia")
    assert dataset.manifest.groupby("source")["evaluate"].all().to_dict() == {"ours": True, "cytologia": False}
    assert check_dataset(tmp_path / "out").ok
