"""The state of a member's training on disk, with its checksum and the state before, so damage is never trained on."""

import hashlib
import io
import logging
from pathlib import Path

import torch

from nonet.artifacts.integrity import get_fingerprints, reading
from nonet.artifacts.run import Member, written_whole
from nonet.errors import DamagedError

logger = logging.getLogger("nonet")

#: Bytes of SHA-256 at the beginning of the file, before what torch.save wrote.
DIGEST_SIZE = 32


def write_state(member: Member, state: dict) -> None:
    """Write state.pt; the one before becomes state.previous.pt.

    Parameters
    ----------
    member : Member
        Member being trained.
    state : dict
        Tensors, numbers, text, and lists and dicts of these.
    """
    state = state | {"member": member.name, "fingerprints": get_fingerprints(member.run)}
    with written_whole(member.state) as path:
        with path.open("wb") as file:
            file.write(bytes(DIGEST_SIZE))
            torch.save(state, file)
        digest = _digest(path)
        with path.open("r+b") as file:
            file.write(digest)
        if member.state.exists():
            member.state.replace(member.previous_state)


def read_state(member: Member, device: torch.device) -> dict | None:
    """Read the last state, or the one before if the last is damaged, with a warning.

    Parameters
    ----------
    member : Member
        Member to be resumed.
    device : torch.device
        Where to load tensors.

    Returns
    -------
    dict or None
        None if there is no intact state.

    Raises
    ------
    RunError
        If a file cannot be read at the moment, which is no reason to restart training.
    """
    for path in (member.state, member.previous_state):
        if not path.exists():
            continue
        try:
            return _read(path, member, device)
        except DamagedError as error:
            path.unlink(missing_ok=True)  # another process of this training may have removed it
            logger.warning(error.message)
            if path == member.previous_state or not member.previous_state.exists():
                logger.warning(f"No intact state of {member.name} is left: its training starts from the beginning.")
            else:
                logger.warning(f"{member.name} resumes from the previous state.")
    return None


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(DIGEST_SIZE)
        return hashlib.file_digest(file, "sha256").digest()


def _read(path: Path, member: Member, device: torch.device) -> dict:
    with reading(path, hint=""):
        content = path.read_bytes()
    if hashlib.sha256(memoryview(content)[DIGEST_SIZE:]).digest() != content[:DIGEST_SIZE]:
        raise DamagedError(f"{path} is damaged: its content does not match its checksum.")
    state = torch.load(io.BytesIO(memoryview(content)[DIGEST_SIZE:]), map_location=device, weights_only=True)
    if (state["member"], state["fingerprints"]) != (member.name, get_fingerprints(member.run)):
        raise DamagedError(f"{path} belongs to {state['member']}, or to another run.")
    return state
