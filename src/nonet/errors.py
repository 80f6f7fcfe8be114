"""Errors that a user can act on: each says what, where and which value, and hints at what to do."""

import difflib
import unicodedata
from collections.abc import Iterable


class NonetError(Exception):
    """Base of every error that nonet raises on purpose.

    Parameters
    ----------
    message : what went wrong, where, and with which value.
    hint : what to do about it; shown on a line of its own.
    """

    def __init__(self, message: str, hint: str | None = None):
        self.message = message
        self.hint = hint
        super().__init__(message if hint is None else f"{message}\n{hint}")


class DataError(NonetError):
    """An image, a table, a manifest or a fold file cannot be used as it is."""


class UnreadableNowError(DataError):
    """A file could not be read now, but may be later: it is missing, locked, on a drive that fails, or memory is short.

    A DataError of an image that is not of this kind stays: the same bytes give the same error.
    """


class RecipeError(NonetError):
    """A recipe, or a setting, is not valid."""


class WeightsError(NonetError):
    """Pretrained weights are not at hand or do not fit the network."""


class RunError(NonetError):
    """A run folder is incomplete, or does not match the recipe or dataset it is asked to continue with."""


class DamagedError(RunError):
    """A file of a run is missing, cut short, changed or another's: what the same `nonet train` makes anew."""


class StorageError(NonetError):
    """A place cannot be written to or read: the disk is full, it is not permitted, or the folder is somebody else's."""


def printable(text: object) -> str:
    """Return text as it may be sent to a terminal: control characters, say of a file's name, become escapes.

    Without this a name could clear the screen, recolour it, or write over other lines. Lines and tabs stay.
    """
    return "".join(_escaped(one) if _is_control(one) else one for one in str(text))


def _is_control(one: str) -> bool:
    # Cc: control characters; Cf: among others, those that turn the direction of writing; Cs: bytes that are not UTF-8.
    return one not in "\n\t" and unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _escaped(one: str) -> str:
    return one.encode("unicode_escape").decode("ascii")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the beginning of a hint, 'Did you mean "folder"? ', where a name is like a known one; else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f'Did you mean "{close[0]}"? ' if close else ""
