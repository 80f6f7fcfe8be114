"""What requests carry: JSON of a known form, and files that are read as a stream."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

from anyio import to_thread
from fastapi import HTTPException, Request
from fastapi import Path as InPath
from pydantic import BaseModel, ConfigDict, Field

from nonet.artifacts.storage import writing_to

#: The largest integer that JavaScript and SQLite both hold exactly.
LARGEST = 2**53
#: A number in the address of a page.
Number = Annotated[int, InPath(ge=1, le=LARGEST)]
#: The version of something, as the person saw it; 0 before its first change.
Version = Annotated[int, Field(ge=0, le=LARGEST)]
#: A body that does not arrive: the connection would hold its place for ever.
_BODY_TIMEOUT_S = 600
_BLOCK_BYTES = 1 << 20
#: For `openapi_extra` of a route whose body is a file.
FILE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


class JsonBody(BaseModel):
    """A body in which every field is known and of its type."""

    model_config = ConfigDict(extra="forbid", strict=True)


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Return the body of a request.

    Raises
    ------
    HTTPException
        413 if it is larger; 408 if it does not arrive in time.
    """
    data = bytearray()
    try:
        async with asyncio.timeout(_BODY_TIMEOUT_S):
            async for block in request.stream():
                data += block
                if len(data) > max_bytes:
                    raise HTTPException(413, "The request is too large.")
    except TimeoutError as error:
        raise HTTPException(408, "The request did not arrive in time.") from error
    return bytes(data)


async def write_body(request: Request, file: Path, max_bytes: int) -> int:
    """Write the body of a request to a file as it arrives, and return its size; what is beyond the limit is dropped.

    Raises
    ------
    HTTPException
        408 if it does not arrive in time.
    StorageError
        If it cannot be written.
    """
    size, block = 0, bytearray()
    with writing_to(file), file.open("wb") as stream:
        try:
            async with asyncio.timeout(_BODY_TIMEOUT_S):
                async for part in request.stream():
                    size += len(part)
                    block += part if size <= max_bytes else b""
                    if len(block) >= _BLOCK_BYTES:
                        await to_thread.run_sync(stream.write, bytes(block))
                        block.clear()
        except TimeoutError as error:
            raise HTTPException(408, "The file did not arrive in time.") from error
        stream.write(block)
    return size
