"""Unknown cell types teach rejection, and nothing else; each member learns from patients that it does not hold out."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from helpers.pictures import draw_pictures
from helpers.runs import require_same_weights
from nonet.artifacts.oof import read_oof
from nonet.artifacts.run import Run
from nonet.calibration.ood import MemberScore, fit_rejection
from nonet.data.build import build_dataset
from nonet.data.unknown_types import divide_unknown
from nonet.errors import DamagedError
from nonet.evaluation.run_data import read_run
from nonet.evaluation.unknown import measure_unknown, read_unknown
from nonet.inference.load import load
from nonet.inference.predict import predict
from nonet.report.evaluate import evaluate
from nonet.training.launch import train

pytestmark = pytest.mark.training

COUNTS = {"EO": 40, "LY": 100, "SNE": 100, "ERB": 60}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return draw_pictures(tmp_path_factory.mktemp("pictures"), COUNTS, num_patients=20)


@pytest.fixture(scope="module")
def runs(table, make_recipe, tmp_path_factory):
    """With and without what the unknown cells teach."""
    folder = tmp_path_factory.mktemp("unknown")
    recipe = make_recipe("models.refit_head=true")
    trained = {}
    for name in ("kept", "none"):
        unknown = None if name == "kept" else "none"
        dataset = build_dataset(f"csv:{table}", folder / f"{name}-dataset", classes=["13"], unknown=unknown)
        trained[name] = train(recipe, dataset, out=folder / name, accelerator="cpu")
    return trained


def test_no_class_changes(runs):
    require_same_weights(runs["kept"], runs["none"])
    one, other = (read_oof(runs[name].oof).drop(columns="ood_score") for name in ("kept", "none"))
    pd.testing.assert_frame_equal(one, other)
    assert not list(runs["none"].folder.rglob("unknown.parquet"))


def test_each_member_scores_the_patients_that_it_holds_out(runs):
    run = runs["kept"]
    manifest, folds = pd.read_parquet(run.manifest), pd.read_csv(run.folds)
    expected = divide_unknown(manifest, folds)
    seen = []
    for fold in (0, 1):
        member = run.member("vit_mini", fold)
        scored = pd.read_parquet(member.unknown)
        assert set(scored["image_id"]) == set(expected.loc[expected["fold"] == fold, "image_id"])
        assert MemberScore.read(member.ood).head is not None
        seen.append(scored)
    assert sum(map(len, seen)) == COUNTS["ERB"]


def test_what_is_held_out_is_not_learned_from(runs, table, make_recipe, tmp_path):
    """With other pictures of the unknown cells that fold 0 holds out, its score is the same, and fold 1's is not."""
    run = runs["kept"]
    held_out = pd.read_parquet(run.member("vit_mini", 0).unknown)["image_id"].str.split("/", n=1).str[1]
    changed = draw_pictures(tmp_path / "pictures", COUNTS, num_patients=20)
    other = draw_pictures(tmp_path / "other", {"ERB": COUNTS["ERB"]}, num_patients=20, seed=5)
    for path in held_out:
        (changed.parent / path).write_bytes((other.parent / path).read_bytes())
    dataset = build_dataset(f"csv:{changed}", tmp_path / "dataset", classes=["13"])
    again = train(make_recipe("models.refit_head=true"), dataset, out=tmp_path / "run", accelerator="cpu")
    heads = [
        [MemberScore.read(one.member("vit_mini", fold).ood).head.weight for one in (run, again)] for fold in (0, 1)
    ]
    np.testing.assert_array_equal(*heads[0])
    assert not np.array_equal(*heads[1])


def test_too_few_teach_nothing(table, make_recipe, tmp_path):
    few = draw_pictures(tmp_path / "pictures", COUNTS | {"ERB": 8}, num_patients=20)
    dataset = build_dataset(f"csv:{few}", tmp_path / "dataset", classes=["13"])
    run = train(make_recipe("models.refit_head=true"), dataset, out=tmp_path / "run", accelerator="cpu")
    assert MemberScore.read(run.member("vit_mini", 0).ood).head is None
    assert run.member("vit_mini", 0).unknown.exists()  # how many are found is measured all the same


