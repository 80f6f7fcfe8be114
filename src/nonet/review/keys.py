"""One letter for each class, and the order in which classes are shown: what an error would cost comes first."""

import string
from collections.abc import Sequence

from nonet.cells import UNIDENTIFIED, class_name, in_order_of_maturation
from nonet.differential.groups import NOT_COUNTED, standard_code

#: Letters of the classes; a class without one gets the first free letter of its name, or else of the alphabet.
LETTERS = {
    "SNE": "s",
    "BNE": "b",
    "LY": "l",
    "VLY": "v",
    "MO": "m",
    "EO": "e",
    "BA": "a",
    "BL": "k",
    "PMY": "p",
    "MY": "y",
    "MMY": "t",
    "PLY": "o",
    "PC": "c",
    "ERB": "n",
    "SMU": "d",
    "PLT": "h",
    "GT": "g",
    "ART": "x",
    UNIDENTIFIED: "u",
}
#: Letters that are commands of the page: undo, and the cell's own panel.
RESERVED = {"z", "i"}
#: A missed blast costs more than a monocyte called lymphocyte.
_COSTLY_FIRST = ("BL", "PMY", "PC", "PLY", "VLY", "MY", "MMY", "BA", "BNE", "EO", "MO", "LY", "SNE")


def assign_letters(classes: Sequence[str]) -> dict[str, str]:
    """Return a letter for each class, for "unidentified" and for what is not counted; different ones for all.

    Parameters
    ----------
    classes : sequence of str
        The classes of the run.

    Returns
    -------
    dict of str to str
        In the order in which they are offered; "" for a class when no letter is left.
    """
    labels = [
        *in_order_of_maturation(classes),
        *(code for code in NOT_COUNTED if code not in map(standard_code, classes)),
        UNIDENTIFIED,
    ]
    taken = set(RESERVED) | {LETTERS[label] for label in labels if label in LETTERS}
    letters = {}
    for label in labels:
        letter = LETTERS.get(label)
        if letter is None:
            words = class_name(label).lower() + string.ascii_lowercase
            letter = next((each for each in words if each in string.ascii_lowercase and each not in taken), "")
            taken.add(letter)
        letters[label] = letter
    return letters


def gallery_order(labels: Sequence[str]) -> list[str]:
    """Return labels as the gallery shows them: unidentified, costly classes, others, what is not counted."""
    rank = {label: place for place, label in enumerate((UNIDENTIFIED, *_COSTLY_FIRST))}
    last = {label: place for place, label in enumerate(NOT_COUNTED)}
    return sorted(labels, key=lambda label: (label in last, rank.get(label, len(rank)), last.get(label, 0), label))
