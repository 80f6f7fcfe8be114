"""Tables from out-of-fold logits."""

import numpy as np
import pandas as pd
import pytest

from nonet.errors import RunError
from nonet.evaluation.bootstrap import Bootstrap
from nonet.evaluation.metrics import confusion_matrix, macro_f1_score
from nonet.evaluation.oof import align_oof
from nonet.evaluation.tables import (
    confusion_table,
    difference_table,
    format_interval,
    format_table,
    per_class_table,
    table_1,
)

CLASSES = ["LY", "MY", "PLY", "PMY", "SNE"]
LOGITS = [f"logit_{code}" for code in CLASSES]
FAST = {"bootstrap": Bootstrap(num_resamples=50)}


def make_oof(num_images=120, *, architectures=("a", "b", "c"), view_sets=("none", "dihedral"), seed=0):
    rng = np.random.default_rng(seed)
    label = rng.choice(CLASSES, size=num_images, p=[0.3, 0.2, 0.1, 0.1, 0.3])
    label[:5] = CLASSES
    images = pd.DataFrame(
        {
            "image_id": [f"i{i:03d}" for i in range(num_images)],
            "label": label,
            "patient": [f"p{i % 17}" for i in range(num_images)],
            "source": "wbcbench",
            "fold": np.arange(num_images) % 17 % 3,
        }
    )
    true = (label[:, None] == np.array(CLASSES)) * 1.5
    parts = []
    for architecture in architectures:
        for views in view_sets:
            logits = (true + rng.normal(size=true.shape)).astype(np.float32)
            part = images.assign(architecture=architecture, view_set=views)
            parts.append(part.join(pd.DataFrame(logits, columns=LOGITS)))
    return pd.concat(parts, ignore_index=True)


def test_rows_and_columns():
    table = table_1(align_oof(make_oof()), names={"a": "Net-A"}, **FAST)
    assert table["name"].tolist() == ["3 × Net-A", "3 × b", "3 × c", "ensemble"] * 2
    assert table["views"].tolist() == ["none"] * 4 + ["dihedral"] * 4
    for score in ("macro_f1", "balanced_accuracy", "macro_precision", "macro_specificity"):
        assert (table[f"{score}_low"] <= table[score]).all() and (table[score] <= table[f"{score}_high"]).all()
    assert (table["images"] == 120).all() and (table["patients"] == 17).all() and (table["groups"] == 17).all()


def test_each_row_is_the_score_of_its_logits():
    oof = make_oof()
    table = table_1(align_oof(oof), **FAST)
    for _, row in table[table["architecture"] != "ensemble"].iterrows():
        part = oof[(oof["architecture"] == row["architecture"]) & (oof["view_set"] == row["views"])]
        true = part["label"].map(CLASSES.index).to_numpy()
        confusion = confusion_matrix(true, part[LOGITS].to_numpy().argmax(axis=1), len(CLASSES))
        assert row["macro_f1"] == macro_f1_score(confusion)


def test_ensemble_row_is_the_score_of_the_mean_logits():
    oof = make_oof()
    table = table_1(align_oof(oof), **FAST)
    ours = table[table["architecture"] == "ensemble"]["macro_f1"].tolist()
    means = oof.groupby(["view_set", "image_id"])[LOGITS].mean()
    expected = []
    for views in ("none", "dihedral"):
        true = oof.drop_duplicates("image_id").set_index("image_id")["label"].loc[means.loc[views].index]
        best = means.loc[views].to_numpy().argmax(axis=1)
        confusion = confusion_matrix(true.map(CLASSES.index).to_numpy(), best, len(CLASSES))
        expected.append(float(macro_f1_score(confusion)))
    assert ours == pytest.approx(expected)


def test_ensemble_is_the_mean_to_the_last_bit_in_any_order_of_rows():
    oof = make_oof()
    aligned = align_oof(oof)
    shuffled = align_oof(oof.sample(frac=1, random_state=3))
    np.testing.assert_array_equal(aligned.ensemble_logits, shuffled.ensemble_logits)
    means = oof.astype(dict.fromkeys(LOGITS, np.float64)).groupby(["view_set", "image_id"])[LOGITS].mean()
    for views, found in zip(aligned.view_sets, aligned.ensemble_logits):
        np.testing.assert_allclose(found, means.loc[views].loc[aligned.image_id], rtol=1e-12, atol=1e-15)


def test_table_does_not_depend_on_the_order_of_rows():
    oof = make_oof()
    pd.testing.assert_frame_equal(
        table_1(align_oof(oof), **FAST), table_1(align_oof(oof.sample(frac=1, random_state=1)), **FAST)
    )


