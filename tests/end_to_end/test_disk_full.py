"""A disk that is full, at each step that writes: words with the place, exit status 2, nothing half written.

The system refuses files larger than a few bytes, to every writer alike: Python, Arrow, torch and safetensors.
"""

import contextlib
import io
import json
import logging
import shutil
import sys

import pandas as pd
import pytest

from helpers.processes import small_files
from nonet.data.build import build_dataset
from nonet.data.manifest import Dataset
from nonet.errors import NonetError, StorageError

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
