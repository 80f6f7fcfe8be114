"""Reading every image of a dataset, over all cores, for its size and SHA-256."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nonet.data.images import ImageFacts, describe_image
from nonet.errors import DataError
from nonet.processors import num_processors
from nonet.progress import progress

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
    num_threads = max(1, num_processors() if num_workers is None else num_workers)
    found: list[ImageFacts | DataError] = []
    pool = ThreadPoolExecutor(num_threads)
    try:
        with progress(total=len(paths), description=description, unit="images") as bar:
            for start in range(0, len(paths), AT_ONCE):
                for facts in pool.map(_describe, paths[start : start + AT_ONCE]):
                    found.append(facts)
                    bar.update()
    finally:
        pool.shutdown(cancel_futures=True)  # stopped by Ctrl-C, it does not wait for those that are queued
    return found


def _describe(path: Path) -> ImageFacts | DataError:
    try:
        return describe_image(path)
    except DataError as error:
        return error
