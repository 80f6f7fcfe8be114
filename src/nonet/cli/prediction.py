"""`nonet predict`."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

import nonet
from nonet.artifacts.run import Run
from nonet.cli.options import Accelerator, documented_by
from nonet.cli.output import say
from nonet.errors import NonetError
from nonet.inference.backends.choice import BackendName
from nonet.inference.load import EffortName


@documented_by("predict")
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
) -> None:
    """
    Parameters
    ----------
    run : path
        A trained run.
    out : path
        Folder for the results. If interrupted, run the same command again to resume.
    """
    if not images:
        raise NonetError("There are no images to predict.", hint="Give files, folders, globs or a dataset.")
    if swapped := [image for image in images if Run(image).recipe.is_file()]:
        raise NonetError(f"{swapped[0]} is a run, not images.", hint="Write: nonet predict RUN IMAGES… --out FOLDER")
    Run(run).require()  # before the imports, which take seconds
    predictions = nonet.predict(
        run,
        images,
        out=out,
        views=views,
        split=split,
        case=case,
        case_from=case_from,
        format=format,
        sample_submission=sample_submission,
        unreadable_label=unreadable_label,
        adapt_priors=adapt_priors,
        accelerator=accelerator,
        backend=backend,
        effort=effort,
        num_workers=num_workers,
    )
    say(predictions)
    if predictions.num_to_retry:
        sys.exit(1)
