"""Shards as Parquet: nonet's own, or with a column of images as data sets on the Hugging Face hub have it.

Rows are written in small groups, so that a reader needs little memory; each page has a checksum.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nonet.artifacts.integrity import reading
from nonet.data.shards.shard_image import ShardError, ShardImage

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

SUFFIX = ".parquet"
_ROWS, _BYTES = 64, 2**24  # a group of rows has no more; a single image may be larger
_BUFFER = 2**20
_HINT = 'Make it again: the same "nonet data shard" writes what is missing or damaged. Or copy it again.'


def write(path: Path, images: Iterable[ShardImage]) -> None:
    """Write images to a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = ("image", "path", "case", "error")
    schema = pa.schema([(name, pa.string()) for name in texts[:3]] + [("data", pa.binary()), ("error", pa.string())])
    group: list[ShardImage] = []
    with pq.ParquetWriter(
        path,
        schema,
        compression=dict.fromkeys(texts, "zstd") | {"data": "none"},  # images are compressed already
        use_dictionary=["case"],
        write_statistics=False,
        write_page_checksum=True,
    ) as writer:
        for image in images:
            group.append(image)
            if len(group) == _ROWS or sum(len(one.data) for one in group) >= _BYTES:
                writer.write_table(_to_table(group, schema))
                group = []
        if group:
            writer.write_table(_to_table(group, schema))


def _to_table(group: list[ShardImage], schema: "pa.Schema") -> "pa.Table":
    import pyarrow as pa

    rows = [(one.name, one.path, one.case, None if one.error else one.data, one.error) for one in group]
    return pa.Table.from_arrays(
        [pa.array(column, kind) for column, kind in zip(zip(*rows), schema.types)], schema=schema
    )


def read(path: Path) -> Iterator[ShardImage]:
    """Yield the images of a Parquet file: of nonet's, or with a column of structs of bytes and path."""
    import pyarrow.parquet as pq

    with (
        reading(path, hint=_HINT, kind=ShardError),
        pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False, page_checksum_verification=True) as file,
    ):
        layout = find_layout(file)
        if layout is None:
            raise ShardError(f"{path} has no column with the bytes of images.", hint=_HINT)
        others = [name for name in ("image", "image_id", "path", "case", "patient", "error") if name != layout]
        columns = [layout, *(name for name in others if name in file.schema_arrow.names)]
        row = 0
        for batch in file.iter_batches(_ROWS, columns=columns):
            for values in batch.to_pylist():
                yield _to_image(values, values.pop(layout), f"{path.stem}/{row:06d}")
                row += 1


def find_layout(file: "pq.ParquetFile") -> str | None:
    """Return the name of the column with the bytes of images; None if there is none.

    It is "data", or a column of structs with the field bytes, first of all "image".
    """
    import pyarrow as pa

    schema = file.schema_arrow
    binary = (pa.binary(), pa.large_binary())
    if "data" in schema.names and schema.field("data").type in binary:
        return "data"
    structs = [
        field.name
        for field in schema
        if pa.types.is_struct(field.type) and any(part.name == "bytes" and part.type in binary for part in field.type)
    ]
    return min(structs, key=lambda name: name != "image", default=None)


def has_images(path: Path) -> bool:
    """Whether a Parquet file holds images, not only names of them."""
    import pyarrow.parquet as pq

    with reading(path, hint="Give a Parquet file.", kind=ShardError), pq.ParquetFile(path) as file:
        return find_layout(file) is not None


def _to_image(values: dict[str, Any], content: Any, number: str) -> ShardImage:
    if isinstance(content, dict):
        data, inner = content["bytes"], content.get("path")
    else:
        data, inner = content, None
    names = (values.get("image"), values.get("image_id"), inner, values.get("path"), number)
    name = next(str(one) for one in names if one not in (None, ""))
    case = next((str(values[key]).strip() for key in ("case", "patient") if values.get(key) is not None), "")
    error = values.get("error") or ""
    path = str(values.get("path") or name)
    if data is None and not error:
        error = f"{path} has no bytes in its shard."
    return ShardImage(name, path, case, data or b"", str(error))
