"""Refitted heads, against scikit-learn's own probabilities."""

import shutil

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from scipy.special import softmax
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import nonet
from helpers.pictures import draw_pictures
from nonet.data.build import build_dataset
from nonet.evaluation.run_data import read_run
from nonet.recipe import load_recipe
from nonet.training import outcome as outcome_module
from nonet.training.ensemble import trained_priors
from nonet.training.features import compute_features
from nonet.training.launch import train
from nonet.training.refit import C_OF_STAGES, C, fit_linear_head


def drawn(num_classes, *, first=120):
    """Twenty features of overlapping classes, ever fewer of each: training features and labels, and others to ask."""
    counts = [first // (k + 1) for k in range(num_classes)]
    options = {"n_features": 20, "n_informative": 10, "n_classes": num_classes, "n_clusters_per_class": 1}
    features, labels = make_classification(2000, class_sep=0.7, random_state=0, **options)
    chosen = np.concatenate([np.flatnonzero(labels == k)[:count] for k, count in enumerate(counts)])
    return features[chosen].astype(np.float32), labels[chosen], features.astype(np.float32)


def apply_head(head, features):
    weight, bias = head
    return features.astype(np.float64) @ weight.T + bias


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_it_is_scikit_learns_balanced_logistic_regression_of_standardised_features(num_classes):
    features, labels, queries = drawn(num_classes)
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000))
    expected = reference.fit(features, labels).predict_proba(queries)
    result = softmax(apply_head(fit_linear_head(features, labels, num_classes, c=0.1), queries), axis=-1)
    np.testing.assert_allclose(result, expected, atol=2e-4)
    assert np.ptp(expected) > 0.1


def test_an_image_of_twice_the_weight_counts_as_two_of_its_class():
    features, labels, queries = drawn(3)
    weights = np.where(np.arange(len(labels)) % 2, 2.0, 1.0)
    twice = np.repeat(np.arange(len(labels)), weights.astype(int))
    expected = apply_head(fit_linear_head(features[twice], labels[twice], 3, c=0.1 * len(labels) / len(twice)), queries)
    result = apply_head(fit_linear_head(features, labels, 3, weights=weights, c=0.1), queries)
    np.testing.assert_allclose(result, expected, atol=5e-3)
    unweighted = apply_head(fit_linear_head(features, labels, 3, c=0.1), queries)
    assert np.abs(unweighted - expected).max() > 0.1


