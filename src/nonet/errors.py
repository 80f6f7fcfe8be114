"""Errors that a user can act on: each says what, where and which value, and what to do about it.

Parameters of public functions are in backticks, `out` or `format="csv"`; the command line prints them as options.
"""

import difflib
import unicodedata
from collections.abc import Iterable


class NonetError(Exception):
    """Base of every error that nonet raises on purpose.

    Parameters
    ----------
    message : str
        What went wrong, where, and with which value.
    hint : str, optional
        What to do about it; shown on a line of its own.
    """

    def __init__(self, message: str, hint: str | None = None):
        self.message = message
        self.hint = hint
        super().__init__(message if hint is None else f"{message}\n{hint}")


class DataError(NonetError):
    """An image, a table, a manifest or a fold file cannot be used as it is."""


class UnreadableNowError(DataError):
    """A file could not be read now, but may be later: it is missing, locked, on a failing drive, or memory is short.

    Any other DataError of an image is permanent: the same bytes give the same error.
    """


class RecipeError(NonetError):
    """A recipe, or a setting, is not valid."""


class WeightsError(NonetError):
    """Pretrained weights are not cached or do not fit the network."""


class RunError(NonetError):
    """A run folder is incomplete, or does not match the recipe or dataset that it is to be continued with."""


class BusyError(RunError):
    """Another process is at work on the same folder."""


class DamagedError(RunError):
    """A file of a run is missing, truncated, changed or of another run; the same `nonet train` makes it again."""


class StorageError(NonetError):
    """A path cannot be read or written: the disk is full, permission is denied, or the folder is not nonet's."""


def printable(text: object) -> str:
    """Return text that is safe to print: control characters, for example of a file's name, become escapes.

    Otherwise a name could clear or recolour the screen, or overwrite lines. Newlines and tabs stay.

    Parameters
    ----------
    text : object
        Converted by str.

    Returns
    -------
    str
    """
    return "".join(_escaped(one) if _is_control(one) else one for one in str(text))


def one_line(text: object) -> str:
    """Return text that is safe to print, on one line: every run of white space becomes a space."""
    return " ".join(printable(text).split())


def _is_control(one: str) -> bool:
    # Cc: control characters; Cf: among others, those that turn the direction of writing; Cs: bytes that are not UTF-8.
    return one not in "\n\t" and unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _escaped(one: str) -> str:
    return one.encode("unicode_escape").decode("ascii")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the beginning of a hint for a misspelt name.

    Parameters
    ----------
    name : str
        As the user wrote it.
    known : iterable of str
        The names that exist.

    Returns
    -------
    str
        'Did you mean "folder"? ', or "" if no known name is similar.
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f'Did you mean "{close[0]}"? ' if close else ""


def choose_from(name: str, known: Iterable[str]) -> str:
    """Return the hint for an unknown name: a similar one, and all that exist.

    Parameters
    ----------
    name : str
        As the user wrote it.
    known : iterable of str
        The names that exist.

    Returns
    -------
    str
        'Did you mean "focal_softmax"? Choose from cross_entropy, focal_softmax.'
    """
    known = list(known)
    return f"{did_you_mean(name, known)}Choose from {', '.join(known)}."


def counted(num: int, singular: str, plural: str) -> str:
    """Return a number with what it counts: "1 image is" or "2,000 images are".

    Parameters
    ----------
    num : int
    singular, plural : str
        What follows the number.

    Returns
    -------
    str
    """
    return f"1 {singular}" if num == 1 else f"{num:,} {plural}"
