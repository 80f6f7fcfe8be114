"""Splits, patients and labels as people write them, in other words and spellings than ours."""

import re
import unicodedata

import pandas as pd
import pytest

from helpers.tables import PATHS, draw_cells, table, values, with_labels, with_values
from nonet.data.build import build_dataset
from nonet.data.checks.run import split_findings
from nonet.data.decisions import read_decisions
from nonet.data.patients import patient_findings
from nonet.data.sources.csv_table import CSV
from nonet.data.sources.splits import parse_split
from nonet.data.sources.vocabulary import canonical_form, is_missing_value
from nonet.errors import DataError
from nonet.inference.inputs import find_inputs

pytestmark = pytest.mark.usefixtures("without_figures")


@pytest.fixture
def cells(tmp_path):
    return draw_cells(tmp_path / "cells")


def kinds_found(dataset):
    return {finding.kind for finding in patient_findings(dataset.manifest)}


# Splits.


def test_split_in_another_spelling_or_word_is_still_a_test(cells, tmp_path):
    path = with_values(cells, "split", "Test", "TRAIN", " held-out ", "Training set", "testing")
    dataset = build_dataset(f"csv:{path}", tmp_path / "out")
    by_path = dataset.manifest.set_index("path")
    assert by_path["split"].to_dict() == dict(zip(PATHS, ["test", "train", "test", "train", "test"]))
    assert by_path["evaluate"].tolist() == [False, True, False, True, False]


@pytest.mark.parametrize(
    ("word", "split"),
    [
        *(
            (word, "test")
            for word in ("TEST", "test_set", "TestA", "test-2", "Test images", "hold out", "ｔｅｓｔ", "tst")
        ),
        *(
            (word, "test")
            for word in ("external test", "HOLDOUT_TEST", "test (held out)", "test_public", "internal-test-set")
        ),
        *((word, "train") for word in ("Train", "training", "train_1", "trainval", "Training data", "trn")),
        *((word, "val") for word in ("VAL", "validation", "Valid", "dev", "val-set", "tuning")),
        *(
            (word, None)
            for word in (
                "eval",
                "latest",
                "contest",
                "attest",
                "fold1",
                "1",
                "phase1",
                "protest",
                "trains",
                "dev-test",
                "external",
            )
        ),
    ],
)
def test_words_for_splits(word, split):
    assert parse_split(word) == split


@pytest.mark.parametrize("word", ["tset", "evaluation", "external", "0", "fold 2", "train/test"])
def test_split_that_is_not_known_is_refused_with_its_line(cells, word):
    with pytest.raises(DataError, match=f'line 4: split "{word}"'):
        CSV.read(with_values(cells, "split", "test", "train", word, "train", "train"))


def test_val_is_trained_on_and_that_is_said(cells):
    listing = CSV.read(with_values(cells, "split", "validation", "train", "val", "train", "test"))
    assert values(listing, "split") == ["val", "train", "val", "train", "test"]
    assert any("split val (2) are trained on" in note for note in listing.notes)
    assert not CSV.read(with_values(cells, "split", "train", "train", "train", "train", "test")).notes


def test_rows_without_a_split_beside_a_test_are_counted(cells):
    listing = CSV.read(with_values(cells, "split", "nan", "", "NA", "train", "test"))
    assert values(listing, "split") == [None, None, None, "train", "test"]
    assert any("3 images have no split" in note for note in listing.notes)


def test_patient_in_test_and_elsewhere_is_reported(cells, tmp_path):
    rows = [f"{path},{path[:2]},{p},{s}" for path, p, s in zip(PATHS, "aabbc", ["test", "train", "", "", "test"])]
    dataset = build_dataset(f"csv:{table(cells, 'path,label,patient,split', *rows)}", tmp_path / "out")
    assert "patients in test and elsewhere" in kinds_found(dataset)
    assert "patient table/a of split test" in dataset.summary()


def test_patient_scored_and_not_is_reported(cells, tmp_path):
    rows = [f"{path},{path[:2]},{p},{e}" for path, p, e in zip(PATHS, "aabbc", ["TRUE", "No", "1", "yes", "0"])]
    dataset = build_dataset(f"csv:{table(cells, 'path,label,patient,evaluate', *rows)}", tmp_path / "out")
    assert dataset.manifest["evaluate"].tolist() == [True, False, True, True, False]
    assert "patients scored and not" in kinds_found(dataset)


