"""Reading published data sets from tiny folders in each of their layouts."""

import json
from collections import Counter

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from nonet.data.build import build_dataset, read_sources
from nonet.data.check import check_dataset
from nonet.data.manifest import Dataset
from nonet.data.select import keep_paper
from nonet.data.sources import SOURCES
from nonet.data.sources.acevedo import COUNTS, FOLDERS
from nonet.data.sources.boxes import Box
from nonet.errors import DataError

PAPER = {"MO": 1420, "EO": 3117, "BNE": 1633, "PMY": 592, "BA": 1218, "MY": 1137, "MMY": 1015}


def pixels(seed, height=12, width=14, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels)).astype(np.uint8)


def draw(path, seed=None, **shape):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(abs(hash(str(path))) if seed is None else seed, **shape)).save(path)
    return path


def encoded(seed, tmp_path, suffix=".png"):
    return draw(tmp_path / f"encoded{suffix}", seed).read_bytes()


def left_out(dataset):
    """Kind of reason → how many."""
    return dict(Counter(dataset.excluded["reason"].str.split(":").str[0]))


def labels(dataset):
    return dataset.manifest["label"].value_counts().to_dict()


# Acevedo-20


@pytest.fixture
def acevedo(tmp_path):
    """Two files of each prefix, and what else lies there."""
    root = tmp_path / "PBC_dataset_normal_DIB"
    for folder, prefixes in FOLDERS.items():
        for prefix in prefixes:
            for number in (1, 2):
                draw(root / folder / f"{prefix}_{number}.jpg")
    (root / "neutrophil/.DS_Store").write_bytes(b"x")
    return root


def test_acevedo_maps_by_prefix_and_lists_the_rest(acevedo, tmp_path):
    dataset = build_dataset(f"acevedo:{acevedo}", tmp_path / "out")
    assert labels(dataset) == dict.fromkeys(("BA", "EO", "LY", "MO", "SNE", "BNE", "MMY", "MY", "PMY"), 2)
    assert left_out(dataset) == {f"no code for {p}": 2 for p in ("NEUTROPHIL", "IG", "ERB", "PLATELET")}
    assert set(dataset.manifest["source"]) == {"acevedo"}
    assert dataset.manifest["patient"].isna().all()
    assert len(dataset.manifest) + len(dataset.excluded) == 26
    text = " ".join(dataset.notes)
    assert "not the complete data set" in text and "EO 2 of 3,117" in text
    assert "366 x 369" in text, "the shortcut is told with the dataset"


def test_acevedo_is_found_below_the_folder_given(acevedo, tmp_path):
    above = build_dataset(f"acevedo:{acevedo.parent}", tmp_path / "a")
    assert above.fingerprint() == build_dataset(f"acevedo:{acevedo}", tmp_path / "b").fingerprint()


def test_acevedo_limited_to_what_the_paper_takes(acevedo, tmp_path):
    dataset = build_dataset(f"acevedo:{acevedo}", tmp_path / "out", paper="acevedo")
    assert labels(dataset) == dict.fromkeys(PAPER, 2)
    assert left_out(dataset)["not taken by the paper"] == 4  # LY, SNE
    assert left_out(dataset)["no code for IG"] == 2


def test_complete_acevedo_gives_exactly_the_papers_counts(tmp_path):
    """All 17,092 names, none with content: listing reads no image."""
    for folder, prefixes in FOLDERS.items():
        (tmp_path / folder).mkdir()
        for prefix in prefixes:
            for number in range(COUNTS[prefix]):
                (tmp_path / folder / f"{prefix}_{number}.jpg").touch()
    (listing,) = read_sources([f"acevedo:{tmp_path}"]).values()
    excluded = []
    kept = keep_paper(listing.table(), [listing], ["acevedo"], excluded)
    kept = kept[kept["only_if_asked"].isna()]
    assert kept["label"].value_counts().to_dict() == PAPER
    assert len(kept) == 10132
    assert len(listing.rows) == 17092 and not listing.excluded
    assert not any("complete" in note for note in listing.notes)


