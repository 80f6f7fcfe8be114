"""Bone-Marrow-Cytomorphology_MLL_Helmholtz_Fraunhofer: 171,374 cells of bone marrow, not blood."""

from nonet.data.sources.base import SMUDGE_CELL, Source
from nonet.data.sources.class_folders import ClassFolders
from nonet.data.sources.listing import LabelMap, LeftOut

_RED = "a precursor of red cells is not a white blood cell"

LABELS = LabelMap(
    {
        "BAS": "BA",
        "BLA": "BL",
        "EOS": "EO",
        "LYT": "LY",
        "MMZ": "MMY",
        "MON": "MO",
        "MYB": "MY",
        "NGB": "BNE",
        "NGS": "SNE",
        "PLM": "PC",
        "PMO": "PMY",
        "ABE": LeftOut("an abnormal eosinophil, which EO does not mean elsewhere"),
        "ART": LeftOut("not a single white blood cell", "ART"),
        "EBO": LeftOut(_RED, "ERB"),
        "PEB": LeftOut(_RED, "ERB"),
        "FGC": LeftOut("a faggot cell, an abnormal promyelocyte of APL"),
        "HAC": LeftOut("a hairy cell is not one of the thirteen classes"),
        "KSC": SMUDGE_CELL,
        "LYI": LeftOut("an immature lymphocyte may be BL or PLY"),
        "NIF": LeftOut("its class is unknown"),
        "OTH": LeftOut("another cell, without a class"),
    }
)
COUNTS = {
    "ABE": 8,
    "ART": 19630,
    "BAS": 441,
    "BLA": 11973,
    "EBO": 27395,
    "EOS": 5883,
    "FGC": 47,
    "HAC": 409,
    "KSC": 42,
    "LYI": 65,
    "LYT": 26242,
    "MMZ": 3055,
    "MON": 4040,
    "MYB": 6557,
    "NGB": 9968,
    "NGS": 29424,
    "NIF": 3538,
    "OTH": 294,
    "PEB": 2740,
    "PLM": 7629,
    "PMO": 11994,
}


MLL_BM = Source(
    name="mll-bm",
    title="Bone-Marrow-Cytomorphology: 945 patients, Munich Leukemia Laboratory",
    read=ClassFolders("mll-bm", LABELS, search=True, ignored=(".csv", ".txt")),
    published="The Cancer Imaging Archive, https://doi.org/10.7937/TCIA.AXH3-T579",
    licence="CC BY 4.0",
    citation="Matek C, Krappe S, Münzenmayer C, Haferlach T, Marr C. An expert-annotated dataset of bone marrow "
    "cytology in hematologic malignancies. The Cancer Imaging Archive (2021). With: Matek C et al., Blood 138 (2021) "
    "1917.",
    layout="DIR/BM_cytomorphology_data/CODE/[0001-1000/]CODE_number.jpg (250 x 250 px)",
    labels=LABELS,
    counts=COUNTS,
    num_images=171374,
    tissue="marrow",
    notes=(
        "BONE MARROW, not blood: cells look similar, but are closer together, and stages occur in other proportions. "
        "You may train on it (`external=mll-bm`); a score on it says nothing about blood.",
        "Patients are not given: folds are by image, and scores look better than on the next patient.",
        "Taken at 40x: a different scale from analysers' crops.",
    ),
    by_hand="Open https://doi.org/10.7937/TCIA.AXH3-T579 and download the images (6.8 GB) with the archive's own "
    "program, IBM Aspera Connect; then: nonet data build mll-bm:FOLDER --external mll-bm",
)
