"""Downloading one file so that an interrupted connection costs only what had not arrived."""

import json
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

from nonet.artifacts.storage import DISK_ERRORS, storage_error, writing_to
from nonet.errors import DataError
from nonet.progress import progress

CHUNK = 1 << 16  # bytes
SILENCE_S = 60.0  # seconds without data before the connection counts as interrupted
ATTEMPTS = 4  # consecutive attempts without progress
RESERVE = 256 << 20  # bytes to leave free on the disk
WAIT_S = 2.0  # before the second attempt; twice as long before each further one


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https, or from http to http, and to nothing else: no file, no ftp, no downgrade."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme != "https" and (scheme, req.type) != ("http", "http"):
            raise DataError(
                f"{req.full_url} cannot be downloaded: the server redirects to {newurl}, which is not https.",
                hint="Networks with a login page do that. Download the file by hand.",
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class Downloader:
    """A downloader for pooch, `downloader(url, output_file, pooch)`, that resumes interrupted downloads.

    Data is collected in `part`. A later run continues it if the server confirms that the file is the same (by ETag or
    date) and can send the rest; else it starts again.

    Parameters
    ----------
    part : Path
        File for the data received so far.
    silence_s, attempts, wait_s : float, int, float
        See SILENCE_S, ATTEMPTS, WAIT_S.
    """

    def __init__(self, part: Path, *, silence_s: float = SILENCE_S, attempts: int = ATTEMPTS, wait_s: float = WAIT_S):
        self.part, self.silence_s, self.attempts, self.wait_s = part, silence_s, attempts, wait_s
        self.mark = part.with_name(f"{part.name}.json")

    def __call__(self, url: str, output_file: str | Path, pooch: Any = None) -> None:
        """Download a file.

        Parameters
        ----------
        url : str
        output_file : str or Path
        pooch : optional
            Unused; part of pooch's interface.

        Raises
        ------
        DataError
            When the server refuses, or the connection fails repeatedly.
        """
        with writing_to(self.part):
            self.part.parent.mkdir(parents=True, exist_ok=True)
        failures, most = 0, self._size()
        with progress(total=None, description=self.part.stem.lstrip("."), unit="B", unit_scale=True) as bar:
            while True:
                try:
                    if self._attempt(url, bar):
                        break
                    reason = "the connection was closed early"
                except urllib.error.HTTPError as error:
                    if error.code < 500 and error.code != 429:
                        raise self._refused(url, error) from error
                    reason = f"the server answers {error.code} {error.reason}"
                except (urllib.error.URLError, HTTPException, OSError) as error:
                    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                        raise storage_error(error, self.part) from error
                    reason = str(getattr(error, "reason", error)) or type(error).__name__
                failures = 0 if self._size() > most else failures + 1
                most = max(most, self._size())
                if failures >= self.attempts:
                    raise DataError(
                        f"{url} cannot be downloaded: {reason}. {self._size():,} bytes have arrived.",
                        hint="The same command continues where it stopped.",
                    )
                time.sleep(self.wait_s * 2 ** max(0, failures - 1))
        with writing_to(output_file):
            self.part.replace(output_file)
        self.mark.unlink(missing_ok=True)

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _attempt(self, url: str, bar: Any) -> bool:
        """Request what is missing and write it; return whether the file is complete."""
        have, mark = self._size(), self._read_mark()
        request = urllib.request.Request(url, headers={"User-Agent": "nonet", "Accept-Encoding": "identity"})
        if have and mark.get("url") == url and mark.get("validator"):
            # If-Range: the rest of the same file, or the whole of one that has changed since.
            request.add_header("Range", f"bytes={have}-")
            request.add_header("If-Range", mark["validator"])
        else:
            have = 0
        try:
            answer = urllib.request.build_opener(_SafeRedirects).open(request, timeout=self.silence_s)
        except urllib.error.HTTPError as error:
            if error.code != 416 or not have:  # 416: the file ends before the requested range, so it is another one
                raise
            if error.headers.get("Content-Range") == f"bytes */{have}":  # or it is complete already
                return True
            self.part.unlink(missing_ok=True)
            return self._attempt(url, bar)
        with answer:
            if answer.status != 206 or not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                # Deleted before the mark is written: an interruption in between must not leave the start of one file
                # with the mark of another.
                self.part.unlink(missing_ok=True)
                if answer.status == 206:  # not the requested range
                    return False
                have = 0
            length = answer.headers.get("Content-Length") or ""
            total = have + int(length) if length.isdecimal() and len(length) < 19 else None
            validator = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
            if validator and validator.startswith("W/"):  # a weak one does not promise the same bytes
                validator = answer.headers.get("Last-Modified")
            self.mark.write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")
            self._collect(answer, have, total, bar, url)
        return total is None or self._size() == total

    def _collect(self, answer: Any, have: int, total: int | None, bar: Any, url: str) -> None:
        bar.total, bar.n = total, have
        self._require_room((total or 0) - have, url)
        checked = have
        with self.part.open("r+b" if have else "wb") as file:
            file.seek(have)
            file.truncate()
            while chunk := answer.read1(CHUNK):  # `read` would wait for a full chunk, and lose it when interrupted
                file.write(chunk)
                have += len(chunk)
                bar.update(len(chunk))
                if have - checked > RESERVE // 4:  # a body may be endless, or longer than announced
                    self._require_room(0, url)
                    checked = have

    def _require_room(self, num_bytes: int, url: str) -> None:
        free = shutil.disk_usage(self.part.parent).free
        if num_bytes > free - RESERVE:
            raise DataError(
                f"The download of {url} was stopped: at least {max(num_bytes, 1):,} bytes are missing, and the disk "
                f"of {self.part.parent} has {free:,} free, of which {RESERVE:,} are reserved.",
                hint=f"Free some space, or delete {self.part} if the file cannot be that large.",
            )

    def _read_mark(self) -> dict:
        try:
            mark = json.loads(self.mark.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return mark if isinstance(mark, dict) else {}

    def _refused(self, url: str, error: urllib.error.HTTPError) -> DataError:
        if error.code in (404, 410):
            return DataError(f"{url} does not exist (any more): the server answers {error.code}.")
        return DataError(f"{url} cannot be downloaded: the server answers {error.code} {error.reason}.")


def fetch_file(url: str, path: Path, checksum: str | None, downloader: Callable | None = None) -> str:
    """Download a file with pooch, unless it exists and has its checksum.

    Parameters
    ----------
    url : str
    path : Path
        Where it goes.
    checksum : str or None
        "md5:…" or "sha256:…" that it must have. Without one, an existing file is not downloaded again.
    downloader : callable, optional
        As for pooch; by default a `Downloader` that collects data beside `path`.

    Returns
    -------
    str
        Its SHA-256.

    Raises
    ------
    DataError
        When it cannot be downloaded, or has another checksum, in which case it is deleted.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")  # it would report each download in its own way
    downloader = downloader or Downloader(path.with_name(f".{path.name}.part"))
    try:
        pooch.retrieve(url, checksum, fname=path.name, path=path.parent, downloader=downloader)
    except ValueError as error:  # raised by pooch when the hash differs
        raise DataError(
            f"{url} is not the published file: its {str(checksum).split(':')[0]} is not "
            f"{str(checksum).split(':')[-1]}. It was deleted.",
            hint="Try again; if it happens again, the file has changed or the network replaces it with another page.",
        ) from error
    return pooch.file_hash(str(path), alg="sha256")
