"""Whether files are what was written: checksums, and words for what is missing, damaged or cannot be read now.

Three places hold what a run's files were when they were written: `DONE` those of a member, `checksums.json` those of
the run itself, `provenance.json` the recipe's. Each of these carries its own checksum ("sha256", of all else in it), so
that a flipped bit anywhere is noticed. Damage is a `DamagedError`, which the same `nonet train` heals; a file that
cannot be read now (permission, a disk that is away) is a plain error, and nothing is concluded about what is in it.
"""

import contextlib
import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from nonet.artifacts.run import FORMAT_VERSION, Member, Run, heal_hint, sha256_of, write_json
from nonet.errors import DamagedError, NonetError, RunError

#: What readers of JSON, TOML, CSV, Parquet and npz raise on content that is none, or of another shape.
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
    """Return the error for a file that is there and cannot be read now; it says nothing about what is in it."""
    if isinstance(error, IsADirectoryError):
        return kind(f"{path} is a folder; a file was expected.", hint="Move it away, then run the same command.")
    return kind(
        f"{path} cannot be read now: {error.strerror or error}.",
        hint="The file itself may be fine, so keep it. See to its permissions and its disk, then run the same command.",
    )


@contextlib.contextmanager
def reading(path: Path, *, hint: str, kind: type[NonetError] = DamagedError) -> Iterator[None]:
    """Turn what readers raise into words.

    Parameters
    ----------
    path : of the file that is read within the block.
    hint : what to do where it is missing or damaged.
    kind : of the error in that case.
    """
    plain = RunError if issubclass(kind, RunError) else kind
    try:
        yield
    except FileNotFoundError as error:
        raise kind(f"{path} is missing.", hint=hint) from error
    except OSError as error:
        if error.errno is None:  # pyarrow's word for content that is no Parquet
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
    """Read a JSON file that holds a table, and says which format it has; a newer one is refused.

    Parameters
    ----------
    hint, kind : as of `reading`.

    Raises
    ------
    `kind` where it is missing or damaged, or of a later nonet; RunError (or `kind`) where it cannot be read now.
    """
    with reading(path, hint=hint, kind=kind):
        data = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(data, dict):
            raise ValueError("it does not hold a table")
    require_format(data, path, hint=hint, kind=kind)
    return data


def require_format(data: dict, path: Path, *, hint: str, kind: type[NonetError] = DamagedError) -> None:
    """Refuse a file of a later nonet, and one that does not say."""
    version = data.get("format_version")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise kind(f"{path} is damaged: its format_version is {version!r}.", hint=hint)
    if version > FORMAT_VERSION:
        plain = RunError if issubclass(kind, RunError) else kind
        raise plain(f"{path} was made by a later nonet (format {version}).", hint="Update nonet.")


def write_sealed(path: Path, data: dict) -> None:
    """Write a table as JSON, with its format and its own checksum."""
    data = {"format_version": FORMAT_VERSION} | json.loads(json.dumps(data, default=str))
    data.pop("sha256", None)
    write_json(path, data | {"sha256": _seal_of(data)})


def read_sealed(path: Path, *, hint: str) -> dict:
    """Read what `write_sealed` wrote, without the checksum.

    Raises
    ------
    DamagedError, where it is missing, damaged, or was edited.
    """
    data = read_json(path, hint=hint)
    seal = data.pop("sha256", None)
    if seal != _seal_of(data):
        raise DamagedError(f"{path} is not what was written: it is damaged or was edited.", hint=hint)
    return data


def _seal_of(data: dict) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def facts_of(path: Path) -> dict:
    """Return what is kept of a file: its size in bytes and its SHA-256. Raises as `reading` does."""
    with reading(path, hint="Run the same command again."):
        return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def require_whole(path: Path, kept: object, *, hint: str) -> None:
    """Raise DamagedError where a file differs from what was kept of it (`facts_of`)."""
    with reading(path, hint=hint):
        facts = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    if facts == kept:
        return
    size = kept.get("bytes") if isinstance(kept, dict) else None
    if isinstance(size, int) and facts["bytes"] != size:
        raise DamagedError(f"{path} has {facts['bytes']:,} bytes, and had {size:,} when it was written.", hint=hint)
    raise DamagedError(
        f"{path} is not what was written: it is damaged, was edited, or is another run's or member's.", hint=hint
    )


