"""`backup`: all that people decided on a run's page, in one file, while the page is open."""

import os
import sqlite3
import tempfile
import zipfile
from contextlib import closing
from pathlib import Path

from nonet.artifacts.run import Run, written_whole
from nonet.artifacts.storage import TEMPORARY, writing_to
from nonet.errors import DataError, StorageError, counted

_SQLITE = ".sqlite"
_BESIDES = (".sqlite-wal", ".sqlite-shm", ".sqlite-journal")  # parts of a file in use; a snapshot is whole without them


def backup(run: str | Path | Run, out: str | Path) -> str:
    """Copy all that is in RUN/review into one zip file: reviews, users, uploads and decisions on labels.

    People may go on working meanwhile. The reviews are those of one moment, not earlier than the start. To restore,
    stop the page and extract the file in the run's folder: it makes the folder "review", which must not exist.

    Parameters
    ----------
    run : str, path or Run
        The run whose page it is.
    out : str or path
        The zip file to write. It holds file names and password hashes: keep it as safe as the run.

    Returns
    -------
    str
        What was copied, in a sentence.

    Raises
    ------
    DataError
        If nothing was reviewed yet, or `out` exists already.
    StorageError
        If a file cannot be read or written.
    """
    run, out = Run(run), Path(out).expanduser()
    run.require()
    folder = run.reviews.parent
    if not run.reviews.exists():
        raise DataError(f"{run} has no reviews yet.", hint='"nonet serve" makes them.')
    if os.path.lexists(out):
        raise DataError(f"{out} exists already.", hint="Give `out` another name.")
    if out.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{out} is in the folder that is copied.", hint="Give `out` a name outside of it.")
    with written_whole(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        names = _write(archive, folder)
    out.chmod(0o600)
    return f"{out}: {counted(len(names), 'file', 'files')} of {folder}."


def _write(archive: zipfile.ZipFile, folder: Path) -> list[str]:
    """Write the files of a folder, and return their names. Databases come first: what they name is there already."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and not file.is_symlink()]
    files = [file for file in files if not file.name.endswith(_BESIDES) and not file.name.startswith(TEMPORARY)]
    files.sort(key=lambda file: not file.name.endswith(_SQLITE))
    names = []
    for file in files:
        name = f"{folder.name}/{file.relative_to(folder).as_posix()}"
        try:
            if file.name.endswith(_SQLITE):
                _write_snapshot(archive, file, name)
            else:
                _write_file(archive, file, name)
        except FileNotFoundError:  # an upload that was deleted since
            continue
        names.append(name)
    return names


def _write_snapshot(archive: zipfile.ZipFile, file: Path, name: str) -> None:
    """Write a database as it stands at one moment."""
    with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=Path(str(archive.filename)).parent) as folder:
        copy = Path(folder) / file.name
        try:
            with (
                closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as source,
                closing(sqlite3.connect(copy)) as target,
            ):
                source.backup(target)
                (found,) = target.execute("PRAGMA integrity_check").fetchone()
        except sqlite3.Error as error:
            raise StorageError(f"{file} cannot be copied: {error}.", hint="Check the disk, then try again.") from error
        if found != "ok":
            raise StorageError(f"{file} is damaged: {found}.", hint="Restore an earlier backup of it.")
        _write_file(archive, copy, name)


def _write_file(archive: zipfile.ZipFile, file: Path, name: str) -> None:
    with file.open("rb") as source, writing_to(archive.filename):
        about = zipfile.ZipInfo.from_file(file, name, strict_timestamps=False)
        about.compress_type = zipfile.ZIP_DEFLATED
        about.external_attr = 0o100600 << 16
        with archive.open(about, "w") as target:
            while chunk := source.read(1 << 20):
                target.write(chunk)