def test_table_named_as_a_test_set_is_reported(cells, tmp_path):
    rows = [f"{path},{path[:2]}" for path in PATHS]
    specs = [
        f"csv:{table(cells, 'path,label', *part, name=name)}"
        for name, part in (("train.csv", rows[:3]), ("Test_set.csv", rows[3:]))
    ]
    text = build_dataset(specs, tmp_path / "out").summary()
    assert re.search("Test_set .*2 images", text.replace("Test_set of source ", ""))


def test_classes_that_only_a_test_has_are_reported(cells, tmp_path):
    one = build_dataset(f"csv:{with_values(cells, 'split', 'train', 'train', '', '', 'test')}", tmp_path / "one")
    assert [finding.kind for finding in split_findings(one.manifest)] == ["classes of the test alone"]
    every = build_dataset(f"csv:{with_values(cells, 'split', *['test'] * 5)}", tmp_path / "every")
    assert [finding.kind for finding in split_findings(every.manifest)] == ["no image to train on"]


def test_one_class_alone_is_reported(cells, tmp_path):
    dataset = build_dataset(f"folder:{cells}", tmp_path / "out", classes="BA")
    assert [finding.kind for finding in split_findings(dataset.manifest)] == ["one class"]


def test_predict_takes_a_split_in_any_spelling(cells, tmp_path):
    build_dataset(f"csv:{with_values(cells, 'split', 'Test', '', '', '', 'TEST')}", tmp_path / "out")
    found = find_inputs([tmp_path / "out"], split="Testing")
    assert [one.name for one in found] == ["table/BA/a.png", "table/SNE/a.png"]
    with pytest.raises(DataError, match='"train"'):
        find_inputs([tmp_path / "out"], split="train")


# Patients.


@pytest.mark.parametrize(
    "word",
    [
        *("nan", "NaN", "NA", "N/A", "n.a.", "none", "null", "Unknown", "?", "--", "#N/A", "#REF!", "not available"),
        *("<NA>", "unk", "-1", "-999.0", "\u2014", "n.d.", "missing"),
    ],
)
def test_words_for_an_unknown_patient_are_no_patient(cells, tmp_path, word):
    dataset = build_dataset(f"csv:{with_values(cells, 'patient', word, word, 'P1', 'P2', word)}", tmp_path / "out")
    assert dataset.manifest["patient"].tolist() == [None, None, "table/P1", "table/P2", None]
    assert any(f"{word} 3" in note for note in dataset.notes)


@pytest.mark.parametrize("name", ["0", "1", "Ana", "Nil-7", "NAN012", "ND", "Value", "A-1", "Unk1", "Nora"])
def test_names_that_only_look_like_such_words_are_patients(name):
    assert not is_missing_value(name, numbers=True)


def test_numbers_as_patients_stay_as_they_are_written(cells, tmp_path):
    ids = ("007", "12", "1e3", "0x1F", "20231004000000123")
    dataset = build_dataset(f"csv:{with_values(cells, 'patient', *ids)}", tmp_path / "out")
    assert dataset.manifest["patient"].tolist() == [f"table/{one}" for one in ids]
    assert not kinds_found(dataset)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(("7", "007"), ("P7", "p7"), ("P7", "P 7"), ("P-7", "P07"), ("7", "7.0"), ("Patient 7", "7"), ("7", "'7")),
        *(("Müller", "Muller"), ("A", "\u0391"), ("John Smith", "Smith^John")),
    ],
)
def test_patients_that_may_be_one_are_reported_and_stay_apart(cells, tmp_path, one, other):
    dataset = build_dataset(f"csv:{with_values(cells, 'patient', one, other, 'a', 'b', 'c')}", tmp_path / "out")
    assert dataset.manifest["patient"].nunique() == 5
    assert "patients that may be one" in kinds_found(dataset)
    assert one in dataset.summary() and other in dataset.summary()


