"""Which members to train: by name, and those that no other process is training."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence

from nonet.artifacts.run import Member
from nonet.artifacts.storage import exclusive_lock
from nonet.errors import BusyError, RunError, choose_from


def choose_members(members: Sequence[Member], names: Iterable[str] | None) -> list[Member]:
    """Return the members of these names, in the run's order; all of them without names.

    Parameters
    ----------
    members : sequence of Member
        All of a run.
    names : iterable of str, optional
        Such as "swinv2_tiny/fold-0".

    Returns
    -------
    list of Member

    Raises
    ------
    RunError
        If the run has no member of a name.
    """
    if names is None:
        return list(members)
    names, known = list(names), [member.name for member in members]
    for name in names:
        if name not in known:
            raise RunError(f'The run has no member "{name}".', hint=choose_from(name, known))
    return [member for member in members if member.name in names]


def lock_member(member: Member) -> contextlib.AbstractContextManager[None]:
    """Return a context manager that keeps other processes from training a member; raises BusyError if one does."""
    member.lock.parent.mkdir(parents=True, exist_ok=True)
    return exclusive_lock(
        member.lock,
        f"{member.name} of {member.run} is being trained by another process.",
        "Wait for it, then run the same command again.",
    )


@contextlib.contextmanager
def lock_free(members: Iterable[Member]) -> Iterator[tuple[list[Member], BusyError | None]]:
    """Lock members, except those that other processes are training.

    Parameters
    ----------
    members : iterable of Member

    Yields
    ------
    free : list of Member
        Those that are locked now.
    busy : BusyError or None
        About the first of the others.
    """
    free, busy = [], None
    with contextlib.ExitStack() as held:
        for member in members:
            try:
                held.enter_context(lock_member(member))
                free.append(member)
            except BusyError as error:
                busy = busy or error
        yield free, busy
