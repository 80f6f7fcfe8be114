"""Why a part of an evaluation has no result."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class NotMeasured:
    """Stands in place of a result that could not be measured.

    Attributes
    ----------
    reason : str
        A sentence for people.
    """

    reason: str

    @classmethod
    def too_few(cls, notes: Iterable[str]) -> "NotMeasured":
        """Return the result of a cross-fit whose folds are too small, as the notes of a fit say."""
        return cls("Not measured, as too few images are left when one fold is held out. " + " ".join(notes))