@pytest.mark.parametrize(("one", "other"), [("P7", "P8"), ("1-23", "12-3"), ("A1", "B1"), ("7", "70"), ("1.5", "15")])
def test_patients_that_differ_are_not_reported(cells, tmp_path, one, other):
    dataset = build_dataset(f"csv:{with_values(cells, 'patient', one, other, 'x', 'y', 'z')}", tmp_path / "out")
    assert "patients that may be one" not in kinds_found(dataset)


@pytest.mark.parametrize("other", [unicodedata.normalize("NFD", "Zoë 1"), "Zoë  1", "Zoë\u00a01", "Zo\u200bë 1"])
def test_patients_that_differ_by_what_cannot_be_seen_are_one(cells, tmp_path, other):
    dataset = build_dataset(f"csv:{with_values(cells, 'patient', 'Zoë 1', other, 'b', 'c', 'd')}", tmp_path / "out")
    assert dataset.manifest["patient"].tolist()[:2] == ["table/Zoë 1"] * 2
    assert any("invisible characters" in note for note in dataset.notes)


@pytest.mark.parametrize(
    "name",
    [
        *("2.02E+11", "1e+05", '"2,02E+11"', "3-Jan", "Jan-03", "123456789012345000"),
        *("2024-01-03 00:00:00", "1/2/2024", "03.01.2024", "3. Mrz", "03-déc"),
    ],
)
def test_patients_that_a_spreadsheet_changed_are_reported(cells, tmp_path, name):
    dataset = build_dataset(f"csv:{with_values(cells, 'patient', name, name, 'a', 'b', 'c')}", tmp_path / "out")
    assert "patients changed by a spreadsheet" in kinds_found(dataset)


def test_patients_of_one_name_in_two_sources_are_reported(cells, tmp_path):
    rows = [f"{path},{path[:2]},P1,{source}" for path, source in zip(PATHS, ("x", "x", "y", "y", "y"))]
    dataset = build_dataset(f"csv:{table(cells, 'path,label,patient,source', *rows)}", tmp_path / "out")
    assert "patients of one name in two sources" in kinds_found(dataset)


def test_one_patient_of_most_images_is_reported():
    rows = pd.DataFrame({"patient": [f"s/{name}" for name in "abcd" + "x" * 9], "label": "LY", "source": "s"})
    rows = rows.assign(split=None, evaluate=True, patient_is_standin=False)
    assert [finding.kind for finding in patient_findings(rows)] == ["one patient of most images"]
    assert patient_findings(rows.iloc[:5]) == []


def test_a_note_asks_for_patients_only_where_they_are_missing(cells, tmp_path):
    some = build_dataset(f"csv:{with_values(cells, 'patient', 'a', 'b', 'c', 'd', '')}", tmp_path / "some")
    every = build_dataset(f"csv:{with_values(cells, 'patient', 'a', 'b', 'c', 'd', 'e')}", tmp_path / "all")
    external = build_dataset(f"folder:{cells}", tmp_path / "external", external="cells")
    assert "patients unknown" in kinds_found(some)
    assert "patients unknown" not in kinds_found(every) | kinds_found(external)


# Labels.


def test_labels_that_read_alike_are_one(cells, tmp_path):
    twins = ("Lymphocyte", "lymphocyte", "LYMPHOCYTES", "Lymph\u200bocyte ", "Lymphосуte")  # the last is half Cyrillic
    dataset = build_dataset(f"csv:{with_labels(cells, *twins)}", tmp_path / "out")
    assert len(dataset.classes) == 1 and len(dataset.manifest) == 5
    assert any("read alike" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(("band neutrophil", "Band_Neutrophils"), ("a-b", "a b"), ("plasma cell", "plasma  cells")),
        *(("Ünreif", unicodedata.normalize("NFD", "ünreif")), ("ｃｅｌｌ", "cell"), ("naïve", "naive")),
        *(("1", "1.0"), ("1", "01"), ("0", "00"), ("type1", "type 1"), ("Type-1", "type_1"), ("CD4+", "CD4 +")),
    ],
)
def test_what_reads_alike(one, other):
    assert canonical_form(one) == canonical_form(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(("CD4+", "CD4-"), ("class 1", "class 11"), ("ly", "lys"), ("basis", "basi"), ("10", "1"), ("1.5", "15")),
        *(("type 1 1", "type 11"), ("かき", "がき"), ("a-1", "a+1")),
    ],
)
def test_what_does_not_read_alike(one, other):
    assert canonical_form(one) != canonical_form(other)


