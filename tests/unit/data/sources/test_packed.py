"""Published data sets whose images lie in Parquet files and arrays, and how they become files."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers.layouts import draw, labels, left_out, packed, pixels, unknown_types, write_parquet
from nonet.data.build import build_dataset
from nonet.data.folds import make_folds
from nonet.data.manifest import Dataset
from nonet.data.unpack import FOLDER, remove_stale
from nonet.data.verify import check_dataset
from nonet.errors import DataError

pytestmark = pytest.mark.usefixtures("without_figures")

# Parquet


EIGHT = [
    *("basophil", "eosinophil", "erythroblast", "lymphocyte"),
    *("monocyte", "neutrophil", "plasma_cell", "platelet"),
]


def test_blood8_by_names_in_the_file_and_only_what_is_kept_is_unpacked(tmp_path):
    numbers = [0, 1, 2, 3, 4, 5, 6, 7, 6, 6]
    write_parquet(
        tmp_path / "hub/data/train-00000-of-00001.parquet",
        {"image": packed(tmp_path, range(10), [f"IG_{i}.jpg" for i in range(10)]), "label": numbers},
        EIGHT,
    )
    dataset = build_dataset(f"blood8:{tmp_path / 'hub'}", tmp_path / "out", paper="blood8")
    assert labels(dataset) == {"PC": 3}
    unpacked = [p for p in (tmp_path / "out/unpacked").rglob("*") if p.is_file()]
    assert len(unpacked) == 3
    assert dataset.manifest["path"].str.contains("IG_6").any(), "the name that it had upstream can be seen"
    assert left_out(dataset)["not used by the paper"] == 4
    assert any("2,895" in note and "suspicion" in note for note in dataset.notes)


def test_unpacked_images_have_the_bytes_that_were_packed(tmp_path):
    columns = {"image": packed(tmp_path, [1, 2], ["a.jpg", None], ".jpg"), "label": ["basophil", "monocyte"]}
    write_parquet(tmp_path / "hub/x.parquet", columns)
    dataset = build_dataset(f"blood8:{tmp_path / 'hub'}", tmp_path / "out")
    for path, cell in zip(dataset.paths(), columns["image"]):
        assert path.read_bytes() == cell["bytes"]
    assert [path.suffix for path in dataset.paths()] == [".jpg", ".img"]


def test_blood8_as_folders_and_without_names_of_its_numbers(tmp_path):
    draw(tmp_path / "folders/train/plasma cell/1.jpg")
    draw(tmp_path / "folders/train/Neutrophil/1.jpg")
    assert labels(build_dataset(f"blood8:{tmp_path / 'folders'}", tmp_path / "out")) == {"PC": 1}
    write_parquet(tmp_path / "hub/x.parquet", {"image": packed(tmp_path, [1]), "label": [6]})
    with pytest.raises(DataError, match=r"\b6\b"):
        build_dataset(f"blood8:{tmp_path / 'hub'}", tmp_path / "out")


@pytest.fixture
def release(tmp_path):
    """The challenge's later release in small: two patients, one image degraded, one without patient."""

    def part(config, name, rows):
        columns = {"image": packed(tmp_path, [row.pop("seed") for row in rows], suffix=".jpg")}
        columns |= pd.DataFrame(rows).to_dict("list")
        write_parquet(tmp_path / "release" / config / f"{name}-00000-of-00001.parquet", columns)

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
    assert by_name.loc[["00010.jpg", "d1.jpg"], "original_image_id"].tolist() == ["wbcbench-hf/00010"] * 2
    assert by_name.loc[["00010.jpg", "d1.jpg"], "severity"].tolist() == ["none", "2"]
    assert any("degraded and pristine" in note for note in dataset.notes)
    alone = build_dataset(f"wbcbench-hf:{release / 'pristine'}", tmp_path / "alone")
    assert len(alone.manifest) == 6 and not any("degraded and pristine" in note for note in alone.notes)


