"""Refitted heads, against scikit-learn's own probabilities."""

import json

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import nonet
from nonet.calibrate.calibration import softmax
from nonet.recipe import load_recipe
from nonet.train.features import features_of
from nonet.train.finish import trained_shares
from nonet.train.launch import train
from nonet.train.refit import C, fit_linear_head


def digits(num_classes, *, first=60):
    """Digits 0 … num_classes - 1, ever fewer of each, standardised by nobody."""
    data = load_digits(n_class=num_classes)
    kept = np.concatenate([np.flatnonzero(data.target == k)[: first // (k + 1)] for k in range(num_classes)])
    return data.data[kept].astype(np.float32), data.target[kept], data.data.astype(np.float32)


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_it_is_scikit_learns_balanced_logistic_regression_of_standardised_features(num_classes):
    features, labels, asked = digits(num_classes)
    weight, bias = fit_linear_head(features, labels, num_classes)
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=C, class_weight="balanced", max_iter=1000))
    expected = reference.fit(features, labels).predict_proba(asked)
    np.testing.assert_allclose(softmax(asked.astype(np.float64) @ weight.T + bias), expected, atol=2e-4)


def test_an_image_of_twice_the_weight_counts_as_two_of_its_class():
    features, labels, _ = digits(3)
    weights = np.where(np.arange(len(labels)) % 2, 2.0, 1.0)
    twice = np.repeat(np.arange(len(labels)), weights.astype(int))
    # As many images in all, so that the penalty weighs the same; weighted images are standardised once each.
    some = fit_linear_head(features, labels, 3, weights=weights, c=1e6)
    same = fit_linear_head(features[twice], labels[twice], 3, c=1e6 * len(labels) / len(twice))
    chosen = [(features @ weight.T + bias).argmax(1) for weight, bias in (some, same)]
    np.testing.assert_array_equal(*chosen)


def test_images_of_no_weight_change_nothing():
    features, labels, _ = digits(4)
    kept = labels < 3
    expected = fit_linear_head(features[kept], labels[kept], 4)
    for one, other in zip(fit_linear_head(features, labels, 4, weights=kept.astype(float)), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_class_without_images_is_never_the_answer():
    features, labels, asked = digits(3)
    weight, bias = fit_linear_head(features, labels, 5)
    logits = asked @ weight.T + bias
    assert np.isfinite(logits).all()
    assert not weight[3:].any()
    assert set(logits.argmax(1)) == {0, 1, 2}


def test_of_one_class_it_answers_that_class():
    weight, bias = fit_linear_head(np.ones((4, 2), np.float32), np.full(4, 2), 3)
    assert (np.ones((1, 2)) @ weight.T + bias).argmax() == 2


def test_features_that_are_not_finite_give_a_head_that_is_not():
    features = np.ones((4, 2), np.float32)
    features[1, 1] = np.inf
    assert np.isnan(np.concatenate([part.ravel() for part in fit_linear_head(features, np.arange(4) % 2, 2)])).all()


@pytest.fixture(scope="module")
def runs(tiny_dataset, make_recipe, tmp_path_factory):
    """The same training, as it is and with heads refitted."""
    folder = tmp_path_factory.mktemp("refit")
    return [
        train(make_recipe(f"models.refit_head={refit}", "predict.views=none"), tiny_dataset, out=folder / refit)
        for refit in ("false", "true")
    ]


def test_a_refitted_run_keeps_the_backbone_and_has_a_linear_head(runs):
    plain, refitted = (safetensors.torch.load_file(run.member("vit_mini", 0).weights) for run in runs)
    of_backbone = {name for name in plain if name.startswith("backbone.")}
    assert {name for name in refitted if not name.startswith("head.")} == of_backbone
    assert all((plain[name] == refitted[name]).all() for name in of_backbone)
    assert {name: tuple(refitted[name].shape)[:1] for name in refitted if name.startswith("head.")} == {
        "head.0.weight": (3,),
        "head.0.bias": (3,),
    }


def test_out_of_fold_logits_are_those_of_the_refitted_head(runs, tiny_dataset):
    """The head of each fold, fitted anew from outside, gives the logits that oof.parquet holds."""
    run, number = runs[1], {code: k for k, code in enumerate(tiny_dataset.classes)}
    ensemble = nonet.load(run, accelerator="cpu")
    table = pd.read_csv(run.folds, dtype={"image_id": str}).merge(tiny_dataset.manifest, on="image_id")
    labels = table["label"].map(number).to_numpy()
    oof = pd.read_parquet(run.oof).set_index("image_id")
    columns = [f"logit_{code}" for code in tiny_dataset.classes]
    for member in ensemble.members:
        images = np.stack([ensemble.prepare(tiny_dataset.path_of(i))[member.crop] for i in table["image_id"]])
        features = features_of(member.network, images, np.arange(len(images)), device=torch.device("cpu"))
        held_out = (table["fold"] == int(member.name[-1])).to_numpy()
        weight, bias = fit_linear_head(features[~held_out], labels[~held_out], 3)
        expected = features[held_out] @ weight.T + bias
        found = oof.loc[table["image_id"][held_out], columns].to_numpy()
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_such_a_run_predicts_evaluates_and_can_be_copied(runs, tiny_dataset, tmp_path):
    run = runs[1]
    assert "ensemble" in set(nonet.evaluate(run)["name"])
    proba = nonet.load(run, accelerator="cpu").predict_proba(tiny_dataset.paths()[:2])
    np.testing.assert_allclose(proba.sum(1), 1)
    assert json.loads(run.ensemble.read_text())["classes"] == tiny_dataset.classes


def test_refitted_heads_have_learned_equal_class_priors():
    manifest = pd.DataFrame({"image_id": list("abcdef"), "label": ["A", "B", "A", "B", "B", None]})
    folds = pd.DataFrame({"image_id": list("abcdef"), "fold": [0, 0, 1, 1, np.nan, 1]})
    recipe = load_recipe("plain")
    shares = trained_shares(manifest, folds, ["A", "B", "C"], recipe.sampling, recipe.loss, refit=True)
    assert shares == pytest.approx([1 / 2, 1 / 2, 0])
