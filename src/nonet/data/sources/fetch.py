"""`fetch_source`: download a published data set, check it, and write down what was got."""

import logging
from dataclasses import dataclass
from pathlib import Path

from nonet.artifacts.run import now, write_json
from nonet.artifacts.storage import DISK_ERRORS, claim, in_words, require_ours, writing_to
from nonet.data.sources import SOURCES
from nonet.data.sources.archives import unzip
from nonet.data.sources.base import Download, Source
from nonet.data.sources.class_folders import RECORD
from nonet.data.sources.download import fetch_file
from nonet.errors import DataError, did_you_mean
from nonet.progress import progress

logger = logging.getLogger("nonet")

_OURS = {
    "kind": "download",
    "main": RECORD,
    "keys": {"source", "sha256"},
    "hint": "Give a new or an empty folder as `out`.",
}
ARCHIVES = ".archives"  # hidden, so that no reader takes an archive for a part of the data set


@dataclass(frozen=True)
class Fetched:
    """What `fetch_source` got.

    Attributes
    ----------
    source : its entry in SOURCES.
    folder : where it lies.
    files : name → SHA-256 of each file that was downloaded.
    verified : whether each has the checksum that its publishers give.
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
            else "Not verified: nonet knows no checksum of its publishers. The hashes above are of what has arrived; "
            f"they are written down in {self.folder / RECORD}."
        )
        lines.append(f"Licence: {self.source.licence}")
        lines.append(f'Next: nonet data build "{self.source.name}:{self.folder}" --out DATASET')
        return "\n".join(lines)


def find_source(name: str) -> Source:
    """Return an entry of SOURCES. Raises DataError, with names like it, on a name that is none."""
    if name not in SOURCES:
        hint = f"{did_you_mean(name, SOURCES)}Sources: {', '.join(SOURCES)}."
        raise DataError(f'There is no source "{name}".', hint=hint)
    return SOURCES[name]


def fetch_source(name: str, out: str | Path, *, variant: str | None = None) -> Fetched:
    """Download a published data set into a folder that `build_dataset` reads. Cut off, the same call goes on.

    Files are checked against their publishers' checksum where one is known. Where none is, the SHA-256 of what has
    arrived is written to fetched.json, and not called verified.

    Parameters
    ----------
    name : of an entry of SOURCES.
    out : folder, made if it is not there.
    variant : which of several, like 224 of bloodmnist; by default the first.

    Returns
    -------
    Fetched.

    Raises
    ------
    DataError where it cannot be fetched, with what to do by hand; where it is gated and there is no token; where the
    connection fails; where a file is not the one that its publishers describe.
    """
    source, out = find_source(name), Path(out).expanduser()
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file, not a folder.", hint="Give another `out`.")
    require_ours(out, **_OURS)
    download = source.download(variant)
    if not download.verified:
        logger.info(f"{source.name}: not verified. {download.evidence}")
    files = _from_hub(source, download, out) if download.hub_name else _from_address(source, download, out)
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
    claim(out, **_OURS)
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


def _from_hub(source: Source, download: Download, out: Path) -> dict[str, str]:
    """Copy a data set's repository; huggingface_hub resumes what was cut off."""
    import huggingface_hub
    import pooch
    from huggingface_hub import errors

    where = f"https://huggingface.co/datasets/{download.hub_name}"
    if download.gated and huggingface_hub.get_token() is None:
        raise DataError(
            f"{source.name} is gated: {where} gives it only to those who have asked, and there is no token here.",
            hint=f"{source.by_hand}\nThe token may also be in the environment variable HF_TOKEN.",
        )
    claim(out, **_OURS)
    try:
        huggingface_hub.snapshot_download(download.hub_name, repo_type="dataset", local_dir=out)
    except errors.GatedRepoError as error:
        raise DataError(
            f"{where} does not give {source.name} to the owner of this token.",
            hint="Open the page, accept the agreement, and wait until access is granted; then the same command again.",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise DataError(
            f"There is no {where}, or it is not for the owner of this token.", hint=f"By hand: {source.by_hand}"
        ) from error
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise _not_downloaded(where, source, error) from error
        raise in_words(error, out) from error
    except Exception as error:  # offline, refused, cut off: the way out is the same
        raise _not_downloaded(where, source, error) from error
    got = sorted(p for p in out.rglob("*") if p.is_file() and p.name != RECORD)
    got = [p for p in got if not p.relative_to(out).parts[0].startswith(".")]
    return {
        p.relative_to(out).as_posix(): pooch.file_hash(str(p), alg="sha256")
        for p in progress(got, description="hashing", unit="files")
    }
