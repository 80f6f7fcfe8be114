"""Bone-Marrow-Cytomorphology_MLL_Helmholtz_Fraunhofer: 171,374 cells of bone marrow, not blood."""

from nonet.data.sources.base import SMUDGE_CELL, Source
from nonet.data.sources.class_folders import ClassFolders
from nonet.data.sources.listing import LabelMap, LeftOut

_RED = "a precursor of red cells is not a white blood cell"

LABELS = LabelMap(
    {
        "BAS": ("BA", 441),
        "BLA": ("BL", 11973),
        "EOS": ("EO", 5883),
        "LYT": ("LY", 26242),
        "MMZ": ("MMY", 3055),
        "MON": ("MO", 4040),
        "MYB": ("MY", 6557),
        "NGB": ("BNE", 9968),
        "NGS": ("SNE", 29424),
        "PLM": ("PC", 7629),
        "PMO": ("PMY", 11994),
        "ABE": (LeftOut("an abnormal eosinophil, which EO does not mean elsewhere"), 8),
        "ART": (LeftOut("not a single white blood cell", "ART"), 19630),
        "EBO": (LeftOut(_RED, "ERB"), 27395),
        "PEB": (LeftOut(_RED, "ERB"), 2740),
        "FGC": (LeftOut("a faggot cell, an abnormal promyelocyte of APL"), 47),
        "HAC": (LeftOut("a hairy cell is not one of the thirteen classes"), 409),
        "KSC": (SMUDGE_CELL, 42),
        "LYI": (LeftOut("an immature lymphocyte may be BL or PLY"), 65),
        "NIF": (LeftOut("its class is unknown"), 3538),
        "OTH": (LeftOut("another cell, without a class"), 294),
    }
)
MLL_BM = Source(
    name="mll-bm",
    title="Bone-Marrow-Cytomorphology: 945 patients, Munich Leukemia Laboratory",
    reader=ClassFolders(LABELS, "mll-bm", ignored=(".csv", ".txt")),
    published="The Cancer Imaging Archive, https://doi.org/10.7937/TCIA.AXH3-T579",
    licence="CC BY 4.0",
    citation="Matek C, Krappe S, Münzenmayer C, Haferlach T, Marr C. An expert-annotated dataset of bone marrow "
    "cytology in hematologic malignancies. The Cancer Imaging Archive (2021). With: Matek C et al., Blood 138 (2021) "
    "1917.",
    layout="DIR/BM_cytomorphology_data/CODE/[0001-1000/]CODE_number.jpg (250 x 250 px)",
    labels=LABELS,
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
