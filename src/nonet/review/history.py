"""The history of a case for people: what each key did, who pressed it and when."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from nonet.errors import counted

_VERBS = {"agree": "agreed with", "accept": "accepted"}


def in_words(history: Sequence[dict]) -> list[dict[str, str]]:
    """Return the history of a case, a line for all that one key did.

    Parameters
    ----------
    history : sequence of dict
        From `Store.history`.

    Returns
    -------
    list of dict of str to str
        Keys at, who and what, oldest first.
    """
    batches = [list(rows) for _, rows in groupby(history, key=lambda row: row["batch"])]
    return [{"at": rows[0]["at"], "who": rows[0]["who"], "what": _what(rows)} for rows in batches]


def _what(rows: list[dict]) -> str:
    kind, num = rows[0]["kind"], len(rows)
    if kind in ("sign", "reopen"):
        comment = f": {rows[0]['comment']}" if rows[0]["comment"] else ""
        return f"{'signed' if kind == 'sign' else 'reopened'}{comment}"
    moves = Counter((row["from_label"], row["to_label"]) for row in rows)
    places = ", ".join(
        before if before == after else f"{before} → {after}" + (f" ({times})" if len(moves) > 1 else "")
        for (before, after), times in moves.most_common()
    )
    cells = counted(num, "cell", "cells")
    blind = ", suggestion hidden" if any(row["is_blind"] for row in rows) else ""
    verb = "undid" if kind == "undo" else _VERBS.get(kind, "moved")
    return f"{verb} {cells}: {places}{blind}"