def test_images_of_no_weight_change_nothing():
    features, labels, _ = drawn(4)
    chosen = labels < 3
    expected = fit_linear_head(features[chosen], labels[chosen], 4)
    for one, other in zip(fit_linear_head(features, labels, 4, weights=chosen.astype(float)), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_class_without_images_is_as_unlikely_as_the_least_likely_of_the_others():
    features, labels, queries = drawn(3)
    head = fit_linear_head(features, labels, 5)
    logits = apply_head(head, features)
    np.testing.assert_allclose(logits[:, 3:], logits[:, :3].min(1).mean(), rtol=1e-4)
    assert set(apply_head(head, queries).argmax(1)) == {0, 1, 2}


def test_a_feature_all_but_constant_in_training_is_not_blown_up():
    features, labels, _ = drawn(3)
    features = np.column_stack([features, np.zeros(len(features), np.float32)])
    features[np.flatnonzero(labels == 2)[0], -1] = 1e-4
    weight, _ = fit_linear_head(features, labels, 3)
    assert np.abs(weight[:, -1]).max() < np.abs(weight[:, :-1]).max()


def test_of_one_class_it_answers_that_class():
    weight, bias = fit_linear_head(np.ones((4, 2), np.float32), np.full(4, 2), 3)
    assert (np.ones((1, 2)) @ weight.T + bias).argmax() == 2


def test_without_images_the_head_is_not_finite():
    head = fit_linear_head(np.zeros((0, 2), np.float32), np.zeros(0, int), 2)
    assert np.isnan(np.concatenate([part.ravel() for part in head])).all()


@pytest.mark.training
def test_images_whose_features_are_not_finite_are_left_out_with_a_warning(
    tiny_dataset, make_recipe, tmp_path, monkeypatch, caplog
):
    """One such image would spoil the head for all."""
    real = outcome_module.compute_features

    def compute_features_one_overflowing(network, images, rows, **options):
        features = real(network, images, rows, **options)
        features[0, 0] = np.inf if len(rows) == 20 else features[0, 0]  # training images of a fold of 30
        return features

    monkeypatch.setattr(outcome_module, "compute_features", compute_features_one_overflowing)
    recipe = make_recipe("models.refit_head=true", "folds.num_folds=3", "train.epochs=1")
    with caplog.at_level("WARNING", logger="nonet"):
        run = train(recipe, tiny_dataset, out=tmp_path / "run", accelerator="cpu")
    messages = [r.getMessage() for r in caplog.records if "are not finite" in r.getMessage()]
    assert [text.partition(":")[0] for text in messages] == [f"vit_mini/fold-{k}" for k in range(3)]
    assert "features of 1 of 20 training images" in messages[0]
    columns = [f"logit_{code}" for code in tiny_dataset.classes]
    assert np.isfinite(pd.read_parquet(run.oof)[columns].to_numpy()).all()


@pytest.fixture(scope="module")
def runs(tiny_dataset, make_recipe, tmp_path_factory):
    """The same training, as it is, with heads refitted, and with heads refitted to the last two stages."""
    folder, refit = tmp_path_factory.mktemp("refit"), "models.refit_head=true"
    settings = {"plain": [], "refitted": [refit], "stages": [refit, "models.head_stages=2"]}
    return [
        train(make_recipe(*changes), tiny_dataset, out=folder / name, accelerator="cpu")
        for name, changes in settings.items()
    ]


@pytest.mark.training
def test_a_refitted_run_keeps_the_backbone_and_has_a_linear_head(runs):
    plain, *refitted = (safetensors.torch.load_file(run.member("vit_mini", 0).weights) for run in runs)
    of_backbone = {name for name in plain if name.startswith("backbone.")}
    for weights, num_features in zip(refitted, (96, 192)):
        assert {name for name in weights if not name.startswith("head.")} == of_backbone
        assert all((plain[name] == weights[name]).all() for name in of_backbone)
        assert {name: tuple(weights[name].shape) for name in weights if name.startswith("head.")} == {
            "head.0.weight": (3, num_features),
            "head.0.bias": (3,),
        }


@pytest.mark.training
@pytest.mark.parametrize(("which", "c"), [(1, C), (2, C_OF_STAGES)])
def test_out_of_fold_logits_are_those_of_the_refitted_head(runs, tiny_dataset, which, c):
    """The head of each fold, fitted again outside of training, gives the logits that oof.parquet holds."""
    run, number = runs[which], {code: k for k, code in enumerate(tiny_dataset.classes)}
    ensemble = nonet.load(run, accelerator="cpu", backend="torch")
    table = pd.read_csv(run.folds, dtype={"image_id": str}).merge(tiny_dataset.manifest, on="image_id")
    labels = table["label"].map(number).to_numpy()
    oof = pd.read_parquet(run.oof)
    oof = {name: rows.set_index("image_id") for name, rows in oof.groupby("view_set")}
    columns = [f"logit_{code}" for code in tiny_dataset.classes]
    for member in ensemble.members:
        network = member.network.module
        paths = [tiny_dataset.image_path(image_id) for image_id in table["image_id"]]
        images = np.stack([ensemble.prepare(path)[member.crop] for path in paths])
        features = compute_features(member.network.module, images, np.arange(len(images)), device=torch.device("cpu"))
        held_out = (table["fold"] == int(member.name[-1])).to_numpy()
        head = fit_linear_head(features[~held_out], labels[~held_out], 3, c=c)
        names = table["image_id"][held_out]
        result = oof["none"].loc[names, columns].to_numpy()
        np.testing.assert_allclose(result, apply_head(head, features[held_out]), atol=1e-3)
        # Over views, the mean of the head's logits is the head's logit of the mean features.
        turned = [np.rot90(images[held_out], turns, (1, 2)) for turns in range(4)]
        views = turned + [np.ascontiguousarray(one[:, :, ::-1]) for one in turned]
        rows, device = np.arange(held_out.sum()), torch.device("cpu")
        mean = np.mean(
            [compute_features(network, np.ascontiguousarray(v), rows, device=device) for v in views],
            axis=0,
        )
        np.testing.assert_allclose(oof["dihedral"].loc[names, columns].to_numpy(), apply_head(head, mean), atol=1e-3)


@pytest.mark.training
def test_a_head_on_stages_predicts_the_same_with_every_backend(runs, tiny_dataset):
    expected, found = (
        nonet.load(runs[2], accelerator="cpu", backend=backend).predict_logits(tiny_dataset.paths()[:6])
        for backend in ("torch", "openvino")
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.training
def test_external_images_weigh_as_the_recipe_says(make_recipe, tmp_path):
    """Without weight they are as if they were not there, for the head as for training."""
    own = draw_pictures(tmp_path / "own", {"EO": 6, "LY": 12, "SNE": 12})
    more = draw_pictures(tmp_path / "more", {"EO": 8, "LY": 8, "SNE": 8}, seed=1)
    dataset = build_dataset([f"own=csv:{own}", f"more=csv:{more}"], tmp_path / "dataset", external="more")
    recipe = make_recipe("models.refit_head=true", "sampling.external_weight=0", "train.epochs=1")
    run = train(recipe, dataset, out=tmp_path / "run", accelerator="cpu")
    ensemble = nonet.load(run, accelerator="cpu", backend="torch")
    table = pd.read_csv(run.folds, dtype={"image_id": str}).merge(dataset.manifest, on="image_id")
    labels = table["label"].map({code: k for k, code in enumerate(dataset.classes)}).to_numpy()
    member = ensemble.members[0]
    images = np.stack([ensemble.prepare(dataset.image_path(image_id))[member.crop] for image_id in table["image_id"]])
    features = compute_features(member.network.module, images, np.arange(len(images)), device=torch.device("cpu"))
    for chosen, same in [((table["fold"] == 1).to_numpy(), True), ((table["fold"] != 0).to_numpy(), False)]:
        weight, _ = fit_linear_head(features[chosen], labels[chosen], 3)
        assert np.allclose(member.network.module.head[0].weight.numpy(), weight, atol=1e-4) == same


@pytest.mark.training
def test_such_a_run_is_calibrated_evaluated_and_predicts_where_it_is_copied(runs, tiny_dataset, tmp_path):
    assert "ensemble" in set(nonet.evaluate(runs[1])["name"])
    copied = shutil.copytree(runs[1].folder, tmp_path / "copy")
    probabilities = [
        nonet.load(r, accelerator="cpu").predict_proba(tiny_dataset.paths()[:4]) for r in (runs[1], copied)
    ]
    np.testing.assert_array_equal(*probabilities)


@pytest.mark.training
def test_a_killed_refitting_is_done_again(tiny_dataset, make_recipe, runs, tmp_path, monkeypatch):
    real = outcome_module.safetensors.torch.save_file

    def cut_short(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(outcome_module.safetensors.torch, "save_file", cut_short)
    recipe = make_recipe("models.refit_head=true")
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tiny_dataset, out=tmp_path / "run", accelerator="cpu")
    monkeypatch.setattr(outcome_module.safetensors.torch, "save_file", real)
    run = train(recipe, tiny_dataset, out=tmp_path / "run", accelerator="cpu")
    for fold in (0, 1):
        weights = [r.member("vit_mini", fold).weights.read_bytes() for r in (run, runs[1])]
        assert weights[0] == weights[1]


def test_refitted_heads_have_learned_equal_class_priors():
    manifest = pd.DataFrame({"image_id": list("abcdef"), "label": ["A", "B", "A", "B", "B", None], "evaluate": True})
    folds = pd.DataFrame({"image_id": list("abcdef"), "fold": [0, 0, 1, 1, np.nan, 1]})
    recipe = load_recipe("plain")
    shares = trained_priors(manifest, folds, ["A", "B", "C"], recipe.sampling, refit=True)
    assert shares == pytest.approx([1 / 2, 1 / 2, 0])


@pytest.mark.training
def test_evaluation_knows_of_these_priors(runs):
    """12 of 30 images are of the first class: what uniform drawing would have taught, and refitting does not."""
    assert read_run(runs[1]).trained_priors == pytest.approx([1 / 3] * 3)
