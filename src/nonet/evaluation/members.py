"""Members that died in training, and members that were trained again: sentences for the report."""

from collections.abc import Iterable

from nonet.artifacts.ensemble_file import MemberEntry
from nonet.evaluation.run_data import RunData


def dead_words(data: RunData) -> list[str]:
    """Describe each member whose network died, and what that means for the scores.

    Parameters
    ----------
    data : RunData
        The run.

    Returns
    -------
    list of str
        One or two sentences per dead member.
    """
    entries = [entry for entry in data.ensemble.members if entry.reason]
    out = [_sentence(data, entry) for entry in entries if not entry.weight]
    weighted = [entry for entry in entries if entry.weight]
    if weighted and len(weighted) + len(out) == len(data.ensemble.members):
        return [f"All networks died in training: {_sentence(data, weighted[0])}", *out]
    return out + [
        f"{_sentence(data, entry)} It takes part nonetheless: its weight in ensemble.json is not zero."
        for entry in weighted
    ]


def _sentence(data: RunData, entry: MemberEntry) -> str:
    done = data.done.get((entry.architecture, entry.fold))  # None where DONE is damaged
    attempts = 1 + (len(done["earlier_attempts"]) if done else 0)
    tried = f", in each of {attempts} attempts with different seeds" if attempts > 1 else ""
    end = "" if entry.weight else " Its weight is zero: no score and no prediction uses it."
    return f"{_name(data, entry.architecture, entry.fold)} {entry.reason}{tried}.{end}"


def restarted_words(data: RunData) -> str:
    """Describe which living members were trained in a second or third attempt.

    Parameters
    ----------
    data : RunData
        The run.

    Returns
    -------
    str
        A sentence; empty where there is none.
    """
    again = [member for member, done in sorted(data.done.items()) if done["earlier_attempts"] and not done["dead"]]
    if not again:
        return ""
    return f"Trained again with another seed because the network died in training: {_names(data, again)}."


def _names(data: RunData, members: Iterable[tuple[str, int]]) -> str:
    return "; ".join(_name(data, *member) for member in members)


def _name(data: RunData, architecture: str, fold: int) -> str:
    return f"{data.titles.get(architecture, architecture)} of fold {fold}"
