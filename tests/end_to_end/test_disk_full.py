"""A disk that is full or read-only, at each step that writes: words with the place, nothing half written.

The system refuses files larger than a few bytes, to every writer alike: Python, Arrow, torch and safetensors. Where the
tests may mount a disk, it is a real one, which is full to the last byte as a file is written; once there is room, the
same call ends with the figures of an undisturbed one.
"""

import contextlib
import io
import json
import logging
import shutil
import sys

import pandas as pd
import pytest

from helpers.disks import FillsUp, read_only, small_disk
from helpers.processes import small_files
from nonet.artifacts.integrity import require_member
from nonet.artifacts.run import Run
from nonet.data.build import build_dataset
from nonet.data.manifest import Dataset
from nonet.errors import DamagedError, NonetError, RunError, StorageError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")


@contextlib.contextmanager
def disk_with_room_for(num_bytes):
    """Give what is written to standard error meanwhile: in tests it goes to a file, which must not be full, too."""
    with contextlib.redirect_stderr(io.StringIO()) as errors, small_files(num_bytes):
        yield errors


@pytest.fixture(autouse=True)
def no_handlers(monkeypatch):
    monkeypatch.setattr(logging.getLogger("nonet"), "handlers", [])


def no_temporaries(folder):
    return not [path for path in folder.rglob("*") if ".nonet-tmp." in path.name or path.name.endswith(".part")]


@pytest.fixture
def dataset(tiny_dataset, tmp_path):
    copied = shutil.copytree(tiny_dataset.folder, tmp_path / "dataset", ignore=shutil.ignore_patterns("cache"))
    return Dataset.open(copied)


@pytest.mark.slow
def test_build(dataset, tiny_dataset, tmp_path):
    source = next(iter(tiny_dataset.description["roots"].values()))
    before = (dataset.folder / "manifest.parquet").read_bytes()
    for out in (dataset.folder, tmp_path / "new"):
        with disk_with_room_for(1000), pytest.raises(StorageError, match=str(out)):
            build_dataset(f"csv:{source}/cells.csv", out)
        assert no_temporaries(out)
    assert (dataset.folder / "manifest.parquet").read_bytes() == before
    assert not (tmp_path / "new" / "dataset.json").exists()
    build_dataset(f"csv:{source}/cells.csv", tmp_path / "new")  # the same call again


def test_folds_from_the_command_line(dataset, monkeypatch):
    from nonet.cli import main

    monkeypatch.setattr(sys, "argv", ["nonet", "data", "folds", str(dataset.folder), "--num-folds", "2"])
    with disk_with_room_for(100) as errors, pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "folds.csv" in errors.getvalue()
    assert not (dataset.folder / "folds.csv").exists()
    assert no_temporaries(dataset.folder)


def test_prepared_images(dataset):
    from nonet.data.preprocess.cache import prepare_images
    from nonet.data.preprocess.crop import Crop
    from nonet.recipe import Denoise

    options = {"crops": [Crop(16)], "denoise": Denoise(enabled=False), "cache_dir": dataset.folder / "cache"}
    images = (dataset.paths(), dataset.manifest["sha256"].tolist())
    with disk_with_room_for(1000), pytest.raises(StorageError, match="cache"):
        prepare_images(*images, **options)
    assert len(prepare_images(*images, **options)[Crop(16)]) == 30


@pytest.mark.training
@pytest.mark.parametrize("num_bytes", [1000, 30_000])
def test_training_resumes(dataset, make_recipe, tmp_path, num_bytes):
    """With few bytes the start fails, with more the state of the networks, whose writer hides the reason."""
    from nonet.training.launch import train

    recipe = make_recipe()
    train(make_recipe("train.epochs=1"), dataset, out=tmp_path / "for its cache", accelerator="cpu")
    with disk_with_room_for(num_bytes), pytest.raises(StorageError) as caught:
        train(recipe, dataset, out=tmp_path / "run", accelerator="cpu")
    assert "larger than its file system allows" in caught.value.message
    assert no_temporaries(tmp_path / "run")
    run = train(recipe, dataset, out=tmp_path / "run", accelerator="cpu")
    assert all(json.loads(done.read_text()) for done in run.folder.glob("members/*/*/DONE"))


@pytest.mark.slow
def test_predict_and_evaluate(tiny_run, tiny_dataset, tmp_path):
    from nonet.inference.load import load
    from nonet.inference.predict import predict
    from nonet.report.evaluate import evaluate

    copied = shutil.copytree(tiny_run.folder, tmp_path / "run")
    ensemble = load(copied, accelerator="cpu")
    with disk_with_room_for(2000), pytest.raises(StorageError, match=str(tmp_path / "out")):
        predict(ensemble, tiny_dataset.folder, out=tmp_path / "out")
    assert no_temporaries(tmp_path / "out")
    assert not (tmp_path / "out" / "predictions.csv").exists()
    assert len(predict(ensemble, tiny_dataset.folder, out=tmp_path / "out").table()) == 30
    with disk_with_room_for(3000), pytest.raises(NonetError, match="evaluation"):
        evaluate(copied, num_resamples=20)
    assert no_temporaries(copied)
    assert isinstance(evaluate(copied, num_resamples=20), pd.DataFrame)


