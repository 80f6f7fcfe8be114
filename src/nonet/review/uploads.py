"""The folder of uploads, RUN/review/uploads/ID/: what was received, what was refused, and how far each has come.

upload.json says whose it is and its state, and is written whole; files.jsonl gets a line for each file once its pixels
are on disk as images/NUMBER.png. So what was acknowledged survives a kill at any moment, and what is half-written is
recognised: a picture without a line, or half a line at the end.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import threading
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from nonet.artifacts.storage import TEMPORARY, read_json, writing_to
from nonet.artifacts.system_files import is_leftover
from nonet.data.images.file_kinds import HEAD_BYTES
from nonet.differential.count import NO_CASE
from nonet.errors import DataError, printable
from nonet.review.access import User
from nonet.review.records import NotFoundError, ReviewError, translatable
from nonet.review.store import Store
from nonet.review.upload_files import (
    MAX_FILE_BYTES,
    MAX_NAME,
    MAX_ZIP_BYTES,
    TOO_LARGE,
    clean_name,
    display_names,
    encode,
    is_zip,
    unpack,
)

logger = logging.getLogger("nonet")

State = Literal["receiving", "predicting", "done", "failed"]
MAX_OPEN = 20
MAX_IMAGES = 10_000
#: Refused files that are listed; the others are counted.
MAX_LISTED = 1000
MIN_FREE_BYTES = 1_000_000_000
ABANDONED_AFTER = timedelta(days=7)
_ID = re.compile(r"[0-9a-f]{32}")
_FULL = translatable("The case has 10,000 images already.")


class BadCaseNameError(ReviewError):
    """The name of a case cannot be used."""

    words = translatable("The name of a case has 1 to 200 characters.")


class CaseExistsError(ReviewError):
    """A case, or an upload that is not finished, has the name already."""

    status = 409
    words = translatable('A case "{name}" exists already.')
    what_to_do = translatable("Give this one another name.")


class TooManyUploadsError(ReviewError):
    """Too many uploads are not finished."""

    status = 409
    words = translatable("{num} uploads are not finished, and no more can be open at once.")
    what_to_do = translatable("Finish or delete some of them first.")


class UploadClosedError(ReviewError):
    """An upload takes no more files, or cannot be deleted: it is being predicted, or is done."""

    status = 409
    words = translatable("This upload is closed: its cells are being predicted, or are a case already.")


class StillReceivingError(ReviewError):
    """An upload cannot be predicted yet: files of it are arriving."""

    status = 409
    words = translatable("Files are still arriving. Try again once they have.")


class NoImagesError(ReviewError):
    """An upload cannot be predicted: nothing in it is an image."""

    status = 409
    words = translatable("The upload has no image that can be read.")


class NoSpaceError(ReviewError):
    """The disk is nearly full."""

    status = 507
    words = translatable("Less than 1 GB is free on the disk that holds the run, so no file is taken.")


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


class Uploads:
    """The uploads of a run. What an earlier program left half-written is removed.

    Parameters
    ----------
    folder : Path
        Made with the first upload.
    store : Store
        The reviews, whose cases uploads become.
    """

    def __init__(self, folder: Path, store: Store):
        self.folder, self._store = folder, store
        self._lock = threading.Lock()
        self._by_id: dict[str, Upload] = {}
        for place in sorted(folder.iterdir()) if folder.is_dir() else []:
            if _ID.fullmatch(place.name):
                upload = _read_upload(place)
                if upload is not None:
                    self._by_id[place.name] = upload

    def all(self) -> list[Upload]:
        """Return all uploads, newest first."""
        with self._lock:
            return sorted(self._by_id.values(), key=lambda each: each.created_at, reverse=True)

    def get(self, number: str, user: User) -> Upload:
        """Return an upload; NotFoundError if it does not exist or is another person's. An admin sees all."""
        upload = self._by_id.get(number)
        if upload is None or upload.is_deleted or not (upload.owner == user.name or user.may("admin")):
            raise NotFoundError
        return upload

    def begin(self, case: str, owner: str) -> Upload:
        """Begin an upload; one of that case that the same person began, and that still takes files, is continued.

        Raises
        ------
        BadCaseNameError, CaseExistsError, TooManyUploadsError, NoSpaceError
        """
        name = " ".join(printable(unicodedata.normalize("NFC", case)).split())
        if not name or len(name) > MAX_NAME or name == NO_CASE:
            raise BadCaseNameError
        with self._lock:
            now_open = [each for each in self._by_id.values() if each.is_open]
            same = next((each for each in now_open if each.case == name), None)
            if same is not None and same.owner == owner and same.state == "receiving":
                return same
            if same is not None or self._store.find_case(name) is not None:
                raise CaseExistsError(name=name)
            if len(now_open) >= MAX_OPEN:
                raise TooManyUploadsError(num=len(now_open))
            self.require_space(0)
            upload = Upload(self.folder / secrets.token_hex(16), name, owner, created_at=_now())
            with writing_to(upload.folder):
                (upload.folder / "images").mkdir(parents=True)
                (upload.folder / "arriving").mkdir()
                for place in (upload.folder, self.folder, self.folder.parent):
                    _sync_folder(place)
            _save(upload)
            self._by_id[upload.id] = upload
            return upload

    def require_space(self, num_bytes: int) -> None:
        """Raise NoSpaceError if too little of the disk would be free after these bytes."""
        place = next(each for each in (self.folder, *self.folder.parents) if each.exists())
        if shutil.disk_usage(place).free - num_bytes < MIN_FREE_BYTES:
            raise NoSpaceError

    @contextlib.contextmanager
    def arriving(self, upload: Upload) -> Iterator[Path]:
        """Yield the file to write what arrives to, and remove it at the end.

        Raises
        ------
        UploadClosedError
            If the upload takes no more files.
        """
        with upload.lock:
            _require_receiving(upload)
            upload.num_arriving += 1
        file = upload.folder / "arriving" / secrets.token_hex(8)
        try:
            yield file
        finally:
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
            with upload.lock:
                upload.num_arriving -= 1

    def add(self, upload: Upload, name: str, file: Path) -> tuple[int, list[Refusal]]:
        """Take a file that has arrived: an image, or a zip archive of images.

        Parameters
        ----------
        upload : Upload
        name : str
            As it was sent.
        file : Path

        Returns
        -------
        num_images : int
            That were new.
        refused : list of Refusal
            What was not taken.
        """
        with file.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
        size = file.stat().st_size
        if size > (MAX_ZIP_BYTES if is_zip(head) else MAX_FILE_BYTES):
            return 0, [self.refuse(upload, name, TOO_LARGE)]
        if not is_zip(head):
            result = self.add_image(upload, name, file.read_bytes())
            return (0, [result]) if isinstance(result, Refusal) else (int(result), [])
        num_images, refused = 0, []
        try:
            for member, content in unpack(file):
                one = f"{name}/{member}"
                result = (
                    self.refuse(upload, one, content)
                    if isinstance(content, str)
                    else self.add_image(upload, one, content)
                )
                if isinstance(result, Refusal):
                    refused.append(result)
                num_images += result is True
        except DataError as error:
            refused.append(self.refuse(upload, name, error.message))
        return num_images, refused

    def add_image(self, upload: Upload, name: str, data: bytes) -> bool | Refusal:
        """Store an image; return whether it is new, or why it is refused. Files that systems leave are passed over."""
        shown, sha256 = clean_name(name), hashlib.sha256(data).hexdigest()
        if is_leftover(shown.rsplit("/", 1)[-1]) or (shown, sha256) in upload.images:
            return False
        try:
            picture = encode(data)
        except DataError as error:
            return self.refuse(upload, name, error.message)
        with upload.lock:
            _require_receiving(upload)
            if (shown, sha256) in upload.images:
                return False
            if len(upload.images) < MAX_IMAGES:
                image = Image(len(upload.images) + 1, shown, sha256, len(data), picture.note)
                _write(upload.picture(image.number), picture.png)
                _append(upload, vars(image))
                upload.images[shown, sha256] = image
                return True
        return self.refuse(upload, name, _FULL)

    def refuse(self, upload: Upload, name: str, reason: str) -> Refusal:
        """Record that a file is not taken."""
        refusal = Refusal(clean_name(name), reason)
        with upload.lock:
            _require_receiving(upload)
            if refusal in upload.refused:  # sent again
                return refusal
            upload.num_refused += 1
            if len(upload.refused) < MAX_LISTED:
                _append(upload, {"refused": refusal.name, "reason": reason})
                upload.refused.append(refusal)
        return refusal

    def close(self, upload: Upload) -> bool:
        """End receiving: write the list of images for `predict`; return whether it was still open.

        Raises
        ------
        UploadClosedError, StillReceivingError, NoImagesError
        """
        with upload.lock:
            if upload.state == "predicting":
                return False
            if upload.state == "done" or upload.is_deleted:
                raise UploadClosedError
            if upload.num_arriving:
                raise StillReceivingError
            if not upload.images:
                raise NoImagesError
            paths = [f"images/{each.number:05d}.png" for each in upload.in_order()]
            table = pd.DataFrame({"path": paths, "image": upload.shown_names(), "case": upload.case})
            with writing_to(upload.table):
                if upload.state == "failed":  # whatever it left may be why
                    shutil.rmtree(upload.predictions, ignore_errors=True)
                temporary = upload.folder / f"{TEMPORARY}{upload.table.name}"
                table.to_parquet(temporary, index=False)
                temporary.replace(upload.table)
            self._change(upload, state="predicting", reason="")
        return True

    def finish(self, upload: Upload, case_id: int) -> None:
        """Note the case that an upload has become."""
        with upload.lock:
            self._change(upload, state="done", case_id=case_id)

    def fail(self, upload: Upload, reason: str) -> None:
        """Note why an upload could not be predicted."""
        logger.error(f'The upload of case "{printable(upload.case)}" could not be predicted: {reason}')
        with upload.lock:
            self._change(upload, state="failed", reason=reason)

    def delete(self, upload: Upload) -> None:
        """Remove an upload that is not being predicted, and has not become a case.

        Raises
        ------
        UploadClosedError
        """
        with upload.lock:
            if upload.state in ("predicting", "done"):
                raise UploadClosedError
            upload.is_deleted = True
        with self._lock:
            self._by_id.pop(upload.id, None)
        _remove(upload.folder)

    def remove_abandoned(self) -> None:
        """Remove uploads that were never finished, and not touched for `ABANDONED_AFTER`; the log names them."""
        limit = (datetime.now(UTC) - ABANDONED_AFTER).isoformat()
        for upload in self.all():
            if upload.state == "receiving" and _last_touched(upload) < limit:
                logger.info(
                    f'Removed the upload of case "{printable(upload.case)}" by {printable(upload.owner)}: '
                    f"{len(upload.images):,} images, unfinished since {_last_touched(upload)[:10]}."
                )
                self.delete(upload)

    def _change(self, upload: Upload, **values: Any) -> None:
        for name, value in values.items():
            setattr(upload, name, value)
        _save(upload)


