"""Whether files are as they were written: checksums, and errors for missing, damaged and inaccessible files.

Checksums of a run's files are in three places: `DONE` (files of a member), `checksums.json` (files of the run) and
`provenance.json` (the recipe). Each of these has its own checksum ("sha256" of everything else in it), so that any
flipped bit is detected. Damage is a `DamagedError`, which the same `nonet train` repairs; a file that cannot be read
now (permissions, a disconnected disk) is a plain error that says nothing about its content.
"""

import contextlib
import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nonet.artifacts.run import FORMAT_VERSION, Member, Run, file_sha256, repair_hint, write_json
from nonet.errors import DamagedError, NonetError, RunError

if TYPE_CHECKING:
    import pandas as pd

#: What readers of JSON, TOML, CSV, Parquet and npz raise for invalid or unexpected content.
UNPARSABLE = (
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    EOFError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    zipfile.BadZipFile,
    zlib.error,
)


def cannot_read(path: Path, error: OSError, kind: type[NonetError] = RunError) -> NonetError:
    """Return the error for an existing file that cannot be read now; it says nothing about the content.

    Parameters
    ----------
    path : Path
    error : OSError
        What reading raised.
    kind : type of NonetError

    Returns
    -------
    NonetError
    """
    if isinstance(error, IsADirectoryError):
        return kind(f"{path} is a folder; a file was expected.", hint="Move it away, then run the same command.")
    return kind(
        f"{path} cannot be read now: {error.strerror or error}.",
        hint="The file itself may be intact, so keep it. Check its permissions and disk, then run the same command.",
    )


@contextlib.contextmanager
def reading(path: Path, *, hint: str, kind: type[NonetError] = DamagedError) -> Iterator[None]:
    """Turn the exceptions of reading a file into errors of nonet, as a context manager.

    Parameters
    ----------
    path : Path
        The file that is read within the block.
    hint : str
        What to do if it is missing or damaged.
    kind : type of NonetError
        Error in that case.

    Raises
    ------
    NonetError
        Of this kind if the file is missing or damaged; RunError (or this kind) if it cannot be read now.
    """
    plain = RunError if issubclass(kind, RunError) else kind
    try:
        yield
    except FileNotFoundError as error:
        raise kind(f"{path} is missing.", hint=hint) from error
    except OSError as error:
        if error.errno is None:  # pyarrow's error for content that is not Parquet
            raise kind(f"{path} is damaged: {_first_line(error)}", hint=hint) from error
        raise cannot_read(path, error, plain) from error
    except UNPARSABLE as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else _first_line(error)
        raise kind(f"{path} is damaged: {what}", hint=hint) from error


