"""Counts of cases: shares, groups, what is not counted, files that other programs read."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from helpers.prediction_folders import CLASSES, write_confusions, write_predictions
from nonet.differential.count import count
from nonet.differential.counting import NO_CASE
from nonet.errors import DamagedError, DataError, StorageError

CASE = ["SNE"] * 50 + ["BNE"] * 5 + ["LY"] * 30 + ["MO"] * 10 + ["PMY", "MMY", "MMY", "BL"] + ["ERB"] * 6
APART = ["unidentified"] * 4 + ["reason:unknown cell type"] * 3 + [""]


@pytest.fixture
def folder(tmp_path):
    cells = [(f"a{i}.png", "A", label) for i, label in enumerate([*CASE, *APART])]
    cells += [(f"b{i}.png", "B", "LY") for i in range(3)] + [("c.png", "", "unidentified")]
    return write_predictions(tmp_path / "predictions", cells)


def row(made, case, key):
    table = made.table()
    return table[(table["case"] == case) & (table["key"] == key)].iloc[0]


def test_shares_are_of_white_cells_with_a_class(folder):
    made = count(folder)
    total = len(CASE) - 6  # erythroblasts are no white cells
    assert [case.case for case in made.cases] == ["A", "B", NO_CASE]
    assert made.cases[0].num_counted == total
    for key, num in (("SNE", 50), ("BA", 0), ("immature_granulocytes", 3), ("neutrophils", 55), ("blasts", 1)):
        found = row(made, "A", key)
        expected = binomtest(num, total).proportion_ci(0.95, method="exact")
        assert (found["count"], found["of"]) == (num, total)
        assert found[["percent", "low", "high"]].astype(float).tolist() == pytest.approx(
            [100 * num / total, 100 * expected.low, 100 * expected.high], abs=0.001
        )


def test_what_is_not_counted_stands_apart(folder):
    made = count(folder)
    assert made.cases[0].apart == {"erythroblast": 6, "doubtful": 4, "unknown cell type": 3, "unreadable": 1}
    assert row(made, "A", "ERB")["percent"] == pytest.approx(100 * 6 / (len(CASE) - 6), abs=0.001)
    assert made.cases[2].num_counted == 0 and np.isnan(made.cases[2].classes[0].share)


def test_confidence_widens_the_intervals(folder):
    assert row(count(folder, confidence=0.99), "A", "SNE")["high"] > row(count(folder), "A", "SNE")["high"]


def test_known_confusions_are_corrected(tmp_path):
    rates = np.eye(len(CLASSES), len(CLASSES) + 1)
    band, segmented = CLASSES.index("BNE"), CLASSES.index("SNE")
    rates[band, [band, segmented]] = 0.5, 0.5  # half of the band neutrophils are called segmented
    cells = [(f"{i}.png", "A", label) for i, label in enumerate(["SNE"] * 150 + ["BNE"] * 50)]
    folder = write_predictions(tmp_path / "predictions", cells)
    assert np.isnan(row(count(folder), "A", "SNE")["corrected_percent"])
    write_confusions(folder, rates)
    made = count(folder)
    assert row(made, "A", "BNE")["corrected_percent"] == pytest.approx(50, abs=2)
    assert row(made, "A", "SNE")["corrected_percent"] == pytest.approx(50, abs=2)
    whole = row(made, "A", "neutrophils")  # the sum is known better than its parts
    part = row(made, "A", "SNE")
    assert whole["corrected_high"] - whole["corrected_low"] < part["corrected_high"] - part["corrected_low"]


def test_more_cells_narrow_the_interval(folder):
    widths = [high - low for _, low, high in count(folder).cases[0].gain()]
    assert widths == sorted(widths, reverse=True) and widths[2] < widths[0] / 1.8


def test_files_hold_the_same_numbers_and_say_research_use(folder):
    made = count(folder)
    table = pd.read_csv(made.folder / "differential.csv")
    pd.testing.assert_frame_equal(table, made.table(), check_dtype=False)
    data = json.loads((made.folder / "differential.json").read_text())
    assert [case["case"] for case in data["cases"]] == ["A", "B", NO_CASE]
    shares = {share["key"]: share for share in data["cases"][0]["shares"]}
    assert shares["SNE"]["count"] == 50 and shares["SNE"]["percent"] == row(made, "A", "SNE")["percent"]
    page = (made.folder / "differential.html").read_text()
    for text in (str(made), data["notice"], page):
        assert "Research use only. Not for diagnostic use." in text
    assert "http" not in page.replace("http://www.w3.org", "")


def test_names_of_cases_are_data(tmp_path):
    names = ["../../x", "=1+1", "<b>bold</b>", "a/b", "A", "a"]
    folder = write_predictions(tmp_path / "predictions", [(f"{i}.png", name, "LY") for i, name in enumerate(names)])
    made = count(folder, fhir=True)
    page = (made.folder / "differential.html").read_text()
    assert "<b>bold" not in page and "&lt;b&gt;bold" in page
    assert "\n=1+1" not in (made.folder / "differential.csv").read_text()
    files = sorted(made.folder.glob("fhir/*"))
    assert len({file.name.lower() for file in files}) == len(names)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} >= set(files)
    assert [each.case for each in made.cases] == names


def test_odd_folders_are_refused(tmp_path, folder):
    with pytest.raises(DataError, match=r"predictions\.csv"):
        count(tmp_path)
    with pytest.raises(DataError, match=r"1\.5"):
        count(folder, confidence=1.5)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("x")
    with pytest.raises(StorageError):
        count(folder, out=tmp_path / "mine")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "x"


@pytest.mark.parametrize(
    "line",
    [
        *("0,SNE,SNE,x", "0,SNE,XX,1", "0,SNE,SNE,-1", "-1,SNE,SNE,1", "0,SNE,SNE,nan", "a,SNE,SNE,1"),
        *("0,SNE,SNE,0", "0,SNE,SNE,1.5", "0,SNE,SNE,inf", "99999999999,SNE,SNE,1"),
    ],
)
def test_an_edited_table_of_confusions_is_refused(folder, line):
    (folder / "confusions.csv").write_text(f"group,true,outcome,images\n0,LY,LY,3\n{line}\n")
    with pytest.raises(DamagedError, match="line 3"):
        count(folder)


def test_a_label_that_the_run_does_not_know_is_refused(tmp_path):
    folder = write_predictions(tmp_path / "predictions", [("1.png", "A", "XX")])
    with pytest.raises(DataError, match="XX"):
        count(folder)


def test_patients_of_confusions_may_have_any_numbers(folder):
    lines = [f"{group},{code},{code},9" for group in (7, 900_000_000) for code in CLASSES]
    (folder / "confusions.csv").write_text("\n".join(["group,true,outcome,images", *lines]))
    assert row(count(folder), "A", "SNE")["corrected_percent"] > 0


@pytest.mark.parametrize("rest", ["", "0,SNE,SNE,4\n", "0,SNE,rejected,4\n1,SNE,rejected,4\n"])
def test_nothing_is_corrected_by_too_few_patients(folder, rest):
    (folder / "confusions.csv").write_text(f"group,true,outcome,images\n{rest}")
    assert np.isnan(row(count(folder), "A", "SNE")["corrected_percent"])


def damaged(text: bytes) -> dict[str, bytes]:
    """Return files that are no predictions.csv, by what happened to them."""
    return {
        "empty": b"",
        "binary": bytes(range(256)),
        "nul": text[:200] + b"\0" + text[200:],
        "cut": text[: len(text) - 20],
        "semicolons": text.replace(b",", b";"),
        "no number": text.replace(b"0.9", b"many", 1),
        "header only": text.splitlines()[0],
    }


@pytest.mark.parametrize("what", list(damaged(b"x")))
@pytest.mark.parametrize("name", ["predictions.csv", "confusions.csv"])
def test_damaged_tables_are_named(folder, name, what):
    if name == "confusions.csv":
        write_confusions(folder, np.eye(len(CLASSES), len(CLASSES) + 1))
        if what in ("no number", "header only", "nul"):
            pytest.skip("tested line by line above")
    file = folder / name
    file.write_bytes(damaged(file.read_bytes())[what])
    with pytest.raises((DamagedError, DataError), match=name.replace(".", r"\.")):
        count(folder)
    assert not (folder / "differential").exists()


def test_a_label_that_a_person_corrected_counts_whatever_the_reason_beside_it(folder):
    table = pd.read_csv(folder / "predictions.csv", keep_default_na=False)
    doubtful = (table["case"] == "A") & (table["reason"] == "doubtful")
    table.loc[doubtful, "label"] = "MO"
    table.to_csv(folder / "predictions.csv", index=False)
    made = count(folder)
    assert row(made, "A", "MO")["count"] == 10 + doubtful.sum()
    assert "doubtful" not in made.cases[0].apart


def test_rows_that_were_removed_are_noticed(folder):
    (folder / "plan.json").write_text(json.dumps({"num_images": 1000}))
    assert any("1,000" in note for note in count(folder).notes)


def test_a_new_count_leaves_no_report_of_an_earlier_one(tmp_path):
    folder = write_predictions(tmp_path / "p", [("1.png", "A", "LY"), ("2.png", "B", "LY")])
    made = count(folder, fhir=True)
    (made.folder / "fhir" / "letter.json").write_text("{}")
    write_predictions(folder, [("1.png", "B", "LY")])
    assert [file.name for file in sorted(count(folder, fhir=True).folder.glob("fhir/*"))] == ["B.json", "letter.json"]
    count(folder)
    assert [file.name for file in made.folder.glob("fhir/*")] == ["letter.json"]


def test_a_laboratorys_own_labels_are_grouped_and_told_from_white_cells(tmp_path):
    classes = ("Lymphocytes", "erythroblast", "neutrophil", "odd cell")
    cells = [(f"{i}.png", "A", label) for i, label in enumerate([*classes, "Lymphocytes"])]
    made = count(write_predictions(tmp_path / "p", cells, classes), fhir=True)
    (case,) = made.cases
    assert case.num_counted == 4 and case.apart == {"erythroblast": 1}
    assert {share.key: share.count for share in case.groups} == {"neutrophils": 1, "lymphoid": 2}
    assert [(share.key, share.share) for share in case.per_100] == [("erythroblast", 0.25)]
    report = (made.folder / "fhir" / "A.json").read_text()
    assert "26478-8" in report and "58413-6" in report
