"""`fetch_source`: download a published data set, verify it, and record what was downloaded."""

import logging
from dataclasses import dataclass
from pathlib import Path

from nonet.artifacts.run import now, write_json
from nonet.artifacts.storage import (
    DISK_ERRORS,
    FolderKind,
    prepare_folder,
    require_usable_folder,
    storage_error,
    writing_to,
)
from nonet.data.sources import SOURCES
from nonet.data.sources.archives import unzip
from nonet.data.sources.base import Download, Source
from nonet.data.sources.class_folders import RECORD
from nonet.data.sources.download import fetch_file
from nonet.errors import DataError, did_you_mean
from nonet.progress import progress

logger = logging.getLogger("nonet")

_FOLDER = FolderKind("download", main=RECORD, keys={"source", "sha256"}, hint="Give a new or an empty folder as `out`.")
ARCHIVES = ".archives"  # hidden, so that readers do not see archives as part of the data set


@dataclass(frozen=True)
class Fetched:
    """What `fetch_source` downloaded.

    Attributes
    ----------
    source : Source
    folder : Path
    files : dict
        Name → SHA-256 of each downloaded file.
    verified : bool
        Whether each has the published checksum.
    """

    source: Source
    folder: Path
    files: dict[str, str]
    verified: bool

    def __str__(self) -> str:
        lines = [f"{self.source.name}: {self.folder}"]
        for name, sha256 in list(self.files.items())[:5]:
            lines.append(f"  {name}: sha256 {sha256}")
        if len(self.files) > 5:
            lines.append(f"  … and {len(self.files) - 5:,} more, in {self.folder / RECORD}")
        lines.append(
            "Verified: each file has the checksum that its publishers give."
            if self.verified
            else "Not verified: no published checksum is known. The hashes above are those of the downloaded files; "
            f"they are recorded in {self.folder / RECORD}."
        )
        lines.append(f"Licence: {self.source.licence}")
        lines.append(f'Next: nonet data build "{self.source.name}:{self.folder}" --out DATASET')
        return "\n".join(lines)


def find_source(name: str) -> Source:
    """Return an entry of SOURCES.

    Parameters
    ----------
    name : str

    Returns
    -------
    Source

    Raises
    ------
    DataError
        When there is no source of that name; the hint has similar names.
    """
    if name not in SOURCES:
        hint = f"{did_you_mean(name, SOURCES)}Sources: {', '.join(SOURCES)}."
        raise DataError(f'Unknown source "{name}".', hint=hint)
    return SOURCES[name]


def fetch_source(name: str, out: str | Path, *, variant: str | None = None) -> Fetched:
    """Download a published data set into a folder that `build_dataset` reads. Interrupted, the same call continues.

    Files are compared with the published checksum if one is known. Otherwise the SHA-256 of the downloaded files is
    recorded in fetched.json, and the download is not called verified.

    Parameters
    ----------
    name : str
        Of an entry of SOURCES.
    out : str or Path
        Folder; created if necessary.
    variant : str, optional
        One of several downloads, such as 224 for bloodmnist; by default the first.

    Returns
    -------
    Fetched

    Raises
    ------
    DataError
        When it cannot be fetched, with what to do by hand; when it is gated and there is no token; when the connection
        fails; when a file is not the published one.
    """
    source, out = find_source(name), Path(out).expanduser()
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file, not a folder.", hint="Give another `out`.")
    require_usable_folder(out, _FOLDER)
    download = source.download(variant)
    if not download.verified:
        logger.info(f"{source.name}: not verified. {download.evidence}")
    if download.hub_name:
        files = _from_hub(source, download.hub_name, out, is_gated=download.gated)
    else:
        files = _from_address(source, download, out)
    verified = download.verified and download.checksum is not None
    fetched = Fetched(source, out, files, verified)
    write_json(
        out / RECORD,
        {
            "source": source.name,
            "variant": download.variant,
            "address": download.address,
            "fetched": now(),
            "verified": verified,
            "checksum_of_publishers": download.checksum,
            "evidence": download.evidence,
            "sha256": files,
            "licence": source.licence,
            "citation": source.citation,
        },
    )
    return fetched


def _from_address(source: Source, download: Download, out: Path) -> dict[str, str]:
    is_archive = download.file.endswith(".zip")
    path = (out / ARCHIVES if is_archive else out) / download.file
    prepare_folder(out, _FOLDER)
    with writing_to(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        sha256 = fetch_file(download.address, path, download.checksum)
    except DataError as error:
        raise DataError(error.message, hint=f"{error.hint or ''}\nBy hand: {source.by_hand}".strip()) from error
    if is_archive:
        with writing_to(out):
            unzip(path, out)
    return {download.file: sha256}


def _not_downloaded(where: str, source: Source, error: Exception) -> DataError:
    return DataError(
        f"{where} cannot be downloaded: {type(error).__name__}: {error}.",
        hint=f"The same command resumes where it stopped.\nBy hand: {source.by_hand}",
    )


def _from_hub(source: Source, hub_name: str, out: Path, *, is_gated: bool) -> dict[str, str]:
    """Download a data set's repository; huggingface_hub resumes interrupted downloads."""
    import huggingface_hub
    import pooch
    from huggingface_hub import errors

    where = f"https://huggingface.co/datasets/{hub_name}"
    if is_gated and huggingface_hub.get_token() is None:
        raise DataError(
            f"{source.name} is gated: {where} requires a request for access, and no access token is stored.",
            hint=f"{source.by_hand}\nThe token may also be in the environment variable HF_TOKEN.",
        )
    prepare_folder(out, _FOLDER)
    try:
        huggingface_hub.snapshot_download(hub_name, repo_type="dataset", local_dir=out)
    except errors.GatedRepoError as error:
        raise DataError(
            f"{where} does not give access to the owner of this token.",
            hint="Open the page, accept the agreement, wait until access is granted, and run the same command again.",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise DataError(
            f"{where} does not exist, or the owner of this token has no access.", hint=f"By hand: {source.by_hand}"
        ) from error
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise _not_downloaded(where, source, error) from error
        raise storage_error(error, out) from error
    except Exception as error:  # offline, refused, interrupted: the remedy is the same
        raise _not_downloaded(where, source, error) from error
    files = sorted(p for p in out.rglob("*") if p.is_file() and p.name != RECORD)
    files = [p for p in files if not p.relative_to(out).parts[0].startswith(".")]
    return {
        p.relative_to(out).as_posix(): pooch.file_hash(str(p), alg="sha256")
        for p in progress(files, description="hashing", unit="files")
    }
