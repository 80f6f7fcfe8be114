"""The uploads of a run: who may add to which, what is refused and why, and the states that each passes through."""

import contextlib
import hashlib
import logging
import re
import secrets
import shutil
import threading
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from nonet.artifacts.storage import TEMPORARY, writing_to
from nonet.artifacts.system_files import is_leftover
from nonet.data.images.file_kinds import HEAD_BYTES
from nonet.differential.counting import NO_CASE
from nonet.errors import DataError, StorageError, printable
from nonet.review import upload_folder as folders
from nonet.review.database import now
from nonet.review.records import NotFoundError, ReviewError, translatable
from nonet.review.roles import User
from nonet.review.store import Store
from nonet.review.upload_files import (
    MAX_FILE_BYTES,
    MAX_NAME,
    MAX_ZIP_BYTES,
    TOO_LARGE,
    clean_name,
    encode,
    is_zip,
    unpack,
)
from nonet.review.upload_folder import Image, Refusal, Upload

logger = logging.getLogger("nonet")

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

    words = translatable("The name of a case must have 1 to 200 characters.")


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
    words = translatable("Less than 1 GB is free on the disk that holds the run, so no files are accepted.")


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
                upload = folders.read_upload(place)
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
            upload = Upload(self.folder / secrets.token_hex(16), name, owner, created_at=now())
            with writing_to(upload.folder):
                (upload.folder / "images").mkdir(parents=True)
                (upload.folder / "arriving").mkdir()
                for place in (upload.folder, self.folder, self.folder.parent):
                    folders.sync_folder(place)
            folders.save(upload)
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
        try:
            with file.open("rb") as stream:
                head = stream.read(HEAD_BYTES)
            size = file.stat().st_size
        except FileNotFoundError as error:  # the upload was deleted while the file arrived
            raise NotFoundError from error
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
                folders.write(upload.picture(image.number), picture.png)
                folders.append(upload, vars(image))
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
                folders.append(upload, {"refused": refusal.name, "reason": reason})
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
            try:
                self._change(upload, state="failed", reason=reason)
            except StorageError as error:  # known until the program ends; the next start predicts it again
                logger.error(error.message)
                upload.state, upload.reason = "failed", reason

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
        folders.remove(upload.folder)

    def remove_abandoned(self) -> None:
        """Remove uploads that were never finished, and not touched for `ABANDONED_AFTER`; the log names them."""
        limit = (datetime.now(UTC) - ABANDONED_AFTER).isoformat()
        for upload in self.all():
            if upload.state == "receiving" and folders.last_touched(upload) < limit:
                logger.info(
                    f'Removed the upload of case "{printable(upload.case)}" by {printable(upload.owner)}: '
                    f"{len(upload.images):,} images, unfinished since {folders.last_touched(upload)[:10]}."
                )
                self.delete(upload)

    def _change(self, upload: Upload, **values: Any) -> None:
        before = {name: getattr(upload, name) for name in values}
        vars(upload).update(values)
        try:
            folders.save(upload)
        except StorageError:
            vars(upload).update(before)  # what is not on disk has not happened: it can be tried again
            raise


def _require_receiving(upload: Upload) -> None:
    if upload.is_deleted:
        raise NotFoundError
    if upload.state != "receiving":
        raise UploadClosedError
