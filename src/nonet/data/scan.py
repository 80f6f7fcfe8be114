"""Reading every image of a dataset in parallel: its size, checksum and statistics."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pandas as pd

from nonet.data.images.decode import ImageFacts, describe_image
from nonet.data.images.image_stats import ImageStats
from nonet.data.selection import Selection
from nonet.errors import DataError, UnreadableNowError, counted
from nonet.progress import progress
from nonet.workers import map_in_threads, worker_count

NOT_NOW = "could not be read now"  # a reason in excluded.csv that may pass
_DEEP = r"^(?:3 x )?[IF]|16|32|64"  # modes of more than 8 bits per value


def describe_images(
    paths: Sequence[Path], *, num_workers: int | None = None, description: str = "reading images"
) -> list[ImageFacts | DataError]:
    """Describe images in the given order.

    Parameters
    ----------
    paths : sequence of Path
    num_workers : int, optional
        Threads; by default one per core.
    description : str
        Of the progress bar.

    Returns
    -------
    list of ImageFacts or DataError
        The error where an image cannot be read.
    """
    results: list[ImageFacts | DataError] = []
    with (
        progress(total=len(paths), description=description, unit="images") as bar,
        closing(map_in_threads(_describe, paths, worker_count(num_workers))) as described,
    ):
        for result in described:
            results.append(result)
            bar.update()
    return results


def read_images(selection: Selection, roots: dict[str, Path], num_workers: int | None) -> dict[str, ImageStats]:
    """Read every image, and exclude those that are missing, unreadable or not what their table says.

    Parameters
    ----------
    selection : Selection
        Its rows get the columns width, height, mode, num_bytes, sha256 and note.
    roots : dict
        Source → folder that paths are relative to.
    num_workers : int or None
        Threads; None is one per core.

    Returns
    -------
    dict
        image_id → ImageStats.
    """
    rows = selection.rows
    paths = [roots[source] / path for source, path in zip(rows["source"], rows["path"])]
    problems: dict[object, str] = {}
    facts: list[ImageFacts] = []
    results = describe_images(paths, num_workers=num_workers)
    for index, path, expected, result in zip(rows.index, paths, rows["sha256"], results):
        if isinstance(result, DataError):
            problems[index] = _unreadable_reason(path, result)
        elif isinstance(expected, str) and expected != result.sha256:
            problems[index] = f"changed: its sha256 is {result.sha256}, its table says {expected}"
        else:
            facts.append(result)
    selection.exclude_each(problems)
    rows = selection.rows
    for column in ("width", "height", "mode", "num_bytes", "sha256", "note"):
        rows[column] = [getattr(each, column) for each in facts]
    num_later = sum(reason.startswith(NOT_NOW) for reason in problems.values())
    if num_later:
        selection.notes.append(
            f"{num_later:,} {'image' if num_later == 1 else 'images'} could not be read now, for a reason that may "
            "pass. Once they can be read, run the same command again."
        )
    for mode, count in rows.loc[rows["mode"] != "RGB", "mode"].value_counts().sort_index().items():
        images = counted(count, "image is", "images are")
        selection.notes.append(f"{images} stored as {mode} and read as RGB, 8 bits per channel.")
    selection.notes += summarise_notes(rows)
    return dict(zip(rows["image_id"], (each.stats for each in facts)))


def summarise_notes(table: pd.DataFrame) -> Iterator[str]:
    """Summarise how many images have which kind of note, and where value ranges differ within a source.

    Parameters
    ----------
    table : DataFrame
        Columns image_id, source, mode, note.

    Yields
    ------
    str
    """
    if table.empty:
        return
    noted = table.assign(note=table["note"].str.split("; ")).explode("note")
    noted = noted[noted["note"] != ""]
    for kind, rows in noted.groupby(noted["note"].str.split(":").str[0]):
        count = counted(len(rows), "image", "images")
        first = rows.iloc[0]
        yield f'{count} with the note "{kind}", first {first["image_id"]} ({first["note"]}).'
    deep = table[table["mode"].str.contains(_DEEP)]
    ranges = deep["note"].str.extract(r"(read as [^:,;]+)")[0].fillna("by their type")
    for source, used in ranges.groupby(deep["source"]):
        if used.nunique() > 1:
            counts = ", ".join(f"{count:,} {name}" for name, count in used.value_counts().items())
            yield (
                f"Images of {source} with more than 8 bits are read with different value ranges ({counts}). If one "
                "camera took them all, some come out too bright: convert them all to 8 bits in the same way."
            )


def _describe(path: Path) -> ImageFacts | DataError:
    try:
        return describe_image(path)
    except DataError as error:
        return error


def _unreadable_reason(path: Path, error: DataError) -> str:
    if isinstance(error.__cause__, FileNotFoundError):
        return f"missing: {path} does not exist"
    if isinstance(error, UnreadableNowError):
        return f"{NOT_NOW}: {error.message}"
    return f"unreadable: {error.message}"
