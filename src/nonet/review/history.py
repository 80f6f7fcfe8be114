"""The history of a case for people: what each key did, who pressed it and when."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from babel.support import NullTranslations

from nonet.review.records import translatable

_WORDS = {
    "agree": translatable("agreed: {cells}"),
    "accept": translatable("accepted: {cells}"),
    "move": translatable("moved: {cells}"),
    "undo": translatable("undid: {cells}"),
    "sign": translatable("signed"),
    "reopen": translatable("reopened"),
}


def in_words(history: Sequence[dict], translations: NullTranslations) -> list[dict[str, str]]:
    """Return the history of a case, a line for all that one key did.

    Parameters
    ----------
    history : sequence of dict
        From `Store.history`.
    translations : NullTranslations
        Of the language.

    Returns
    -------
    list of dict of str to str
        Keys at, who and what, oldest first.
    """
    batches = [list(rows) for _, rows in groupby(history, key=lambda row: row["batch"])]
    return [{"at": rows[0]["at"], "who": rows[0]["who"], "what": _what(rows, translations)} for rows in batches]


def _what(rows: list[dict], translations: NullTranslations) -> str:
    kind = rows[0]["kind"]
    words = translations.gettext(_WORDS[kind])
    if kind in ("sign", "reopen"):
        return f"{words}: {rows[0]['comment']}" if rows[0]["comment"] else words
    moves = Counter((row["from_label"], row["to_label"]) for row in rows)
    cells = ", ".join(
        (before if before == after else f"{before} → {after}") + (f" ({times})" if times > 1 else "")
        for (before, after), times in moves.most_common()
    )
    blind = f", {translations.gettext('suggestion hidden')}" if any(row["is_blind"] for row in rows) else ""
    return words.format(cells=cells) + blind
