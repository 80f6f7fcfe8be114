"""Repair of run folders: damaged files are found before training continues, and written again."""

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
from nonet.artifacts.run import Member, Run, repair_hint, set_aside
from nonet.errors import DamagedError, RunError

logger = logging.getLogger("nonet")


def stored_fingerprints(run: Run) -> dict | None:
    """Return the fingerprints of the recipe, manifest and folds that a run was begun with.

    If provenance.json is missing or damaged, they are taken from finished members.

    Parameters
    ----------
    run : Run

    Returns
    -------
    dict or None
        None if the run is new, or nothing intact says so.

    Raises
    ------
    RunError
        If members disagree, so the folder holds members of several runs.
    """
    try:
        return read_provenance(run)["fingerprints"]
    except DamagedError as error:
        if run.provenance.exists() or run.has_members:
            logger.warning(f"{error.message} It is written again.")
    of_members: list[dict] = []
    for done in sorted(run.folder.glob("members/*/fold-*/DONE")):
        try:
            fingerprints = read_json(done, hint=repair_hint(run)).get("fingerprints")
        except DamagedError:
            continue
        if isinstance(fingerprints, dict) and fingerprints not in of_members:
            of_members.append(fingerprints)
    if len(of_members) > 1:
        raise RunError(
            f"{run} has no intact provenance.json, and members of several runs.", hint="Copy the run folder again."
        )
    return of_members[0] if of_members else None


def inputs_are_intact(run: Run) -> bool:
    """Return whether recipe, manifest, folds and the dataset's record are as they were written; warn if not.

    Parameters
    ----------
    run : Run

    Returns
    -------
    bool
    """
    try:
        require_unchanged(run, run.manifest, run.folds, run.dataset_record)
    except DamagedError as error:
        logger.warning(f"{error.message} It is written again.")
        return False
    return True


def reset_damaged_members(run: Run, members: Sequence[Member]) -> None:
    """Reset members with damaged files, so that they are trained again; intact ones are left alone.

    Parameters
    ----------
    run : Run
    members : sequence of Member
        All members of the run.

    Raises
    ------
    RunError
        If a file cannot be read at the moment, which is no reason to train a member again.
    """
    try:
        stored = read_checksums(run)["members"]
    except DamagedError:
        stored = {}
    for member in members:
        _restore_done(member, stored.get(member.name))
        if not member.done.exists():
            continue
        try:
            require_member(member)
        except DamagedError as error:
            logger.warning(f"{error.message} {member.name} is trained again.")
            for file in (member.done, *member.results):
                file.unlink(missing_ok=True)
            continue
        _drop_history(member)


def _restore_done(member: Member, stored: object) -> None:
    """Write DONE again if it alone is lost, with `stored`, its content according to the run's checksums."""
    try:
        read_done(member)
        return
    except DamagedError as error:
        if not isinstance(stored, dict) or not member.weights.exists():
            return
        before = member.done.read_bytes() if member.done.exists() else None
        write_sealed(member.done, stored)
        try:
            require_member(member)
            logger.warning(f"{error.message} {member.done} is written again, as the member's files are intact.")
        except DamagedError:
            member.done.unlink() if before is None else member.done.write_bytes(before)


def _drop_history(member: Member) -> None:
    """Remove a damaged history: the report can do without it, and it is no reason to train again."""
    try:
        require_whole(member.history, read_done(member)["files"].get(member.history.name), hint="")
    except DamagedError as error:
        if member.history.exists():
            logger.warning(f"{error.message} It is removed; reports will lack this member's curves.")
            member.history.unlink()
    except RunError as error:  # it cannot be read at the moment, which is no reason to stop
        logger.warning(error.message)


def samples_are_intact(run: Run) -> bool:
    """Return whether the report's sample images are as they were written; warn if they are damaged.

    Parameters
    ----------
    run : Run

    Returns
    -------
    bool
    """
    try:
        require_whole(run.samples, read_checksums(run)["files"].get(run.samples.name), hint="")
    except DamagedError as error:
        if run.samples.exists():
            logger.warning(f"{error.message} It is written again.")
        return False
    except RunError as error:  # it cannot be read at the moment; a run without pictures is still complete
        logger.warning(error.message)
    return True


def set_aside_damaged_ensemble(run: Run) -> None:
    """Rename an ensemble.json that cannot be used, so that a new one is written; a person may have edited the old one.

    Parameters
    ----------
    run : Run
    """
    if not run.ensemble.exists():
        return
    try:
        EnsembleFile.read(run)
    except DamagedError as error:
        aside = set_aside(run.ensemble, "damaged")
        logger.warning(f"{error.message} A new one is written; the old one is {aside}.")
