"""The words for training, validation and test splits that tables and folders use."""

import re

from nonet.data.sources.vocabulary import is_missing_value, visible
from nonet.errors import DataError, did_you_mean

TRAIN, VAL, TEST = "train", "val", "test"

#: Split → words for it, without blanks and punctuation, and without a following word for "set".
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
#: Words that some use for validation and others for test: only the user knows.
AMBIGUOUS = ("eval", "evaluation", "evaluate", "ev", "check", "public", "private", "external", "internal")

#: Words that may accompany one for test: an external_test is a test set, a dev-test may not be.
_TEST_QUALIFIERS = {
    *("internal", "external", "independent", "final", "public", "private", "official", "hidden", "blind", "blinded"),
    *("unseen", "hold", "held", "out", "holdout", "heldout", "prospective", "ood", "set", "sets", "data", "cohort"),
}

_MEANING = {word: split for split, words in SPLITS.items() for word in words}
_SET = re.compile(r"(?:sets?|data|dataset|split|subset|images?|imgs?|cohort|part|partition|fold|cells|samples?)$")
_NUMBER = re.compile(r"\W*(?:\d{1,2}|[a-d])$")


def parse_split(word: str) -> str | None:
    """Return the split that a word means.

    Letter case, blanks, hyphens, a following word for "set" and a number or letter (test_2, TestA) are ignored. A kind
    of test, such as "external test", is a test.

    Parameters
    ----------
    word : str

    Returns
    -------
    str or None
        "train", "val" or "test"; None where the word means none of them, or it is not certain which.
    """
    text = visible(word).casefold()
    text = text.removesuffix("s") if text.endswith("sets") else text
    for shorter in (text, _NUMBER.sub("", text)):
        letters = re.sub(r"[\W_]+", "", shorter)
        for candidate in (letters, _SET.sub("", letters)):
            if candidate in _MEANING:
                return _MEANING[candidate]
    words = set(re.findall(r"[^\W_]+", text))
    return TEST if words & set(SPLITS[TEST]) and words <= {*SPLITS[TEST], *_TEST_QUALIFIERS} else None


def is_ambiguous_split(word: str) -> bool:
    """Tell whether a word is used by some for validation and by others for test.

    Parameters
    ----------
    word : str

    Returns
    -------
    bool
    """
    text = visible(word).casefold()
    letters = re.sub(r"[\W\d_]+", "", text)
    return bool({letters, _SET.sub("", letters), *re.findall(r"[^\W\d_]+", text)} & set(AMBIGUOUS))


def read_split(word: str, where: str) -> str | None:
    """Return the split that a cell of a table means.

    Parameters
    ----------
    word : str
        The cell.
    where : str
        File and line, for the error.

    Returns
    -------
    str or None
        "train", "val" or "test"; None where the cell says that there is none.

    Raises
    ------
    DataError
        When the word is unknown or ambiguous.
    """
    if is_missing_value(word):
        return None
    meant = parse_split(word)
    if meant is not None:
        return meant
    hint = f"{did_you_mean(word.casefold(), _MEANING)}Write train, val or test."
    if is_ambiguous_split(word):
        hint = "Some use it for validation, others for test: write val (trained on) or test (never trained on)."
    elif re.fullmatch(r"(fold)?[\W_]*\d+(\.0+)?", word.casefold()):
        hint = "Your own folds belong in folds.csv (nonet data folds); here, write train, val or test."
    raise DataError(f'{where}: split "{word}" is unknown.', hint=hint)
