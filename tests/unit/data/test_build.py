"""Building datasets: the three kinds of sources, copies, classes, external sources, and the folder that results."""

import json
from pathlib import Path

import pandas as pd
import pytest

import nonet.data.manifest
from helpers.layouts import draw
from nonet.cells import CLASSES
from nonet.data.build import build_dataset
from nonet.data.manifest import COLUMNS, Dataset
from nonet.data.sources import SOURCES
from nonet.data.unknown_types import UNKNOWN_TYPES
from nonet.errors import DataError, StorageError

PHOTOGRAPHS = Path(__file__).parents[4] / "shared/data"

pytestmark = pytest.mark.usefixtures("without_figures")


@pytest.fixture
def cells(tmp_path):
    for seed, name in enumerate(("BA/a.png", "BA/b.png", "EO/a.png", "SNE/x.png")):
        draw(tmp_path / "cells" / name, seed)
    return tmp_path / "cells"


def csv_of(folder, text, name="table.csv"):
    (folder / name).write_text(text)
    return f"csv:{folder / name}"


def test_folder_of_classes(cells, tmp_path):
    dataset = build_dataset(f"folder:{cells}", tmp_path / "out")
    assert list(dataset.manifest["image_id"]) == [
        "cells/BA/a.png",
        "cells/BA/b.png",
        "cells/EO/a.png",
        "cells/SNE/x.png",
    ]
    assert list(dataset.manifest["label"]) == ["BA", "BA", "EO", "SNE"]
    assert dataset.classes == ["BA", "EO", "SNE"]
    assert dataset.manifest["patient"].isna().all()
    assert dataset.manifest["evaluate"].all()
    assert (dataset.manifest["width"] == 14).all() and (dataset.manifest["height"] == 12).all()


def test_manifest_has_its_columns_and_survives_the_disk(cells, tmp_path):
    built = build_dataset([f"folder:{cells}"], tmp_path / "out")
    opened = Dataset.open(tmp_path / "out")
    assert list(built.manifest.columns) == list(COLUMNS)
    pd.testing.assert_frame_equal(built.manifest, opened.manifest)
    assert built.fingerprint() == opened.fingerprint()
    assert opened.manifest["patient"].iloc[0] is None and opened.manifest["split"].iloc[0] is None


def test_paths_are_in_row_order_and_by_id(cells, tmp_path):
    dataset = build_dataset(f"folder:{cells}", tmp_path / "out")
    assert dataset.paths() == [cells / path for path in dataset.manifest["path"]]
    assert dataset.image_path("cells/EO/a.png") == cells / "EO/a.png"
    assert dataset.image_path(dataset.manifest.iloc[2]) == cells / "EO/a.png"
    with pytest.raises(DataError, match='"x"'):
        dataset.image_path("x")


def test_fingerprint_is_of_content_not_of_place(cells, tmp_path):
    one = build_dataset(f"folder:{cells}", tmp_path / "one")
    moved = cells.rename(tmp_path / "moved")
    two = build_dataset(f"cells=folder:{moved}", tmp_path / "two")
    assert one.fingerprint() == two.fingerprint()
    draw(moved / "EO/a.png", 77)
    assert build_dataset(f"cells=folder:{moved}", tmp_path / "three").fingerprint() != one.fingerprint()


def test_csv_with_patients_sources_splits(cells, tmp_path):
    lines = ["path,label,patient,source,split,,", "BA/a.png,BA,P1,lab,,,", "EO/a.png,EO,,other,train,,"]
    text = "\ufeff" + "".join(f"{line}\r\n" for line in [*lines, "SNE/x.png,,P1,lab,test,,"])
    manifest = build_dataset(csv_of(cells, text), tmp_path / "out").manifest.set_index("image_id")
    assert list(manifest.index) == ["lab/BA/a.png", "lab/SNE/x.png", "other/EO/a.png"]
    assert manifest["patient"].tolist() == ["lab/P1", "lab/P1", None]
    assert manifest["label"].tolist() == ["BA", None, "EO"]
    assert manifest["split"].tolist() == [None, "test", "train"]
    assert not manifest.loc["lab/SNE/x.png", "evaluate"]
    assert not manifest["patient_is_standin"].any()


