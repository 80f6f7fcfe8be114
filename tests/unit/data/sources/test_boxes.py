"""Published data sets of a microscope's camera: fields with boxes, tables and crops."""

import json

import numpy as np
import pytest
from PIL import Image

from helpers.layouts import draw, labels, left_out, unknown_types
from nonet.data.build import build_dataset
from nonet.data.sources.boxes import Box
from nonet.errors import DataError

pytestmark = pytest.mark.usefixtures("without_figures")

# Fields with boxes


def voc(path, boxes):
    path.parent.mkdir(parents=True, exist_ok=True)
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
        "</bndbox></object>"
        for name, x0, y0, x1, y1 in boxes
    )
    path.write_text(f"<annotation>{objects}</annotation>")


@pytest.fixture
def bccd(tmp_path):
    root = tmp_path / "bccd"
    white = ("WBC", 11, 11, 30, 30)
    fields = {0: [white, ("RBC", 1, 1, 9, 9)], 1: [white], 2: [white, ("WBC", 35, 35, 50, 45)], 3: [white], 4: [white]}
    for number, boxes in fields.items():
        draw(root / f"BCCD/JPEGImages/BloodImage_{number:05d}.jpg", number, height=60, width=80)
        voc(root / f"BCCD/Annotations/BloodImage_{number:05d}.xml", boxes)
    (root / "labels.csv").write_text(",Image,Category\n1,0,NEUTROPHIL\n2,1,EOSINOPHIL\n3,2,MONOCYTE\n4,3,LYMPHOCYTE\n")
    return root


def test_bccd_gives_a_field_s_only_white_cell_the_class_of_the_table(bccd, tmp_path):
    dataset = build_dataset(f"bccd:{bccd}", tmp_path / "out")
    assert labels(dataset) == {"EO": 1, "LY": 1}
    assert left_out(dataset) == {
        "no code for NEUTROPHIL": 1,
        "no code for RBC": 1,
        "several cells": 2,
        "no code for WBC": 1,
    }
    # The box is 20 px wide from pixel 10: a square of 24 px round its middle.
    assert set(dataset.manifest["width"]) == set(dataset.manifest["height"]) == {24}
    field = np.asarray(Image.open(bccd / "BCCD/JPEGImages/BloodImage_00001.jpg"))
    crop = np.asarray(Image.open(dataset.image_path("bccd/BCCD/JPEGImages/BloodImage_00001/00.png")))
    np.testing.assert_array_equal(crop, field[8:32, 8:32])
    assert dataset.manifest["patient_is_standin"].all() and dataset.manifest["patient"].nunique() == 2


def test_bccd_without_its_table_says_what_is_missing(bccd, tmp_path):
    (bccd / "labels.csv").unlink()
    with pytest.raises(DataError, match="bccd"):
        build_dataset(f"bccd:{bccd}", tmp_path / "out")


def test_bccd_as_crops(tmp_path):
    draw(tmp_path / "images/TRAIN/EOSINOPHIL/_1_2.jpeg")
    draw(tmp_path / "images/TRAIN/NEUTROPHIL/_1_3.jpeg")
    dataset = build_dataset(f"bccd:{tmp_path / 'images'}", tmp_path / "out", classes=["13", "NEU"])
    assert labels(dataset) == {"EO": 1, "NEU": 1}


def test_bccd_with_a_broken_annotation_or_field(bccd, tmp_path):
    field = bccd / "BCCD/JPEGImages/BloodImage_00001.jpg"
    field.write_bytes(field.read_bytes()[:200])
    dataset = build_dataset(f"bccd:{bccd}", tmp_path / "out")
    assert left_out(dataset)["unreadable"] == 1
    (bccd / "BCCD/JPEGImages/BloodImage_00003.jpg").unlink()
    (bccd / "BCCD/Annotations/BloodImage_00004.xml").unlink()
    with pytest.raises(DataError, match="bccd"):
        build_dataset(f"bccd:{bccd}", tmp_path / "out")
    (bccd / "BCCD/Annotations/BloodImage_00000.xml").write_text("<annotation><object>")
    with pytest.raises(DataError, match=r"BloodImage_00000\.xml"):
        build_dataset(f"bccd:{bccd}", tmp_path / "out")


def raabin_cell(label1, label2, x1=5, y1=5, x2=25, y2=15):
    return {"Label1": label1, "Label2": label2, "x1": str(x1), "y1": str(y1), "x2": str(x2), "y2": str(y2)}


