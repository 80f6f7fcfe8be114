"""One result of the dataset checks that a person should look at."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One result of the checks.

    Attributes
    ----------
    kind : str
        In a few words, such as "shortcut: size".
    text : str
        A sentence or two: what, where, and what to do.
    """

    kind: str
    text: str
