"""The WBCBench challenge's submission: `ID,labels`, each ID of the sample submission once, in its order."""

import logging
from pathlib import Path, PurePosixPath

from nonet.artifacts.run import write_text
from nonet.cells import UNIDENTIFIED
from nonet.errors import DataError, did_you_mean

logger = logging.getLogger("nonet")

FORMATS = ("csv", "wbcbench")


def require_format(format: str, *, sample_submission: object, unreadable_label: object) -> None:
    """Check that a format is known and is given with the options that it needs, and no others.

    Parameters
    ----------
    format : str
        "csv" or "wbcbench".
    sample_submission, unreadable_label : object
        As given; None if not.

    Raises
    ------
    DataError
        Names the option.
    """
    if format not in FORMATS:
        hint = f"{did_you_mean(format, FORMATS)}Choose {' or '.join(FORMATS)}."
        raise DataError(f'Unknown format "{format}".', hint=hint)
    if format == "csv":
        for name, value in (("`sample_submission`", sample_submission), ("`unreadable_label`", unreadable_label)):
            if value is not None:
                raise DataError(
                    f"{name} has no effect without `format=wbcbench`.", hint="Leave it out, or add `format=wbcbench`."
                )
    elif sample_submission is None:
        raise DataError(
            "`format=wbcbench` needs the challenge's table of IDs.", hint="Add `sample_submission=phase2_test.csv`."
        )


def require_class(label: str, classes: list[str]) -> None:
    """Raise DataError if the class to submit for unreadable images is not one of the run's."""
    if label not in classes:
        raise DataError(
            f'`unreadable_label` "{label}" is not a class of the run.', hint=f"Classes: {', '.join(classes)}."
        )


def read_submission_ids(path: str | Path) -> list[str]:
    """Read the IDs of the challenge's sample submission.

    Parameters
    ----------
    path : path
        CSV with a column ID; its labels are ignored.

    Returns
    -------
    list of str

    Raises
    ------
    DataError
        If there is no such file or column, or an ID occurs twice.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise DataError(
            f"The sample submission {path} does not exist.", hint="Give the challenge's table: phase2_test.csv."
        )
    from nonet.data.sources.tables import read_table  # which imports pandas

    table = read_table(path)
    if "ID" not in table.columns:
        raise DataError(
            f"{path} has no column ID; it has {', '.join(map(str, table.columns))}.",
            hint="Give the challenge's table of the images to submit.",
        )
    ids = table["ID"][table["ID"] != ""]
    if ids.empty:
        raise DataError(f"{path} has no IDs.", hint="Give the challenge's table of the images to submit.")
    repeated = ids[ids.duplicated()]
    if len(repeated):
        raise DataError(
            f"{path} repeats {len(repeated)} IDs, first {repeated.iloc[0]}.", hint="Remove the rows that repeat an ID."
        )
    return ids.tolist()


def require_ids(ids: list[str], names: list[str]) -> None:
    """Check before predicting that each ID names one image.

    Parameters
    ----------
    ids : list of str
        As the sample submission has them.
    names : list of str
        Names of the images.

    Raises
    ------
    DataError
        If an ID has no image, or more than one.
    """
    _find_rows(ids, names)


def _find_rows(ids: list[str], names: list[str]) -> list[int]:
    """Return the index in `names` of each ID's image; an ID is a file name, with or without its suffix."""
    by_id: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        file = PurePosixPath(name.replace("\\", "/"))
        for key in {file.name, file.stem}:
            by_id.setdefault(key, []).append(row)
    missing = [one for one in ids if one not in by_id]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(ids)} IDs have no image to predict, first {missing[0]}.",
            hint="Predict the folder with the test images, or the dataset with `split=test`.",
        )
    twice = [one for one in ids if len(by_id[one]) > 1]
    if twice:
        rows = ", ".join(names[row] for row in by_id[twice[0]][:2])
        raise DataError(
            f"{len(twice)} of {len(ids)} IDs have more than one image, first {twice[0]}: {rows}.",
            hint="Predict one folder, or the dataset with `split=test`.",
        )
    return [by_id[one][0] for one in ids]


def write_submission(
    path: Path, ids: list[str], predictions: Path, classes: list[str], *, unreadable_label: str | None = None
) -> None:
    """Write submission.csv from predictions.csv, or nothing.

    The challenge requires a class for every image: unidentified cells are submitted as their most probable class.

    Parameters
    ----------
    path : Path
        File to write.
    ids : list of str
        In the order to submit; each a file name, with or without its suffix.
    predictions : Path
        predictions.csv.
    classes : list of str
        The run's classes.
    unreadable_label : str, optional
        Class to submit for images that could not be read. Without it they are an error: no class is made up silently.

    Raises
    ------
    DataError
        If an ID has no image, more than one, or an image that could not be read.
    """
    from nonet.artifacts.csv_files import read_csv

    table = read_csv(predictions, usecols=["image", "label", "best", "error"], dtype=str, keep_default_na=False)
    chosen = table.iloc[_find_rows(ids, table["image"].tolist())]
    unreadable = chosen[~chosen["best"].isin(classes)]
    if len(unreadable):
        if unreadable_label is None:
            raise DataError(
                f"{len(unreadable)} IDs have no label, first {unreadable['image'].iloc[0]}: "
                f"{unreadable['error'].iloc[0]} No submission was written.",
                hint="Replace these images (predictions.csv lists them), or give `unreadable_label`, a class.",
            )
        logger.warning(f"{len(unreadable)} unreadable images are submitted as {unreadable_label}.")
    unidentified = int((chosen["label"] == UNIDENTIFIED).sum())
    if unidentified:
        logger.warning(f"{unidentified:,} unidentified images are submitted as their most probable class.")
    labels = chosen["best"].where(chosen["best"].isin(classes), unreadable_label)
    lines = [f"{one},{label}" for one, label in zip(ids, labels, strict=True)]
    write_text(path, "\n".join(["ID,labels", *lines]) + "\n")
