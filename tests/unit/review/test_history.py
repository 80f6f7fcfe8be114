"""The history of a case in words: a line for what one key did."""

from babel.support import NullTranslations

from nonet.review.history import in_words


def row(batch, kind, before="SNE", after="SNE", **more):
    return {
        **{"batch": batch, "kind": kind, "at": f"t{batch}", "who": "Ada", "from_label": before, "to_label": after},
        **({"is_blind": 0} | more),
    }


def test_each_key_is_a_line():
    history = [
        row(1, "move", "SNE", "BNE"),
        row(2, "move", "SNE", "BNE"),
        row(2, "move", "EO", "BNE"),
        row(2, "move", "EO", "BNE"),
        row(3, "undo", "BNE", "SNE"),
        row(4, "accept"),
        row(4, "accept"),
        row(5, "agree", "LY", "LY"),
        row(6, "move", "LY", "MO", is_blind=1),
        {"batch": 7, "kind": "sign", "at": "t7", "who": "Ben", "comment": ""},
        {"batch": 8, "kind": "reopen", "at": "t8", "who": "Ben", "comment": "wrong slide"},
    ]
    lines = in_words(history, NullTranslations())
    assert [line["what"] for line in lines] == [
        "moved: SNE → BNE",
        "moved: EO → BNE (2), SNE → BNE",
        "undid: BNE → SNE",
        "accepted: SNE (2)",
        "agreed: LY",
        "moved: LY → MO, suggestion hidden",
        "signed",
        "reopened: wrong slide",
    ]
    assert (lines[-1]["who"], lines[-1]["at"]) == ("Ben", "t8")
    assert in_words([], NullTranslations()) == []
