"""A drawn study, end to end: what is no cell of ours is unidentified, with a reason, in every output."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from helpers.pictures import draw_pictures
from nonet.artifacts.ensemble_file import EnsembleFile
from nonet.artifacts.run import Run
from nonet.calibration.calibrate import calibrate
from nonet.data.build import build_dataset
from nonet.errors import DataError, RunError
from nonet.inference.ensemble import Ensemble
from nonet.inference.load import load
from nonet.inference.predict import predict
from nonet.models.tensors import to_device
from nonet.recipe import load_recipe
from nonet.report.evaluate import evaluate
from nonet.training.launch import train

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def run(tmp_path_factory, make_recipe):
    """240 pictures of three classes and 24 patients, and what two small networks learned of them."""
    folder = tmp_path_factory.mktemp("rejection")
    table = draw_pictures(folder / "pictures", {"EO": 80, "LY": 80, "SNE": 80}, num_patients=24)
    dataset = build_dataset(f"csv:{table}", folder / "dataset")
    settings = ("train.epochs=4", "calibrate.min_confidence=0")
    return train(make_recipe(*settings), dataset, out=folder / "run", accelerator="cpu")


@pytest.fixture(scope="module")
def strange(tmp_path_factory):
    """Images that no class of these is: noise, plain colours, an empty field."""
    folder, rng = tmp_path_factory.mktemp("strange"), np.random.default_rng(0)
    images = {
        "noise": rng.integers(0, 256, (24, 24, 3)),
        "green": np.full((24, 24, 3), (20, 200, 40)),
        "black": np.zeros((24, 24, 3)),
        "empty": (215 + rng.normal(0, 12, (24, 24, 3))).clip(0, 255),
    }
    for name, pixels in images.items():
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Pictures of the run's classes that it never saw."""
    folder = tmp_path_factory.mktemp("drawn")
    draw_pictures(folder, {"EO": 20, "LY": 20, "SNE": 20}, seed=1)
    return folder


def test_what_is_not_a_cell_is_unidentified_and_drawn_cells_mostly_are_not(run, strange, drawn, tmp_path):
    table = predict(run, [strange, drawn], out=tmp_path / "out").table()
    is_strange = table["image"].str.contains(strange.name)
    assert (table.loc[is_strange, "label"] == "unidentified").all(), table[is_strange]
    assert (table.loc[is_strange, "reason"] == "unknown cell type").all()
    assert (table.loc[is_strange, "set"] == "").all()
    assert table.loc[is_strange, "best"].isin(["EO", "LY", "SNE"]).all()  # for the challenge
    assert (table.loc[~is_strange, "label"] == "unidentified").mean() < 0.2
    assert table["ood_percentile"].between(0, 1).all()
    kept = json.loads(run.ensemble.read_text())["rejection"]
    assert ((table["ood_percentile"] > 1 - kept["false_alarm"]) == (table["reason"] == "unknown cell type")).all()


def test_python_says_the_same(run, strange, drawn, tmp_path):
    paths = [*sorted(strange.glob("*.png")), *sorted(drawn.rglob("*.png"))[::6]]
    table = predict(run, paths, out=tmp_path / "out").table()
    ensemble = load(run, accelerator="cpu")
    assert ensemble.predict(paths) == table["label"].tolist()
    assert "unidentified" not in ensemble.predict(paths, best=True)
    assert np.allclose(ensemble.predict_ood(paths), table["ood_percentile"], atol=1e-5)
    sets = ensemble.predict_set(paths)
    assert [not one for one in sets] == (table["reason"] == "unknown cell type").tolist()


def test_out_of_distribution_percentiles_depend_on_neither_views_nor_company(run, drawn):
    ensemble, paths = load(run, accelerator="cpu"), sorted(drawn.rglob("*.png"))[:5]
    alone = np.concatenate([ensemble.predict_ood([path]) for path in paths])
    assert np.allclose(ensemble.predict_ood(paths), alone, atol=1e-4)
    by_views = [ensemble._predict(paths, views)[1] for views in ("none", "dihedral")]
    assert np.allclose(*by_views, atol=1e-4)


