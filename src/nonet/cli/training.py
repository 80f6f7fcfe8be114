"""`nonet demo`, `nonet train` and `nonet calibrate`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import nonet
from nonet.artifacts.urls import as_url
from nonet.cli.common import is_quiet
from nonet.cli.options import (
    Accelerator,
    EngineName,
    JobOptions,
    Names,
    RunFolder,
    Settings,
    documented_by,
    parse_job_options,
)
from nonet.cli.output import say
from nonet.data.opening import require_dataset


@documented_by("demo")
def demo(
    out: Path = Path("demo"),
    *,
    seed: int = 0,
    serve: Annotated[bool, Parameter(negative=())] = False,
    port: int = 8765,
) -> None:
    """
    Parameters
    ----------
    serve : bool
        When the demo is finished, open the page on which its cases and its doubtful labels are reviewed, as "nonet
        serve" does. A demo that was finished before is opened at once.
    port : int
        Port of that page; 0 takes any free one.
    """
    from nonet.demonstration import is_finished
    from nonet.review.packages import import_packages

    out = out.expanduser()
    if serve:
        import_packages()  # a missing one is reported before the minutes of the demo
    if not (serve and is_finished(out, seed=seed)):
        result = nonet.demo(out, seed=seed, say=(lambda text: None) if is_quiet() else say)
        if is_quiet():
            say(f"Report: {result.report}")
    if serve:
        nonet.serve(out / "run", cases=[out / "predictions"], port=port)


@documented_by("train")
def train(
    recipe: str,
    dataset: Path,
    *,
    out: Path,
    settings: Settings | None = None,
    members: Names | None = None,
    on: EngineName = "local",
    accelerator: Accelerator = "auto",
    devices: int | None = None,
    devices_per_member: int = 1,
    address: str | None = None,
    job: JobOptions | None = None,
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
    members : str
        Train only this member, as in --member swinv2_tiny/fold-0. May be repeated. Several commands may train
        different members of a run at the same time; the one that trains the last completes the run.
    job : str
        Option of sbatch for Slurm's jobs, as in --job partition=gpu. May be repeated.
    """
    loaded = nonet.load_recipe(recipe, settings)  # a mistake in it, or in the dataset, is reported at once
    if as_url(dataset) is None:
        require_dataset(dataset.expanduser())
    run = nonet.train(
        loaded,
        dataset,
        out=out,
        members=members,
        on=on,
        accelerator=accelerator,
        devices=devices,
        devices_per_member=devices_per_member,
        address=address,
        job=parse_job_options(job),
    )
    place = as_url(out)
    if members and not run.ensemble.exists():
        say(f"Trained: {', '.join(members)}. Other members of {place or run} are left.")
    elif place:
        say(f'{place} is trained; its copy on this machine is {run}. Next: nonet evaluate "{run}"')
    else:
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
