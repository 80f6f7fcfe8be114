"""A count against a person's: the figures that evaluations of cell readers report."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score, recall_score

from helpers.prediction_folders import write_predictions
from nonet.differential.agreement import passing_bablok
from nonet.differential.compare import compare
from nonet.errors import DataError, StorageError

SHARES = {"BNE": 0.1, "LY": 0.3, "MO": 0.1, "SNE": 0.5}


def draw(num_cases=8, num_cells=80, right=0.8):
    rng, codes = np.random.default_rng(0), list(SHARES)
    rows = []
    for case in range(num_cases):
        mix = rng.dirichlet(20 * np.array(list(SHARES.values())))
        for i in range(num_cells):
            true = codes[rng.choice(len(codes), p=mix)]
            called = true if rng.random() < right else codes[rng.integers(len(codes))]
            called = "unidentified" if rng.random() < 0.05 else called
            rows.append((f"case{case}/cell_{i}.png", f"case{case}", called, true))
    return pd.DataFrame(rows, columns=["image", "case", "called", "label"])


@pytest.fixture
def cells():
    return draw()


@pytest.fixture
def folder(tmp_path, cells):
    return write_predictions(tmp_path / "predictions", list(cells[["image", "case", "called"]].itertuples(index=False)))


def write_table(tmp_path, table, name="reference.csv", **options):
    table.to_csv(tmp_path / name, index=False, **options)
    return tmp_path / name


def write_counts(tmp_path, cells, factor=1.0):
    counts = pd.crosstab(cells["case"], cells["label"]) * factor
    return write_table(tmp_path, counts.reset_index(), "counts.csv")


def test_cell_by_cell_as_scikit_learn(tmp_path, folder, cells):
    made = compare(folder, write_table(tmp_path, cells[["image", "label"]]), num_resamples=200)
    named = cells[cells["called"] != "unidentified"]
    kappa, same = made.agreement.set_index("measure").loc[["Cohen's kappa", "same class"]].to_dict("records")
    assert kappa["value"] == pytest.approx(cohen_kappa_score(named["label"], named["called"]))
    assert kappa["low"] < kappa["value"] < kappa["high"]
    assert same["value"] == pytest.approx((named["label"] == named["called"]).mean())
    for row in made.per_class.to_dict("records"):
        is_class, called = cells["label"] == row["code"], cells["called"] == row["code"]
        assert row["sensitivity"] == pytest.approx(recall_score(is_class, called))
        assert row["specificity"] == pytest.approx(recall_score(~is_class, ~called))
        assert row["cells"] == is_class.sum()


def test_case_by_case_from_labels_and_from_counts_alike(tmp_path, folder, cells):
    named = cells[cells["called"] != "unidentified"]
    theirs = pd.crosstab(cells["case"], cells["label"], normalize="index")["SNE"]
    ours = pd.crosstab(named["case"], named["called"], normalize="index")["SNE"]
    line = passing_bablok(100 * theirs, 100 * ours)
    by_label = compare(folder, write_table(tmp_path, cells[["image", "label"]]), num_resamples=50)
    for number, reference in enumerate((write_counts(tmp_path, cells), write_counts(tmp_path, cells, 100 / 80))):
        by_count = compare(folder, reference, out=tmp_path / f"counts{number}")
        for made in (by_label, by_count):
            row = made.methods.set_index("code").loc["SNE"]
            assert row[["slope", "intercept"]].tolist() == pytest.approx([line.slope, line.intercept])
            assert row["bias"] == pytest.approx(100 * (ours - theirs).mean())
            assert row["cases"] == 8
        assert by_count.agreement.empty


def test_names_of_classes_and_other_columns(tmp_path, folder, cells):
    counts = pd.crosstab(cells["case"], cells["label"]).reset_index()
    plain = compare(folder, write_counts(tmp_path, cells))
    counts = counts.rename(columns={"SNE": "Segmented neutrophils", "LY": "lymphocyte", "case": "Patient"})
    counts = counts.assign(erythroblast=7, total=80, remark="fine")
    named = compare(folder, write_table(tmp_path, counts, "named.csv"), out=tmp_path / "named")
    pd.testing.assert_frame_equal(named.methods, plain.methods)
    assert any("remark" in note and "total" not in note for note in named.notes)


def test_what_is_in_one_table_only_is_said(tmp_path, folder, cells):
    fewer = pd.concat([cells.iloc[:200], pd.DataFrame({"image": ["strange.png"], "label": ["LY"]})])
    made = compare(folder, write_table(tmp_path, fewer[["image", "label"]]), num_resamples=50)
    assert any("strange.png" in note for note in made.notes)
    assert any(f"{len(cells) - 200:,} of {len(cells):,}" in note for note in made.notes)
    assert made.per_class["cells"].sum() == 200


def test_few_cases_have_no_line_but_have_kappa(tmp_path):
    cells = draw(num_cases=2)
    folder = write_predictions(tmp_path / "p", list(cells[["image", "case", "called"]].itertuples(index=False)))
    made = compare(folder, write_table(tmp_path, cells[["image", "label"]]), num_resamples=50)
    assert made.methods["slope"].isna().all() and len(made.agreement) == 2
    assert (made.folder / "comparison.html").exists()


def test_the_page_holds_the_figures_and_says_research_use(tmp_path, folder, cells):
    made = compare(folder, write_table(tmp_path, cells[["image", "label"]]), num_resamples=50)
    page = (made.folder / "comparison.html").read_text()
    assert page.count("<svg") == 2 and "Research use only. Not for diagnostic use." in page
    assert "http" not in page.replace("http://www.w3.org", "")
    for name in ("agreement", "per_class", "methods", "shares"):
        assert len(pd.read_csv(made.folder / f"{name}.csv")) == len(getattr(made, name))


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("image,colour\na.png,red\n", "colour"),
        ("case,SNE,LY\ncase0,-1,4\n", "-1"),
        ("case,SNE,LY\ncase0,many,4\n", "many"),
        ("case,SNE,LY\ncase0,0,0\n", "case0"),
        ("case,SNE,LY\ncase0,5,5\ncase0,5,5\n", "case0"),
        ("case,SNE,LY\nelsewhere,5,5\n", "elsewhere"),
        ("image,label\nelsewhere.png,LY\n", "elsewhere.png"),
        ("image,label\n", "odd"),
        ("case,SNE,LY\n", "odd"),
        ("image,label\ncase0/cell_1.png,\ncase0/cell_2.png,unidentified\n", "label"),
        ("case,SNE,LY\ncase0,5,5\n,5,5\n", "line 3"),
        ("case,SNE,LY\ncase0,1e308,5\n", "1e308"),
    ],
)
def test_references_that_cannot_be_used_are_refused(tmp_path, folder, content, named):
    (tmp_path / "odd.csv").write_text(content)
    with pytest.raises(DataError, match=named):
        compare(folder, tmp_path / "odd.csv")
    assert not (folder / "comparison").exists()


def test_a_folder_of_the_users_is_not_written_to(tmp_path, folder, cells):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("x")
    with pytest.raises(StorageError):
        compare(folder, write_counts(tmp_path, cells), out=tmp_path / "mine")


def test_a_case_of_which_nothing_has_a_class_is_compared_cell_by_cell(tmp_path):
    folder = write_predictions(tmp_path / "p", [(f"{i}.png", "A", "unidentified") for i in range(3)])
    (tmp_path / "labels.csv").write_text("image,label\n0.png,LY\n1.png,SNE\n2.png,LY\n")
    made = compare(folder, tmp_path / "labels.csv", num_resamples=50)
    assert made.shares.empty and made.methods.empty
    assert made.per_class["sensitivity"].tolist() == [0, 0]
    assert "Research use only" in str(made)


def test_cells_that_the_person_did_not_name_are_left_out(tmp_path, folder, cells):
    theirs = cells[["image", "label"]].copy()
    theirs.loc[:9, "label"] = "unidentified"
    theirs.loc[10:11, "label"] = ""
    made = compare(folder, write_table(tmp_path, theirs), num_resamples=20)
    assert made.per_class["cells"].sum() == len(cells) - 12
    assert any(note.startswith("12 ") for note in made.notes)


def test_tables_of_an_earlier_comparison_do_not_stay(tmp_path, folder, cells):
    made = compare(folder, write_table(tmp_path, cells[["image", "label"]]), num_resamples=20)
    assert (made.folder / "agreement.csv").exists()
    compare(folder, write_counts(tmp_path, cells))
    assert not (made.folder / "agreement.csv").exists() and not (made.folder / "per_class.csv").exists()


def test_a_laboratorys_own_labels_are_the_runs(tmp_path):
    classes = ("Lymphocytes", "neutrophil", "odd cell")
    pairs = [("Lymphocytes", "lymphocyte"), ("neutrophil", "Neutrophils"), ("odd cell", "odd cell")] * 4
    cells = [(f"{i}.png", "A", called) for i, (called, _) in enumerate(pairs)]
    folder = write_predictions(tmp_path / "p", cells, classes)
    table = pd.DataFrame([(image, label) for (image, _, _), (_, label) in zip(cells, pairs, strict=True)])
    made = compare(folder, write_table(tmp_path, table.set_axis(["image", "label"], axis=1)), num_resamples=20)
    assert set(made.per_class["code"]) == set(classes)
    assert made.agreement["value"].tolist() == [1, 1]
