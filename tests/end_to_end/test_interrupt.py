"""Ctrl-C and SIGTERM: no traceback, no waiting for what is queued, one line on how to continue, and 130 or 143."""

import os
import shutil
import signal
import sys

import numpy as np
import psutil
import pytest
from PIL import Image

from helpers.processes import interrupt

pytestmark = [pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX"), pytest.mark.kill]

STOPS = [(signal.SIGINT, True, 130), (signal.SIGTERM, False, 143)]
NONET = [sys.executable, "-m", "nonet"]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """1,500 images of noise, which would take minutes to denoise."""
    folder = tmp_path_factory.mktemp("many")
    for label in ("EO", "LY", "SNE"):
        (folder / label).mkdir()
        for i in range(500):
            seed = np.random.default_rng([i, ord(label[0])])
            Image.fromarray(seed.integers(0, 256, (200, 200, 3), dtype=np.uint8)).save(folder / label / f"{i}.png")
    return folder


def require_quiet(stopped, status):
    returned, errors = stopped
    assert returned == status, errors
    assert "Traceback" not in errors
    assert "Process Spawn" not in errors
    assert errors.count("Run the same command again") == 1


@pytest.mark.parametrize(("number", "whole_group", "status"), STOPS)
def test_a_build_that_is_stopped(many, tmp_path, number, whole_group, status):
    marker = tmp_path / "dataset" / ".nonet.json"
    command = [*NONET, "data", "build", f"folder:{many}", "--out", tmp_path / "dataset"]
    stopped = interrupt(command, marker.exists, number=number, whole_group=whole_group)
    require_quiet(stopped, status)
    assert not (tmp_path / "dataset" / "dataset.json").exists()


PREPARE = """
import sys
from hashlib import sha256
from pathlib import Path

from nonet.cli.ending import run_for_exit_status
from nonet.data.preprocess.cache import prepare_images
from nonet.data.preprocess.crop import Crop
from nonet.recipe import load_recipe

if __name__ == "__main__":
    paths = sorted(Path(sys.argv[1]).rglob("*.png"))
    hashes = [sha256(path.read_bytes()).hexdigest() for path in paths]
    options = {"crops": [Crop(64)], "denoise": load_recipe("paper").denoise, "cache_dir": sys.argv[2], "num_workers": 2}
    sys.exit(run_for_exit_status(lambda: prepare_images(paths, hashes, **options)))
"""


@pytest.mark.parametrize(("number", "whole_group", "status"), STOPS)
def test_workers_that_denoise_are_stopped_at_once(many, tmp_path, number, whole_group, status):
    """What a training begins with."""
    (tmp_path / "script.py").write_text(PREPARE)
    command = [sys.executable, tmp_path / "script.py", many, tmp_path / "cache"]

    def at_work():
        return any(file.stat().st_size for file in tmp_path.glob("cache/*/sha256.txt"))

    require_quiet(interrupt(command, at_work, number=number, whole_group=whole_group), status)
    done = sum(len(file.read_text().split()) for file in tmp_path.glob("cache/*/sha256.txt"))
    assert 0 < done < 1500


def test_a_prediction_that_is_stopped_resumes(many, tiny_run, tmp_path):
    from nonet.inference.predict import predict

    run, out = shutil.copytree(tiny_run.folder, tmp_path / "run"), tmp_path / "out"
    command = [*NONET, "predict", run, many, "--out", out, "--views", "random:40", "--workers", "2"]
    require_quiet(interrupt(command, (out / "parts" / "000001.parquet").exists), 130)
    kept = sorted(path.name for path in (out / "parts").iterdir())
    assert 2 <= len(kept) < 24
    assert not (out / "predictions.csv").exists()
    done = predict(run, many, out=out, views="random:40", accelerator="cpu", num_workers=1)
    assert (done.num_images, done.num_unreadable) == (1500, 0)


TRAIN = """
import sys

from nonet.cli.ending import run_for_exit_status
from nonet.recipe import Recipe, load_recipe
from nonet.training.launch import train

if __name__ == "__main__":
    recipe = load_recipe(Recipe.model_validate_json(sys.argv[1]), ["train.epochs=1000"])
    devices = {"accelerator": "cpu", "devices": 2, "devices_per_member": 2}
    sys.exit(run_for_exit_status(lambda: train(recipe, sys.argv[2], out=sys.argv[3], **devices)))
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_no_process_of_a_training_outlives_it(make_recipe, tiny_dataset, tmp_path, number, status):
    """Killed, it cannot stop them: two that wait for each other would do so for half an hour."""
    (tmp_path / "script.py").write_text(TRAIN)
    run = tmp_path / "run"
    command = [sys.executable, tmp_path / "script.py", make_recipe().model_dump_json(), tiny_dataset.folder, run]

    def processes():
        return [one for one in psutil.process_iter(["environ"]) if str(run) in str(one.info["environ"])]

    begun = (run / "members" / "vit_mini" / "fold-0" / "state.pt").exists
    environment = os.environ | {"NONET_TEST_RUN": str(run)}  # which its processes inherit
    stopped = interrupt(command, begun, number=number, whole_group=False, seconds=300, env=environment)
    assert stopped[0] == status, stopped[1]
    assert not psutil.wait_procs(processes(), timeout=60)[1]
    if status > 0:
        require_quiet(stopped, status)