def test_without_views_there_are_only_rows_without():
    table = table_1(align_oof(make_oof(view_sets=("none",))), **FAST)
    assert table["views"].tolist() == ["none"] * 4


def test_unknown_patients_are_drawn_as_images():
    oof = make_oof()
    oof["patient"] = oof["patient"].where(oof["patient"] != "p3", None)
    unknown = oof.loc[oof["patient"].isna(), "image_id"].nunique()
    table = table_1(align_oof(oof), **FAST)
    assert (table["patients"] == 16).all() and (table["groups"] == 16 + unknown).all()


def test_classes_come_in_order_of_maturation_with_images_and_patients():
    oof = make_oof()
    table = per_class_table(align_oof(oof), **FAST)
    assert table["code"].tolist() == ["PMY", "MY", "SNE", "PLY", "LY"]
    assert table["name"].tolist()[0] == "promyelocyte"
    images = oof.drop_duplicates("image_id")
    assert table.set_index("code")["images"].to_dict() == images["label"].value_counts().to_dict()
    patients = images.groupby("label")["patient"].nunique().to_dict()
    assert table.set_index("code")["patients"].to_dict() == patients


def test_per_class_f1_averages_to_the_macro_f1_of_the_ensemble_with_views():
    oof = make_oof()
    table = table_1(align_oof(oof), **FAST)
    assert per_class_table(align_oof(oof), **FAST)["f1"].mean() == pytest.approx(table["macro_f1"].iloc[-1])


def test_classes_of_few_patients_and_of_none_are_noted():
    oof = make_oof()
    oof.loc[oof["label"] == "PLY", "patient"] = "only"
    oof.loc[oof["label"] == "PMY", "patient"] = [f"q{i % 2}" for i in range((oof["label"] == "PMY").sum())]
    oof["patient"] = oof.groupby("image_id")["patient"].transform("first")
    oof = oof[oof["label"] != "MY"]
    table = per_class_table(align_oof(oof), **FAST).set_index("code")
    assert table.loc["PLY", "note"] == "1 patient: no interval" and np.isnan(table.loc["PLY", "f1_low"])
    assert "2 patients" in table.loc["PMY", "note"] and "cannot be judged" in table.loc["MY", "note"]
    assert np.isnan(table.loc["MY", "f1"]) and table.loc["MY", "images"] == 0
    assert table.loc["LY", "note"] == ""
    assert table["f1"].mean() == pytest.approx(table_1(align_oof(oof), **FAST)["macro_f1"].iloc[-1])


def test_differences_are_those_of_the_table():
    oof = make_oof()
    table = table_1(align_oof(oof), **FAST)
    found = difference_table(align_oof(oof), **FAST)
    assert found["comparison"].tolist()[-1] == "ensemble with views − without"
    with_views = table[table["views"] == "dihedral"]["macro_f1"].to_numpy()
    np.testing.assert_allclose(found["difference"][:3], with_views[3] - with_views[:3])
    assert difference_table(align_oof(make_oof(architectures=("a",), view_sets=("none",))), **FAST).empty


def test_confusion_is_labelled_in_order_of_maturation():
    table = confusion_table(np.arange(25).reshape(5, 5), CLASSES)
    assert table.loc["PMY", "SNE"] == 3 * 5 + 4
    assert table.index.tolist() == table.columns.tolist() == ["PMY", "MY", "SNE", "PLY", "LY"]


def test_numbers_for_people():
    assert format_interval(0.5123, 0.47, 0.55) == "0.512 [0.470, 0.550]"
    assert format_interval(0.5, np.nan, np.nan) == "0.500 [–]"
    assert format_interval(np.nan, np.nan, np.nan) == "–"
    assert len(format_table(table_1(align_oof(make_oof()), **FAST)).splitlines()) == 9


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda oof: oof.iloc[1:], "1 of 120 images have no out-of-fold logits by a .* first i000"),
        (lambda oof: oof[(oof["architecture"] != "b") | (oof["view_set"] == "none")], "120 of 120 images .* by b"),
        (lambda oof: pd.concat([oof, oof.iloc[4:5]]), "occur twice, first image i004 by a"),
        (lambda oof: oof.assign(logit_LY=np.where(oof["image_id"] == "i007", np.inf, 0)), "not finite, .*i007"),
        (lambda oof: oof.assign(label=oof["label"].replace("PLY", "XX")), '"XX"'),
        (lambda oof: oof.assign(label=["LY", *oof["label"][1:-120], *["MY"] * 120]), "more than one label"),
        (lambda oof: oof.iloc[:0], "No out-of-fold image"),
    ],
)
def test_what_is_wrong_is_named(spoil, message):
    with pytest.raises(RunError, match=message):
        align_oof(spoil(make_oof()))
