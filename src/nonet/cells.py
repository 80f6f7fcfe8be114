"""The thirteen white-cell classes: names, lineages, order of maturation and colours.

A dataset may use any subset of them, or labels of its own: `in_order_of_maturation` sorts the known ones in the order a
haematologist expects, followed by the others in alphabetical order.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True)
class Cell:
    """A class: its code, its name, its lineage, and its colour in figures."""

    code: str
    name: str
    lineage: str
    colour: str


GRANULOPOIESIS = "granulopoiesis"
MONOCYTOPOIESIS = "monocytopoiesis"
LYMPHOPOIESIS = "lymphopoiesis"
UNSETTLED = "blast"  # a picture does not settle a blast's lineage

#: Label of a cell that is of no known class, or too doubtful to name.
UNIDENTIFIED = "unidentified"

# In order of maturation, lineage by lineage: the order of every figure and confusion matrix.
CELLS = {
    cell.code: cell
    for cell in (
        Cell("BL", "blast", UNSETTLED, "#4d4d4d"),
        Cell("PMY", "promyelocyte", GRANULOPOIESIS, "#7f0000"),
        Cell("MY", "myelocyte", GRANULOPOIESIS, "#b3312c"),
        Cell("MMY", "metamyelocyte", GRANULOPOIESIS, "#d7603f"),
        Cell("BNE", "band neutrophil", GRANULOPOIESIS, "#ee9a5a"),
        Cell("SNE", "segmented neutrophil", GRANULOPOIESIS, "#f6c98f"),
        Cell("EO", "eosinophil", GRANULOPOIESIS, "#e0457b"),
        Cell("BA", "basophil", GRANULOPOIESIS, "#6a3d9a"),
        Cell("MO", "monocyte", MONOCYTOPOIESIS, "#2c8f6b"),
        Cell("PLY", "prolymphocyte", LYMPHOPOIESIS, "#0b2f6b"),
        Cell("LY", "lymphocyte", LYMPHOPOIESIS, "#2166ac"),
        Cell("VLY", "variant lymphocyte", LYMPHOPOIESIS, "#5aa2d6"),
        Cell("PC", "plasma cell", LYMPHOPOIESIS, "#9cc9e8"),
    )
}

#: Colour of a whole lineage, whichever of its classes a dataset has.
LINEAGE_COLOURS = {
    UNSETTLED: "#4d4d4d",
    GRANULOPOIESIS: "#b3312c",
    MONOCYTOPOIESIS: "#2c8f6b",
    LYMPHOPOIESIS: "#2166ac",
}

#: Colour of labels that are not among the thirteen.
OTHER_COLOUR = "#8a9099"

#: The thirteen codes in alphabetical order: the column order of every logit array.
CLASSES = tuple(sorted(CELLS))

#: Code → synonyms of its name, in the singular. Only unambiguous ones: a "neutrophil" may be BNE or SNE, "PMO" a
#: promonocyte or a promyelocyte. Word order, letter case and punctuation do not matter.
SYNONYMS = {
    "BA": ("basophil granulocyte", "basophilic granulocyte", "basophile", "basophilic", "baso"),
    "BL": (
        *(
            "blast cell",
            "myeloblast",
            "lymphoblast",
            "monoblast",
            "megakaryoblast",
            "leukemic blast",
            "leukaemic blast",
        ),
        *("blast, no lineage spec", "blast, no lineage specified"),
    ),
    "BNE": (
        *("band", "band cell", "band form", "neutrophil band form", "band granulocyte", "neutrophilic band"),
        *("banded neutrophil", "band neutrophilic granulocyte", "stab", "stab cell", "stab neutrophil", "stab form"),
        *("band form neutrophil", "neutrophil band cell", "unsegmented neutrophil", "non segmented neutrophil"),
        "nonsegmented neutrophil",
    ),
    "EO": ("eosinophil granulocyte", "eosinophilic granulocyte", "eosinophile", "eosinophilic", "eosino", "eos"),
    "LY": (
        *("typical lymphocyte", "normal lymphocyte", "mature lymphocyte", "lymph", "lympho", "small lymphocyte"),
        *("large lymphocyte", "small lymph", "large lymph"),
    ),
    "MMY": ("neutrophilic metamyelocyte", "neutrophil metamyelocyte", "metamyelo"),
    "MO": ("mono",),
    "MY": ("neutrophilic myelocyte", "neutrophil myelocyte"),
    "PC": ("plasmacyte", "plasmocyte", "plasma"),
    "PLY": ("pro lymphocyte",),
    "PMY": ("pro myelocyte", "progranulocyte"),
    "SNE": (
        *("seg", "segmented", "segmented cell", "segmented granulocyte", "seg neutrophil", "neutrophilic segmented"),
        *("segmented neutrophilic granulocyte", "segmented form neutrophil", "neutrophil segmented form"),
        *("hypersegmented neutrophil", "polysegmented neutrophil"),
    ),
    "VLY": (
        *("atypical lymphocyte", "reactive lymphocyte", "variant lymph", "atypical lymph", "reactive lymph"),
        *("activated lymphocyte", "stimulated lymphocyte"),
    ),
}

#: The granulocyte stages in which a promyelocyte ripens into a segmented neutrophil.
GRANULOCYTE_STAGES = ("PMY", "MY", "MMY", "BNE", "SNE")


def class_name(code: str) -> str:
    """Return the name of a class, or the code itself if it is not one of the thirteen."""
    return CELLS[code].name if code in CELLS else code


def class_colour(code: str) -> str:
    """Return the colour of a class, as "#rrggbb"; grey if it is not one of the thirteen."""
    return CELLS[code].colour if code in CELLS else OTHER_COLOUR


def class_code(name: str) -> str | None:
    """Return the code of a class given as a code, a name or a synonym; None if it is not one of the thirteen.

    Letter case, plurals, punctuation, word order and camel case do not matter: "Neutrophils (segmented)" and
    "SegmentedNeutrophil" are SNE.

    Examples
    --------
    >>> class_code("Plasma cells"), class_code("ly"), class_code("neutrophil")
    ('PC', 'LY', None)
    """
    return _CODES.get(_words(name)) or _CODES.get(_words(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)))


def _words(name: str) -> tuple[str, ...]:
    """Return a name's words in alphabetical order, lower case, in the singular."""
    name = unicodedata.normalize("NFKC", name).casefold().replace("non-", "non ")
    words = re.findall(r"[^\W_]+", name)
    return tuple(sorted(re.sub(r"(?<=[a-z]{3})(?<![sui])s$", "", word) for word in words))