def _first_line(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply."
    return f"{(str(error).splitlines() or [type(error).__name__])[0].rstrip('.')}."


def read_json(path: Path, *, hint: str, kind: type[NonetError] = DamagedError) -> dict:
    """Read a JSON file that contains an object and its format version; newer versions are refused.

    Parameters
    ----------
    path : Path
    hint : str
        What to do if it is missing or damaged.
    kind : type of NonetError
        Error in that case.

    Returns
    -------
    dict

    Raises
    ------
    NonetError
        Of this kind if it is missing or damaged; RunError (or this kind) if it cannot be read now or is of a later
        nonet.
    """
    with reading(path, hint=hint, kind=kind):
        data = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(data, dict):
            raise ValueError("it does not contain a JSON object")
    require_format(data, path, hint=hint, kind=kind)
    return data


def require_format(data: dict, path: Path, *, hint: str, kind: type[NonetError] = DamagedError) -> None:
    """Raise an error if a file has no valid format version, or one of a later nonet."""
    version = data.get("format_version")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise kind(f"{path} is damaged: its format_version is {version!r}.", hint=hint)
    if version > FORMAT_VERSION:
        plain = RunError if issubclass(kind, RunError) else kind
        raise plain(f"{path} was made by a later nonet (format {version}).", hint="Update nonet.")


def write_sealed(path: Path, data: dict) -> None:
    """Write a dict as JSON, with its format version and its own checksum."""
    data = {"format_version": FORMAT_VERSION} | json.loads(json.dumps(data, default=str))
    data.pop("sha256", None)
    write_json(path, data | {"sha256": _seal(data)})


def read_sealed(path: Path, *, hint: str) -> dict:
    """Read what `write_sealed` wrote, without the checksum.

    Parameters
    ----------
    path : Path
    hint : str
        What to do if it is damaged.

    Returns
    -------
    dict

    Raises
    ------
    DamagedError
        If it is missing, damaged, or was edited.
    """
    data = read_json(path, hint=hint)
    seal = data.pop("sha256", None)
    if seal != _seal(data):
        raise DamagedError(f"{path} is damaged or was edited.", hint=hint)
    return data


def _seal(data: dict) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def file_facts(path: Path, *, hint: str = "Run the same command again.") -> dict:
    """Return the size in bytes and the SHA-256 of a file, to compare later; raises as `reading` does."""
    with reading(path, hint=hint):
        return {"bytes": path.stat().st_size, "sha256": file_sha256(path)}


def require_whole(path: Path, stored: object, *, hint: str) -> None:
    """Check that a file is as it was when `file_facts` was called.

    Parameters
    ----------
    path : Path
    stored : dict or None
        What `file_facts` returned.
    hint : str
        What to do if it differs.

    Raises
    ------
    DamagedError
        If the file is missing or differs.
    """
    facts = file_facts(path, hint=hint)
    if facts == stored:
        return
    size = stored.get("bytes") if isinstance(stored, dict) else None
    if isinstance(size, int) and facts["bytes"] != size:
        raise DamagedError(f"{path} has {facts['bytes']:,} bytes; it had {size:,} when it was written.", hint=hint)
    raise DamagedError(f"{path} is damaged, was edited, or belongs to another run or member.", hint=hint)


def read_checked_parquet(path: Path) -> "pd.DataFrame":
    """Read a Parquet file that was written with `write_page_checksum`; a damaged one is a DamagedError."""
    import pandas as pd

    with reading(path, hint="Run the same command again: it writes this file again."):
        return pd.read_parquet(path, page_checksum_verification=True)


# A run


def read_provenance(run: Run) -> dict:
    """Read provenance.json: recipe, data and classes of a run.

    Returns
    -------
    dict

    Raises
    ------
    DamagedError
        If it is missing or damaged.
    """
    provenance = read_sealed(run.provenance, hint=repair_hint(run))
    with reading(run.provenance, hint=repair_hint(run)):
        provenance["classes"], provenance["fingerprints"]
    return provenance


def require_unchanged(run: Run, *files: Path) -> dict:
    """Check that a run's recipe and the given files of it are unchanged.

    Parameters
    ----------
    run : Run
    *files : Path
        Files of the run listed in checksums.json.

    Returns
    -------
    dict
        Its provenance.

    Raises
    ------
    RunError
        If there is no run.
    DamagedError
        If a file is missing, damaged or edited; names it.
    """
    run.require()
    provenance, hint = read_provenance(run), repair_hint(run)
    with reading(run.recipe, hint=hint):
        digest = file_sha256(run.recipe)
    if digest != provenance["fingerprints"].get("recipe"):
        raise DamagedError(f"{run.recipe} is not the recipe that {run} was trained with.", hint=hint)
    stored = read_checksums(run)["files"] if files else {}
    for file in files:
        require_whole(file, stored.get(file.name), hint=hint)
    return provenance


def read_checksums(run: Run) -> dict:
    """Read checksums.json: "files", name → size and SHA-256, and "members", name → content of its DONE."""
    checksums = read_sealed(run.checksums, hint=repair_hint(run))
    with reading(run.checksums, hint=repair_hint(run)):
        checksums["files"], checksums["members"]
    return checksums


def note_checksums(run: Run, files: Iterable[Path] = (), members: Iterable[Member] = ()) -> None:
    """Store checksums of files of a run, and the DONE of members, beside those already stored."""
    try:
        stored = read_checksums(run)
    except DamagedError:  # there is none yet, or it is damaged
        stored = {"files": {}, "members": {}}
    stored["files"] |= {file.name: file_facts(file) for file in files}
    stored["members"] |= {member.name: read_done(member) for member in members}
    write_sealed(run.checksums, stored)


# A member


#: What training writes of a member, besides whose it is and what its files are.
DONE_FACTS = {
    *("epochs", "kept_epoch", "val_macro_f1", "seconds", "weights_from", "attempt", "earlier_attempts", "dead"),
    "files",
}


def write_done(member: Member, about: dict) -> None:
    """Write a member's DONE.

    Parameters
    ----------
    member : Member
    about : dict
        Results of its training; fingerprints of the run and checksums of the files are added.
    """
    write_sealed(
        member.done,
        about
        | {
            "member": member.name,
            "fingerprints": get_fingerprints(member.run),
            "files": {file.name: file_facts(file) for file in member.results if file.exists()},
        },
    )


def get_fingerprints(run: Run) -> dict:
    """Return the fingerprints of a run's recipe, manifest and folds; {} for a member trained on its own."""
    return read_provenance(run)["fingerprints"] if run.provenance.exists() else {}


def read_done(member: Member) -> dict:
    """Read a member's DONE.

    Returns
    -------
    dict

    Raises
    ------
    DamagedError
        If it is missing, damaged, or of another member or run.
    """
    hint = repair_hint(member.run)
    if not member.done.exists():
        raise DamagedError(f"{member.name} of {member.run} is not fully trained.", hint=hint)
    done = read_sealed(member.done, hint=hint)
    if done.get("member") != member.name:
        raise DamagedError(f"{member.done} belongs to {done.get('member')}, not to {member.name}.", hint=hint)
    if done.get("fingerprints") != get_fingerprints(member.run):
        raise DamagedError(f"{member.done} belongs to another run, with another recipe, dataset or folds.", hint=hint)
    if absent := DONE_FACTS - done.keys():
        raise DamagedError(f"{member.done} is damaged: it lacks {min(absent)}.", hint=hint)
    return done


def require_member(member: Member, *files: Path) -> dict:
    """Check that a member is fully trained and its files are unchanged.

    Parameters
    ----------
    member : Member
    *files : Path
        Files to check. Default: all except the history, which only the report shows.

    Returns
    -------
    dict
        Its DONE.

    Raises
    ------
    DamagedError
        If it is not fully trained, or a file is missing or changed.
    """
    done = read_done(member)
    unknown = [member.unknown] if member.unknown.name in done["files"] else []
    for file in files or (member.weights, member.oof, member.features, member.ood, *unknown):
        require_whole(file, done["files"].get(file.name), hint=repair_hint(member.run))
    return done
