"""Making good what a run folder has lost: damaged files are found before training goes on, and made anew."""

import logging
from collections.abc import Sequence

from nonet.artifacts.ensemble_file import EnsembleFile
from nonet.artifacts.integrity import (
    read_checksums,
    read_done,
    read_json,
    read_provenance,
    require_member,
    require_unchanged,
    require_whole,
    write_sealed,
)
from nonet.artifacts.run import Member, Run, heal_hint, set_aside
from nonet.errors import DamagedError, RunError

logger = logging.getLogger("nonet")


def begun_with(run: Run) -> dict | None:
    """Return the fingerprints of what a run was begun with; None where nothing says so any more, or it is new.

    Where provenance.json is missing or damaged, finished members say.

    Raises
    ------
    RunError where they do not agree: the folder holds members of several runs.
    """
    try:
        return read_provenance(run)["fingerprints"]
    except DamagedError as error:
        if run.provenance.exists() or run.has_members:
            logger.warning(f"{error.message} It is written anew.")
    found: list[dict] = []
    for done in sorted(run.folder.glob("members/*/fold-*/DONE")):
        try:
            fingerprints = read_json(done, hint=heal_hint(run)).get("fingerprints")
        except DamagedError:
            continue
        if isinstance(fingerprints, dict) and fingerprints not in found:
            found.append(fingerprints)
    if len(found) > 1:
        raise RunError(
            f"{run} has no provenance.json, and holds members of several runs.", hint="Copy the run folder again."
        )
    return found[0] if found else None


def beginning_is_whole(run: Run) -> bool:
    """Whether recipe, manifest, folds and the dataset's record are those that the run was begun with; warn if not."""
    try:
        require_unchanged(run, run.manifest, run.folds, run.dataset_record)
    except DamagedError as error:
        logger.warning(f"{error.message} It is written anew.")
        return False
    return True


def heal_members(run: Run, members: Sequence[Member]) -> None:
    """Make members undone whose files are not whole, so that they are trained again; whole ones are left alone.

    Raises
    ------
    RunError where a file cannot be read now: that is no reason to train anything again.
    """
    try:
        kept = read_checksums(run)["members"]
    except DamagedError:
        kept = {}
    for member in members:
        _restore_done(member, kept.get(member.name))
        if not member.done.exists():
            continue
        try:
            require_member(member)
        except DamagedError as error:
            logger.warning(f"{error.message} {member.name} is trained again.")
            for file in (member.done, member.weights, member.oof, member.features, member.ood, member.history):
                file.unlink(missing_ok=True)
            continue
        _drop_history(member)


def _restore_done(member: Member, kept: object) -> None:
    """Write DONE anew where it alone is lost: the run's checksums hold what it said."""
    try:
        read_done(member)
        return
    except DamagedError as error:
        if not isinstance(kept, dict) or not member.weights.exists():
            return
        before = member.done.read_bytes() if member.done.exists() else None
        write_sealed(member.done, kept)
        try:
            require_member(member)
            logger.warning(f"{error.message} {member.done} is written anew, as the member's files are whole.")
        except DamagedError:
            member.done.unlink() if before is None else member.done.write_bytes(before)


def _drop_history(member: Member) -> None:
    """Remove a history that is not what was written: the report goes without it, and nothing is trained for it."""
    try:
        require_whole(member.history, read_done(member)["files"].get(member.history.name), hint="")
    except DamagedError as error:
        if member.history.exists():
            logger.warning(f"{error.message} It is removed; reports go without this member's curves.")
            member.history.unlink()
    except RunError as error:  # it cannot be read now, which is no reason to stop
        logger.warning(error.message)


def samples_are_whole(run: Run) -> bool:
    """Whether the report's sample images are there, as they were written; warn where they are damaged."""
    try:
        require_whole(run.samples, read_checksums(run)["files"].get(run.samples.name), hint="")
    except DamagedError as error:
        if run.samples.exists():
            logger.warning(f"{error.message} It is written anew.")
        return False
    except RunError as error:  # it cannot be read now; without pictures a run is still a run
        logger.warning(error.message)
    return True


def set_aside_ensemble(run: Run) -> None:
    """Rename an ensemble.json that cannot be used, which a person may have edited, so that a new one is written."""
    if not run.ensemble.exists():
        return
    try:
        EnsembleFile.read(run)
    except DamagedError as error:
        aside = set_aside(run.ensemble, "damaged")
        logger.warning(f"{error.message} A new one is written; the old one is {aside}.")
