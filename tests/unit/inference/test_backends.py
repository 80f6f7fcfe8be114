"""Backends: the same numbers as eager PyTorch, whatever runs the networks, and forms that are made once and checked."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from nonet.artifacts.run import Run
from nonet.errors import RunError
from nonet.inference.backends import choice
from nonet.inference.backends.choice import BACKENDS, choose_backend
from nonet.inference.load import load
from nonet.models.views import dihedral_views, no_views, random_views

OTHERS = sorted(set(BACKENDS) - {"torch", "openvino-int8"})  # int8 is not the same: test_int8.py


@pytest.fixture(scope="module")
def run(random_run, tmp_path_factory):
    return Run(shutil.copytree(random_run.folder, tmp_path_factory.mktemp("backends") / "run"))


@pytest.fixture(scope="module")
def paths(tiny_dataset):
    return tiny_dataset.paths()


def outputs(ensemble, paths, views):
    prepared = [ensemble.prepare(path) for path in paths]
    return ensemble.member_outputs({crop: np.stack([one[crop] for one in prepared]) for crop in ensemble.crops}, views)


@pytest.mark.parametrize(
    "views", [no_views(), dihedral_views(), random_views(3, seed=0)], ids=["one", "eight", "mixed"]
)
@pytest.mark.parametrize("backend", OTHERS)
def test_a_backend_computes_what_pytorch_does(run, paths, backend, views):
    expected = outputs(load(run, accelerator="cpu", backend="torch"), paths, views)
    found = outputs(load(run, accelerator="cpu", backend=backend), paths, views)
    assert np.ptp(expected[0], axis=1).max() > 0.01  # images differ, so a mix-up would be seen
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("num_images", [1, 7, 8, 9, 17, 30])
def test_any_number_of_images_gives_each_its_own_logits(run, paths, backend, num_images):
    ensemble = load(run, accelerator="cpu", backend=backend)
    together = outputs(ensemble, paths, no_views())[0]
    for _ in range(3):  # threads take blocks in any order
        some = outputs(ensemble, paths[:num_images], no_views())[0]
        np.testing.assert_allclose(some, together[:, :num_images], atol=1e-5)


def test_what_is_prepared_for_openvino_is_kept_and_used_again(run, paths):
    load(run, accelerator="cpu", backend="openvino")
    records = sorted(run.compiled.rglob("compiled.json"))
    assert len(records) == 2
    before = [record.stat().st_mtime_ns for record in records]
    load(run, accelerator="cpu", backend="openvino")
    assert [record.stat().st_mtime_ns for record in records] == before


@pytest.mark.parametrize("damage", ["flip a byte", "cut", "remove", "edit the record", "other weights"])
def test_what_is_damaged_or_of_other_weights_is_made_again(random_run, paths, tmp_path, damage, caplog):
    run = Run(shutil.copytree(random_run.folder, tmp_path / "run"))
    expected = load(run, accelerator="cpu", backend="openvino").predict_logits(paths[:3])
    record = min(run.compiled.rglob("compiled.json"))
    weights = record.with_name("model.bin")
    content = weights.read_bytes()
    if damage == "flip a byte":
        weights.write_bytes(content[:100] + bytes([content[100] ^ 255]) + content[101:])
    elif damage == "cut":
        weights.write_bytes(content[:1000])
    elif damage == "remove":
        weights.unlink()
    elif damage == "edit the record":
        record.write_text(json.dumps(json.loads(record.read_text()) | {"made": "yesterday"}))
    else:  # the folds' forms exchanged
        folds = sorted(record.parent.parent.iterdir())
        folds[0].rename(tmp_path / "aside")
        folds[1].rename(folds[0])
        (tmp_path / "aside").rename(folds[1])
    caplog.clear()
    again = load(run, accelerator="cpu", backend="openvino").predict_logits(paths[:3])
    assert sum(record.getMessage().count("made again") for record in caplog.records) == (damage != "other weights")
    np.testing.assert_allclose(again, expected, atol=1e-5)
    if damage not in ("edit the record", "other weights"):
        assert weights.read_bytes() == content


def test_a_run_that_cannot_be_written_to_is_predicted_all_the_same(random_run, paths, tmp_path, caplog):
    run = Run(shutil.copytree(random_run.folder, tmp_path / "run"))
    shutil.rmtree(run.compiled, ignore_errors=True)
    run.compiled.write_text("in the way")  # as root, permissions would not stop anybody
    ensemble = load(run, accelerator="cpu", backend="openvino")
    expected = load(run, accelerator="cpu", backend="torch").predict_logits(paths[:3])
    np.testing.assert_allclose(ensemble.predict_logits(paths[:3]), expected, atol=1e-4)
    assert "cannot be kept" in caplog.text


@pytest.mark.parametrize(
    "has_gpu, is_installed, accelerator, expected",
    [
        (False, True, "auto", "openvino"),
        (False, True, "cpu", "openvino"),
        (True, True, "cpu", "openvino"),
        (True, True, "auto", "torch"),
        (False, True, "cuda", "torch"),
        (False, False, "auto", "torch"),
    ],
)
def test_auto_is_the_fastest_backend_there_is(monkeypatch, has_gpu, is_installed, accelerator, expected):
    monkeypatch.setattr(choice, "has_gpu", lambda: has_gpu)
    monkeypatch.setattr(choice, "_is_installed", lambda package: is_installed or package == "torch")
    assert choose_backend("auto", accelerator) == expected


def test_a_backend_that_cannot_be_used_is_an_error_with_the_reason(monkeypatch):
    with pytest.raises(RunError, match=r"openvinno.*\n.*openvino"):
        choose_backend("openvinno", "auto")
    with pytest.raises(RunError, match="cuda"):
        choose_backend("openvino", "cuda")
    monkeypatch.setattr(choice, "_is_installed", lambda package: False)
    with pytest.raises(RunError, match="pip install openvino"):
        choose_backend("openvino", "auto")


@pytest.mark.slow
def test_threads_do_not_wait_for_each_other_for_ever(run, paths):
    """OpenVINO's first inference deadlocks if two threads make it at once, mostly if they take turns often."""
    code = f"""
import sys, nonet
ensemble = nonet.load({str(run)!r}, accelerator="cpu", backend="openvino")
sys.setswitchinterval(1e-6)
print(len(ensemble.predict({[str(path) for path in paths]!r}, best=True)))
"""
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
        assert done.stdout.split()[-1:] == ["30"], done.stderr


@pytest.mark.slow
def test_openvino_needs_no_torch_and_sends_no_statistics(run, paths, tmp_path):
    load(run, accelerator="cpu", backend="openvino")
    code = f"""
import sys, nonet
nonet.predict({str(run)!r}, {[str(path) for path in paths[:2]]!r}, out={str(tmp_path / "out")!r}, backend="openvino")
names = ("torch", "timm", "torchvision", "lightning_fabric", "openvino_telemetry", "urllib3", "requests")
print([name for name in names if sys.modules.get(name)])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr
