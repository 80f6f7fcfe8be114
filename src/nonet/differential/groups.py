"""Which labels are white cells, which classes laboratories add up, and what is counted per 100 white cells."""

from collections.abc import Sequence
from typing import NamedTuple


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

#: Labels of cells and things that are no part of 100 white cells; the first two are reported per 100 of them.
NOT_COUNTED = {
    "ERB": "erythroblast",
    "SMU": "smudge cell",
    "GT": "giant platelet",
    "PLT": "platelet",
    "ART": "artefact",
}
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


def get_groups(classes: Sequence[str]) -> list[Group]:
    """Return the groups of which a run has at least one class, with the classes that it has."""
    have = [Group(key, name, tuple(code for code in codes if code in classes)) for key, name, codes in GROUPS]
    return [group for group in have if group.codes]