def test_the_mix_of_a_sample_is_that_of_its_known_cells(run, drawn, tmp_path):
    """Rejected images are no cells of any class: 60 more of them change nothing of the priors that are estimated."""
    noise, rng = tmp_path / "noise", np.random.default_rng(1)
    noise.mkdir()
    for i in range(60):
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(noise / f"{i}.png")
    alone = predict(run, drawn, out=tmp_path / "alone", adapt_priors=True)
    among = predict(run, [noise, drawn], out=tmp_path / "among", adapt_priors=True)
    assert (among.table()["reason"] == "unknown cell type").sum() >= 60
    priors = [json.loads((one.folder / "plan.json").read_text())["class_priors"] for one in (alone, among)]
    assert priors[0] == pytest.approx(priors[1], abs=1e-3)
    few = sorted(drawn.rglob("*.png"))[:10]
    with pytest.raises(DataError, match=r"\b50\b.*\b7\d\b.*\b0\b.*\b6\d\b"):
        predict(run, [noise, *few], out=tmp_path / "few", adapt_priors=True)
    assert len(predict(run, [noise, *few], out=tmp_path / "few").table()) == 70


def test_half_precision_rejects_what_single_does(run, strange, drawn):
    """Out-of-distribution scores are computed in single precision, so that it does not depend on the machine's."""
    paths = [*sorted(strange.glob("*.png")), *sorted(drawn.rglob("*.png"))]
    single = load(run, accelerator="cpu", backend="torch")
    recipe = load_recipe(single.recipe, ["train.precision=bf16-mixed"])
    half = Ensemble(run, recipe, EnsembleFile.read(run), accelerator="cpu", backend="torch")
    percentile, of_half = single.predict_ood(paths), half.predict_ood(paths)
    np.testing.assert_allclose(of_half, percentile, atol=1e-3)
    assert (single.rejection.rejects(percentile) != half.rejection.rejects(of_half)).sum() <= 1
    logits, of_half = single.predict_logits(paths), half.predict_logits(paths)
    assert np.abs(logits - of_half).max() > 1e-4  # the networks do run in half precision


def test_held_out_scores_are_the_members_own_beside_other_patients(run):
    """The column `ood_score` of oof.parquet is what the member, loaded again, says of its held-out images together."""
    ensemble = load(run, accelerator="cpu", backend="torch")
    manifest = pd.read_parquet(run.manifest).set_index("image_id")["path"]
    for member, (_, oof) in zip(ensemble.members, pd.read_parquet(run.oof).query("view_set == 'none'").groupby("fold")):
        prepared = [ensemble.prepare(run.folder.parent / "pictures" / manifest[name]) for name in oof["image_id"]]
        pixels = to_device(np.stack([one[member.crop] for one in prepared]), torch.device("cpu"))
        features = member.network.module.features(pixels).numpy()
        expected = member.ood.score_held_out(features, oof["patient"].to_numpy(dtype=str))
        np.testing.assert_allclose(oof["ood_score"], expected, atol=1e-3)


def test_the_evaluation_says_what_it_costs(run):
    evaluate(run, num_resamples=50)
    table = pd.read_csv(run.evaluation / "rejection.csv").set_index("class")
    assert table.loc["all", "images"] == 240
    assert table.loc["all", "rejected"] == table["rejected"].drop("all").sum()
    assert table.loc["all", "share"] < 0.15
    report = (run.evaluation / "report.html").read_text(encoding="utf-8")
    assert 'id="rejection"' in report and "unknown cell type" in report


def test_the_share_to_be_rejected_can_be_changed(run, drawn, tmp_path):
    copy = Run(shutil.copytree(run.folder, tmp_path / "run"))
    rejected = {}
    for false_alarm in (0, 0.02, 0.3):
        calibrate(copy, settings=[f"calibrate.false_alarm={false_alarm}"])
        table = predict(copy, drawn, out=tmp_path / f"out-{false_alarm}").table()
        rejected[false_alarm] = (table["reason"] == "unknown cell type").mean()
    assert rejected[0] == 0
    assert rejected[0] <= rejected[0.02] < rejected[0.3]


def test_a_copy_that_lacks_a_members_file_is_refused(run, tmp_path):
    copy = Run(shutil.copytree(run.folder, tmp_path / "run"))
    copy.member("vit_mini", 1).ood.unlink()
    with pytest.raises(RunError, match=r"fold-1.ood\.npz"):
        load(copy, accelerator="cpu")


def test_an_edited_ensemble_json_is_checked(run, tmp_path):
    copy = Run(shutil.copytree(run.folder, tmp_path / "run"))
    kept = json.loads(copy.ensemble.read_text())
    copy.ensemble.write_text(json.dumps(kept | {"rejection": kept["rejection"] | {"false_alarm": "few"}}))
    with pytest.raises(RunError, match="false_alarm"):
        load(copy, accelerator="cpu")