@pytest.fixture
def disk(tmp_path, monkeypatch):
    with small_disk(tmp_path / "disk", 1 << 25) as folder:
        yield FillsUp(folder, monkeypatch)


@pytest.fixture
def undisturbed(tiny_run, cells, tmp_path):
    """Ensemble and predictions."""
    from nonet.inference.load import load
    from nonet.inference.predict import predict

    ensemble = load(tiny_run, accelerator="cpu")
    return ensemble, predict(ensemble, cells, out=tmp_path / "undisturbed")


@pytest.fixture
def cells(tiny_dataset, tmp_path):
    """90 images, which are two parts of a prediction."""
    source = next(iter(tiny_dataset.description["roots"].values()))
    for name in "abc":
        shutil.copytree(source, tmp_path / "cells" / name)
    return tmp_path / "cells"


@contextlib.contextmanager
def full_at(disk, name, times=1):
    with disk.at(name, times), pytest.raises(StorageError, match="is full") as caught:
        yield
    assert name in caught.value.message
    assert no_temporaries(disk.disk)


@pytest.mark.training
def test_a_disk_that_fills_up_in_training_costs_nothing(disk, dataset, make_recipe, tiny_run):
    """At the inputs, a checkpoint, a member's files, and those of the run."""
    from nonet.inference.load import load
    from nonet.training.launch import train

    run = Run(disk.disk / "run")
    files = [("manifest.parquet", 1), ("state.pt", 1), ("state.pt", 2), ("oof.parquet", 1), ("weights.safetensors", 1)]
    for name, times in [
        *files,
        ("DONE", 1),
        ("state.pt", 1),
        ("samples.npz", 1),
        ("oof.parquet", 1),
        ("ensemble.json", 1),
    ]:
        with full_at(disk, name, times):
            train(make_recipe(), dataset, out=run, accelerator="cpu")
        with pytest.raises(RunError):
            load(run)
        for member in run.members(("vit_mini",), 2):
            if member.is_done:
                require_member(member)
            else:
                with pytest.raises(DamagedError, match="not fully trained"):
                    require_member(member)
    train(make_recipe(), dataset, out=run, accelerator="cpu")
    for fold in (0, 1):
        assert (
            run.member("vit_mini", fold).weights.read_bytes() == tiny_run.member("vit_mini", fold).weights.read_bytes()
        )
    pd.testing.assert_frame_equal(pd.read_parquet(run.oof), pd.read_parquet(tiny_run.oof))
    assert run.ensemble.read_text() == tiny_run.ensemble.read_text()


@pytest.mark.slow
def test_a_disk_that_fills_up_in_prediction_costs_nothing(disk, undisturbed, cells):
    from nonet.inference.predict import predict

    ensemble, expected = undisturbed
    out = disk.disk / "out"
    for name in ("plan.json", "000000.parquet", "000001.parquet", "logits.parquet"):
        with full_at(disk, name):
            predict(ensemble, cells, out=out)
        assert not (out / "predictions.csv").exists() and not (out / "logits.parquet").exists()
    with full_at(disk, "plan.json", 2):  # as the results are there
        predict(ensemble, cells, out=out)
    predict(ensemble, cells, out=out)
    for name in ("predictions.csv", "logits.parquet"):
        assert (out / name).read_bytes() == (expected.folder / name).read_bytes()


@pytest.mark.slow
def test_a_disk_that_fills_up_in_an_evaluation_costs_nothing(disk, tiny_run, tmp_path, without_drawings):
    from nonet.report.evaluate import evaluate

    expected = shutil.copytree(tiny_run.folder, tmp_path / "undisturbed") / "evaluation"
    evaluate(expected.parent, num_resamples=20)
    run = shutil.copytree(tiny_run.folder, disk.disk / "run")
    for name in ("table.csv", "report.html", "model_card.md"):
        with full_at(disk, name):
            evaluate(run, num_resamples=20)
        assert not (run / "evaluation" / name).exists()
    evaluate(run, num_resamples=20)
    names = sorted(path.name for path in expected.iterdir())
    assert sorted(path.name for path in (run / "evaluation").iterdir()) == names
    for path in expected.glob("*.csv"):
        assert (run / "evaluation" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_a_read_only_run_predicts_as_any_other(tiny_run, cells, tmp_path, backend, caplog):
    """Also where a backend's form of its networks is not there yet, and cannot be kept."""
    from nonet.inference.load import load
    from nonet.inference.predict import predict

    run = shutil.copytree(tiny_run.folder, tmp_path / "run", ignore=shutil.ignore_patterns("compiled"))
    with read_only(run):
        ensemble = load(run, accelerator="cpu", backend=backend)
        predicted = predict(ensemble, cells / "a", out=tmp_path / "out")
        with pytest.raises(StorageError, match="read-only"):
            predict(ensemble, cells / "a", out=run / "predictions")
    assert ("cannot be kept" in caplog.text) == (backend == "openvino")
    assert sorted(path.name for path in run.iterdir()) == sorted(
        path.name for path in tiny_run.folder.iterdir() if path.name != "compiled"
    )
    expected = predict(load(run, accelerator="cpu", backend=backend), cells / "a", out=tmp_path / "expected")
    assert (predicted.folder / "logits.parquet").read_bytes() == (expected.folder / "logits.parquet").read_bytes()
