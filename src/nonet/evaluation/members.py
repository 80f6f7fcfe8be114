"""What became of a run's members: which died in training, and which were trained again."""

from collections.abc import Iterable

from nonet.artifacts.ensemble_file import MemberEntry
from nonet.evaluation.run_data import RunData


def dead_words(data: RunData) -> list[str]:
    """Say of each member whose network is dead why, and what that means for the scores; a sentence or two each."""
    entries = [entry for entry in data.ensemble.members if entry.reason]
    out = [_sentence(data, entry) for entry in entries if not entry.weight]
    kept = [entry for entry in entries if entry.weight]
    if kept and len(kept) + len(out) == len(data.ensemble.members):
        return [f"All networks died in training: {_sentence(data, kept[0])}", *out]
    return out + [f"{_sentence(data, entry)} It counts nonetheless: ensemble.json gives it weight." for entry in kept]


def _sentence(data: RunData, entry: MemberEntry) -> str:
    done = data.done.get((entry.architecture, entry.fold), {})
    attempts = len(done.get("earlier_attempts") or []) + 1
    tried = f", in each of {attempts} attempts with different seeds" if attempts > 1 else ""
    end = "" if entry.weight else " It does not count: no score and no prediction rests on it."
    return f"{_name(data, entry.architecture, entry.fold)} {entry.reason}{tried}.{end}"


def restarted_words(data: RunData) -> str:
    """Say which living members are of a second or third attempt; nothing where none is."""
    again = [member for member, done in sorted(data.done.items()) if done.get("earlier_attempts") and not done["dead"]]
    if not again:
        return ""
    return f"Trained again from another seed, as the network died in training: {_names(data, again)}."


def _names(data: RunData, members: Iterable[tuple[str, int]]) -> str:
    return "; ".join(_name(data, *member) for member in members)


def _name(data: RunData, architecture: str, fold: int) -> str:
    return f"{data.titles.get(architecture, architecture)} of fold {fold}"
