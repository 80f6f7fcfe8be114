"""The words for train, validation and test, as tables and folders have them."""

import difflib
import re

from nonet.data.sources.vocabulary import is_not_known, visible
from nonet.errors import DataError

TRAIN, VAL, TEST = "train", "val", "test"

#: Split → words for it, without blanks and signs, and without a word for "set" behind them.
SPLITS = {
    TRAIN: ("train", "training", "trn", "tr", "trainval", "learn", "learning", "fit", "fitting"),
    VAL: (
        "val",
        "valid",
        "validation",
        "validate",
        "validating",
        "vld",
        "vali",
        "dev",
        "development",
        "tune",
        "tuning",
    ),
    TEST: ("test", "testing", "tst", "te", "tests", "holdout", "heldout", "holdoutset", "unseen", "blind", "blinded"),
}
#: Words that some use for validation and others for test: only their owner knows.
UNDECIDED = ("eval", "evaluation", "evaluate", "ev", "check", "public", "private", "external", "internal")

#: Words that may stand beside one for test and leave it a test: an external_test is one, a dev-test may be none.
_KINDS_OF_TEST = {
    *("internal", "external", "independent", "final", "public", "private", "official", "hidden", "blind", "blinded"),
    *("unseen", "hold", "held", "out", "holdout", "heldout", "prospective", "ood", "set", "sets", "data", "cohort"),
}

_MEANING = {word: split for split, words in SPLITS.items() for word in words}
_SET = re.compile(r"(?:sets?|data|dataset|split|subset|images?|imgs?|cohort|part|partition|fold|cells|samples?)$")
_NUMBER = re.compile(r"\W*(?:\d{1,2}|[a-d])$")


def split_of(word: str) -> str | None:
    """Return the split that a word means, or None where it means none, or it is not certain which.

    Letter case, blanks, hyphens, a following word for "set" and a number or letter (test_2, TestA) do not count. A
    kind of test, like "external test", is a test.
    """
    text = visible(word).casefold()
    text = text.removesuffix("s") if text.endswith("sets") else text
    for shorter in (text, _NUMBER.sub("", text)):
        letters = re.sub(r"[\W_]+", "", shorter)
        for candidate in (letters, _SET.sub("", letters)):
            if candidate in _MEANING:
                return _MEANING[candidate]
    words = set(re.findall(r"[^\W_]+", text))
    return TEST if words & set(SPLITS[TEST]) and words <= {*SPLITS[TEST], *_KINDS_OF_TEST} else None


def is_undecided(word: str) -> bool:
    """Say whether a word is one that some use for validation and others for test."""
    text = visible(word).casefold()
    letters = re.sub(r"[\W\d_]+", "", text)
    return bool({letters, _SET.sub("", letters), *re.findall(r"[^\W\d_]+", text)} & set(UNDECIDED))


def read_split(word: str, where: str) -> str | None:
    """Return the split that a cell of a table means; None where it says that there is none.

    Parameters
    ----------
    word : the cell.
    where : file and line, for the error.

    Raises
    ------
    DataError where the word is not known, or means different things to different people.
    """
    if is_not_known(word):
        return None
    meant = split_of(word)
    if meant is not None:
        return meant
    close = difflib.get_close_matches(word.casefold(), _MEANING, n=1, cutoff=0.75)
    hint = "Write train, val or test." + (f' Did you mean "{_MEANING[close[0]]}"?' if close else "")
    if is_undecided(word):
        hint = "Some mean validation by that, others test: write val (trained on) or test (never trained on)."
    elif re.fullmatch(r"(fold)?[\W_]*\d+(\.0+)?", word.casefold()):
        hint = "Folds of your own belong into folds.csv (nonet data folds); here, write train, val or test."
    raise DataError(f'{where}: split "{word}" is not known.', hint=hint)
