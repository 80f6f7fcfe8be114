"""The challenge's submission: every ID once, in its order, or nothing."""

import re

import pandas as pd
import pytest

from nonet.errors import DataError
from nonet.inference.submission import read_submission_ids, require_ids, write_submission

CLASSES = ["LY", "SNE"]


def predictions_of(tmp_path, rows):
    path = tmp_path / "predictions.csv"
    table = pd.DataFrame(rows, columns=["image", "best", "error"])
    table.assign(label=table["best"].replace("LY", "unidentified")).to_csv(path, index=False)
    return path


def test_it_has_every_id_in_order_whatever_the_order_of_predictions(tmp_path, caplog):
    rows = [("t/2.jpg", "LY", ""), ("t/3.jpg", "SNE", ""), ("t/1.jpg", "SNE", ""), ("t/other.jpg", "LY", "")]
    out = tmp_path / "submission.csv"
    write_submission(out, ["1", "2.jpg", "3"], predictions_of(tmp_path, rows), CLASSES)
    assert "1 unidentified" in caplog.text
    assert out.read_bytes() == b"ID,labels\n1,SNE\n2.jpg,LY\n3,SNE\n"


def test_an_unreadable_image_prevents_it_unless_a_class_is_given(tmp_path, caplog):
    table = predictions_of(tmp_path, [("1.jpg", "LY", ""), ("2.jpg", "", "2.jpg is cut short.")])
    out = tmp_path / "submission.csv"
    with pytest.raises(DataError, match=r"\b1 .*2\.jpg is cut short"):
        write_submission(out, ["1", "2"], table, CLASSES)
    assert not out.exists()
    write_submission(out, ["1", "2"], table, CLASSES, unreadable_label="SNE")
    assert out.read_text() == "ID,labels\n1,LY\n2,SNE\n"
    assert re.search("1 unreadable .*SNE", caplog.text)


def test_an_unreadable_image_that_no_id_asks_for_is_no_hindrance(tmp_path):
    table = predictions_of(tmp_path, [("1.jpg", "LY", ""), ("2.jpg", "", "cut")])
    write_submission(tmp_path / "submission.csv", ["1"], table, CLASSES)
    assert (tmp_path / "submission.csv").read_text() == "ID,labels\n1,LY\n"


def test_ids_without_image_or_with_two_are_refused():
    with pytest.raises(DataError, match=r"2 of 3 .*\b8"):
        require_ids(["1", "8", "9"], ["a/1.jpg"])
    with pytest.raises(DataError, match=r"1 of 1 .*a/1\.jpg, b/1\.jpg"):
        require_ids(["1"], ["a/1.jpg", "b/1.jpg"])
    require_ids(["1.jpg"], ["a/1.jpg", "a/1.png"])  # by its ending, one
    require_ids(["1", "1.v2"], ["C:\\cells\\1.jpg", "1.v2.jpg"])


def test_the_sample_is_read_as_the_challenge_publishes_it(tmp_path):
    sample = tmp_path / "phase2_test.csv"
    sample.write_bytes(b"\xef\xbb\xbfID,labels,,\r\n007,,,\r\nNA,,,\r\n 9.jpg ,SNE,,\r\n")
    assert read_submission_ids(sample) == ["007", "NA", "9.jpg"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("image,labels\n1,\n", "no column ID; it has image, labels"),
        ("ID,labels\n1,\n1,\n2,\n", "repeats 1 IDs, first 1"),
        ("ID,labels\n", "no IDs"),
        ("ID;labels\n1;\n", "semicolons"),
        ("", "empty"),
    ],
)
def test_an_invalid_sample_submission_says_why(tmp_path, content, words):
    (tmp_path / "sample.csv").write_text(content)
    with pytest.raises(DataError, match=words):
        read_submission_ids(tmp_path / "sample.csv")


def test_a_missing_sample_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv"):
        read_submission_ids(tmp_path / "none.csv")