def _require_receiving(upload: Upload) -> None:
    if upload.is_deleted:
        raise NotFoundError
    if upload.state != "receiving":
        raise UploadClosedError


def _last_touched(upload: Upload) -> str:
    try:
        written = (upload.folder / "files.jsonl").stat().st_mtime
    except OSError:
        return upload.changed_at
    return max(upload.changed_at, datetime.fromtimestamp(written, UTC).isoformat(timespec="milliseconds"))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _save(upload: Upload) -> None:
    upload.changed_at = _now()
    names = ("case", "owner", "state", "created_at", "changed_at", "reason", "case_id")
    text = json.dumps({name: getattr(upload, name) for name in names}, indent=2) + "\n"
    _write(upload.folder / "upload.json", text.encode())


def _write(file: Path, data: bytes) -> None:
    """Write a file whole, and return once it is on disk under its name."""
    temporary = file.with_name(f"{TEMPORARY}{file.name}")
    with writing_to(file):
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
        _sync_folder(file.parent)


def _append(upload: Upload, facts: dict) -> None:
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


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(folder: Path) -> None:
    """Remove an upload; the file that makes it one goes first, so that half of it is never read as a whole."""
    (folder / "upload.json").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _read_upload(folder: Path) -> Upload | None:
    """Return the upload in a folder as it was acknowledged, and remove what is half-written; None if there is none."""
    facts = read_json(folder / "upload.json")
    if not facts:
        if not (folder / "upload.json").exists():  # killed while it was begun or deleted
            shutil.rmtree(folder, ignore_errors=True)
        else:
            logger.warning(f"{folder}/upload.json is damaged; this upload is left as it is.")
        return None
    if facts.get("state") not in get_args(State):
        logger.warning(f"{folder}/upload.json is damaged; this upload is left as it is.")
        return None
    upload = Upload(folder, **facts)
    _read_files(upload)
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
