"""`nonet score`: predictions against a table of labels, equal to scikit-learn; names matched as they are written."""

import re

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
)

from helpers.layouts import draw
from nonet.data.build import build_dataset
from nonet.errors import DataError
from nonet.evaluation.matching import match_names
from nonet.evaluation.score import score

CLASSES = ["BL", "EO", "LY", "MO", "SNE"]


def make_tables(folder, num=300, seed=0):
    """Write predictions.csv as `predict` does and labels.csv; return both tables."""
    rng = np.random.default_rng(seed)
    true = rng.choice(CLASSES, num, p=[0.05, 0.1, 0.3, 0.15, 0.4])
    best = np.where(rng.random(num) < 0.7, true, rng.choice(CLASSES, num))
    names = [f"cell-{i:04d}" for i in range(num)]
    predictions = pd.DataFrame({"image": [f"/data/new/{name}.png" for name in names], "label": best, "best": best})
    predictions.loc[::7, "label"] = "unidentified"
    predictions = predictions.join(pd.DataFrame(0.2, index=range(num), columns=[f"p_{code}" for code in CLASSES]))
    labels = pd.DataFrame({"path": [f"{name}.png" for name in names], "label": true})
    labels["patient"] = [f"P{i % 23}" for i in range(num)]
    folder.mkdir(parents=True, exist_ok=True)
    predictions.sample(frac=1, random_state=1).to_csv(folder / "predictions.csv", index=False)
    labels.to_csv(folder / "labels.csv", index=False)
    return predictions, labels


def macro_specificity(true, predicted):
    """Mean over classes of the share of the other classes' images that are not called it."""
    return np.mean([recall_score(true != code, predicted != code) for code in sorted(set(true))])


def test_scores_are_those_of_scikit_learn(tmp_path):
    predictions, labels = make_tables(tmp_path)
    found = score(tmp_path, tmp_path / "labels.csv", num_resamples=100)
    true, best = labels["label"].to_numpy(), predictions["best"].to_numpy()
    expected = {
        "macro_f1": f1_score(true, best, average="macro"),
        "balanced_accuracy": balanced_accuracy_score(true, best),
        "macro_precision": precision_score(true, best, average="macro"),
        "macro_specificity": macro_specificity(true, best),
        "accuracy": accuracy_score(true, best),
    }
    assert found.scores["score"].tolist() == list(expected)  # the order in which the challenge ranks
    assert found.scores["value"].tolist() == pytest.approx(list(expected.values()))
    assert (found.scores["low"] < found.scores["value"]).all() and (found.scores["value"] < found.scores["high"]).all()
    assert (found.num_images, found.num_patients) == (300, 23)
    order = list(found.confusion.index)
    assert (found.confusion.to_numpy() == confusion_matrix(true, best, labels=order)).all()
    each = f1_score(true, best, labels=found.per_class["code"].tolist(), average=None)
    assert found.per_class["f1"].tolist() == pytest.approx(list(each))


def test_intervals_are_over_patients_where_they_are_known(tmp_path):
    """A patient's images all right or all wrong: over images the interval would be far too narrow."""
    num, patients = 400, 8
    right = np.arange(num) % patients < 5
    names = [f"{i}.png" for i in range(num)]
    pd.DataFrame({"ID": names, "labels": np.where(right, "LY", "MO")}).to_csv(tmp_path / "submission.csv", index=False)
    labels = pd.DataFrame({"image": names, "label": "LY", "patient": [f"P{i % patients}" for i in range(num)]})
    labels.to_csv(tmp_path / "with.csv", index=False)
    labels.drop(columns="patient").to_csv(tmp_path / "without.csv", index=False)
    widths = {}
    for name in ("with", "without"):
        row = score(tmp_path, tmp_path / f"{name}.csv", num_resamples=500).scores.set_index("score").loc["accuracy"]
        assert row["value"] == 5 / 8
        widths[name] = row["high"] - row["low"]
    assert widths["with"] > 4 * widths["without"]


def test_images_of_one_table_only_are_left_out_named_and_counted(tmp_path):
    predictions, labels = make_tables(tmp_path)
    predictions.iloc[10:].to_csv(tmp_path / "predictions.csv", index=False)
    labels.loc[290:294, "label"] = ""
    labels.iloc[:295].to_csv(tmp_path / "labels.csv", index=False)
    found = score(tmp_path / "predictions.csv", tmp_path / "labels.csv", num_resamples=10)
    notes = " ".join(found.notes)
    assert re.search(r"10 of 290 labels .*cell-0000.png, cell-0001.png", notes)
    assert "10 of 290 predictions" in notes
    assert "5 rows" in notes
    kept = slice(10, 289)
    assert found.num_images == 280
    true, best = labels.loc[kept, "label"], predictions.loc[kept, "best"]
    assert found.scores["value"].iloc[0] == pytest.approx(f1_score(true, best, average="macro"))


def test_an_image_that_could_not_be_read_counts_as_wrong(tmp_path):
    predictions, labels = make_tables(tmp_path)
    predictions.loc[:19, ["label", "best"]] = ""
    predictions.to_csv(tmp_path / "predictions.csv", index=False)
    found = score(tmp_path, tmp_path / "labels.csv", num_resamples=10)
    assert "20 images" in " ".join(found.notes)
    best = predictions["best"].replace("", "none").to_numpy()
    present = sorted(set(labels["label"]))
    assert found.num_images == 300
    assert found.scores["value"].iloc[0] == pytest.approx(
        f1_score(labels["label"], best, labels=present, average="macro")
    )
    assert found.confusion[""].sum() == 20


