"""Images of unknown cell types are kept apart: no class, in no fold, and never held out from themselves."""

import pandas as pd
import pytest

from helpers.layouts import unknown_types
from helpers.pictures import draw_pictures
from nonet.data.build import build_dataset
from nonet.data.folds import make_folds
from nonet.data.manifest import Dataset
from nonet.data.unknown_types import divide_unknown
from nonet.errors import DataError
from nonet.inference.inputs import find_inputs


@pytest.fixture
def table(tmp_path):
    return draw_pictures(tmp_path / "pictures", {"EO": 12, "LY": 12, "SNE": 12, "ERB": 7})


def test_what_is_no_class_is_kept_without_a_label(table, tmp_path):
    dataset = build_dataset(f"csv:{table}", tmp_path / "dataset", classes=["13"])
    assert dataset.classes == ["EO", "LY", "SNE"] and unknown_types(dataset) == {"ERB": 7}
    unknown = dataset.manifest[dataset.manifest["unknown_type"].notna()]
    assert unknown["label"].isna().all() and unknown["patient"].notna().all()
    assert "ERB 7" in dataset.summary() and "0 unlabelled" in dataset.summary()
    assert unknown_types(Dataset.open(tmp_path / "dataset")) == {"ERB": 7}
    folds, _ = make_folds(dataset.manifest, num_folds=2)
    assert set(folds["image_id"]).isdisjoint(unknown["image_id"])


def test_a_label_that_is_a_class_stays_one(table, tmp_path):
    dataset = build_dataset(f"csv:{table}", tmp_path / "dataset")
    assert dataset.classes == ["EO", "ERB", "LY", "SNE"] and unknown_types(dataset) == {}
    dataset = build_dataset(f"csv:{table}", tmp_path / "dataset", classes=["13", "ERB"])
    assert dataset.classes == ["EO", "ERB", "LY", "SNE"] and unknown_types(dataset) == {}


def test_labels_of_ones_own_may_be_unknown_types(table, tmp_path):
    dataset = build_dataset(f"csv:{table}", tmp_path / "dataset", unknown=["eosinophil", "ERB"])
    assert dataset.classes == ["LY", "SNE"] and unknown_types(dataset) == {"EO": 12, "ERB": 7}
    dataset = build_dataset(f"csv:{table}", tmp_path / "dataset", classes="13", unknown="none")
    assert unknown_types(dataset) == {} and (dataset.excluded["label"] == "ERB").sum() == 7


@pytest.mark.parametrize(
    "options, words",
    [
        ({"unknown": ["PLT"]}, "PLT"),
        ({"unknown": ["none", "ERB"]}, "none"),
        ({"classes": ["LY", "EO"], "unknown": ["EO"]}, "EO"),
    ],
)
def test_what_cannot_be_an_unknown_type(table, tmp_path, options, words):
    with pytest.raises(DataError, match=words):
        build_dataset(f"csv:{table}", tmp_path / "dataset", **options)


def test_a_published_data_set_keeps_its_erythroblasts_and_platelets(tmp_path, table):
    for code, name in (("EO", "eosinophil"), ("ERB", "erythroblast"), ("LY", "lymphocyte"), ("SNE", "neutrophil")):
        target = tmp_path / "acevedo" / name
        target.mkdir(parents=True)
        for i, file in enumerate(sorted((table.parent / code).iterdir())):
            prefix = {"EO": "EO", "ERB": "ERB", "LY": "LY", "SNE": "SNE"}[code]
            (target / f"{prefix}_{i}.png").write_bytes(file.read_bytes())
    dataset = build_dataset(f"acevedo:{tmp_path / 'acevedo'}", tmp_path / "dataset")
    assert unknown_types(dataset) == {"ERB": 7} and "ERB" not in dataset.classes


def test_a_copy_of_a_cell_with_a_class_conflicts(table, tmp_path):
    (table.parent / "LY" / "0.png").write_bytes((table.parent / "ERB" / "0.png").read_bytes())
    dataset = build_dataset(f"csv:{table}", tmp_path / "dataset", classes=["13"])
    assert unknown_types(dataset) == {"ERB": 6} and (dataset.manifest["label"] == "LY").sum() == 11
    assert dataset.excluded["reason"].str.contains("conflicting labels").sum() == 2


