"""Shards as WebDataset: a tar archive with KEY.jpg and KEY.json, the name and case of the image, one after the other.

Archives of others are read as well: files that follow one another and have one key are one image. Nothing is unpacked
to disk.
"""

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from nonet.artifacts.integrity import UNPARSABLE, cannot_read
from nonet.artifacts.system_files import is_leftover
from nonet.data.images.files import MAX_BYTES
from nonet.data.images.formats import IMAGE_SUFFIXES, is_named_as_image
from nonet.data.shards.shard_image import ShardError, ShardImage
from nonet.data.sources.paths import valid_unicode

SUFFIX = ".tar"
_HINT = 'Make it again: the same "nonet data shard" writes what is missing or damaged. Or copy it again.'
_MAX_JSON = 2**20
_PIECE = 2**20


def write(path: Path, images: Iterable[ShardImage]) -> None:
    """Write images to a tar archive; the same images give the same bytes."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for row, image in enumerate(images):
            about = {"name": image.name, "path": image.path, "case": image.case}
            if image.error:
                about["error"] = image.error
            else:
                suffix = PurePosixPath(image.path).suffix.lower()
                _add(archive, f"{row:06d}{suffix if suffix in IMAGE_SUFFIXES else '.jpg'}", image.data)
            _add(archive, f"{row:06d}.json", json.dumps(about).encode())


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def read(path: Path) -> Iterator[ShardImage]:
    """Yield the images of a tar archive.

    Of the files of one key, the first that is named as an image counts, and KEY.json where it holds a name or a case. A
    key without an image is an image with an error.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            key, group = "", _Group()
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # else the list grows with the archive
                if member.isdir() or any(map(is_leftover, PurePosixPath(member.name).parts)):
                    continue
                own_key = _key(member.name)
                if own_key != key and group.began:
                    yield group.image()
                    group = _Group()
                key = own_key
                group.add(archive, member)
            if group.began:
                yield group.image()
            assert archive.fileobj is not None
            _require_end(path, archive.fileobj, archive.offset)
    except tarfile.TarError as error:
        raise ShardError(f"{path} is damaged or cut short: {error}.", hint=_HINT) from error
    except FileNotFoundError as error:
        raise ShardError(f"{path} is missing.", hint=_HINT) from error
    except OSError as error:
        raise cannot_read(path, error, ShardError) from error


def _key(name: str) -> str:
    """Return what the files of an image share, as WebDataset defines it: the path up to the first dot of the name."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _require_end(path: Path, file: Any, offset: int) -> None:
    """Check that reading stopped at an end marker, and not at damage, which `tarfile` passes over in silence."""
    file.seek(offset)
    marker = file.read(tarfile.BLOCKSIZE)
    if len(marker) < tarfile.BLOCKSIZE or any(marker):
        raise ShardError(f"{path} is damaged or cut short at byte {offset:,}.", hint=_HINT)
    while piece := file.read(_PIECE):
        if piece.count(0) != len(piece):
            raise ShardError(
                f"{path} has more files behind its end, as if archives had been concatenated.",
                hint="Unpack it, and pack it as one archive.",
            )


class _Group:
    """The files of one key."""

    def __init__(self) -> None:
        self.began = False
        self._first = self._file = self._error = ""
        self._data: bytes | None = None
        self._about: dict[str, str] = {}

    def add(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        name = valid_unicode(member.name)
        if not self.began:
            self.began, self._first = True, name
        if name.lower().endswith(".json") and member.isreg() and member.size <= _MAX_JSON:
            self._about = _parse(_content(archive, member)) or self._about
        elif is_named_as_image(name) and not self._file:
            self._file = name
            if not member.isreg():
                self._error = f"{name} is a link or a special file, not a file."
            elif member.size > MAX_BYTES:
                self._error = f"{name} has {member.size:,} bytes, more than the {MAX_BYTES:,} allowed."
            else:
                self._data = _content(archive, member)

    def image(self) -> ShardImage:
        about = self._about
        name = about.get("name") or self._file or self._first
        error = about.get("error") or self._error
        if self._data is None and not error:
            error = f"{name} has no image in its shard."
        path = about.get("path") or name
        return ShardImage(name, path, about.get("case", ""), b"" if error else self._data or b"", error)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None  # it is a regular file
    data = file.read()
    if len(data) != member.size:
        raise tarfile.ReadError(f"{member.name} has {len(data):,} of its {member.size:,} bytes")
    return data


def _parse(text: bytes) -> dict[str, str]:
    """Return the texts of the object in JSON, as UTF-8 can store them; {} if it is something else."""
    try:
        about = json.loads(text)
    except UNPARSABLE:
        return {}
    items = about.items() if isinstance(about, dict) else ()
    return {key: value.encode("utf-8", "replace").decode() for key, value in items if isinstance(value, str)}