def read_checked_parquet(path: Path) -> pd.DataFrame:
    """Read a Parquet file that was written with `write_page_checksum`. Raises DamagedError where it is damaged."""
    with reading(path, hint="Run the same command again: it makes this file anew."):
        return pd.read_parquet(path, page_checksum_verification=True)


# A run


def read_provenance(run: Run) -> dict:
    """Read provenance.json: of what recipe, data and classes a run is.

    Raises
    ------
    DamagedError, where it is missing or damaged.
    """
    provenance = read_sealed(run.provenance, hint=heal_hint(run))
    with reading(run.provenance, hint=heal_hint(run)):
        provenance["classes"], provenance["fingerprints"]
    return provenance


def require_unchanged(run: Run, *files: Path) -> dict:
    """Make sure that a run's recipe, and these of its files, are those that were written; return its provenance.

    Raises
    ------
    RunError, where there is no run; DamagedError, naming the file that is missing, damaged or edited.
    """
    run.require()
    provenance, hint = read_provenance(run), heal_hint(run)
    with reading(run.recipe, hint=hint):
        digest = sha256_of(run.recipe)
    if digest != provenance["fingerprints"].get("recipe"):
        raise DamagedError(f"{run.recipe} is not the recipe that {run} was trained with.", hint=hint)
    kept = read_checksums(run)["files"] if files else {}
    for file in files:
        require_whole(file, kept.get(file.name), hint=hint)
    return provenance


def read_checksums(run: Run) -> dict:
    """Read checksums.json: "files", name → facts, and "members", name → what its DONE says."""
    checksums = read_sealed(run.checksums, hint=heal_hint(run))
    with reading(run.checksums, hint=heal_hint(run)):
        checksums["files"], checksums["members"]
    return checksums


def note_checksums(run: Run, files: Iterable[Path] = (), members: Iterable[Member] = ()) -> None:
    """Keep what these files of a run are, and what the DONE of these members says, beside what is known of others."""
    try:
        kept = read_checksums(run)
    except DamagedError:  # there is none yet, or what it said is lost
        kept = {"files": {}, "members": {}}
    kept["files"] |= {file.name: facts_of(file) for file in files}
    kept["members"] |= {member.name: read_done(member) for member in members}
    write_sealed(run.checksums, kept)


# A member


#: What training writes of a member, besides whose it is and what its files are.
DONE_FACTS = {
    *("epochs", "kept_epoch", "val_macro_f1", "seconds", "weights_from", "attempt", "earlier_attempts", "dead"),
    "files",
}


def write_done(member: Member, about: dict) -> None:
    """Write a member's DONE: what is said of it, whose it is, and what its files are."""
    files = (member.weights, member.history, member.oof, member.features, member.ood)
    write_sealed(
        member.done,
        about
        | {
            "member": member.name,
            "fingerprints": fingerprints_of(member.run),
            "files": {file.name: facts_of(file) for file in files if file.exists()},
        },
    )


def fingerprints_of(run: Run) -> dict:
    """Return what a run was begun with; nothing where it does not say (a member trained by itself)."""
    return read_provenance(run)["fingerprints"] if run.provenance.exists() else {}


def read_done(member: Member) -> dict:
    """Read a member's DONE.

    Raises
    ------
    DamagedError, where it is missing, damaged, another member's or another run's.
    """
    hint = heal_hint(member.run)
    if not member.done.exists():
        raise DamagedError(f"{member.name} of {member.run} is not trained to the end.", hint=hint)
    done = read_sealed(member.done, hint=hint)
    if done.get("member") != member.name:
        raise DamagedError(f"{member.done} is of {done.get('member')}, not of {member.name}.", hint=hint)
    if done.get("fingerprints") != fingerprints_of(member.run):
        raise DamagedError(f"{member.done} is of another run: with another recipe, dataset or folds.", hint=hint)
    if absent := DONE_FACTS - done.keys():
        raise DamagedError(f"{member.done} is damaged: it lacks {min(absent)}.", hint=hint)
    return done


def require_member(member: Member, *files: Path) -> dict:
    """Make sure that a member is done and that these of its files (by default all) are whole; return its DONE.

    The history, which only the report shows, is left out: without it nothing is lost.
    """
    done = read_done(member)
    for file in files or (member.weights, member.oof, member.features, member.ood):
        require_whole(file, done["files"].get(file.name), hint=heal_hint(member.run))
    return done