#: Words of a name → code.
_CODES = {
    _words(name): code
    for code, cell in CELLS.items()
    for name in (code, cell.name, *SYNONYMS[code], *(f"{name} cell" for name in SYNONYMS[code]))
}


def in_order_of_maturation(codes: Iterable[str]) -> list[str]:
    """Sort class codes by lineage and maturation, followed by labels outside the thirteen in alphabetical order."""
    rank = {code: i for i, code in enumerate(CELLS)}
    return sorted(codes, key=lambda code: (rank.get(code, len(rank)), code))


def lineage_blocks(codes: list[str]) -> list[tuple[str, int, int]]:
    """Return (lineage, first index, last index) of each run of two or more adjacent codes of one lineage."""
    blocks, start = [], 0
    for lineage, neighbours in groupby(codes, key=lambda code: CELLS[code].lineage if code in CELLS else None):
        end = start + len(list(neighbours))
        if lineage is not None and end - start >= 2:
            blocks.append((lineage, start, end - 1))
        start = end
    return blocks


def stages_block(codes: list[str]) -> tuple[int, int] | None:
    """Return (first index, last index) of the granulocyte stages in `codes`, without eosinophil and basophil.

    None if there are fewer than two stages, they are not adjacent, or they are a whole block of `lineage_blocks`.
    """
    indices = [i for i, code in enumerate(codes) if code in GRANULOCYTE_STAGES]
    if len(indices) < 2 or indices[-1] - indices[0] != len(indices) - 1:
        return None
    stages = indices[0], indices[-1]
    return stages if (GRANULOPOIESIS, *stages) not in lineage_blocks(codes) else None