def test_all_members_learn_or_none_does(make_recipe, tmp_path):
    """Scores of members that learned are not comparable with those of others."""
    table = draw_pictures(tmp_path / "pictures", COUNTS, num_patients=20)
    rows = pd.read_csv(table)
    rows.loc[rows["label"] == "ERB", "patient"] = "P0"
    rows.to_csv(table, index=False)
    dataset = build_dataset(f"csv:{table}", tmp_path / "dataset", classes=["13"])
    run = train(make_recipe("models.refit_head=true"), dataset, out=tmp_path / "run", accelerator="cpu")
    assert all(MemberScore.read(run.member("vit_mini", fold).ood).head is None for fold in (0, 1))


def test_what_is_found_is_measured_with_thresholds_of_the_other_folds(runs, without_drawings):
    run = runs["kept"]
    data = read_run(run)
    unknown = read_unknown(run, data.ensemble, data.done)
    measured = measure_unknown(unknown, data.oof, 0.02).set_index("type")
    score = unknown["ood_score"].to_numpy()
    found = 0
    for fold in (0, 1):
        others = data.oof.fold != fold
        fitted = fit_rejection(
            data.oof.ood_score[others], data.oof.group[others], data.oof.fold[others], false_alarm=0.02
        )
        found += int((fitted.percentile(score[unknown["fold"] == fold]) > 0.98).sum())
    assert measured.loc["ERB", "images"] == COUNTS["ERB"] and measured.loc["ERB", "rejected"] == found
    labels = np.repeat([0, 1], [len(data.oof.true), len(unknown)])
    expected = roc_auc_score(labels, np.concatenate([data.oof.ood_score, score]))
    assert measured.loc["all", "auroc"] == pytest.approx(expected)
    evaluate(run, num_resamples=50)
    written = pd.read_csv(run.evaluation / "unknown_types.csv").set_index("type")
    assert written.loc["ERB", "rejected"] == found
    assert "erythroblast" in (run.evaluation / "report.html").read_text()
    assert "ERB 60" in (run.evaluation / "datasheet.md").read_text()
    assert data.oof.ood_score is not None and (read_run(runs["none"]).oof.ood_score != data.oof.ood_score).any()


def test_a_damaged_or_missing_table_is_noticed_and_made_again(runs, table, make_recipe, tmp_path):
    for number, damage in enumerate((Path.unlink, lambda file: file.write_bytes(file.read_bytes()[:300]))):
        run = Run(shutil.copytree(runs["kept"].folder, tmp_path / f"run {number}"))
        file = run.member("vit_mini", 0).unknown
        before = file.read_bytes()
        damage(file)
        with pytest.raises(DamagedError, match=r"unknown\.parquet") as caught:
            evaluate(run, num_resamples=50)
        assert "nonet train" in caught.value.hint
        dataset = runs["kept"].folder.parent / "kept-dataset"
        train(make_recipe("models.refit_head=true"), dataset, out=run, accelerator="cpu")
        assert file.read_bytes() == before


def test_unknown_cells_of_new_patients_stand_out_more_by_what_was_learned_from_others(runs, tmp_path):
    new = draw_pictures(tmp_path / "new", {"ERB": 40, "LY": 40, "SNE": 40}, num_patients=10, seed=9).parent
    auroc = {}
    for name, run in runs.items():
        ensemble = load(run, accelerator="cpu", backend="torch")
        known, unknown = (
            ensemble.predict_ood(sorted(path for code in codes for path in (new / code).iterdir()))
            for codes in (("LY", "SNE"), ("ERB",))
        )
        auroc[name] = roc_auc_score(np.repeat([0, 1], [80, 40]), np.concatenate([known, unknown]))
    assert auroc["kept"] > auroc["none"]


def test_a_prediction_says_unknown_cell_type(runs, table, tmp_path):
    done = predict(runs["kept"], sorted((table.parent / "ERB").iterdir()), out=tmp_path / "out", accelerator="cpu")
    reasons = pd.read_csv(done.folder / "predictions.csv")["reason"].value_counts()
    assert reasons.get("unknown cell type", 0) > 20
