"""The commands of `nonet data`."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

import nonet
from nonet.cli.options import DatasetFolder, Names, documented_by, split_commas
from nonet.cli.output import in_columns, say
from nonet.errors import NonetError
from nonet.inference.sharding import IMAGES_PER_SHARD, FormatName


@documented_by()
def sources(name: str | None = None) -> None:
    """
    Parameters
    ----------
    name : str
        A source to describe. Default: list them all.
    """
    from nonet.data.sources.catalogue import source_rows

    say(in_columns(source_rows()) if name is None else nonet.describe_source(name))


@documented_by("fetch_source")
def fetch(name: str, *, out: Path, variant: str | None = None) -> None:
    """
    Parameters
    ----------
    name : str
        Name of a source; "nonet data sources" lists them and says which can be downloaded.
    out : path
        Folder to download to; "nonet data build NAME:FOLDER" reads it.
    """
    say(nonet.fetch_source(name, out, variant=variant))


@documented_by("build_dataset")
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
    unknown: Names | None = None,
    num_folds: int | None = None,
    num_workers: int | None = None,
) -> None:
    """
    Parameters
    ----------
    sources : str
        KIND:PATH or NAME=KIND:PATH; KIND is folder (a subfolder per class), csv (path,label and, where known,
        patient,source,split), wbcbench (the challenge's folder) or another that "nonet data sources" lists.
    columns : str
        For csv sources whose columns have other names: path=filename,label=cell_type,patient=case.
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
        unknown=split_commas(unknown),
        num_folds=num_folds,
        num_workers=num_workers,
    )
    say(dataset.summary())


@documented_by("check_dataset")
def check(dataset: DatasetFolder, *, num_folds: int | None = None, num_workers: int | None = None) -> None:
    """
    Parameters
    ----------
    dataset : path
        Folder made by "nonet data build".
    """
    report = nonet.check_dataset(dataset, num_folds=num_folds, num_workers=num_workers)
    say(report)
    if not report.ok:
        sys.exit(1)


@documented_by("shard_images")
def shard(
    *images: str,
    out: Path,
    format: FormatName = "parquet",
    images_per_shard: int = IMAGES_PER_SHARD,
    split: str | None = None,
    case: str | None = None,
    case_from: Literal["column", "folder"] = "column",
    num_workers: int | None = None,
) -> None:
    if not images:
        raise NonetError("There are no images to pack.", hint="Give files, folders, globs or a dataset.")
    shards = nonet.shard_images(
        images,
        out=out,
        format=format,
        images_per_shard=images_per_shard,
        split=split,
        case=case,
        case_from=case_from,
        num_workers=num_workers,
    )
    say(shards)
    if shards.num_to_retry:
        sys.exit(1)


@documented_by()
def folds(
    dataset: DatasetFolder,
    *,
    num_folds: int = 3,
    by: Literal["patient", "image"] = "patient",
    seed: int = 0,
    hold_out_external: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """
    Parameters
    ----------
    dataset : path
        Folder made by "nonet data build".
    num_folds : int
        Number of folds.
    by : {"patient", "image"}
        patient keeps all cells of a patient in one fold; image does not.
    seed : int
        Random seed of the shuffle.
    hold_out_external : bool
        Also assign external images (see --external of "nonet data build") to folds. The recipe must set
        folds.hold_out_external = true, as "paper" does.
    """
    from nonet.data.num_folds import require_num_folds

    require_num_folds(num_folds)
    path = Path(dataset) / "folds.csv"
    if path.exists():
        raise NonetError(f"{path} already exists.", hint="Delete it first to make new folds.")
    from nonet.data.folds import make_folds, write_folds  # only now: scikit-learn takes seconds to import

    opened = nonet.Dataset.open(dataset)
    table, notes = make_folds(
        opened.manifest, num_folds=num_folds, by=by, seed=seed, hold_out_external=hold_out_external
    )
    write_folds(path, table)
    say("\n".join([f"{path}: {num_folds} folds by {by}.", *notes]))