def test_acevedos_copies_are_listed_as_such(acevedo, tmp_path):
    one = (acevedo / "monocyte/MO_1.jpg").read_bytes()
    (acevedo / "monocyte/MO_7.jpg").write_bytes(one)
    two = (acevedo / "ig/MY_1.jpg").read_bytes()
    (acevedo / "ig/PMY_7.jpg").write_bytes(two)
    dataset = build_dataset(f"acevedo:{acevedo}", tmp_path / "out", paper=["acevedo"])
    assert left_out(dataset)["duplicate image"] == 1
    assert left_out(dataset)["conflicting labels"] == 2
    assert labels(dataset) == dict.fromkeys(PAPER, 2) | {"MY": 1}


def test_acevedo_where_folder_and_name_disagree(acevedo, tmp_path):
    draw(acevedo / "basophil/EO_9.jpg")
    draw(acevedo / "basophil/XY_9.jpg")
    draw(acevedo / "basophil/.BA_9.jpg")
    (acevedo / "basophil/notes.txt").write_text("x")
    kinds = left_out(build_dataset(f"acevedo:{acevedo}", tmp_path / "out"))
    assert kinds["folder and name disagree"] == kinds["unknown label XY"] == 1
    assert kinds["hidden file"] == kinds["not an image"] == 1


def test_undivided_classes_are_kept_if_asked_for(acevedo, tmp_path):
    dataset = build_dataset(f"acevedo:{acevedo}", tmp_path / "out", classes=["13", "NEU", "IG"])
    assert {"NEU", "IG"} < set(dataset.classes)
    assert set(left_out(dataset)) == {"no code for ERB", "no code for PLATELET"}


def test_paper_names_a_source_of_which_it_takes_something(acevedo, tmp_path):
    with pytest.raises(DataError, match=r'"acevdo" to limit(.|\n)*Sources: acevedo'):
        build_dataset(f"acevedo:{acevedo}", tmp_path / "out", paper="acevdo")
    draw(tmp_path / "lmu/NGS/NGS_1.tiff")
    with pytest.raises(DataError, match="The paper takes no image of lmu-aml"):
        build_dataset(f"lmu-aml:{tmp_path / 'lmu'}", tmp_path / "out", paper="lmu-aml")


# Folders of codes


def test_lmu_with_alpha(tmp_path):
    root = tmp_path / "AML-Cytomorphology_LMU"
    for code in SOURCES["lmu-aml"].labels:
        draw(root / code / f"{code}_0001.tiff", channels=4)
    (root / "annotations.dat").write_text("x")
    dataset = build_dataset(f"lmu-aml:{tmp_path}", tmp_path / "out")
    assert labels(dataset) == {"BL": 2} | dict.fromkeys(
        ("SNE", "BNE", "LY", "VLY", "MO", "BA", "EO", "MY", "MMY", "PMY"), 1
    )
    assert set(left_out(dataset)) == {"no code for PMB", "no code for EBO", "no code for KSC"}
    assert set(dataset.manifest["mode"]) == {"RGBA"}


def test_bone_marrow_is_marked_as_such_and_may_lie_in_folders_of_a_thousand(tmp_path):
    for code in SOURCES["mll-bm"].labels:
        draw(tmp_path / "BM_cytomorphology_data" / code / "0001-1000" / f"{code}_00001.jpg")
    draw(tmp_path / "BM_cytomorphology_data/PLM/PLM_00002.jpg")
    dataset = build_dataset(f"mll-bm:{tmp_path / 'BM_cytomorphology_data'}", tmp_path / "out")
    assert labels(dataset)["PC"] == 2 and len(dataset.classes) == 11
    assert sum(left_out(dataset).values()) == 10
    assert any("BONE MARROW, not blood" in note for note in dataset.notes)


