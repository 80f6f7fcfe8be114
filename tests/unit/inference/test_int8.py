"""Networks in int8: only as many as keep the decisions, measured on images that the members never saw."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from nonet.artifacts.run import Run
from nonet.errors import RunError, StorageError
from nonet.inference import int8
from nonet.inference.int8 import Compared, choices_of
from nonet.inference.load import load

NAMES = ["good", "fair", "poor"]


class Toy:
    """An ensemble of three members for two classes, without rejection."""

    members = tuple(SimpleNamespace(name=name) for name in NAMES)

    def combine(self, logits):
        return logits.mean(0)

    def ood_percentile(self, scores):
        return scores.mean(0)

    def label(self, proba, ood_percentile, nucleus):
        return pd.DataFrame({"label": np.where(ood_percentile > 0.9, "unidentified", proba.argmax(1).astype(str))})


def compared(wrong, num_images=1000):
    """Images of class 0, of which each member in int8 calls a share of its own 1 with a logit that decides."""
    single = np.zeros((3, num_images, 2))
    single[:, :, 0] = 1
    in_int8 = single.copy()
    for number, name in enumerate(NAMES):
        in_int8[number, : round(wrong[name] * num_images), 1] = 10
    return Compared(Toy(), np.stack([single, in_int8]), np.zeros((2, 3, num_images)))


def test_the_worst_member_leaves_int8_first():
    choices = choices_of([compared({"good": 0.001, "fair": 0.004, "poor": 0.02})], NAMES)
    assert [choice.members for choice in choices] == [["fair", "good", "poor"], ["fair", "good"], ["good"]]
    assert [choice.same_decisions for choice in choices] == pytest.approx([0.98, 0.996, 0.999])
    assert choices[0].num_images == 1000


def test_rejection_is_a_decision_too():
    one = compared(dict.fromkeys(NAMES, 0.0))
    one.scores[1, :, :30] = 1.0  # in int8 these look unknown
    assert choices_of([one], NAMES)[0].same_decisions == pytest.approx(0.97)


def test_folds_count_by_their_images():
    choices = choices_of([compared(dict.fromkeys(NAMES, 0.1), 100), compared(dict.fromkeys(NAMES, 0.0), 300)], NAMES)
    assert choices[0].same_decisions == pytest.approx(1 - 10 / 400)


@pytest.fixture
def run(random_run, tmp_path):
    copied = Run(shutil.copytree(random_run.folder, tmp_path / "run"))
    shutil.rmtree(copied.compiled, ignore_errors=True)
    return copied


@pytest.mark.slow
def test_int8_by_name_is_made_checked_and_used_again(run, tiny_dataset, monkeypatch):
    monkeypatch.setattr(int8, "BY_NAME", 0.0)  # random networks decide by a hair
    paths = tiny_dataset.paths()
    single = load(run, accelerator="cpu", backend="openvino").predict_logits(paths)
    ensemble = load(run, accelerator="cpu", backend="openvino-int8")
    assert ensemble.int8_members == ("vit_mini/fold-0", "vit_mini/fold-1")
    logits = ensemble.predict_logits(paths)
    difference = np.abs(logits - single)
    assert 1e-4 < difference.max() < 0.5 * np.ptp(single)  # int8 it is, and the same network
    stored = json.loads((run.compiled / "openvino-int8" / "agreement.json").read_text())
    assert stored["choices"][0]["num_images"] == 30
    files = {file: file.stat().st_mtime_ns for file in run.compiled.rglob("*") if file.is_file()}
    again = load(run, accelerator="cpu", backend="openvino-int8")
    np.testing.assert_array_equal(again.predict_logits(paths), logits)
    assert {file: file.stat().st_mtime_ns for file in run.compiled.rglob("*") if file.is_file()} == files


@pytest.mark.slow
def test_int8_that_changes_too_much_is_refused_and_auto_stays_in_single_precision(run, monkeypatch):
    monkeypatch.setattr(int8, "BY_NAME", 1.01)
    with pytest.raises(RunError, match=r"101\.0%"):
        load(run, accelerator="cpu", backend="openvino-int8")
    monkeypatch.setattr(int8, "AUTO", 1.01)
    assert load(run, accelerator="cpu").int8_members == ()
    monkeypatch.setattr(int8, "AUTO", 0.0)
    assert len(load(run, accelerator="cpu").int8_members) == 2


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["flip a byte", "remove", "calibrate"])
def test_int8_that_is_damaged_or_of_other_decisions_is_made_again_by_name_only(run, tiny_dataset, monkeypatch, damage):
    monkeypatch.setattr(int8, "BY_NAME", 0.0)
    monkeypatch.setattr(int8, "AUTO", 0.0)
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
    assert load(run, accelerator="cpu").int8_members == ()
    again = load(run, accelerator="cpu", backend="openvino-int8")
    np.testing.assert_allclose(again.predict_logits(paths), expected, atol=1e-5)
    assert len(load(run, accelerator="cpu").int8_members) == 2


def test_int8_that_cannot_be_kept_in_the_run_is_an_error(run):
    run.compiled.write_text("in the way")
    with pytest.raises(StorageError, match="compiled"):
        load(run, accelerator="cpu", backend="openvino-int8")


def test_auto_does_not_make_int8(run):
    assert load(run, accelerator="cpu").int8_members == ()
    assert not (run.compiled / "openvino-int8").exists()


def test_int8_needs_the_images_of_the_run(run, monkeypatch):
    monkeypatch.setattr("nonet.data.run_images.read_provenance", lambda run: {"dataset": "/nowhere"})
    with pytest.raises(RunError, match="calibrated with the images"):
        load(run, accelerator="cpu", backend="openvino-int8")