def test_source_is_named_by_the_spec_else_by_the_file(cells, tmp_path):
    text = "path,label\nBA/a.png,BA\n"
    assert set(build_dataset(csv_of(cells, text), tmp_path / "a").manifest["source"]) == {"table"}
    spec = "lab=" + csv_of(cells, text)
    assert set(build_dataset(spec, tmp_path / "b").manifest["source"]) == {"lab"}


def test_sha256_of_the_table_is_checked(cells, tmp_path):
    right = build_dataset(f"folder:{cells}", tmp_path / "a").manifest.set_index("path").loc["BA/a.png", "sha256"]
    text = f"path,label,sha256,width\nBA/a.png,BA,{right.upper()},999\nBA/b.png,BA,{'0' * 64},1\n"
    dataset = build_dataset(csv_of(cells, text), tmp_path / "b")
    assert list(dataset.manifest["path"]) == ["BA/a.png"]
    assert dataset.excluded["reason"].iloc[0].startswith("changed")
    assert dataset.notes == []


def test_copies_with_one_label_count_once_and_the_evaluated_one_stays(cells, tmp_path):
    draw(tmp_path / "aaa/BA/copy.png", 0)
    for order in (1, -1):
        specs = [f"folder:{cells}", f"folder:{tmp_path / 'aaa'}"][::order]
        dataset = build_dataset(specs, tmp_path / "out", external=["aaa"])
        assert "cells/BA/a.png" in set(dataset.manifest["image_id"])
        assert list(dataset.excluded["path"]) == ["BA/copy.png"]
        assert dataset.excluded["reason"].iloc[0] == "duplicate image: of cells/BA/a.png, which is used"


def test_copies_with_different_labels_are_all_left_out(cells, tmp_path):
    draw(cells / "EO/copy.png", 0)
    dataset = build_dataset(f"folder:{cells}", tmp_path / "out")
    assert set(dataset.excluded["path"]) == {"BA/a.png", "EO/copy.png"}
    assert dataset.excluded["reason"].str.contains("BA and EO").all()
    assert not set(dataset.manifest["path"]) & {"BA/a.png", "EO/copy.png"}


def test_no_test_image_is_dropped_as_a_copy_but_the_leak_is_noted(cells, tmp_path):
    for name in ("t/1.png", "t/2.png"):
        draw(cells / name, 0)
    text = "path,label,split\nBA/a.png,BA,\nEO/a.png,EO,\nt/1.png,,test\nt/2.png,,test\n"
    dataset = build_dataset(csv_of(cells, text), tmp_path / "out")
    assert len(dataset.manifest) == 4
    assert any("2 images" in note and "test" in note for note in dataset.notes)


def test_external_sources_are_not_evaluated(cells, tmp_path):
    draw(tmp_path / "more/BA/new.png", 50)
    dataset = build_dataset([f"folder:{cells}", f"folder:{tmp_path / 'more'}"], tmp_path / "out", external="more")
    assert dict(zip(dataset.manifest["source"], dataset.manifest["evaluate"])) == {"cells": True, "more": False}
    assert "1 external" in dataset.summary()


def test_an_external_name_that_is_not_a_source_is_an_error_that_lists_the_sources(cells, tmp_path):
    with pytest.raises(DataError, match=r'"pbc"(.|\n)*Sources: cells'):
        build_dataset(f"folder:{cells}", tmp_path / "out", external=["pbc"])


def test_labels_beside_the_thirteen_are_kept_by_default_with_a_note(cells, tmp_path):
    draw(cells / "ERB/e.png", 60)
    dataset = build_dataset(f"folder:{cells}", tmp_path / "out")
    assert dataset.classes == ["BA", "EO", "ERB", "SNE"]
    assert any("ERB" in note and "`classes=13`" in note for note in dataset.notes)
    assert build_dataset(f"folder:{cells}", tmp_path / "out", classes=["EO", "BA"]).classes == ["BA", "EO"]