def test_deepapl_has_patients_and_tells_unsigned_slides(tmp_path):
    root = tmp_path / "Data/All"
    draw(root / "Patient_00/Signed slides/Band neutrophils/BNE_1.jpg")
    draw(root / "Patient_00/Signed slides/Lymphocyte, variant/VLY_2.jpg")
    draw(root / "Patient_01/Unsigned slides/Promyelocyte/PMY_3.jpg")
    draw(root / "Patient_01/Unsigned slides/Promyelocyte/PMO_4.jpg")
    draw(root / "Patient_12/Promonocyte/PMO_5.jpg")
    draw(root / "Patient_12/Plasma cells/PC_6.jpg")
    (root / "Patient_12/Plasma cells/Thumbs.db").write_bytes(b"x")
    for place in (tmp_path, root):
        dataset = build_dataset(f"deepapl:{place}", tmp_path / "out")
        manifest = dataset.manifest.set_index("label")
        assert manifest["patient"].to_dict() == {
            "BNE": "deepapl/Patient_00",
            "VLY": "deepapl/Patient_00",
            "PMY": "deepapl/Patient_01",
            "PC": "deepapl/Patient_12",
        }
        assert not manifest["patient_is_standin"].any()
        assert manifest.loc["PMY", "split"] == "unsigned" and manifest.loc["BNE", "split"] == "signed"
        assert manifest.loc["PC", "split"] is None
        assert left_out(dataset) == {"folder and name disagree": 1, "no code for Promonocyte": 1}
        assert any("1 images are of unsigned slides" in note for note in dataset.notes)


def test_cellwiki_is_all_prolymphocytes(tmp_path):
    draw(tmp_path / "saved/one.png")
    draw(tmp_path / "saved/more/two.jpg")
    dataset = build_dataset(f"cellwiki:{tmp_path / 'saved'}", tmp_path / "out", paper="cellwiki")
    assert labels(dataset) == {"PLY": 2}


# Parquet


