"""Fewer views for sure cells: the decisions of all views, and a threshold that out-of-fold logits set."""

import json

import numpy as np
import pytest

from nonet.errors import RunError
from nonet.inference.effort import Effort, threshold
from nonet.inference.load import load
from nonet.inference.predict import predict
from nonet.models.views import dihedral_views


def proba(*best):
    """Probabilities of two classes, of which the first has the given one."""
    return np.array([[value, 1 - value] for value in best])


def test_the_threshold_is_the_smallest_above_which_too_few_decisions_change():
    without = proba(0.99, 0.95, 0.9, 0.8, 0.7, 0.6)
    with_views = proba(0.99, 0.95, 0.9, 0.4, 0.7, 0.6)  # the fourth changes
    assert threshold(without, with_views, max_changed=0) == 0.9
    assert threshold(without, with_views, max_changed=1 / 6) == 0.6
    assert threshold(without, without, max_changed=0) == 0.6


def test_doubt_is_a_decision_too():
    without, with_views = proba(0.99, 0.95, 0.9), proba(0.99, 0.7, 0.9)
    assert threshold(without, with_views, min_confidence=0.8, max_changed=0) == 0.99
    assert threshold(without, without, min_confidence=0.92, max_changed=0) == 0.95


def test_where_even_the_surest_changes_no_view_is_left_out():
    assert threshold(proba(0.99, 0.9), proba(0.3, 0.9), max_changed=0) == np.inf
    assert threshold(proba(0.6, 0.55), proba(0.6, 0.55), min_confidence=0.7) == np.inf


@pytest.fixture(scope="module")
def ensemble(random_run):
    return load(random_run, accelerator="cpu")


@pytest.fixture(scope="module")
def prepared(ensemble, tiny_dataset):
    images = [ensemble.prepare(path) for path in tiny_dataset.paths()]
    return {crop: np.stack([image[crop] for image in images]) for crop in ensemble.crops}


def with_effort(ensemble, prepared, sure):
    effort = Effort(sure)
    logits, scores = effort.outputs(prepared, dihedral_views(), ensemble.member_outputs, ensemble.combine)
    return logits, scores, effort


def test_an_image_that_is_never_sure_gets_all_views(ensemble, prepared):
    logits, _, effort = with_effort(ensemble, prepared, np.inf)
    np.testing.assert_allclose(logits, ensemble.member_outputs(prepared, dihedral_views())[0], atol=1e-5)
    assert effort.passes == effort.passes_in_full == 2 * 30 * 8


def test_an_image_that_is_always_sure_gets_none(ensemble, prepared):
    logits, _, effort = with_effort(ensemble, prepared, 0.0)
    np.testing.assert_array_equal(logits, ensemble.member_outputs(prepared, dihedral_views()[:1])[0])
    assert effort.passes == 2 * 30


def test_each_image_gets_the_views_that_it_needs(ensemble, prepared):
    views = dihedral_views()
    means = {count: ensemble.member_outputs(prepared, views[:count])[0] for count in (1, 2, 4, 8)}
    best = {count: np.exp(ensemble.combine(mean)) for count, mean in means.items()}
    best = {count: (values / values.sum(1, keepdims=True)).max(1) for count, values in best.items()}
    sure = float(np.median(best[1]))
    logits, _, effort = with_effort(ensemble, prepared, sure)
    needed = [next((count for count in (1, 2, 4) if best[count][i] >= sure), 8) for i in range(30)]
    assert {1, 8} <= set(needed)
    for i, count in enumerate(needed):
        np.testing.assert_allclose(logits[:, i], means[count][:, i], atol=1e-5)
    assert effort.passes == 2 * sum(needed)


def test_a_prediction_with_less_effort_is_another_one_and_counts_its_own_passes(random_run, tiny_dataset, tmp_path):
    paths = tiny_dataset.paths()
    predict(random_run, paths, out=tmp_path / "out")
    before = json.loads((tmp_path / "out" / "plan.json").read_text())
    ensemble = load(random_run, accelerator="cpu", effort="auto")
    for num_images in (30, 10):  # not resumed: predicted again
        assert len(predict(ensemble, paths[:num_images], out=tmp_path / "out").table()) == num_images
        assert ensemble.effort.passes_in_full == 2 * num_images * 8
    after = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert (before["sure"], after["sure"]) == (None, ensemble.effort.sure)


def test_an_unknown_effort_is_refused(random_run, tiny_dataset, tmp_path):
    with pytest.raises(RunError, match="maximal"):
        predict(random_run, tiny_dataset.paths(), out=tmp_path / "out", effort="maximal")
