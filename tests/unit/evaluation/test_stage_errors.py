"""The signed stage error: known answers, direction, what is left out, and its place in report, card and tables."""

import re

import numpy as np
import pandas as pd
import pytest

from helpers.pages import visible_text
from helpers.run_folders import make_run
from helpers.sealing import seal
from nonet.cells import GRANULOCYTE_STAGES
from nonet.evaluation.bootstrap import Bootstrap
from nonet.evaluation.not_measured import NotMeasured
from nonet.evaluation.oof import align_oof
from nonet.evaluation.stage_errors import measure_stage_errors, stage_errors
from nonet.report.evaluate import evaluate

FEW_RESAMPLES = Bootstrap(200)
CLASSES = ["BNE", "LY", "MMY", "MY", "PMY", "SNE"]


def measured(true, predicted, patient=None, classes=CLASSES, bootstrap=FEW_RESAMPLES):
    """Measure cells given by the codes of their true and predicted class, each its own patient by default."""
    num = len(true)
    table = pd.DataFrame(
        {
            "image_id": [f"{i:06d}" for i in range(num)],
            "label": true,
            "patient": [f"P{i}" for i in range(num)] if patient is None else patient,
            "fold": np.arange(num) % 2,
            "architecture": "vit_mini",
            "view_set": "none",
        }
    )
    logits = pd.DataFrame(np.eye(len(classes)), index=classes).loc[predicted].to_numpy()
    oof = align_oof(table.join(pd.DataFrame(logits, columns=[f"logit_{code}" for code in classes])), classes)
    return measure_stage_errors(oof, oof.final_logits.argmax(axis=1), bootstrap)


def test_every_pair_of_stages_has_its_steps():
    true, predicted = (side.ravel() for side in np.mgrid[:5, :5])
    steps = stage_errors(true, predicted, GRANULOCYTE_STAGES)
    assert steps.tolist() == (predicted - true).tolist()
    assert steps[true == 0].min() == 0 and steps[true == 4].max() == 0


def test_known_answer_over_all_and_by_true_stage():
    true = ["SNE", "SNE", "SNE", "MMY", "PMY", "MY"]
    said = ["BNE", "MMY", "SNE", "BNE", "SNE", "MY"]  # −1, −2, 0, +1, +4 and 0 steps
    other_true, other_said = ["SNE", "MY", "LY", "LY"], ["LY", "LY", "LY", "SNE"]  # not of two stages
    table = measured(true + other_true, said + other_said).set_index("class")
    assert table.index.tolist() == ["all", *GRANULOCYTE_STAGES]
    assert table["images"].tolist() == [6, 1, 1, 1, 0, 3]
    assert table["other_class"].tolist() == [2, 0, 1, 0, 0, 1]
    assert table["signed_error"].tolist() == pytest.approx([2 / 6, 4, 0, 1, np.nan, -1], nan_ok=True)
    assert table["absolute_error"].tolist() == pytest.approx([8 / 6, 4, 0, 1, np.nan, 1], nan_ok=True)


def test_steps_are_counted_over_stages_that_the_run_lacks():
    table = measured(["MY", "SNE"], ["BNE", "MY"], classes=["BNE", "LY", "MY", "SNE"]).set_index("class")
    assert table.index.tolist() == ["all", "MY", "BNE", "SNE"]
    assert table.loc["MY", "signed_error"] == 2 and table.loc["SNE", "signed_error"] == -3


def test_intervals_enclose_the_error_and_are_those_of_whole_patients():
    """All cells of a patient are called alike: 20 patients say far less than 1,000 cells."""
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(20), 50)
    said = np.where(rng.random(20) < 0.4, "BNE", "SNE")[patient]
    rows = [measured(["SNE"] * 1000, said, of).iloc[0] for of in ([f"P{p}" for p in patient], None)]
    for row in rows:
        assert row["signed_error_low"] < row["signed_error"] == -(said == "BNE").mean() < row["signed_error_high"] < 0
        assert row["absolute_error_low"] == -row["signed_error_high"]
    widths = [row["signed_error_high"] - row["signed_error_low"] for row in rows]
    assert widths[0] > 3 * widths[1]
    assert [row["groups"] for row in rows] == [20, 1000]


def test_one_patient_has_no_interval():
    table = measured(["SNE", "SNE", "MY"], ["BNE", "SNE", "LY"], ["P1", "P1", "P2"]).set_index("class")
    assert table.loc["SNE", "signed_error"] == -0.5
    assert table[["signed_error_low", "absolute_error_high"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("true", "said", "classes", "why"),
    [
        (["LY", "SNE"], ["SNE", "SNE"], ["LY", "SNE"], "fewer than two"),
        (["MY", "SNE"], ["LY", "LY"], ["LY", "MY", "SNE"], "no cell"),
        (["neutrophil"], ["neutrophil"], ["LY", "neutrophil"], "fewer than two"),
    ],
)
def test_too_few_stages_or_cells_are_not_measured(true, said, classes, why):
    found = measured(true, said, classes=classes)
    assert isinstance(found, NotMeasured) and why in found.reason


def evaluated(folder, said, classes=("LY", "MMY", "SNE")):
    """Evaluate a run that calls every MMY correctly and each SNE `said` of its patient's number; return its folder."""
    run = make_run(folder / "run", classes=classes, num_patients=30)
    oof = pd.read_parquet(run / "oof.parquet")
    codes = np.where(oof["label"] == "SNE", oof["patient"].str[1:].astype(int).map(said), oof["label"])
    for code in classes:
        oof[f"logit_{code}"] = np.where(codes == code, 9.0, 0.0)
    oof.to_parquet(run / "oof.parquet")
    seal(run)
    evaluate(run, num_resamples=50)
    return run / "evaluation"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (lambda patient: "MMY" if patient % 3 == 0 else "SNE", r"called (\d\.\d\d) steps too early on average"),
        (lambda patient: "MMY" if patient == 0 else "SNE", r"neither significantly .*: (\d\.\d\d) steps too early"),
        (lambda patient: "SNE", r"No stage is called too early or too late"),
    ],
)
def test_report_card_and_table_agree(tmp_path, said, words):
    folder = evaluated(tmp_path, said)
    table = pd.read_csv(folder / "stage_errors.csv").set_index("class")
    row, share = table.loc["all"], table.loc["SNE", "images"] / table.loc["all", "images"]
    report, card = visible_text((folder / "report.html").read_text()), (folder / "model_card.md").read_text()
    found = re.search(words, report)
    assert found and re.search(words, card)
    assert [f"{-row['signed_error']:.2f}"][: len(found.groups())] == list(found.groups())
    assert f"{row['images']:,} cells" in report
    assert (f"{100 * share:.0f} % of these cells are SNE" in report) == (row["absolute_error"] > 0)
    assert report.count("Signed stage error") == 1


@pytest.mark.slow
def test_a_run_without_stages_has_no_table_even_of_an_earlier_evaluation(tmp_path):
    run = make_run(tmp_path / "run", classes=["EO", "LY", "SNE"], num_images=200)
    (run / "evaluation").mkdir()
    (run / "evaluation" / "stage_errors.csv").write_text("old")
    evaluate(run, num_resamples=20)
    assert not (run / "evaluation" / "stage_errors.csv").exists()
    report = visible_text((run / "evaluation" / "report.html").read_text())
    assert "fewer than two of the stages" in report and "Signed stage error" not in report
