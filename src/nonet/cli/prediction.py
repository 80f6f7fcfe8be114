"""`nonet predict`, of images and of shards."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

import nonet
from nonet.artifacts.run import Run
from nonet.artifacts.urls import as_url
from nonet.cli.options import Accelerator, EngineName, JobOptions, documented_by, option_name, parse_job_options
from nonet.cli.output import say
from nonet.errors import NonetError
from nonet.inference.backends.choice import BackendName
from nonet.inference.load import EffortName
from nonet.inference.shards import find_shards


@documented_by("predict_shards", "predict")
def predict(
    run: Path,
    *images: str,
    out: Path,
    views: str | None = None,
    split: str | None = None,
    case: str | None = None,
    case_from: Literal["column", "folder"] = "column",
    format: Literal["csv", "wbcbench"] = "csv",
    sample_submission: Path | None = None,
    unreadable_label: str | None = None,
    adapt_priors: Annotated[bool, Parameter(negative=())] = False,
    accelerator: Accelerator = "auto",
    backend: BackendName = "auto",
    effort: EffortName = "full",
    num_workers: int | None = None,
    on: EngineName = "local",
    address: str | None = None,
    devices: int | None = None,
    job: JobOptions | None = None,
) -> None:
    """
    Parameters
    ----------
    run : path
        A trained run; of shards, also in an object store ("s3://bucket/runs/first").
    images : str
        Files, folders, globs, a CSV with a column "path", or a dataset folder; or shards: a folder that "nonet data
        shard" wrote, Parquet files with images, or WebDataset archives (.tar).
    out : path
        Folder for the results; of shards, also in an object store. If interrupted, run the same command again to
        resume.
    on : {"local", "ray", "slurm"}
        What deals out the work if shards are predicted: this machine, a Ray cluster, or Slurm.
    devices : int
        Shards only: how many to predict at a time, on as many GPUs if they compute. Default: on this machine all its
        GPUs, or one process with all cores; on a cluster as many as there is room for.
    job : str
        An option of Slurm's sbatch, as in --job partition=gpu. May be repeated.
    """
    if not images:
        raise NonetError("There are no images to predict.", hint="Give files, folders, globs or a dataset.")
    if swapped := [image for image in images if Run(image).recipe.is_file()]:
        raise NonetError(f"{swapped[0]} is a run, not images.", hint="Write: nonet predict RUN IMAGES… --out FOLDER")
    if as_url(run) is None:
        Run(run).require()  # before the imports, which take seconds
    shared: dict[str, Any] = {"out": out, "views": views, "accelerator": accelerator, "backend": backend}
    shared |= {"effort": effort, "num_workers": num_workers}
    of_images: dict[str, Any] = {"split": split, "case": case, "case_from": case_from, "format": format}
    of_images |= {"sample_submission": sample_submission, "unreadable_label": unreadable_label}
    of_images |= {"adapt_priors": adapt_priors}
    of_shards: dict[str, Any] = {"on": on, "address": address, "devices": devices}
    of_shards["job"] = parse_job_options(job) or None
    if find_shards(images) is not None:
        _refuse(of_images, {"case_from": "column", "format": "csv", "adapt_priors": False}, _NOT_FOR_SHARDS)
        shards = nonet.predict_shards(run, images, **shared, **of_shards)
        say(shards)
        sys.exit(1 if shards.set_aside or shards.num_to_retry else 0)
    _refuse(of_shards, {"on": "local"}, _FOR_SHARDS)
    predictions = nonet.predict(run, images, **shared, **of_images)
    say(predictions)
    if predictions.num_to_retry:
        sys.exit(1)


_FOR_SHARDS = "is for shards, and these are images.", "Pack them first: nonet data shard IMAGES… --out SHARDS"
_NOT_FOR_SHARDS = (
    "is for images, and these are shards.",
    'Leave it out. Splits and cases are chosen when shards are made, by "nonet data shard".',
)


def _refuse(options: dict[str, Any], defaults: dict[str, Any], why: tuple[str, str]) -> None:
    """Raise NonetError if an option is given that does not go with what is predicted."""
    for name, value in options.items():
        if value != defaults.get(name):
            raise NonetError(f"--{option_name(name)} {why[0]}", hint=why[1])
