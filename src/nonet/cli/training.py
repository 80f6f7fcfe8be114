"""`nonet demo`, `nonet train` and `nonet calibrate`."""

from pathlib import Path

import nonet
from nonet.cli.common import is_quiet
from nonet.cli.options import Accelerator, RunFolder, Settings, documented_by
from nonet.cli.output import say
from nonet.data.opening import require_dataset


@documented_by("demo")
def demo(out: Path = Path("demo"), *, seed: int = 0) -> None:
    result = nonet.demo(out, seed=seed, say=(lambda text: None) if is_quiet() else say)
    if is_quiet():
        say(f"Report: {result.report}")


@documented_by("train")
def train(
    recipe: str,
    dataset: Path,
    *,
    out: Path,
    settings: Settings | None = None,
    accelerator: Accelerator = "auto",
    devices: int = 1,
) -> None:
    """
    Parameters
    ----------
    recipe : str
        Name of a built-in recipe ("nonet recipes" lists them), or a TOML file.
    dataset : path
        Folder made by "nonet data build". If it contains folds.csv, those folds are used.
    settings : str
        Change a setting, as in --set train.epochs=5. May be repeated.
    """
    loaded = nonet.load_recipe(recipe, settings)  # a mistake in it, or in the dataset, is reported at once
    require_dataset(dataset.expanduser())
    run = nonet.train(loaded, dataset, out=out, accelerator=accelerator, devices=devices)
    say(f'{run} is trained. Next: nonet evaluate "{run}"')


@documented_by("calibrate")
def calibrate(run: RunFolder, *, settings: Settings | None = None) -> None:
    """
    Parameters
    ----------
    settings : str
        Change a setting of [calibrate], as in --set calibrate.coverage=0.95. May be repeated. Changes made by earlier
        calls stay.
    """
    fitted = nonet.calibrate(run, settings=settings)
    say(f"{nonet.Run(run).ensemble}: {fitted}")
