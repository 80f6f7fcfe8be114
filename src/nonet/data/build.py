"""`build_dataset`: from sources to a dataset folder. Every file ends up in the manifest or in excluded.csv.

What can be wrong with a call, and with its folders, is checked before what reads images is imported, which takes
seconds.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nonet.artifacts.storage import FolderKind, require_usable_folder
from nonet.data.gather import read_sources, require_sources
from nonet.data.num_folds import require_num_folds
from nonet.data.sources.columns import parse_columns
from nonet.data.sources.tables import require_table

if TYPE_CHECKING:
    from nonet.data.manifest import Dataset

#: How a dataset's folder is recognised; see `nonet.artifacts.storage.FolderKind`.
FOLDER = FolderKind(
    "dataset",
    main="dataset.json",
    keys={"format_version", "classes", "roots"},
    hint="Give a new or an empty folder as `out`, or that of an earlier build.",
)


def build_dataset(
    sources: str | list[str],
    out: str | Path,
    *,
    classes: str | list[str] | None = None,
    external: str | list[str] | tuple[str, ...] = (),
    paper: str | list[str] | tuple[str, ...] = (),
    decisions: str | Path | None = None,
    columns: str | list[str] | Mapping[str, str] | None = None,
    root: str | Path | None = None,
    labels: str | Path | None = None,
    layout: str | None = None,
    patient_from: str | None = None,
    unknown: str | list[str] | None = None,
    num_folds: int | None = None,
    num_workers: int | None = None,
) -> "Dataset":
    """Build a dataset from one or more sources: read every image, and write the manifest and what was left out.

    Images stay where they are; those inside tables, arrays or photographs of fields are written as files into the
    dataset's folder. Of exact copies with one label one is used; exact copies with different labels are all left out.

    Parameters
    ----------
    sources : str or list of str
        Each KIND:PATH or NAME=KIND:PATH; `nonet.list_sources()` lists the kinds.
    out : str or Path
        Folder of the dataset: new, empty, or a dataset, which is then replaced.
    classes : str or list of str, optional
        Class codes to keep, or "13" for nonet's thirteen. By default all labels; what a published data set has beyond
        the thirteen (promonocytes, undivided neutrophils) is left out unless its label is named here.
    external : str or list of str
        Names of sources to train on but leave out of every score.
    paper : str or list of str
        Names of sources to limit to the classes that the paper used of them.
    decisions : str or Path, optional
        CSV from review (image_id or path; keep, drop or relabel; label; note), applied before anything else and
        recorded in decided.csv.
    columns : str, list of str or mapping, optional
        For csv sources, nonet's name → the table's: {"path": "filename", "label": "cell_type"} or "path=filename,…".
    root : str or Path, optional
        For csv sources, the folder that paths are relative to; by default the table's own.
    labels : str or Path, optional
        CSV from,to that renames labels of the sources; an empty "to" leaves images out. Applied before `classes`.
    layout : str, optional
        For folder sources, what each level of folders is: "CLASS/PATIENT", "SPLIT/CLASS", ``PATIENT/*/CLASS``; by
        default classes, below folders named train, val, test if there are such.
    patient_from : str, optional
        For folder and csv sources, a regular expression for the path of an image without a patient: its first group
        is the patient.
    unknown : str or list of str, optional
        Labels to keep as unknown cell types: networks are not trained on them, but rejection learns from them. By
        default artefacts, erythroblasts, platelets and smudge cells (ART, ERB, GT, PLT, SMU), unless they are classes;
        "none" keeps none.
    num_folds : int, optional
        Folds that will be trained with: the checks report classes of fewer patients. By default the recipes'.
    num_workers : int, optional
        Threads that read images; by default one per core.

    Returns
    -------
    Dataset
        `summary()` says what is in it, and what the checks found; checks.html shows it, checks.json lists it.

    Raises
    ------
    DataError
        When a source, class or name does not exist, a decision is about none of the images or contradicts another, or
        no image is left.
    """
    out = Path(out).expanduser()
    require_num_folds(num_folds)
    require_usable_folder(out, FOLDER)
    for table in (decisions, labels):
        if table is not None:
            require_table(Path(table).expanduser())
    options = {"columns": parse_columns(columns), "root": root, "layout": layout}
    listings = read_sources(_as_list(sources), options)
    names = {row["source"] for listing in listings.values() for row in listing.rows}
    external, paper = _as_list(external), _as_list(paper)
    unknown = None if unknown is None else _as_list(unknown)
    for option, given in (("external", external), ("paper", paper)):
        if names:  # otherwise that there are no images is the error
            require_sources(names, given, option)
    from nonet.data.building import Selecting, build_listed

    selecting = Selecting(
        classes=classes,
        external=external,
        paper=paper,
        decisions=decisions,
        labels=labels,
        patient_from=patient_from,
        unknown=unknown,
    )
    return build_listed(listings, out, selecting, num_folds=num_folds, num_workers=num_workers)


def _as_list(names: str | list[str] | tuple[str, ...]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)