def test_versions_of_the_release_share_a_fold_even_where_one_lacks_its_patient(tmp_path):
    seeds = list(range(12))
    columns = {"image_id": [f"{i}.jpg" for i in seeds], "label": ["EO", "LY"] * 6}
    pristine = columns | {"patient_hash": [f"p{i // 2}" for i in seeds]}
    degraded = columns | {"patient_hash": [""] * 12, "original_image_id": columns["image_id"], "severity": ["1"] * 12}
    degraded["image_id"] = [f"d{i}.jpg" for i in seeds]
    for config, part, first in (("pristine", pristine, 0), ("degraded", degraded, 100)):
        images = packed(tmp_path, [first + seed for seed in seeds], suffix=".jpg")
        write_parquet(tmp_path / "release" / config / "phase2_train-0.parquet", {"image": images} | part)
    build_dataset(f"wbcbench-hf:{tmp_path / 'release'}", tmp_path / "out")
    manifest = Dataset.open(tmp_path / "out").manifest
    for by in ("patient", "image"):
        folds, _ = make_folds(manifest, by=by)
        found = folds.merge(manifest, on="image_id").groupby("original_image_id")["fold"].agg(["nunique", "size"])
        assert (found["nunique"] == 1).all() and (found["size"] == 2).all()


def test_a_parquet_file_that_is_damaged_or_of_something_else(release, tmp_path):
    file = next(release.rglob("phase1*.parquet"))
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match="Parquet"):
        build_dataset(f"wbcbench-hf:{release}", tmp_path / "out")
    write_parquet(file, {"image": packed(tmp_path, [1]), "label": ["BA"]})
    with pytest.raises(DataError, match="image_id"):
        build_dataset(f"wbcbench-hf:{release}", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_row_without_an_image_is_listed(tmp_path):
    images = [
        {"bytes": draw(tmp_path / "one.png").read_bytes(), "path": None},
        {"bytes": None, "path": "elsewhere.jpg"},
    ]
    write_parquet(tmp_path / "hub/x.parquet", {"image": images, "label": ["basophil", "basophil"]})
    dataset = build_dataset(f"blood8:{tmp_path / 'hub'}", tmp_path / "out")
    assert labels(dataset) == {"BA": 1}
    assert "contains no image" in dataset.excluded["reason"].iloc[0]


def test_a_packed_copy_that_is_left_out_contests_the_one_that_is_kept(tmp_path):
    seeds, names = [1, 2, 1, 3], ["basophil", "basophil", "neutrophil", "platelet"]
    write_parquet(tmp_path / "hub/x.parquet", {"image": packed(tmp_path, seeds), "label": names})
    draw(tmp_path / "mine/LY/copy.png", 3)
    draw(tmp_path / "mine/LY/own.png", 4)
    dataset = build_dataset([f"blood8:{tmp_path / 'hub'}", f"folder:{tmp_path / 'mine'}"], tmp_path / "out")
    assert labels(dataset) == {"BA": 1, "LY": 1}
    contested = dataset.excluded[dataset.excluded["reason"].str.startswith("conflicting")].set_index("label")["reason"]
    assert "labelled BA and, left out, NEU: blood8/" in contested["BA"]
    assert "labelled LY and PLT: blood8/" in contested["LY"]
    assert len([p for p in (tmp_path / "out/unpacked").rglob("*") if p.is_file()]) == 3, "compared, not written"


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
        "no code for immature granulocytes": 1,
        "no code for neutrophil": 1,
    }
    assert unknown_types(dataset) == {"ERB": 2, "PLT": 1}
    manifest = dataset.manifest.set_index("path")
    assert manifest.loc["test/00001.png", "split"] == "test" and not manifest.loc["test/00001.png", "evaluate"]
    found = np.asarray(Image.open(dataset.image_path("bloodmnist/train/00005.png")))
    np.testing.assert_array_equal(found, arrays["train_images"][5])


def test_bloodmnist_with_all_eight_classes_from_the_file_itself(tmp_path):
    npz(tmp_path / "bloodmnist.npz")
    eight = ["BA", "EO", "ERB", "IG", "LY", "MO", "NEU", "PLT"]
    dataset = build_dataset(f"bloodmnist:{tmp_path / 'bloodmnist.npz'}", tmp_path / "out", classes=eight)
    assert dataset.classes == eight and len(dataset.manifest) == 13 and dataset.excluded.empty