def test_what_training_depends_on_includes_unknown_types(table, tmp_path):
    one = build_dataset(f"csv:{table}", tmp_path / "one", classes=["13"])
    two = build_dataset(f"csv:{table}", tmp_path / "two", classes=["13"], unknown="none")
    assert one.fingerprint() != two.fingerprint()


def test_a_class_of_one_source_is_no_unknown_type_of_another(table, tmp_path):
    published = tmp_path / "acevedo"
    for code, name in (("ERB", "erythroblast"), ("LY", "lymphocyte")):
        (published / name).mkdir(parents=True)
        for i, file in enumerate(sorted((table.parent / code).iterdir())[:3]):
            (published / name / f"{code}_{i}.png").write_bytes(file.read_bytes() + b" ")
    dataset = build_dataset([f"csv:{table}", f"acevedo:{published}"], tmp_path / "dataset")
    assert "ERB" in dataset.classes and unknown_types(dataset) == {}


@pytest.mark.parametrize("word", ["erythroblast", "Erythroblasts", "erb"])
def test_types_are_recognised_by_their_names(table, tmp_path, word):
    table.write_text(table.read_text().replace(",ERB,", f",{word},"))
    for options in ({"classes": "13"}, {"unknown": "ERB"}):
        dataset = build_dataset(f"csv:{table}", tmp_path / "dataset", **options)
        assert unknown_types(dataset) == {"ERB": 7} and dataset.classes == ["EO", "LY", "SNE"]


def test_a_dataset_that_is_predicted_has_the_cells_of_its_classes(table, tmp_path):
    build_dataset(f"csv:{table}", tmp_path / "dataset", classes=["13"])
    assert len(find_inputs([tmp_path / "dataset"])) == 36


def test_external_cells_of_a_patient_that_is_held_out_are_held_out_with_it(tmp_path, table):
    other = draw_pictures(tmp_path / "other", {"EO": 8, "LY": 8, "ERB": 8}, seed=1)
    both = [f"csv:{table}", f"theirs=csv:{other}"]
    dataset = build_dataset(both, tmp_path / "dataset", classes=["13"], external=["theirs"])
    folds, _ = make_folds(dataset.manifest, num_folds=2, hold_out_external=True)
    unknown = divide_unknown(dataset.manifest, folds)
    known = folds.merge(dataset.manifest, on="image_id").groupby("patient")["fold"].first()
    theirs = unknown[unknown["source"] == "theirs"]
    assert (theirs["fold"] == theirs["patient"].map(known)).all() and len(theirs) == 8


def test_a_patient_is_on_one_side_of_every_fold(tmp_path, table):
    rows = pd.read_csv(table)
    rows.loc[rows["label"] == "ERB", "patient"] = ["P0", "P1", "P2", "only", "only", None, None]
    rows["source"] = "ours"
    rows.to_csv(table, index=False)
    other = draw_pictures(tmp_path / "other", {"EO": 3, "ERB": 4}, seed=1)
    both = [f"csv:{table}", f"theirs=csv:{other}"]
    dataset = build_dataset(both, tmp_path / "dataset", classes=["13"], external=["theirs"])
    folds, _ = make_folds(dataset.manifest, num_folds=3)
    unknown = divide_unknown(dataset.manifest, folds)
    assert list(unknown["image_id"]) == sorted(unknown["image_id"]) and len(unknown) == 11
    known = folds.merge(dataset.manifest, on="image_id").dropna(subset="fold")
    of_patient = known.groupby("patient")["fold"].first()
    for row in unknown[unknown["source"] == "ours"].itertuples():
        assert row.fold in (0, 1, 2)
        if row.patient in of_patient:
            assert row.fold == of_patient[row.patient]
    assert unknown.loc[unknown["patient"] == "ours/only", "fold"].nunique() == 1
    assert unknown.loc[unknown["source"] == "theirs", "fold"].isna().all()
    pd.testing.assert_frame_equal(unknown, divide_unknown(dataset.manifest.sample(frac=1), folds))


def test_a_test_patient_whose_unknown_cells_are_learned_from_is_a_leak(table, tmp_path):
    rows = pd.read_csv(table)
    rows["split"] = [
        "test" if patient == "P0" and label != "ERB" else "train"
        for patient, label in zip(rows["patient"], rows["label"])
    ]
    rows.to_csv(table, index=False)
    dataset = build_dataset(f"csv:{table}", tmp_path / "dataset", classes=["13"])
    assert any("leak" in text and "P0" in text for text in dataset.description["checks"])
