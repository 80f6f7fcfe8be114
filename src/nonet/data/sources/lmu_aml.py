"""AML-Cytomorphology_LMU: 18,365 cells of AML patients and controls, Munich University Hospital."""

from nonet.data.sources.base import ERYTHROBLAST, SMUDGE_CELL, Source
from nonet.data.sources.class_folders import ClassFolders
from nonet.data.sources.listing import LabelMap, LeftOut

LABELS = LabelMap(
    {
        "NGS": ("SNE", 8484),
        "NGB": ("BNE", 109),
        "LYT": ("LY", 3937),
        "LYA": ("VLY", 11),
        "MON": ("MO", 1789),
        "BAS": ("BA", 79),
        "EOS": ("EO", 424),
        "MYO": ("BL", 3268),  # myeloblast
        "MOB": ("BL", 26),  # monoblast
        "MYB": ("MY", 42),  # myelocyte, not myeloblast
        "MMZ": ("MMY", 15),
        "PMO": ("PMY", 70),  # promyelocyte, not promonocyte
        "PMB": (LeftOut("a bilobed promyelocyte, an atypical form that some count as a blast and others as PMY"), 18),
        "EBO": (ERYTHROBLAST, 78),
        "KSC": (SMUDGE_CELL, 15),
    }
)
LMU_AML = Source(
    name="lmu-aml",
    title="AML-Cytomorphology_LMU: 100 AML patients and 100 controls, Munich",
    reader=ClassFolders(LABELS, "lmu-aml", ignored=(".dat", ".txt", ".csv")),
    published="The Cancer Imaging Archive, https://doi.org/10.7937/tcia.2019.36f5o9ld",
    licence="CC BY 3.0",
    citation="Matek C, Schwarz S, Marr C, Spiekermann K. A single-cell morphological dataset of leukocytes from AML "
    "patients and non-malignant controls. The Cancer Imaging Archive (2019). With: Matek C et al., Nature Machine "
    "Intelligence 1 (2019) 538.",
    layout="DIR/AML-Cytomorphology_LMU/CODE/CODE_number.tiff (400 x 400 px, with alpha), beside annotations.dat",
    labels=LABELS,
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