def test_a_copy_in_an_array_that_is_left_out_contests_the_one_that_is_kept(tmp_path):
    arrays = npz(tmp_path / "bloodmnist.npz")
    arrays["train_images"][2] = arrays["train_images"][0]  # an erythroblast and a basophil
    np.savez_compressed(tmp_path / "bloodmnist.npz", **arrays)
    dataset = build_dataset(f"bloodmnist:{tmp_path / 'bloodmnist.npz'}", tmp_path / "out")
    assert labels(dataset) == {"BA": 2, "EO": 3, "LY": 1, "MO": 1}
    assert left_out(dataset)["conflicting labels"] == 2 and unknown_types(dataset) == {"ERB": 1, "PLT": 1}


def test_what_is_not_bloodmnist_is_refused(tmp_path):
    npz(tmp_path / "two/bloodmnist.npz")
    npz(tmp_path / "two/bloodmnist_64.npz")
    np.savez(tmp_path / "bloodmnist_28.npz", train_images=np.zeros(3))
    with pytest.raises(DataError, match="npz"):
        build_dataset(f"bloodmnist:{tmp_path / 'two'}", tmp_path / "out")
    with pytest.raises(DataError, match="train_labels"):
        build_dataset(f"bloodmnist:{tmp_path}", tmp_path / "out")
    file = tmp_path / "two/bloodmnist.npz"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match="npz"):
        build_dataset(f"bloodmnist:{file}", tmp_path / "out")


# Unpacking


def test_a_build_cut_short_resumes_and_a_second_one_writes_nothing(tmp_path):
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


def test_images_of_a_damaged_table_are_listed_and_the_others_kept(tmp_path):
    """Its head is whole, so that it is found only when its images are taken out."""
    columns = {"image": packed(tmp_path, range(8), [None] * 8), "label": ["basophil", "monocyte"] * 4}
    for name in ("one", "two"):
        write_parquet(tmp_path / f"hub/{name}.parquet", columns)
    content = bytearray((tmp_path / "hub/two.parquet").read_bytes())
    place = content.index(b"PNG")
    content[place - 30 : place + 200] = bytes(230)
    (tmp_path / "hub/two.parquet").write_bytes(content)
    dataset = build_dataset(f"blood8:{tmp_path / 'hub'}", tmp_path / "out")
    assert len(dataset.manifest) + len(dataset.excluded) == 16
    assert dataset.excluded["path"].str.startswith("two").any()
    assert dataset.manifest["path"].str.startswith("one").sum() == 8


def test_images_of_a_damaged_array_are_listed(tmp_path):
    npz(tmp_path / "in/bloodmnist_64.npz", size=64)
    file = tmp_path / "in/bloodmnist_64.npz"
    content = bytearray(file.read_bytes())
    place = content.index(b"val_images.npy") + 3000
    content[place] ^= 255
    file.write_bytes(content)
    dataset = build_dataset(f"bloodmnist:{tmp_path / 'in'}", tmp_path / "out")
    assert len(dataset.manifest) + len(dataset.excluded) == 13
    damaged = dataset.excluded[dataset.excluded["reason"].str.contains("damaged")]
    assert len(damaged) and damaged["path"].str.startswith("val").all()


def test_what_lies_behind_a_link_is_not_removed(tmp_path):
    """Of `unpacked` itself, and of a folder in it: a user may have put them on another disk."""
    outside = tmp_path / "outside"
    for place in (outside / "mine-0123456789ab", tmp_path / "dataset" / FOLDER, tmp_path / "other"):
        place.mkdir(parents=True)
    (outside / "mine-0123456789ab" / "thesis.png").write_bytes(b"mine")
    (tmp_path / "dataset" / FOLDER / "away-0123456789ab").symlink_to(outside / "mine-0123456789ab")
    (tmp_path / "dataset" / FOLDER / "old-0123456789ab").mkdir()
    (tmp_path / "other" / FOLDER).symlink_to(outside)
    for dataset in ("dataset", "other"):
        remove_stale(tmp_path / dataset, set())
    assert (outside / "mine-0123456789ab" / "thesis.png").read_bytes() == b"mine"
    assert [p.name for p in (tmp_path / "dataset" / FOLDER).iterdir()] == ["away-0123456789ab"]
