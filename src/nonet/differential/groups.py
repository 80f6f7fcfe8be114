"""Which labels are white cells, which classes laboratories add up, and what is counted per 100 white cells."""

from collections.abc import Sequence
from typing import NamedTuple

from nonet.data.labels import name_code
from nonet.data.sources.base import EXTRA_LABELS


class Group(NamedTuple):
    """Classes that are reported as one number.

    Attributes
    ----------
    key : str
        In tables.
    name : str
        For people.
    codes : tuple of str
        The classes whose cells are added up.
    """

    key: str
    name: str
    codes: tuple[str, ...]


GROUPS = (
    Group("immature_granulocytes", "immature granulocytes", ("PMY", "MY", "MMY", "IG")),
    Group("neutrophils", "all neutrophils", ("BNE", "SNE", "NEU")),
    Group("lymphoid", "all lymphoid cells", ("LY", "VLY", "PLY", "PC")),
    Group("blasts", "blasts", ("BL",)),
)

#: Labels that are not counted among 100 white cells, with their names.
NOT_COUNTED = {code: EXTRA_LABELS[code] for code in ("ERB", "SMU", "GT", "PLT", "ART")}
#: Those of them that are reported per 100 white cells.
PER_100 = ("ERB", "SMU")

#: LOINC codes of a class per 100 leukocytes of blood. Their display names changed in 2025, so none is given.
LOINC = {
    "BA": "30180-4",
    "BL": "26446-5",
    "BNE": "26508-2",
    "EO": "26450-7",
    "LY": "26478-8",
    "MMY": "28541-1",
    "MO": "26485-3",
    "MY": "26498-6",
    "PC": "13047-6",
    "PLY": "30465-9",
    "PMO": "30466-7",
    "PMY": "26524-9",
    "SNE": "26505-8",
    "VLY": "13046-8",
    "SMU": "34992-8",
    "ERB": "58413-6",
}
LOINC_PANEL = "69738-3"


def standard_code(label: str) -> str:
    """Return the code that a run's own label means, as "Lymphocytes" means LY; the label itself if it means none."""
    return name_code(label) or label


def is_white(label: str) -> bool:
    """Whether cells with a label count among 100 white cells."""
    return standard_code(label) not in NOT_COUNTED


def get_groups(classes: Sequence[str]) -> list[Group]:
    """Return the groups of which a run has at least one class, with the classes that it has."""
    have = [
        Group(key, name, tuple(label for label in classes if standard_code(label) in codes))
        for key, name, codes in GROUPS
    ]
    return [group for group in have if group.codes]
