"""AML-Cytomorphology_LMU: 18,365 cells of AML patients and controls, Munich University Hospital."""

from nonet.data.sources.base import ERYTHROBLAST, SMUDGE_CELL, Source
from nonet.data.sources.class_folders import ClassFolders
from nonet.data.sources.listing import LabelMap, LeftOut

LABELS = LabelMap(
    {
        "NGS": "SNE",
        "NGB": "BNE",
        "LYT": "LY",
        "LYA": "VLY",
        "MON": "MO",
        "BAS": "BA",
        "EOS": "EO",
        "MYO": "BL",  # myeloblast
        "MOB": "BL",  # monoblast
        "MYB": "MY",  # myelocyte, not myeloblast
        "MMZ": "MMY",
        "PMO": "PMY",  # promyelocyte, not promonocyte
        "PMB": LeftOut("a bilobed promyelocyte, an atypical form that some count as a blast and others as PMY"),
        "EBO": ERYTHROBLAST,
        "KSC": SMUDGE_CELL,
    }
)
COUNTS = {
    "NGS": 8484,
    "NGB": 109,
    "LYT": 3937,
    "LYA": 11,
    "MON": 1789,
    "BAS": 79,
    "EOS": 424,
    "MYO": 3268,
    "MOB": 26,
    "MYB": 42,
    "MMZ": 15,
    "PMO": 70,
    "PMB": 18,
    "EBO": 78,
    "KSC": 15,
}


LMU_AML = Source(
    name="lmu-aml",
    title="AML-Cytomorphology_LMU: 100 AML patients and 100 controls, Munich",
    read=ClassFolders("lmu-aml", LABELS, search=True, ignored=(".dat", ".txt", ".csv")),
    published="The Cancer Imaging Archive, https://doi.org/10.7937/tcia.2019.36f5o9ld",
    licence="CC BY 3.0",
    citation="Matek C, Schwarz S, Marr C, Spiekermann K. A single-cell morphological dataset of leukocytes from AML "
    "patients and non-malignant controls. The Cancer Imaging Archive (2019). With: Matek C et al., Nature Machine "
    "Intelligence 1 (2019) 538.",
    layout="DIR/AML-Cytomorphology_LMU/CODE/CODE_number.tiff (400 x 400 px, with alpha), beside annotations.dat",
    labels=LABELS,
    counts=COUNTS,
    num_images=18365,
    notes=(
        "Patients are not given: folds are by image, and scores look better than on the next patient.",
        "Images are TIFF with an alpha channel; transparent pixels show white.",
        "MYB is myelocyte, MYO myeloblast and PMO promyelocyte: the codes are easily misread.",
        "Blasts come from patients and many other cells from controls: what tells the slides apart predicts the class.",
    ),
    by_hand="Open https://doi.org/10.7937/tcia.2019.36f5o9ld and download the images (about 11 GB) with the archive's "
    "own program, IBM Aspera Connect; then: nonet data build lmu-aml:FOLDER",
)