def test_names_that_predict_quotes_for_spreadsheets_are_matched(tmp_path):
    (tmp_path / "predictions.csv").write_text("image,best\n'=1+1.png,LY\n'-a.png,MO\n'plain'.png,LY\n")
    (tmp_path / "labels.csv").write_text("path,label\n=1+1.png,LY\n-a.png,LY\n'plain'.png,LY\n")
    found = score(tmp_path, tmp_path / "labels.csv", num_resamples=10)
    assert found.num_images == 3
    assert found.scores.set_index("score").loc["accuracy", "value"] == pytest.approx(2 / 3)


def test_labels_that_the_predictions_cannot_have_are_named(tmp_path):
    _, labels = make_tables(tmp_path)
    labels["label"] = labels["label"].replace("LY", "lymphocyte")
    labels.to_csv(tmp_path / "labels.csv", index=False)
    found = score(tmp_path, tmp_path / "labels.csv", num_resamples=10)
    assert f'"lymphocyte" ({(labels["label"] == "lymphocyte").sum()})' in " ".join(found.notes)


def test_labels_and_patients_may_be_those_of_a_dataset(tmp_path):
    rows = ["path,label,patient"]
    for label in ("LY", "MO"):
        for i in range(6):
            draw(tmp_path / label / f"{i}.png")
            rows.append(f"{label}/{i}.png,{label},P{i % 3}")
    (tmp_path / "cells.csv").write_text("\n".join(rows) + "\n")
    dataset = build_dataset(f"csv:{tmp_path / 'cells.csv'}", tmp_path / "dataset")
    called = pd.DataFrame({"image": dataset.manifest["image_id"], "best": "LY"})
    called.to_csv(tmp_path / "predictions.csv", index=False)
    found = score(tmp_path, dataset.folder, num_resamples=10)
    assert (found.num_images, found.num_patients) == (12, 3)
    assert found.scores.set_index("score").loc["accuracy", "value"] == 0.5


@pytest.mark.parametrize(
    ("wanted", "given", "found"),
    [
        (["a.png", "b.png"], ["x/b.png", "x/a.png"], [1, 0]),
        (["a", "b"], ["b.jpg", "a.jpg"], [1, 0]),
        (["a.jpg"], ["a.png"], [0]),
        (["cell.01", "cell.02"], ["cell.02.png", "cell.01.png"], [1, 0]),
        (["LY/1.png", "MO/1.png"], ["/new/MO/1.png", "/new/LY/1.png"], [1, 0]),
        ([r"LY\1.png"], ["/new/MO/1.png", "/new/LY/1.png"], [1]),
        (["a.png", "z.png"], ["a.png"], [0, -1]),
        (["a.png"], ["a.jpg", "a.png"], [1]),
        (["CELL1.PNG", "cell2"], ["cell1.png", "Cell2.tif"], [0, 1]),
        (["A.png", "a.png"], ["a.png", "A.png"], [1, 0]),
        (["Zu\u0308rich.png"], ["Z\u00fcrich.png"], [0]),
    ],
)
def test_names_are_matched(wanted, given, found):
    assert match_names(wanted, given).tolist() == found


@pytest.mark.parametrize(
    ("wanted", "given", "words"),
    [
        (["1.png"], ["LY/1.png", "MO/1.png"], "1.png .*LY/1.png.*MO/1.png"),
        (["a.png", "b.png", "x/a.png"], ["a.png", "b.png"], "a.png.*x/a.png"),
    ],
)
def test_names_that_fit_several_images_are_refused(wanted, given, words):
    with pytest.raises(DataError, match=words):
        match_names(wanted, given)


def test_from_the_command_line(tmp_path, nonet):
    make_tables(tmp_path)
    expected = score(tmp_path, tmp_path / "labels.csv", num_resamples=50).scores["value"].iloc[0]
    status, out, err = nonet("score", tmp_path, tmp_path / "labels.csv", "--resamples", 50, "--out", tmp_path / "out")
    assert status == 0, err
    assert f"{expected:.3f}" in out and "intervals over 23 patients" in out
    assert pd.read_csv(tmp_path / "out" / "scores.csv")["value"].iloc[0] == pytest.approx(expected)
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == [
        "confusion.csv",
        "per_class.csv",
        "scores.csv",
    ]


@pytest.mark.parametrize(
    ("predictions", "labels", "words"),
    [
        ("image,best\na.png,LY\n", "cell,label\na.png,LY\n", "cell, label"),
        ("image,best\na.png,LY\n", "path,type\na.png,LY\n", "path, type"),
        ("image,score\na.png,LY\n", "path,label\na.png,LY\n", "image, score"),
        ("image,best\na.png,LY\n", "path,label\nb.png,LY\n", "No image is in both tables"),
        ("image,best\na.png,LY\n", "path,label\na.png,\n", '"label"'),
        ("image,best\n", "path,label\na.png,LY\n", "No image is in both tables"),
        ("image,best\na.png,LY\na.png,MO\n", "path,label\na.png,LY\n", "a.png"),
    ],
)
def test_what_cannot_be_scored_is_refused_from_outside(tmp_path, refused, predictions, labels, words):
    (tmp_path / "p.csv").write_text(predictions)
    (tmp_path / "l.csv").write_text(labels)
    assert words in refused("score", tmp_path / "p.csv", tmp_path / "l.csv")


def test_a_folder_without_predictions_and_a_folder_of_others_are_refused(tmp_path, refused):
    (tmp_path / "empty").mkdir()
    assert "neither predictions.csv nor submission.csv" in refused("score", tmp_path / "empty", tmp_path / "l.csv")
    make_tables(tmp_path / "mine")
    out = refused("score", tmp_path / "mine", tmp_path / "mine" / "labels.csv", "--out", tmp_path / "mine")
    assert "is not empty" in out
    assert len(list((tmp_path / "mine").iterdir())) == 2
