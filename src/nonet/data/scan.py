"""Reading every image of a dataset, over all cores, for its size and SHA-256."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from nonet.data.images.decode import ImageFacts, describe_image
from nonet.errors import DataError
from nonet.progress import progress
from nonet.workers import worker_count

_DEEP = r"^(?:3 x )?[IF]|16|32|64"  # modes of more than 8 bits a value
AT_ONCE = 4096  # images waiting; bounds memory, not speed


def describe_images(
    paths: Sequence[Path], *, num_workers: int | None = None, description: str = "reading images"
) -> list[ImageFacts | DataError]:
    """Describe images in the order given; an image that cannot be read gives its error instead.

    Parameters
    ----------
    paths : of the images.
    num_workers : threads; by default one a core. Decoding and hashing leave Python's lock, so threads are enough, and
        unlike processes they start at once and need no `if __name__ == "__main__"` in the caller's script.
    description : of the progress bar.
    """
    found: list[ImageFacts | DataError] = []
    pool = ThreadPoolExecutor(worker_count(num_workers))
    try:
        with progress(total=len(paths), description=description, unit="images") as bar:
            for start in range(0, len(paths), AT_ONCE):
                for facts in pool.map(_describe, paths[start : start + AT_ONCE]):
                    found.append(facts)
                    bar.update()
    finally:
        pool.shutdown(cancel_futures=True)  # stopped by Ctrl-C, it does not wait for those that are queued
    return found


def sum_up_notes(table: pd.DataFrame) -> list[str]:
    """Say in sentences how many images have which kind of note, and where ranges of values differ within a source.

    Parameters
    ----------
    table : columns image_id, source, mode, note.
    """
    if table.empty:
        return []
    noted = table.assign(note=table["note"].str.split("; ")).explode("note")
    noted = noted[noted["note"] != ""]
    sentences = []
    for kind, rows in noted.groupby(noted["note"].str.split(":").str[0]):
        count = "1 image" if len(rows) == 1 else f"{len(rows):,} images"
        first = rows.iloc[0]
        sentences.append(f'{count} with the note "{kind}", first {first["image_id"]} ({first["note"]}).')
    deep = table[table["mode"].str.contains(_DEEP)]
    ranges = deep["note"].str.extract(r"(read as [^:,;]+)")[0].fillna("by their type")
    for source, used in ranges.groupby(deep["source"]):
        if used.nunique() > 1:
            counts = ", ".join(f"{count:,} {what}" for what, count in used.value_counts().items())
            sentences.append(
                f"Images of {source} with more than 8 bits are read by different ranges ({counts}). If one camera took "
                "them all, some come out too bright: convert them to 8 bits alike."
            )
    return sentences


def _describe(path: Path) -> ImageFacts | DataError:
    try:
        return describe_image(path)
    except DataError as error:
        return error