def test_names_count_as_codes_where_codes_are_wanted(cells, tmp_path):
    labels = ("Neutrophils (segmented)", "stab cell", "ly", "Atypical_Lymphocyte", "neutrophil")
    dataset = build_dataset(f"csv:{with_labels(cells, *labels)}", tmp_path / "out", classes="13")
    assert dict(zip(dataset.manifest["path"], dataset.manifest["label"])) == dict(
        zip(PATHS, ["SNE", "BNE", "LY", "VLY"])
    )
    assert dataset.excluded["reason"].tolist() == ["label outside the classes: neutrophil"]
    own = build_dataset(f"csv:{with_labels(cells, *labels)}", tmp_path / "own")
    assert set(own.classes) == set(labels)


def test_classes_may_be_given_in_another_spelling(cells, tmp_path):
    path = with_labels(cells, "Basophil", "BA", "Neutrophil", "x", "y")
    dataset = build_dataset(f"csv:{path}", tmp_path / "out", classes=["ba", "neu"])
    assert dataset.manifest["label"].tolist() == ["BA", "BA", "NEU"]


def test_name_beside_its_code_is_the_code(cells, tmp_path):
    dataset = build_dataset(f"csv:{with_labels(cells, 'monocyte', 'MO', 'a', 'b', 'c')}", tmp_path / "out")
    assert dataset.classes == ["MO", "a", "b", "c"]


def test_labels_that_say_none_is_known_are_unlabelled(cells, tmp_path):
    dataset = build_dataset(f"csv:{with_labels(cells, 'nan', '?', 'BA', 'Unknown', 'EO')}", tmp_path / "out")
    assert dataset.manifest["label"].tolist() == [None, None, "BA", None, "EO"]
    assert dataset.classes == ["BA", "EO"] and any("nan 1" in note for note in dataset.notes)


def test_labels_of_which_none_is_known_are_said_to_be_unlabelled(cells, tmp_path):
    with pytest.raises(DataError, match="5 unlabelled"):
        build_dataset(f"csv:{with_labels(cells, 'nan', '?', 'unlabeled', 'Unknown', '')}", tmp_path / "out")


def test_no_spelling_of_unidentified_is_a_class(cells, tmp_path):
    with pytest.raises(DataError, match="unidentified"):
        build_dataset(f"csv:{with_labels(cells, 'Unidentified', 'BA', 'BA', 'EO', 'EO')}", tmp_path / "out")


def test_map_of_labels(cells, tmp_path):
    mapping = table(cells, "from,to", "ba,basophil", "EO,", "XX,other", name="map.csv")
    dataset = build_dataset(f"folder:{cells}", tmp_path / "out", labels=mapping)
    assert dataset.manifest["label"].tolist() == ["basophil", "basophil", "SNE"]
    assert dataset.excluded["reason"].str.startswith("left out by map.csv").sum() == 2
    assert any("are unchanged: SNE" in note for note in dataset.notes)
    assert any("no source has: XX" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["from,to", "ba,X", "BA,Y"], "line 3"),
        (["old,new", "BA,X"], "columns from,to"),
        (["from,to", "XX,Y"], "They have: BA, EO, SNE"),
    ],
)
def test_map_of_labels_that_cannot_be_meant(cells, tmp_path, rows, words):
    with pytest.raises(DataError, match=words):
        build_dataset(f"folder:{cells}", tmp_path / "out", labels=table(cells, *rows, name="map.csv"))


def test_decisions_take_labels_and_paths_in_another_spelling(cells):
    images = pd.DataFrame(
        {"image_id": ["s/BA/a.png", "s/EO/a.png"], "path": ["BA/a.png", "EO/a.png"], "label": ["BA", "EO"]}
    )
    file = table(
        cells, "path,decision,label", r"BA\a.png,Relabel,lymphocytes", "EO/a.png,KEEP,Eosinophil", name="d.csv"
    )
    decided = read_decisions(file, images)
    assert decided[["decision", "label"]].values.tolist() == [["relabel", "LY"], ["keep", ""]]
