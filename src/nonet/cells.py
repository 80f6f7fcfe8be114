"""The thirteen white-cell classes: names, lineages, order of maturation and colours.

A dataset may use any subset of them, or labels of its own: `in_order_of_maturation` puts the known ones in the
order a haematologist expects and the rest, alphabetically, behind.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """One class: its code, its name, the lineage it belongs to, and the colour figures draw it in."""

    code: str
    name: str
    lineage: str
    colour: str


GRANULOPOIESIS = "granulopoiesis"
MONOCYTOPOIESIS = "monocytopoiesis"
LYMPHOPOIESIS = "lymphopoiesis"
UNSETTLED = "blast"  # a picture does not settle a blast's lineage

#: In place of a class, wherever a cell is none that is known or too doubtful to name.
UNIDENTIFIED = "unidentified"

# In order of maturation, lineage by lineage; this order is the one of every figure and confusion matrix.
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

#: The colour of a lineage as a whole, whichever of its classes a dataset has.
LINEAGE_COLOURS = {
    UNSETTLED: "#4d4d4d",
    GRANULOPOIESIS: "#b3312c",
    MONOCYTOPOIESIS: "#2c8f6b",
    LYMPHOPOIESIS: "#2166ac",
}

#: The thirteen codes in alphabetical order: the column order of every logit array.
CLASSES = tuple(sorted(CELLS))

#: Code → what else its cells are called, in the singular. Only what leaves no doubt: a "neutrophil" may be BNE or SNE,
#: "PMO" a promonocyte or a promyelocyte. Order of words, letter case and signs do not count.
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


def name_of(code: str) -> str:
    """Return the class's name, or the code itself where it is not one of the thirteen."""
    return CELLS[code].name if code in CELLS else code


def code_of(name: str) -> str | None:
    """Return the code that a name stands for: itself, the class's name or a synonym; None where there is none.

    Letter case, plural, signs, order of words and words run together in capitals do not count:
    "Neutrophils (segmented)" and "SegmentedNeutrophil" are SNE.

    Examples
    --------
    >>> code_of("Plasma cells"), code_of("ly"), code_of("neutrophil")
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
    """Sort class codes by lineage and maturation; labels outside the thirteen follow, alphabetically."""
    rank = {code: i for i, code in enumerate(CELLS)}
    return sorted(codes, key=lambda code: (rank.get(code, len(rank)), code))


def lineage_blocks(codes: list[str]) -> list[tuple[str, int, int]]:
    """Return (lineage, first, last) for each lineage that fills two or more neighbouring places of `codes`."""
    lineages = [CELLS[code].lineage if code in CELLS else None for code in codes]
    blocks, start = [], 0
    for i in range(1, len(codes) + 1):
        if i == len(codes) or lineages[i] != lineages[start]:
            if i - start >= 2 and lineages[start] is not None:
                blocks.append((lineages[start], start, i - 1))
            start = i
    return blocks


def stages_block(codes: list[str]) -> tuple[int, int] | None:
    """Return (first, last) of the granulocyte stages in `codes`, without eosinophil and basophil beside them.

    None where there are fewer than two stages next to each other, or nothing else of their lineage beside them.
    """
    places = [i for i, code in enumerate(codes) if code in GRANULOCYTE_STAGES]
    if len(places) < 2 or places[-1] - places[0] != len(places) - 1:
        return None
    stages = places[0], places[-1]
    return stages if (GRANULOPOIESIS, *stages) not in lineage_blocks(codes) else None
