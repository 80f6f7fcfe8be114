"""Networks in int8: images close to another decision are predicted again; the margin comes from out-of-fold images."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import softmax

from nonet.artifacts.run import Run
from nonet.errors import RunError, StorageError
from nonet.inference import int8
from nonet.inference.int8 import Int8, distance_to_another_decision, fit_int8
from nonet.inference.load import load
from nonet.models.views import get_views


def test_the_margin_is_the_smallest_that_keeps_enough_decisions():
    rng = np.random.default_rng(0)
    distance = rng.uniform(size=2000)
    changed = rng.uniform(size=2000) < 0.2 * (distance < 0.1)
    fitted = fit_int8(distance, changed, max_changed=0.0025)
    assert (changed & (distance >= fitted.margin)).sum() == 5  # 0.25 % of 2,000
    assert fitted.same_decisions == pytest.approx(0.9975)
    assert fitted.again == pytest.approx((distance < fitted.margin).mean())
    closer = distance[changed & (distance < fitted.margin)].max()
    assert np.nextafter(closer, 1) == fitted.margin  # any smaller, and one more would change


def test_where_nothing_changes_nothing_is_predicted_again():
    fitted = fit_int8(np.array([0.0, 0.3, 0.01]), np.zeros(3, dtype=bool))
    assert (fitted.margin, fitted.again, fitted.same_decisions) == (0.0, 0.0, 1.0)


def test_where_everything_changes_everything_is_predicted_again():
    fitted = fit_int8(np.array([0.1, 0.2]), np.ones(2, dtype=bool))
    assert fitted.again == 1.0
    assert fitted.same_decisions == 1.0


class Toy:
    """An ensemble of one member, which doubts below 0.5 and rejects the highest tenth."""

    calibration = SimpleNamespace(min_confidence=0.5)
    rejection = SimpleNamespace(is_fitted=True, false_alarm=0.1, rejects=lambda percentile: percentile > 0.9)

    def combine(self, logits):
        return logits[0]

    def ood_percentile(self, scores):
        return scores[0]


@pytest.mark.parametrize(
    ("proba", "percentile", "expected"),
    [
        ((0.9, 0.06, 0.04), 0.0, 0.4),  # from doubt
        ((0.52, 0.47, 0.01), 0.0, 0.02),  # from doubt, and the second class is near
        ((0.48, 0.47, 0.05), 0.0, 0.01),  # from another best class
        ((0.9, 0.06, 0.04), 0.85, 0.05),  # from being rejected
        ((0.51, 0.48, 0.01), 0.97, 0.07),  # rejected whatever its class: from being known
    ],
)
def test_distance_to_another_decision(proba, percentile, expected):
    distance = distance_to_another_decision(Toy(), np.log([[proba]]), np.array([[percentile]]))
    assert distance == pytest.approx([expected])


def test_what_is_not_a_number_is_predicted_again():
    logits = np.array([[[np.nan, 0.0, 0.0], [9.0, 0.0, 0.0]]])
    rule = Int8(margin=0.01, again=0.0, same_decisions=1.0, num_images=1)
    assert rule.rows_to_predict_again(Toy(), logits, np.zeros((1, 2))).tolist() == [0]


@pytest.fixture
def run(random_run, tmp_path):
    copied = Run(shutil.copytree(random_run.folder, tmp_path / "run"))
    shutil.rmtree(copied.compiled, ignore_errors=True)
    return copied


@pytest.fixture
def always(monkeypatch):
    """Let int8 be used however many images are predicted again: random networks decide by a hair."""
    monkeypatch.setattr(int8, "MAX_AGAIN", 1.0)


@pytest.mark.slow
def test_int8_by_name_is_made_checked_and_used_again(run, tiny_dataset, always):
    ensemble = load(run, accelerator="cpu", backend="openvino-int8")
    stored = json.loads((run.compiled / "openvino-int8" / "agreement.json").read_text())["int8"]
    assert stored["num_images"] == 30
    assert stored["same_decisions"] >= 1 - int8.MAX_CHANGED
    assert stored["margin"] == ensemble.int8.margin
    files = {file: file.stat().st_mtime_ns for file in run.compiled.rglob("*") if file.is_file()}
    again = load(run, accelerator="cpu", backend="openvino-int8")
    paths = tiny_dataset.paths()
    np.testing.assert_array_equal(again.predict_logits(paths), ensemble.predict_logits(paths))
    assert {file: file.stat().st_mtime_ns for file in run.compiled.rglob("*") if file.is_file()} == files


@pytest.mark.slow
def test_only_images_close_to_another_decision_get_the_logits_of_single_precision(run, tiny_dataset, always):
    paths = tiny_dataset.paths()
    single = load(run, accelerator="cpu", backend="openvino")
    ensemble = load(run, accelerator="cpu", backend="openvino-int8")
    prepared = [ensemble.prepare(path) for path in paths]
    views = get_views(ensemble.recipe.predict)
    expected = single.score_prepared(prepared, views)
    stacked = {crop: np.stack([image[crop] for image in prepared]) for crop in ensemble.crops}
    distance = distance_to_another_decision(ensemble, *ensemble.member_outputs(stacked, views))
    ensemble.int8 = Int8(float(np.median(distance)), 0.5, 1.0, 30)
    scores = ensemble.score_prepared(prepared, views)
    is_close = distance < np.median(distance)
    np.testing.assert_allclose(scores.member_logits[:, is_close], expected.member_logits[:, is_close], atol=1e-5)
    difference = np.abs(scores.member_logits - expected.member_logits)[:, ~is_close]
    assert 1e-4 < difference.max() < 0.5 * np.ptp(expected.member_logits)  # int8 it is, and the same network
    proba = softmax(scores.logits, axis=1)
    assert np.isfinite(proba).all()


@pytest.mark.slow
def test_int8_that_does_not_pay_is_refused_and_auto_stays_in_single_precision(run, monkeypatch):
    monkeypatch.setattr(int8, "MAX_AGAIN", -0.01)
    with pytest.raises(RunError, match="does not pay"):
        load(run, accelerator="cpu", backend="openvino-int8")
    assert load(run, accelerator="cpu").backend == "openvino"
    monkeypatch.setattr(int8, "MAX_AGAIN", 1.0)
    assert load(run, accelerator="cpu").backend == "openvino-int8"


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["flip a byte", "remove", "calibrate"])
def test_int8_that_is_damaged_or_of_other_decisions_is_made_again_by_name_only(run, tiny_dataset, always, damage):
    paths = tiny_dataset.paths()[:5]
    expected = load(run, accelerator="cpu", backend="openvino-int8").predict_logits(paths)
    weights = min((run.compiled / "openvino-int8").rglob("model.bin"))
    content = weights.read_bytes()
    if damage == "flip a byte":
        weights.write_bytes(content[:100] + bytes([content[100] ^ 255]) + content[101:])
    elif damage == "remove":
        weights.unlink()
    else:
        description = json.loads(run.ensemble.read_text())
        run.ensemble.write_text(json.dumps(description | {"temperature": 2 * description["temperature"]}))
        expected = expected / 2
    assert load(run, accelerator="cpu").backend == "openvino"
    again = load(run, accelerator="cpu", backend="openvino-int8")
    np.testing.assert_allclose(again.predict_logits(paths), expected, atol=0.05 * np.ptp(expected))
    assert load(run, accelerator="cpu").backend == "openvino-int8"


def test_int8_that_cannot_be_kept_in_the_run_is_an_error(run):
    run.compiled.write_text("in the way")
    with pytest.raises(StorageError, match="compiled"):
        load(run, accelerator="cpu", backend="openvino-int8")


def test_auto_does_not_make_int8(run):
    assert load(run, accelerator="cpu").backend == "openvino"
    assert not (run.compiled / "openvino-int8").exists()


def test_int8_needs_the_images_of_the_run(run, monkeypatch):
    monkeypatch.setattr("nonet.data.run_images.read_provenance", lambda run: {"dataset": "/nowhere"})
    with pytest.raises(RunError, match="calibrated with the images"):
        load(run, accelerator="cpu", backend="openvino-int8")
