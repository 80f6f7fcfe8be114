"""Small fixtures that many tests share: a folder of learnable pictures, the dataset made of it, a recipe for it."""

import os

import pytest
from hypothesis import HealthCheck, settings

from helpers.command_line import nonet, refused  # noqa: F401  (fixtures)
from helpers.pictures import draw_pictures
from helpers.stores import bucket, s3_server  # noqa: F401  (fixtures)

# Before torch is imported, and for processes that tests start: these networks are too small for threads to pay, and
# threads that wait for each other on a busy machine are slow.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How fast examples are made and tried is the machine's affair, and no matter of right or wrong.
settings.register_profile("nonet", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("nonet")


def pytest_addoption(parser):
    parser.addoption("--renew-golden", action="store_true", help="store the words of report and cards as they are now")


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory):
    """30 pictures of three classes and six patients. Shared: read it, change nothing in it."""
    from nonet.data.build import build_dataset

    folder = tmp_path_factory.mktemp("tiny")
    table = draw_pictures(folder / "pictures", {"EO": 6, "LY": 12, "SNE": 12})
    return build_dataset(f"csv:{table}", folder / "dataset")


@pytest.fixture
def without_drawings(monkeypatch):
    """Reports have empty figures, whose drawing takes four fifths of the time to evaluate a small run."""
    names = ("confusion_counts", "confusion_by_row", "class_counts", "mistakes", "samples", "training_curves")
    empty = dict.fromkeys((*names, "reliability", "robustness", "label_issues"), '<svg width="1pt"></svg>')
    monkeypatch.setattr("nonet.report.evaluation_files._draw", lambda found: dict(empty))


TINY_SETTINGS = {
    "name": "tiny",
    "denoise": {"enabled": False},
    "folds": {"num_folds": 2},
    "models": {"architectures": ["vit_mini"], "weights": "none", "image_size_px": 16, "head_widths": [16]},
    "optimiser": {"learning_rate_first": 1e-3, "learning_rate_last": 1e-5},
    "train": {"epochs": 2, "batch_size": 8, "ema_decay": 0.9, "keep": "last"},
    "augment": {"blur_sigma_px": 1.0, "motion_blur_px": 3},
    "predict": {"views": "dihedral"},
}


@pytest.fixture(scope="session")
def make_recipe():
    """A function of changed settings, like make_recipe("train.epochs=3"): two ViT-Minis at 16 px, two epochs."""
    from nonet.recipe import Recipe, load_recipe

    return lambda *settings: load_recipe(Recipe.model_validate(TINY_SETTINGS), list(settings))


@pytest.fixture(scope="session")
def tiny_run(tiny_dataset, make_recipe, tmp_path_factory):
    """A finished run of `make_recipe()` on `tiny_dataset`. Shared: copy it before changing anything in it."""
    from nonet.inference.load import load
    from nonet.training.launch import train

    run = train(make_recipe(), tiny_dataset, out=tmp_path_factory.mktemp("runs") / "tiny", accelerator="cpu")
    load(run, accelerator="cpu")  # converts its networks, which copies of it then need not do
    return run


@pytest.fixture(scope="session")
def random_run(tiny_run, tmp_path_factory):
    """`tiny_run` with weights that tell images apart. Shared: copy it before changing anything in it."""
    from helpers.networks import with_random_weights
    from nonet.inference.load import load

    run = with_random_weights(tiny_run, tmp_path_factory.mktemp("random") / "run")
    load(run, accelerator="cpu")
    return run
