"""The verbs of `nonet data`: each calls the public function that it is named after."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

import nonet
from nonet.cli.ending import say
from nonet.cli.words import DatasetFolder, Names, in_columns, split_commas
from nonet.errors import NonetError

verbs = App(name="data", help="Make and check datasets.")


@verbs.command
def sources(name: str | None = None) -> None:
    """List the data sets that nonet reads, or say everything about one: labels, licence, what to get, where to put it.

    Parameters
    ----------
    name
        One of them.
    """
    say(in_columns(nonet.list_sources()) if name is None else nonet.describe_source(name))


@verbs.command
def fetch(name: str, *, out: Path, variant: str | None = None) -> None:
    """Download a published data set and check it. If interrupted, run the same command again to resume.

    Parameters
    ----------
    name
        Name of a source; "nonet data sources" lists them and says which can be fetched.
    out
        Folder to download to; "nonet data build NAME:FOLDER" reads it.
    variant
        Which variant, for example 224 of bloodmnist. Default: the first.
    """
    say(nonet.fetch_source(name, out, variant=variant))


@verbs.command
def build(
    *sources: str,
    out: Path,
    classes: Names | None = None,
    external: Names | None = None,
    paper: Names | None = None,
    decisions: Path | None = None,
    columns: Names | None = None,
    root: Path | None = None,
    labels: Path | None = None,
    layout: str | None = None,
    patient_from: str | None = None,
    num_folds: int | None = None,
    workers: int | None = None,
) -> None:
    """Make a dataset from one or more sources: read every image, write the manifest, summarise it.

    Leaks and shortcuts that would spoil training are reported, with pictures in checks.html, before folds are drawn.

    Parameters
    ----------
    sources
        KIND:PATH or NAME=KIND:PATH; KIND is folder (a subfolder a class), csv (path,label and, where known,
        patient,source,split), wbcbench (the challenge's folder) or another that "nonet data sources" lists.
    out
        The dataset's folder. Images stay where they are; those inside tables or photographs of fields are written here.
    classes
        Class codes to keep, or 13 for nonet's thirteen; other labels are left out and listed. By default all labels;
        what a published set has beyond the thirteen is left out unless it is named here.
    external
        Names of sources to train on but leave out of every score.
    paper
        Names of sources of which only those images are kept that the paper takes.
    decisions
        CSV from review: image_id (or path), decision (keep, drop, relabel), label, note. Applied first and recorded.
    columns
        Of csv sources, where their columns have other names: path=filename,label=cell_type,patient=case.
    root
        Of csv sources, the folder that paths are relative to; by default the table's own.
    labels
        CSV with columns from,to that renames labels of the sources; where "to" is empty, their images are left out.
    layout
        Of folder sources, what each level of folders names: CLASS/PATIENT, SPLIT/CLASS, PATIENT/*/CLASS. By default
        classes, below train, val, test where folders are named so.
    patient_from
        Regular expression that finds the patient in an image's path: its first group, as in "(P[0-9]+)_". For images
        of folder and csv sources whose patient is not given.
    num_folds
        Number of folds you will train with: classes with fewer patients are reported. Default: 3, as in the recipes.
    workers
        Number of processes that read images. Default: one per core.
    """
    dataset = nonet.build_dataset(
        list(sources),
        out,
        classes=split_commas(classes),
        external=split_commas(external) or (),
        paper=split_commas(paper) or (),
        decisions=decisions,
        columns=split_commas(columns),
        root=root,
        labels=labels,
        layout=layout,
        patient_from=patient_from,
        num_folds=num_folds,
        num_workers=workers,
    )
    say(dataset.summary())


@verbs.command
def check(dataset: DatasetFolder, *, num_folds: int | None = None, workers: int | None = None) -> None:
    """Read every image of a dataset again and report missing, changed and unreadable ones. Exit status 1 if any.

    Then the checks of the build: near duplicates across patients, labels or splits, labels that can be told from size,
    border or file order, classes too small to score; in words, in DATASET/checks.html and in checks.json.

    Parameters
    ----------
    dataset
        Folder made by "nonet data build".
    num_folds
        Number of folds you will train with: classes with fewer patients are reported. Default: 3, as in the recipes.
    workers
        Number of processes that read images. Default: one per core.
    """
    report = nonet.check_dataset(dataset, num_folds=num_folds, num_workers=workers)
    say(report)
    if not report.ok:
        sys.exit(1)


@verbs.command
def folds(
    dataset: DatasetFolder,
    *,
    num_folds: int = 3,
    by: Literal["patient", "image"] = "patient",
    seed: int = 0,
    hold_out_external: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Write DATASET/folds.csv, to inspect or edit by hand; "nonet train" uses it.

    Parameters
    ----------
    dataset
        Folder made by "nonet data build".
    num_folds
        Number of folds.
    by
        patient keeps a patient's cells together; image does not.
    seed
        Random seed of the shuffle.
    hold_out_external
        Divide the images of sources named by --external, too. The recipe must have folds.hold_out_external = true, as
        "paper" has.
    """
    from nonet.data.folds import make_folds, write_folds

    opened = nonet.Dataset.open(dataset)
    made, notes = make_folds(
        opened.manifest, num_folds=num_folds, by=by, seed=seed, hold_out_external=hold_out_external
    )
    path = Path(dataset) / "folds.csv"
    if path.exists():
        raise NonetError(f"{path} is there already.", hint="Delete it first, if it is not wanted.")
    write_folds(path, made)
    say("\n".join([f"{path}: {num_folds} folds by {by}.", *notes]))