def test_raabin_as_fields(tmp_path):
    root = tmp_path / "raabin"
    draw(root / "images/f1.jpg", height=40, width=50)
    draw(root / "images/f2.jpg", height=40, width=50)
    (root / "jsons").mkdir()
    found = {
        "Cell Numbers": 6,
        "Cell_0": raabin_cell("Band", "Band"),
        "Cell_1": raabin_cell("Large Lymph", "", x1=10),
        "Cell_2": raabin_cell("Neutrophil", "Neutrophil", x1=20, x2=40),
        "Cell_3": raabin_cell("Monocyte", "Meta"),
        "Cell_4": raabin_cell("Basophil", "Basophil", x2=5),
        "Cell_5": {"Label1": "Basophil"},
        "Cell_6": raabin_cell("", ""),
    }
    (root / "jsons/f1.json").write_text(json.dumps(found))
    (root / "jsons/f9.json").write_text(json.dumps({}))
    dataset = build_dataset(f"raabin:{root}", tmp_path / "out")
    assert labels(dataset) == {"BNE": 1, "LY": 1}
    assert left_out(dataset) == {
        **dict.fromkeys(("no code for Neutrophil", "experts disagree", "empty box", "no box", "no label"), 1),
        **dict.fromkeys(("missing", "no boxes"), 1),
    }
    assert set(dataset.manifest["patient"]) == {"raabin/field-images/f1"}


def test_a_field_is_the_nearest_of_its_name(tmp_path):
    root = tmp_path / "raabin"
    for smear in ("smear1", "smear2"):
        draw(root / smear / "images/f.jpg", height=40, width=50)
        (root / smear / "jsons").mkdir()
    (root / "smear2/jsons/f.json").write_text(json.dumps({"Cell_0": raabin_cell("Band", "Band")}))
    dataset = build_dataset(f"raabin:{root}", tmp_path / "out")
    assert list(dataset.manifest["path"]) == ["smear2/images/f/Cell_0.png"]
    assert dict(zip(dataset.excluded["path"], dataset.excluded["reason"])) == {
        "smear1/images/f.jpg": "no boxes: its JSON file is missing"
    }
    (root / "smear2/jsons/f.json").rename(root / "f.json")
    with pytest.raises(DataError, match=r"smear1/images/f.jpg.* smear2/images/f.jpg"):
        build_dataset(f"raabin:{root}", tmp_path / "out")


def test_raabin_as_crops_keeps_its_parts(tmp_path):
    for part, kind in (("Train", "Basophil"), ("TestA", "Lymphocyte"), ("TestB", "Neutrophil")):
        draw(tmp_path / "crops" / part / kind / "1.jpg")
    dataset = build_dataset(f"raabin:{tmp_path / 'crops'}", tmp_path / "out")
    assert dataset.manifest.set_index("label")["split"].to_dict() == {"BA": "Train", "LY": "TestA"}
    assert left_out(dataset) == {"no code for Neutrophil": 1}


def test_chula_by_its_table_or_by_folders(tmp_path):
    root = tmp_path / "chula"
    for number in range(5):
        draw(root / f"images/{number:06d}.jpg")
    rows = ["000000.jpg,SNE\t", "000001.jpg,Eosinophill", "000002.jpg,Smudge cell", "000003.jpg,", "000009.jpg,BNE"]
    (root / "labels.csv").write_text("\n".join(["Order.jpg,Summary by 5 experts", *rows]))
    dataset = build_dataset(f"chula:{root}", tmp_path / "out")
    assert labels(dataset) == {"SNE": 1, "EO": 1}
    assert unknown_types(dataset) == {"SMU": 1}
    assert left_out(dataset) == {"no label": 1, "in no table": 1, "missing": 1}
    draw(root / "more/000000.jpg")
    assert left_out(build_dataset(f"chula:{root}", tmp_path / "out"))["name twice"] == 2
    (root / "labels.csv").write_text("file,class\n000000.jpg,SNE\n")
    with pytest.raises(DataError, match=r"file, class(.|\n)*Summary by 5 experts"):
        build_dataset(f"chula:{root}", tmp_path / "out")
    draw(tmp_path / "folders/monocyte/1.jpg")
    assert labels(build_dataset(f"chula:{tmp_path / 'folders'}", tmp_path / "out")) == {"MO": 1}


@pytest.mark.parametrize(
    ("box", "square"),
    [
        ((40, 40, 60, 50), (38, 33, 62, 57)),
        ((0, 0, 20, 20), (0, 0, 24, 24)),
        ((80, 90, 100, 100), (76, 76, 100, 100)),
        ((0, 0, 100, 10), (0, 0, 100, 100)),
    ],
)
def test_the_square_round_a_box_stays_within_the_field(box, square):
    assert Box(*box).square(100, 100) == square
