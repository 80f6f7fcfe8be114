"""External images that are held out, too: no score counts them, and what is said of all images held out is right."""

import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix, f1_score

from helpers.layouts import draw
from helpers.run_folders import make_run
from helpers.sealing import seal
from nonet.artifacts.run import Run
from nonet.calibration.calibrate import calibrate
from nonet.cells import CELLS, GRANULOCYTE_STAGES, in_order_of_maturation
from nonet.errors import RunError
from nonet.evaluation.mistakes import PLACES, get_place, mistakes_in_words
from nonet.report.evaluate import evaluate

pytestmark = pytest.mark.slow

FAST = {"num_resamples": 50}


def hold_out_external(folder, seed=5):
    """Give the external images of `make_run` folds, and out-of-fold logits of their own by every architecture."""
    rng = np.random.default_rng(seed)
    manifest, oof = pd.read_parquet(folder / "manifest.parquet"), pd.read_parquet(folder / "oof.parquet")
    folds = pd.read_csv(folder / "folds.csv")
    external = manifest[~manifest["evaluate"]].reset_index(drop=True)
    fold = np.arange(len(external)) % 3
    folds.loc[folds["fold"].isna(), "fold"] = fold
    folds.astype({"fold": "Int64"}).to_csv(folder / "folds.csv", index=False)
    columns = [column for column in oof if column.startswith("logit_")]
    parts = [oof]
    for architecture, views in oof[["architecture", "view_set"]].drop_duplicates().itertuples(index=False):
        logits = pd.DataFrame(rng.normal(0, 2, (len(external), len(columns))), columns=columns)
        part = external[["image_id", "label", "patient", "source"]]
        parts.append(part.assign(fold=fold, architecture=architecture, view_set=views).join(logits))
    pd.concat(parts).sample(frac=1, random_state=1).to_parquet(folder / "oof.parquet", index=False)
    seal(folder)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same run without and with its external images held out, both evaluated."""
    folder = tmp_path_factory.mktemp("expanded")
    plain = make_run(folder / "plain")
    held = hold_out_external(shutil.copytree(plain, folder / "held"))
    return plain, held, evaluate(plain, **FAST), evaluate(held, **FAST)


def mean_logits(folder):
    """image_id → label, evaluate and the mean logits over architectures with views, by pandas alone."""
    oof, manifest = pd.read_parquet(folder / "oof.parquet"), pd.read_parquet(folder / "manifest.parquet")
    columns = [column for column in oof if column.startswith("logit_")]
    mean = oof[oof["view_set"] == "dihedral"].groupby("image_id")[columns].mean()
    mean["predicted"] = [columns[k].removeprefix("logit_") for k in mean[columns].to_numpy().argmax(axis=1)]
    return mean.join(manifest.set_index("image_id")[["label", "evaluate"]])


def test_scores_intervals_and_issues_are_of_evaluated_images_alone(runs):
    plain, held, table, held_table = runs
    pd.testing.assert_frame_equal(held_table, table)
    for name in ("per_class.csv", "confusion.csv", "mistakes.csv", "rejection.csv", "issues.csv", "coverage.csv"):
        files = [run / "evaluation" / name for run in (plain, held)]
        assert files[0].exists() == files[1].exists()
        assert not files[0].exists() or files[0].read_bytes() == files[1].read_bytes(), name
    scored = mean_logits(held).query("evaluate")
    row = held_table[(held_table["architecture"] == "ensemble") & (held_table["views"] == "dihedral")].iloc[0]
    assert row["images"] == len(scored) == 600
    assert row["macro_f1"] == pytest.approx(f1_score(scored["label"], scored["predicted"], average="macro"))


def test_all_images_held_out_are_counted_beside_the_scores(runs):
    plain, held, _, _ = runs
    assert not (plain / "evaluation" / "expanded_confusion.csv").exists()
    images = mean_logits(held)
    found = pd.read_csv(held / "evaluation" / "expanded_confusion.csv", index_col="true")
    order = in_order_of_maturation(set(images["label"]))
    assert list(found.index) == list(found.columns) == order
    assert (found.to_numpy() == confusion_matrix(images["label"], images["predicted"], labels=order)).all()
    assert found.to_numpy().sum() == 680

    ensemble = pd.read_csv(held / "evaluation" / "expanded_mistakes.csv").iloc[-1]
    wrong = images[images["label"] != images["predicted"]]
    assert (ensemble["images"], ensemble["mistakes"]) == (680, len(wrong))
    stages = wrong["label"].isin(GRANULOCYTE_STAGES) & wrong["predicted"].isin(GRANULOCYTE_STAGES)
    lineage = {code: cell.lineage for code, cell in CELLS.items()}
    same = wrong["label"].map(lineage) == wrong["predicted"].map(lineage)
    lymphocytes = wrong["label"].map(lineage) == "lymphopoiesis"
    assert ensemble["stages"] == stages.sum()
    assert ensemble["lymphopoiesis"] == (same & lymphocytes).sum()
    assert ensemble["granulopoiesis"] == (same & ~lymphocytes & ~stages).sum()
    assert ensemble["between"] == (~same).sum()
    external = wrong["evaluate"].eq(False).sum()
    html = (held / "evaluation" / "report.html").read_text()
    assert "80 of 680 images held out are external" in html
    assert f"gets {len(wrong)} wrong, {external} of them external" in html


def test_mistakes_of_each_group_of_models_are_those_of_its_logits(runs):
    _, held, _, _ = runs
    oof, manifest = pd.read_parquet(held / "oof.parquet"), pd.read_parquet(held / "manifest.parquet")
    oof = oof[oof["image_id"].isin(manifest.loc[manifest["evaluate"], "image_id"])]
    table = pd.read_csv(held / "evaluation" / "mistakes.csv").set_index("architecture")
    assert (table[list(PLACES)].sum(axis=1) == table["mistakes"]).all()
    columns = [column for column in oof if column.startswith("logit_")]
    wrong = {}
    for architecture, rows in oof[oof["view_set"] == "dihedral"].groupby("architecture"):
        rows = rows.sort_values("image_id")
        predicted = np.array(columns)[rows[columns].to_numpy().argmax(axis=1)]
        wrong[architecture] = predicted != "logit_" + rows["label"].to_numpy()
        assert table.loc[architecture, "mistakes"] == wrong[architecture].sum()
    assert (table["wrong_in_all"] == np.all(list(wrong.values()), axis=0).sum()).all()


@pytest.mark.parametrize(
    ("true", "predicted", "place"),
    [
        ("MY", "MY", None),
        ("PMY", "SNE", "stages"),
        ("EO", "SNE", "granulopoiesis"),
        ("BA", "EO", "granulopoiesis"),
        ("LY", "PC", "lymphopoiesis"),
        ("LY", "MO", "between"),
        ("BL", "PMY", "between"),
        ("smudge", "giant", "between"),
    ],
)
def test_place_of_a_mistake(true, predicted, place):
    assert get_place(true, predicted) == place


def test_no_mistake_is_said_as_such():
    none = {"mistakes": 0, "images": 9, "wrong_in_all": 0} | dict.fromkeys(PLACES, 0)
    assert mistakes_in_words(pd.DataFrame([none, none, none])) == "The ensemble makes no mistakes."


def test_calibration_is_fitted_on_evaluated_images_alone(runs, tmp_path):
    """Temperature and thresholds do not move where external images are held out, whatever is predicted of them."""
    fitted = []
    for number, run in enumerate(runs[:2]):
        copied = Run(shutil.copytree(run, tmp_path / str(number)))
        text = copied.recipe.read_text() + '[predict]\nviews = "dihedral"\n'
        copied.recipe.write_text(text)
        pd.read_parquet(copied.oof).assign(ood_score=0.0, nucleus=True).to_parquet(copied.oof)
        fitted.append(calibrate(seal(copied)))
    assert fitted[0].temperature == fitted[1].temperature != 1
    np.testing.assert_array_equal(fitted[0].thresholds, fitted[1].thresholds)


def test_external_image_without_logits_is_an_error_where_it_was_to_be_held_out(runs, tmp_path):
    run = shutil.copytree(runs[1], tmp_path / "run")
    oof = pd.read_parquet(run / "oof.parquet")
    gone = pd.read_parquet(run / "manifest.parquet").query("~evaluate")["image_id"].iloc[3]
    oof[oof["image_id"] != gone].to_parquet(run / "oof.parquet")
    seal(run)
    with pytest.raises(RunError, match=f"1 of 80 .* {gone}"):
        evaluate(run, **FAST)


def test_folds_of_external_images_are_made_from_the_command_line(tmp_path, nonet):
    lines = ["path,label,patient,source"]
    for i in range(24):
        draw(tmp_path / f"{i}.png")
        source = "ours" if i % 4 else "theirs"
        lines.append(f"{i}.png,{'LY' if i % 3 else 'MO'},{source}-{i % 12},{source}")
    (tmp_path / "cells.csv").write_text("\n".join(lines) + "\n")
    dataset = tmp_path / "dataset"
    status, _, err = nonet("data", "build", f"csv:{tmp_path / 'cells.csv'}", "--external", "theirs", "--out", dataset)
    assert status == 0, err
    for words, num_held_out in (([], 18), (["--hold-out-external"], 24)):
        status, _, err = nonet("data", "folds", dataset, *words)
        assert status == 0, err
        folds = pd.read_csv(dataset / "folds.csv")
        assert folds["fold"].notna().sum() == num_held_out and len(folds) == 24
        (dataset / "folds.csv").unlink()
