"""No cell of a table that people open in a spreadsheet is run as a formula, and nonet reads back what it wrote."""

import io
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.pictures import draw_pictures
from nonet.artifacts.csv_files import is_formula, quote, read_csv, to_csv, unquote, write_csv
from nonet.data.build import build_dataset
from nonet.data.manifest import Dataset
from nonet.errors import DataError

RUN_BY_SPREADSHEETS = [
    "=1+1",
    "+cmd|'/C calc'!A0",
    "-2+3+cmd",
    "@SUM(1)",
    "\tx",
    "\r=x",
    "＝1+1",
    '=HYPERLINK("http://x","y")',
]
HARMLESS = ["LY", "a=b", "-0.3", "+7", "-1e-5", "", "2024-01-01", "x@y", "'plain"]


@pytest.mark.parametrize("text", RUN_BY_SPREADSHEETS)
def test_a_formula_is_quoted_in_cells_and_header(text):
    table = pd.DataFrame({text: [text, "LY"]})
    file = io.StringIO()
    to_csv(table, file)
    read = pd.read_csv(io.StringIO(file.getvalue()), dtype=str, keep_default_na=False)
    assert list(read) == [f"'{text}"]
    assert read.iloc[0].tolist() == [f"'{text}"]
    assert is_formula(text)


@pytest.mark.parametrize("text", HARMLESS)
def test_numbers_and_plain_text_are_left_alone(text):
    table = pd.DataFrame({"name": [text]})
    assert quote(table)["name"].tolist() == [text]
    assert not is_formula(text)


def test_numbers_are_left_numbers():
    table = quote(pd.DataFrame({"x": [-0.3, 2.0], "n": [-1, 1], "ok": [True, False]}))
    assert table["x"].tolist() == [-0.3, 2.0] and table["n"].tolist() == [-1, 1] and table["ok"].dtype == bool


@given(st.lists(st.text(st.sampled_from("'=+-@\t\r\n1.aß"), max_size=6), min_size=1))
def test_what_is_quoted_comes_back(texts):
    table = pd.DataFrame({"text": texts}, dtype=object)
    quoted = quote(table)
    assert unquote(quoted)["text"].tolist() == texts
    file = io.StringIO()
    to_csv(table, file)
    file.seek(0)
    assert read_csv(file, keep_default_na=False, dtype=str, skip_blank_lines=False)["text"].tolist() == texts
    harmless = re.compile(r"[^=+\-@\t\r\n]|[+-]?[\d.]+$|$")
    assert all(harmless.match(text) for text in quoted["text"])


def test_missing_values_stay_missing(tmp_path):
    write_csv(tmp_path / "t.csv", pd.DataFrame({"a": ["=x", None], "b": [1.5, None]}))
    assert read_csv(tmp_path / "t.csv").isna().to_numpy().tolist() == [[False, False], [True, True]]


@pytest.fixture
def odd_source(tmp_path):
    """A table with a label and a file name that a spreadsheet would run, and a cell with an escape code."""
    table = draw_pictures(tmp_path / "cells", {"EO": 6, "LY": 6})
    rows = pd.read_csv(table, dtype=str)
    (tmp_path / "cells" / "=1+1.png").write_bytes((tmp_path / "cells" / rows["path"][0]).read_bytes()[:40])
    rows.loc[rows["label"] == "EO", "label"] = "=EO"
    rows.loc[len(rows)] = {"path": "=1+1.png", "label": "LY", "patient": "p"}
    rows.loc[2, "label"] = "\x1b[31mred"
    rows.loc[3, "label"] = "two\nlines"
    rows.to_csv(table, index=False)
    return table


def test_a_build_warns_of_formulas_and_leaves_out_labels_that_no_one_can_read(odd_source, tmp_path):
    dataset = build_dataset(f"csv:{odd_source}", tmp_path / "out")
    said = " ".join(dataset.notes)
    assert dataset.classes == ["=EO", "LY"]
    for first in ('"=EO"', '"=1+1.png"'):
        assert first in said
    assert "\x1b" not in dataset.summary()
    left_out = dataset.excluded.set_index("label")["reason"]
    assert left_out["\x1b[31mred"] == left_out["two\nlines"] == "label with control characters"
    assert "=1+1.png" in dataset.excluded["path"].tolist()
    assert ",=" not in (tmp_path / "out" / "excluded.csv").read_text().replace("\n", ",")
    pd.testing.assert_frame_equal(Dataset.open(tmp_path / "out").excluded, dataset.excluded, check_dtype=False)


def test_a_label_that_would_make_prediction_sets_ambiguous_is_refused(tmp_path):
    table = draw_pictures(tmp_path / "cells", {"EO": 3, "LY": 3})
    table.write_text(table.read_text().replace(",EO,", ",LY|EO,"))
    with pytest.raises(DataError, match=r'3 images .*"LY\|EO"'):
        build_dataset(f"csv:{table}", tmp_path / "out")


def test_folds_and_decisions_of_odd_names_are_read_back(odd_source, tmp_path):
    from nonet.data.decisions import read_decisions
    from nonet.data.folds import make_folds, read_folds, write_folds

    dataset = build_dataset(f"csv:{odd_source}", tmp_path / "out")
    manifest = dataset.manifest.assign(image_id="=" + dataset.manifest["image_id"])
    folds, _ = make_folds(manifest, num_folds=2, by="image")
    write_folds(tmp_path / "folds.csv", folds)
    assert (tmp_path / "folds.csv").read_text().splitlines()[1].startswith("'=")
    assert set(read_folds(tmp_path / "folds.csv", manifest, by="image")["image_id"]) == set(manifest["image_id"])
    first = manifest["image_id"].iloc[0]
    (tmp_path / "decisions.csv").write_text(f"image_id,decision,label,note\n'{first},drop,,\n")
    assert read_decisions(tmp_path / "decisions.csv", manifest, classes=None)["image_id"].tolist() == [first]
