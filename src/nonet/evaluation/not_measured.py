"""Why a part of an evaluation has no result."""

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