def test_no_class_can_be_called_what_cells_without_a_name_are_called(cells, tmp_path):
    draw(cells / "unidentified/e.png", 60)
    with pytest.raises(DataError, match=r'\b1 image .*"unidentified".* cells/unidentified/e\.png(.|\n)*`classes`'):
        build_dataset(f"folder:{cells}", tmp_path / "out")
    assert build_dataset(f"folder:{cells}", tmp_path / "out", classes=["13"]).classes == ["BA", "EO", "SNE"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("cells", "is not a source"),
        ("zip:cells", "Kinds: folder, csv, wbcbench, wbcbench-hf, acevedo"),
        ("folder:nowhere", "does not exist"),
        ("csv:nowhere.csv", "does not exist"),
        ("wbcbench:nowhere", "does not exist"),
        ([], "No source"),
    ],
)
def test_wrong_sources_are_explained(tmp_path, spec, words):
    with pytest.raises(DataError, match=words):
        build_dataset(spec, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_places_of_one_name_are_refused(cells, tmp_path):
    draw(tmp_path / "other/cells/BA/z.png", 70)
    with pytest.raises(DataError, match=r'"cells"(.|\n)*NAME=KIND:PATH'):
        build_dataset([f"folder:{cells}", f"folder:{tmp_path / 'other/cells'}"], tmp_path / "out")


def test_home_is_expanded(cells, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(build_dataset("folder:~/cells", "~/out").manifest) == 4
    assert (tmp_path / "out/dataset.json").exists()


def test_dataset_is_replaced_but_no_other_folder_is(cells, tmp_path):
    build_dataset(f"folder:{cells}", tmp_path / "out")
    (tmp_path / "out/folds.csv").write_text("kept")
    draw(cells / "EO/new.png", 80)
    assert len(build_dataset(f"folder:{cells}", tmp_path / "out").manifest) == 5
    assert (tmp_path / "out/folds.csv").read_text() == "kept"
    assert [p.name for p in (tmp_path / "out").iterdir() if p.name.startswith(".")] == [".nonet.json"]
    with pytest.raises(StorageError, match=r"\bBA\b"):
        build_dataset(f"folder:{cells}", cells)


def test_where_nothing_is_left_the_reason_is_reported_before_anything_that_follows_from_it(cells, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    table = tmp_path / "elsewhere/ours.csv"
    table.write_text("path,label\n" + "".join(f"{file},BA\n" for file in sorted(cells.rglob("*.png"))))
    with pytest.raises(DataError, match=r"\d+ outside.*line 2 of ours\.csv .*elsewhere"):
        build_dataset(f"csv:{table}", tmp_path / "out", external=["ours"])


def test_dataset_that_fails_to_build_leaves_the_old_one(cells, tmp_path):
    before = build_dataset(f"folder:{cells}", tmp_path / "out").fingerprint()
    with pytest.raises(DataError, match="4 label outside the classes"):
        build_dataset(f"folder:{cells}", tmp_path / "out", classes=["XYZ"])
    assert Dataset.open(tmp_path / "out").fingerprint() == before


def test_build_cut_short_can_be_done_again(cells, tmp_path, monkeypatch):
    def killed(path, data):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(nonet.data.manifest, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            build_dataset(f"folder:{cells}", tmp_path / "out")
    with pytest.raises(DataError, match=str(tmp_path / "out")):
        Dataset.open(tmp_path / "out")
    assert len(build_dataset(f"folder:{cells}", tmp_path / "out").manifest) == 4


def test_same_sources_give_the_same_files(cells, tmp_path):
    for name, workers in (("a", 1), ("b", 4)):
        build_dataset(f"folder:{cells}", tmp_path / name, num_workers=workers)
    assert (tmp_path / "a/manifest.parquet").read_bytes() == (tmp_path / "b/manifest.parquet").read_bytes()


def test_summary_says_what_is_there_and_what_was_left_out(cells, tmp_path):
    draw(cells / "XX/a.png", 7)
    text = build_dataset(f"folder:{cells}", tmp_path / "out", classes="13").summary()
    assert "4 images, 3 classes, 0 patients" in text
    assert "segmented neutrophil" in text
    assert "1 label outside the classes" in text


def test_damaged_dataset_is_a_data_error(cells, tmp_path):
    build_dataset(f"folder:{cells}", tmp_path / "out")
    (tmp_path / "out/dataset.json").write_text("{")
    with pytest.raises(DataError, match=r"dataset\.json"):
        Dataset.open(tmp_path / "out")


def test_dataset_json_tells_where_the_images_are(cells, tmp_path):
    build_dataset(f"folder:{cells}", tmp_path / "out")
    facts = json.loads((tmp_path / "out/dataset.json").read_text())
    assert facts["roots"] == {"cells": str(cells)}
    assert facts["built_from"] == [f"folder:{cells}"]
    assert facts["kinds"] == {"cells": "folder"}


def test_challenge_folder(challenge, tmp_path):
    dataset = build_dataset(f"wbcbench:{challenge}", tmp_path / "out")
    manifest = dataset.manifest
    assert len(manifest) == 11 and dataset.excluded.empty
    assert manifest["label"].value_counts().to_dict() == {"SNE": 5, "BA": 3, "EO": 1}
    test = manifest[manifest["split"] == "test"]
    assert len(test) == 2 and test["label"].isna().all() and not test["evaluate"].any()
    assert "stand-ins" in dataset.summary()


def test_challenge_patients_are_standins_from_ids(challenge, tmp_path):
    manifest = build_dataset(f"wbcbench:{challenge}", tmp_path / "out").manifest
    assert manifest["patient_is_standin"].all()
    groups = manifest.groupby("patient")["path"].agg(lambda paths: sorted(Path(p).stem.lstrip("0") for p in paths))
    assert sorted(groups) == [["1", "112"], ["100", "101", "150"], ["113"], ["201", "202"], ["500"], ["900", "901"]]
    assert manifest["patient"].str.startswith("wbc/").all()


def test_challenge_without_its_test_table_still_has_the_test(challenge, tmp_path):
    (challenge / "phase2_test.csv").unlink()
    manifest = build_dataset(f"wbcbench:{challenge}", tmp_path / "out").manifest
    assert (manifest["split"] == "test").sum() == 2


def test_challenge_lists_images_without_row_and_rows_without_image(challenge, tmp_path):
    draw(challenge / "phase1/000999.jpg", 5)
    (challenge / "phase2/eval/00000500.jpg").unlink()
    dataset = build_dataset(f"wbcbench:{challenge}", tmp_path / "out")
    reasons = dict(zip(dataset.excluded["path"], dataset.excluded["reason"].str.split(":").str[0]))
    assert reasons == {"phase1/000999.jpg": "in no table", "phase2/eval/00000500.jpg": "missing"}


def test_challenge_in_part(challenge, tmp_path):
    for part in ("train", "eval", "test"):
        (challenge / f"phase2_{part}.csv").unlink()
    with pytest.raises(DataError, match=r"phase2_train\.csv"):
        build_dataset(f"wbcbench:{challenge}", tmp_path / "out")
    (challenge / "phase2").rename(tmp_path / "away")
    dataset = build_dataset(f"wbcbench:{challenge}", tmp_path / "out")
    assert len(dataset.manifest) == 5
    assert any("phase2/train" in note for note in dataset.notes)


def test_every_kind_of_source_refuses_an_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    for source in SOURCES.values():
        with pytest.raises(DataError):
            source.read(tmp_path / "empty", None)


@pytest.mark.slow
@pytest.mark.skipif(not PHOTOGRAPHS.exists(), reason="needs the shared photographs")
def test_photographs(tmp_path):
    spec = f"csv:{PHOTOGRAPHS / 'manifest.csv'}"
    dataset = build_dataset(spec, tmp_path / "out", classes=["13"], external=["pbc"])
    listed = pd.read_csv(PHOTOGRAPHS / "manifest.csv")
    known = listed[listed["label"].isin(CLASSES)]
    unknown = listed[listed["label"].isin(UNKNOWN_TYPES)]
    labelled = dataset.manifest[dataset.manifest["label"].notna()]
    assert labelled["source"].value_counts().to_dict() == known["source"].value_counts().to_dict()
    assert dataset.manifest["unknown_type"].value_counts().to_dict() == unknown["label"].value_counts().to_dict()
    others = listed.loc[~listed.index.isin([*known.index, *unknown.index]), "label"].value_counts().to_dict()
    assert dataset.excluded["label"].value_counts().to_dict() == others
    assert not dataset.manifest.loc[dataset.manifest["source"] == "pbc", "evaluate"].any()
