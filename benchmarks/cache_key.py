"""Keys of cached files, so that a second call never reuses results of other weights or images."""

import hashlib
from pathlib import Path


def digest(*parts: str | Path) -> str:
    """Return the first 12 hexadecimal digits of the SHA-256 over texts and file contents."""
    hashed = hashlib.sha256()
    for part in parts:
        data = part.read_bytes() if isinstance(part, Path) else part.encode()
        hashed.update(len(data).to_bytes(8, "little") + data)
    return hashed.hexdigest()[:12]
