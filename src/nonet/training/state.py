"""The state of a member's training on disk: with its checksum, and the one before, so that no damage is trained on."""

import hashlib
import io
import logging
from pathlib import Path

import torch

from nonet.artifacts.integrity import get_fingerprints, reading
from nonet.artifacts.run import Member, written_whole
from nonet.errors import DamagedError

logger = logging.getLogger("nonet")

DIGEST_SIZE = 32  # bytes of SHA-256, before what torch.save wrote


def write_state(member: Member, state: dict) -> None:
    """Write state.pt; what it held becomes state.previous.pt."""
    state = state | {"member": member.name, "fingerprints": get_fingerprints(member.run)}
    with written_whole(member.state) as path:
        with path.open("wb") as file:
            file.write(bytes(DIGEST_SIZE))
            torch.save(state, file)
        digest = _digest_of(path)
        with path.open("r+b") as file:
            file.write(digest)
        if member.state.exists():
            member.state.replace(member.previous_state)


def read_state(member: Member, device: torch.device) -> dict | None:
    """Return what was last written, or the one before where that is damaged, with a warning; None where there is none.

    Raises
    ------
    RunError where a file cannot be read now: training must not start anew for that.
    """
    for path in (member.state, member.previous_state):
        if not path.exists():
            continue
        try:
            return _read(path, member, device)
        except DamagedError as error:
            path.unlink(missing_ok=True)  # another process of this training may have been first
            logger.warning(error.message)
            if path == member.previous_state or not member.previous_state.exists():
                logger.warning(f"No whole state of {member.name} is left: its training starts anew.")
            else:
                logger.warning(f"{member.name} resumes from the state before.")
    return None


def _digest_of(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(DIGEST_SIZE)
        return hashlib.file_digest(file, "sha256").digest()


def _read(path: Path, member: Member, device: torch.device) -> dict:
    with reading(path, hint=""):
        content = path.read_bytes()
    if hashlib.sha256(memoryview(content)[DIGEST_SIZE:]).digest() != content[:DIGEST_SIZE]:
        raise DamagedError(f"{path} is damaged: its checksum is not that of its content.")
    state = torch.load(io.BytesIO(memoryview(content)[DIGEST_SIZE:]), map_location=device, weights_only=True)
    if (state["member"], state["fingerprints"]) != (member.name, get_fingerprints(member.run)):
        raise DamagedError(f"{path} is of {state['member']}, or of another run.")
    return state
