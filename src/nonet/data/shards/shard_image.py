"""An image in a shard: a file as it is, with its name and its case; and the error of a shard that cannot be read."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from nonet.errors import DataError


class ShardImage(NamedTuple):
    """An image of a shard.

    Attributes
    ----------
    name : str
        In tables of predictions.
    path : str
        Where the file was, for messages.
    case : str
        Whose cells are counted together; "" where that is not known.
    data : bytes
        The file as it is, never encoded anew; empty for an empty file, and where there is an error.
    error : str
        Why it could not be read when the shard was made; usually "".
    """

    name: str
    path: str
    case: str
    data: bytes
    error: str = ""

    @property
    def source(self) -> bytes | DataError:
        """What is read: the bytes of the file, or why there are none."""
        return DataError(self.error) if self.error else self.data


class ShardFormat(NamedTuple):
    """How shards of one format are written and read, image by image.

    Attributes
    ----------
    suffix : str
        Of the files.
    write : callable
        Writes images to a path.
    read : callable
        Yields the images of a file in their order. Raises ShardError.
    """

    suffix: str
    write: Callable[[Path, Iterable[ShardImage]], None]
    read: Callable[[Path], Iterator[ShardImage]]


class ShardError(DataError):
    """A shard is missing, damaged, or not a shard; other shards may be intact."""