def parquet(file, columns, class_names=None):
    """Write columns as the hub does; `image` holds bytes and path."""
    file.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    if class_names:
        features = {"label": {"names": class_names, "_type": "ClassLabel"}, "image": {"_type": "Image"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, file, row_group_size=3)


def cells(tmp_path, seeds, names=None, suffix=".png"):
    return [
        {"bytes": encoded(seed, tmp_path, suffix), "path": name}
        for seed, name in zip(seeds, names or [None] * len(seeds))
    ]


EIGHT = [
    *("basophil", "eosinophil", "erythroblast", "lymphocyte"),
    *("monocyte", "neutrophil", "plasma_cell", "platelet"),
]


def test_blood8_by_names_in_the_file_and_only_what_is_kept_is_unpacked(tmp_path):
    numbers = [0, 1, 2, 3, 4, 5, 6, 7, 6, 6]
    parquet(
        tmp_path / "hub/data/train-00000-of-00001.parquet",
        {"image": cells(tmp_path, range(10), [f"IG_{i}.jpg" for i in range(10)]), "label": numbers},
        EIGHT,
    )
    dataset = build_dataset(f"blood8:{tmp_path / 'hub'}", tmp_path / "out", paper="blood8")
    assert labels(dataset) == {"PC": 3}
    unpacked = [p for p in (tmp_path / "out/unpacked").rglob("*") if p.is_file()]
    assert len(unpacked) == 3
    assert dataset.manifest["path"].str.contains("IG_6").any(), "the name that it had upstream can be seen"
    assert left_out(dataset)["not taken by the paper"] == 4
    assert any("2,895" in note and "suspicion" in note for note in dataset.notes)


def test_unpacked_images_have_the_bytes_that_were_packed(tmp_path):
    columns = {"image": cells(tmp_path, [1, 2], ["a.jpg", None], ".jpg"), "label": ["basophil", "monocyte"]}
    parquet(tmp_path / "hub/x.parquet", columns)
    dataset = build_dataset(f"blood8:{tmp_path / 'hub'}", tmp_path / "out")
    for path, cell in zip(dataset.paths(), columns["image"]):
        assert path.read_bytes() == cell["bytes"]
    assert [path.suffix for path in dataset.paths()] == [".jpg", ".img"]


def test_blood8_as_folders_and_without_names_of_its_numbers(tmp_path):
    draw(tmp_path / "folders/train/plasma cell/1.jpg")
    draw(tmp_path / "folders/train/Neutrophil/1.jpg")
    assert labels(build_dataset(f"blood8:{tmp_path / 'folders'}", tmp_path / "out")) == {"PC": 1}
    parquet(tmp_path / "hub/x.parquet", {"image": cells(tmp_path, [1]), "label": [6]})
    with pytest.raises(DataError, match="label 6 has no name"):
        build_dataset(f"blood8:{tmp_path / 'hub'}", tmp_path / "out")


@pytest.fixture
def release(tmp_path):
    """The challenge's later release in small: two patients, one image degraded, one without patient."""

    def part(config, name, rows):
        columns = {"image": cells(tmp_path, [row.pop("seed") for row in rows], suffix=".jpg")}
        columns |= pd.DataFrame(rows).to_dict("list")
        parquet(tmp_path / "release" / config / f"{name}-00000-of-00001.parquet", columns)

    def row(seed, image_id, label, patient, severity="none", original=""):
        return {
            **{"seed": seed, "image_id": image_id, "label": label, "wbcbench_split": "x", "severity": severity},
            **{"original_image_id": original, "patient_hash": patient},
        }

    part("pristine", "phase1_train", [row(1, "00001.jpg", "SNE", "p1"), row(2, "00002.jpg", "BA", "p1")])
    part("pristine", "phase2_train", [row(3, "00010.jpg", "EO", "p2"), row(4, "00011.jpg", "EO", "")])
    part("pristine", "phase2_test", [row(5, "00020.jpg", "", "p3"), row(6, "00021.jpg", "LY", "p3")])
    degraded = [row(7, "d1.jpg", "EO", "p2", "2", "00010.jpg"), row(8, "d2.jpg", "EO", "", "3", "00011.jpg")]
    part("degraded", "phase2_train", degraded)
    return tmp_path / "release"


def test_release_on_the_hub(release, tmp_path):
    dataset = build_dataset(f"wbcbench-hf:{release}", tmp_path / "out")
    manifest = dataset.manifest
    assert len(manifest) == 8 and dataset.excluded.empty
    by_name = manifest.assign(name=manifest["path"].str.split("/").str[-1]).set_index("name")
    assert by_name.loc["00001.jpg", "patient"] == "wbcbench-hf/p1"
    assert by_name.loc["d1.jpg", "patient"] == by_name.loc["00010.jpg", "patient"] == "wbcbench-hf/p2"
    assert "severity-2" in by_name.loc["d1.jpg", "path"] and by_name.loc["d1.jpg", "path"].startswith("degraded/")
    # Without a patient an image and its copy stay together, and it is said that this is a guess.
    assert by_name.loc["d2.jpg", "patient"] == by_name.loc["00011.jpg", "patient"]
    assert by_name["patient_is_standin"].to_dict() == {n: n in ("d2.jpg", "00011.jpg") for n in by_name.index}
    assert set(by_name.loc[["00020.jpg", "00021.jpg"], "split"]) == {"test"}
    assert by_name.loc["00020.jpg", "label"] is None and by_name.loc["00021.jpg", "label"] == "LY"
    assert not by_name.loc[["00020.jpg", "00021.jpg"], "evaluate"].any()
    assert any("degraded and pristine are both there" in note for note in dataset.notes)
    alone = build_dataset(f"wbcbench-hf:{release / 'pristine'}", tmp_path / "alone")
    assert len(alone.manifest) == 6 and not any("both there" in note for note in alone.notes)


def test_a_parquet_file_that_is_damaged_or_of_something_else(release, tmp_path):
    file = next(release.rglob("phase1*.parquet"))
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        build_dataset(f"wbcbench-hf:{release}", tmp_path / "out")
    parquet(file, {"image": cells(tmp_path, [1]), "label": ["BA"]})
    with pytest.raises(DataError, match="has no column image_id"):
        build_dataset(f"wbcbench-hf:{release}", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_row_without_an_image_is_listed(tmp_path):
    images = [{"bytes": encoded(1, tmp_path), "path": None}, {"bytes": None, "path": "elsewhere.jpg"}]
    parquet(tmp_path / "hub/x.parquet", {"image": images, "label": ["basophil", "basophil"]})
    dataset = build_dataset(f"blood8:{tmp_path / 'hub'}", tmp_path / "out")
    assert labels(dataset) == {"BA": 1}
    assert "holds no image" in dataset.excluded["reason"].iloc[0]


# Arrays


def npz(file, counts=(8, 2, 3), size=6):
    arrays, seed = {}, 0
    for split, count in zip(("train", "val", "test"), counts):
        arrays[f"{split}_images"] = np.stack([pixels(seed + i, size, size) for i in range(count)])
        arrays[f"{split}_labels"] = (np.arange(count, dtype=np.uint8) % 8)[:, None]
        seed += count
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(file, **arrays)
    return arrays


def test_bloodmnist_keeps_pixels_and_splits(tmp_path):
    arrays = npz(tmp_path / "set/bloodmnist_64.npz")
    dataset = build_dataset(f"bloodmnist:{tmp_path / 'set'}", tmp_path / "out")
    assert labels(dataset) == {"BA": 3, "EO": 3, "LY": 1, "MO": 1}
    assert left_out(dataset) == {
        "no code for erythroblast": 2,
        "no code for immature granulocytes": 1,
        "no code for neutrophil": 1,
        "no code for platelet": 1,
    }
    manifest = dataset.manifest.set_index("path")
    assert manifest.loc["test/00001.png", "split"] == "test" and not manifest.loc["test/00001.png", "evaluate"]
    found = np.asarray(Image.open(dataset.path_of("bloodmnist/train/00005.png")))
    np.testing.assert_array_equal(found, arrays["train_images"][5])


def test_bloodmnist_with_all_eight_classes_from_the_file_itself(tmp_path):
    npz(tmp_path / "bloodmnist.npz")
    eight = ["BA", "EO", "ERB", "IG", "LY", "MO", "NEU", "PLT"]
    dataset = build_dataset(f"bloodmnist:{tmp_path / 'bloodmnist.npz'}", tmp_path / "out", classes=eight)
    assert dataset.classes == eight and len(dataset.manifest) == 13 and dataset.excluded.empty


def test_bloodmnist_that_is_none(tmp_path):
    npz(tmp_path / "two/bloodmnist.npz")
    npz(tmp_path / "two/bloodmnist_64.npz")
    np.savez(tmp_path / "bloodmnist_28.npz", train_images=np.zeros(3))
    with pytest.raises(DataError, match="Give the path of one npz"):
        build_dataset(f"bloodmnist:{tmp_path / 'two'}", tmp_path / "out")
    with pytest.raises(DataError, match="has no array train_labels"):
        build_dataset(f"bloodmnist:{tmp_path}", tmp_path / "out")
    file = tmp_path / "two/bloodmnist.npz"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match="cannot be read as npz"):
        build_dataset(f"bloodmnist:{file}", tmp_path / "out")


# Unpacking


def test_a_build_cut_short_goes_on_and_a_second_one_writes_nothing(tmp_path):
    npz(tmp_path / "bloodmnist.npz")
    spec = f"bloodmnist:{tmp_path / 'bloodmnist.npz'}"
    first = build_dataset(spec, tmp_path / "out")
    path = first.paths()[0]
    before = first.paths()[1].stat().st_mtime_ns
    path.unlink()
    (tmp_path / "out/dataset.json").unlink()
    again = build_dataset(spec, tmp_path / "out")
    assert path.exists() and again.fingerprint() == first.fingerprint()
    assert again.paths()[1].stat().st_mtime_ns == before
    assert check_dataset(tmp_path / "out").ok


def test_another_file_gives_other_images_and_the_old_ones_go(tmp_path):
    npz(tmp_path / "bloodmnist.npz")
    spec = f"bloodmnist:{tmp_path / 'bloodmnist.npz'}"
    build_dataset(spec, tmp_path / "out")
    npz(tmp_path / "bloodmnist.npz", size=9)
    dataset = build_dataset(spec, tmp_path / "out")
    assert set(dataset.manifest["width"]) == {9}
    assert len(list((tmp_path / "out/unpacked").iterdir())) == 1


def test_a_dataset_with_unpacked_images_can_be_moved(tmp_path):
    npz(tmp_path / "bloodmnist.npz")
    build_dataset(f"bloodmnist:{tmp_path / 'bloodmnist.npz'}", tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "moved")
    (tmp_path / "bloodmnist.npz").unlink()
    assert check_dataset(Dataset.open(tmp_path / "moved")).ok


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
    crop = np.asarray(Image.open(dataset.path_of("bccd/BCCD/JPEGImages/BloodImage_00001/00.png")))
    np.testing.assert_array_equal(crop, field[8:32, 8:32])
    assert dataset.manifest["patient_is_standin"].all() and dataset.manifest["patient"].nunique() == 2


def test_bccd_without_its_table_says_what_is_missing(bccd, tmp_path):
    (bccd / "labels.csv").unlink()
    with pytest.raises(DataError, match=r"no image in the layout of bccd(.|\n)*no table says which"):
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
    with pytest.raises(DataError, match="No labelled image is left"):
        build_dataset(f"bccd:{bccd}", tmp_path / "out")
    (bccd / "BCCD/Annotations/BloodImage_00000.xml").write_text("<annotation><object>")
    with pytest.raises(DataError, match=r"BloodImage_00000\.xml cannot be read as boxes"):
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
        "Cell_2": raabin_cell("Neutrophil", "Neutrophil"),
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
    assert left_out(dataset) == {"no code for Smudge cell": 1, "no label": 1, "in no table": 1, "missing": 1}
    (root / "labels.csv").write_text("file,class\n000000.jpg,SNE\n")
    with pytest.raises(DataError, match=r"columns file, class(.|\n)*Summary by 5 experts"):
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


# Several together


def test_the_papers_additions_in_one_build(acevedo, tmp_path):
    parquet(
        tmp_path / "hub/x.parquet",
        {"image": cells(tmp_path, [101, 102]), "label": ["plasma cell", "monocyte"]},
    )
    draw(tmp_path / "saved/ply.png")
    draw(tmp_path / "ours/SNE/1.png")
    added = ["acevedo", "blood8", "cellwiki"]
    dataset = build_dataset(
        [
            f"folder:{tmp_path / 'ours'}",
            f"acevedo:{acevedo}",
            f"blood8:{tmp_path / 'hub'}",
            f"cellwiki:{tmp_path / 'saved'}",
        ],
        tmp_path / "out",
        classes="13",
        external=added,
        paper=added,
    )
    assert labels(dataset) == dict.fromkeys(PAPER, 2) | {"PC": 1, "PLY": 1, "SNE": 1}
    assert dataset.manifest.set_index("source")["evaluate"].groupby(level=0).all().to_dict() == {
        "ours": True,
        **dict.fromkeys(added, False),
    }
    assert check_dataset(tmp_path / "out").ok


def test_a_misspelt_kind_is_answered_with_one_like_it(tmp_path):
    with pytest.raises(DataError, match=r'no kind "acevdo"(.|\n)*Did you mean "acevedo"'):
        build_dataset(f"acevdo:{tmp_path}", tmp_path / "out")
