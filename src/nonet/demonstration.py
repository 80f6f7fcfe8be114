"""`demo`: the whole workflow on drawn cells. Nothing is downloaded."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nonet.artifacts.run import write_json
from nonet.artifacts.storage import FolderKind, prepare_folder, read_json
from nonet.errors import RunError
from nonet.recipe import load_recipe

if TYPE_CHECKING:
    from nonet.demonstration_steps import DemoResult

NUM_TRAINING_IMAGES, NUM_TEST_IMAGES = 1200, 400


def demo(
    out: str | Path = "demo",
    *,
    seed: int = 0,
    num_training_images: int = NUM_TRAINING_IMAGES,
    num_test_images: int = NUM_TEST_IMAGES,
    settings: list[str] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> "DemoResult":
    """Run the whole workflow on drawn cells: check, denoise, fold, train nine tiny networks, evaluate, predict.

    Parameters
    ----------
    out : path
        Folder for the drawn cells, the run and the report. If interrupted, run the same command again to resume.
    seed : int
        Random seed of the drawing and the training.
    num_training_images : int
        Number of cells to draw for training.
    num_test_images : int
        Number of cells to draw for the corrupted test set, of other patients.
    settings : list of str, optional
        Changes to the recipe "demo", such as "train.epochs=2".
    say : callable
        Called with a line of text at each step.

    Returns
    -------
    DemoResult

    Raises
    ------
    RunError
        If `out` contains a demo with another seed or other numbers of cells.
    """
    out = Path(out).expanduser()
    requested = _requested(seed, num_training_images, num_test_images)
    recipe = load_recipe("demo", [f"train.seed={seed}", f"folds.seed={seed}", *(settings or [])])
    _require_same(out, requested)
    from nonet.demonstration_steps import run_demo  # only now: what it imports takes seconds

    return run_demo(out, recipe, requested, say)


def is_finished(out: Path, *, seed: int = 0) -> bool:
    """Return whether a folder has the finished demo of a seed, with the usual number of cells."""
    stored, requested = read_json(out / "demo.json"), _requested(seed, NUM_TRAINING_IMAGES, NUM_TEST_IMAGES)
    results = (out / "run" / "evaluation" / "report.html", out / "predictions" / "predictions.csv")
    is_same = all(stored.get(key) == value for key, value in requested.items())
    return is_same and "finished" in stored and all(path.is_file() for path in results)


def _requested(seed: int, num_training_images: int, num_test_images: int) -> dict[str, int]:
    return {"seed": seed, "training images": num_training_images, "test images": num_test_images}


def _require_same(out: Path, requested: dict[str, int]) -> None:
    """Refuse a folder with a demo of other cells: its dataset, folds and run would not match."""
    hint = "Give another folder: nonet demo FOLDER"
    prepare_folder(out, FolderKind("demo", main="demo.json", keys=set(requested), hint=hint))
    file = out / "demo.json"
    stored = read_json(file) or requested
    differing = [
        f"{key} was {stored.get(key)}, is {value}" for key, value in requested.items() if stored.get(key) != value
    ]
    if differing:
        raise RunError(
            f"{out} contains a demo of other cells: {', '.join(differing)}.",
            hint="Give another folder, or delete this one.",
        )
    write_json(file, requested)
