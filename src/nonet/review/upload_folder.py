"""An upload and its folder, RUN/review/uploads/ID/: what was received, what was refused, and how far it has come.

upload.json says whose it is and its state, and is written whole; files.jsonl gets a line for each file once its pixels
are on disk as images/NUMBER.png. So what was acknowledged survives a kill at any moment, and what is half-written is
recognised: a picture without a line, or half a line at the end.
"""

import contextlib
import json
import logging
import os
import shutil
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

from nonet.artifacts.storage import TEMPORARY, read_json, writing_to
from nonet.review.database import now
from nonet.review.upload_files import display_names

logger = logging.getLogger("nonet")

State = Literal["receiving", "predicting", "done", "failed"]


@dataclass(frozen=True)
class Image:
    """An image of an upload.

    Attributes
    ----------
    number : int
        From 1; the file is images/NUMBER.png.
    name : str
        As it was sent, with its folders.
    sha256, num_bytes : str, int
        Of the file as it was sent.
    note : str
        What was unusual about it.
    """

    number: int
    name: str
    sha256: str
    num_bytes: int
    note: str = ""


@dataclass(frozen=True)
class Refusal:
    """A file of an upload that was not taken, and why."""

    name: str
    reason: str


@dataclass
class Upload:
    """An upload as it stands; `Uploads` changes it.

    Attributes
    ----------
    folder : Path
    case, owner : str
        Name of the case, and of who uploads it.
    state : {"receiving", "predicting", "done", "failed"}
    created_at, changed_at : str
        ISO 8601, UTC.
    reason : str
        Why it failed.
    case_id : int or None
        Of the case that it has become.
    images : dict of (str, str) to Image
        Name and SHA-256 → image.
    refused : list of Refusal
        The first `MAX_LISTED`.
    num_refused : int
    num_arriving : int
        Files that are being received now.
    """

    folder: Path
    case: str
    owner: str
    state: State = "receiving"
    created_at: str = ""
    changed_at: str = ""
    reason: str = ""
    case_id: int | None = None
    images: dict[tuple[str, str], Image] = field(default_factory=dict)
    refused: list[Refusal] = field(default_factory=list)
    num_refused: int = 0
    num_arriving: int = 0
    is_deleted: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def id(self) -> str:
        """Number, 32 hexadecimal digits that cannot be guessed."""
        return self.folder.name

    @property
    def is_open(self) -> bool:
        """Whether it is not finished."""
        return self.state in ("receiving", "predicting") and not self.is_deleted

    @property
    def table(self) -> Path:
        """The list of its images, as `predict` takes it."""
        return self.folder / "images.parquet"

    @property
    def predictions(self) -> Path:
        """The folder of its predictions."""
        return self.folder / "predictions"

    def in_order(self) -> list[Image]:
        """Return its images by number."""
        return sorted(self.images.values(), key=lambda each: each.number)

    def shown_names(self) -> list[str]:
        """Return the name that each image is shown under, different ones for all, in that order."""
        return display_names([each.name for each in self.in_order()])

    def picture(self, number: int) -> Path:
        """Return the file of an image."""
        return self.folder / "images" / f"{number:05d}.png"


def last_touched(upload: Upload) -> str:
    """Return when its state changed or a file arrived, whichever was later."""
    try:
        written = (upload.folder / "files.jsonl").stat().st_mtime
    except OSError:
        return upload.changed_at
    return max(upload.changed_at, datetime.fromtimestamp(written, UTC).isoformat(timespec="milliseconds"))


def save(upload: Upload) -> None:
    """Write upload.json, and return once it is on disk."""
    upload.changed_at = now()
    names = ("case", "owner", "state", "created_at", "changed_at", "reason", "case_id")
    text = json.dumps({name: getattr(upload, name) for name in names}, indent=2) + "\n"
    write(upload.folder / "upload.json", text.encode())


def write(file: Path, data: bytes) -> None:
    """Write a file whole, and return once it is on disk under its name."""
    temporary = file.with_name(f"{TEMPORARY}{file.name}")
    with writing_to(file):
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
        sync_folder(file.parent)


def append(upload: Upload, facts: dict) -> None:
    """Add a line to files.jsonl, and return once it is on disk; a line that could not be written leaves nothing."""
    file = upload.folder / "files.jsonl"
    with writing_to(file), file.open("ab") as stream:
        size = stream.tell()
        try:
            stream.write(json.dumps(facts).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(file, size)
            raise


def sync_folder(folder: Path) -> None:
    """Return once the names of what is in a folder are on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(folder: Path) -> None:
    """Remove an upload; the file that makes it one goes first, so that half of it is never read as a whole."""
    (folder / "upload.json").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def read_upload(folder: Path) -> Upload | None:
    """Return the upload in a folder as it was acknowledged, without what is half-written; None if it is not one."""
    file = folder / "upload.json"
    if not file.exists():  # killed while it was begun or deleted
        shutil.rmtree(folder, ignore_errors=True)
        return None
    facts = read_json(file)
    try:
        if facts.get("state") not in get_args(State):
            raise ValueError
        upload = Upload(folder, **facts)
        _read_files(upload)
    except (KeyError, TypeError, ValueError):  # edited, or damaged by the disk: nonet writes both files whole
        logger.warning(f"{file} or files.jsonl is damaged; this upload is left as it is.")
        return None
    (folder / "arriving").mkdir(exist_ok=True)
    for leftover in (*folder.glob(f"{TEMPORARY}*"), *folder.glob(f"images/{TEMPORARY}*"), *folder.glob("arriving/*")):
        leftover.unlink(missing_ok=True)
    if upload.state == "receiving":
        upload.picture(len(upload.images) + 1).unlink(missing_ok=True)  # its line was not written
    return upload


def _read_files(upload: Upload) -> None:
    file = upload.folder / "files.jsonl"
    if not file.exists():
        return
    data = file.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        os.truncate(file, len(whole))
    for line in whole.splitlines():
        facts = json.loads(line)
        if "refused" in facts:
            upload.refused.append(Refusal(facts["refused"], facts["reason"]))
        else:
            upload.images[facts["name"], facts["sha256"]] = Image(**facts)
    upload.num_refused = len(upload.refused)
