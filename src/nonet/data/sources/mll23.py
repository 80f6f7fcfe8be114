"""MLL23: 41,621 cells of peripheral blood in eighteen classes, Munich Leukemia Laboratory."""

from nonet.data.sources.base import ERYTHROBLAST, SMUDGE_CELL, Source
from nonet.data.sources.class_folders import ClassFolders
from nonet.data.sources.listing import LabelMap, LeftOut

LABELS = LabelMap(
    {
        "neutrophil_segmented": ("SNE", 7170),
        "neutrophil_band": ("BNE", 687),
        "metamyelocyte": ("MMY", 483),
        "myelocyte": ("MY", 747),
        "promyelocyte": ("PMY", 745),
        "myeloblast": ("BL", 8606),
        "eosinophil": ("EO", 2448),
        "basophil": ("BA", 616),
        "monocyte": ("MO", 2510),
        "lymphocyte": ("LY", 5532),
        "lymphocyte_reactive": ("VLY", 33),
        "plasma_cell": ("PC", 1658),
        "normoblast": (ERYTHROBLAST, 2071),
        "smudge_cell": (SMUDGE_CELL, 988),
        "promyelocyte_atypical": (
            LeftOut("an abnormal promyelocyte, which some count as a blast and others as PMY"),
            2033,
        ),
        "hairy_cell": (LeftOut("a hairy cell is not one of the thirteen classes"), 3265),
        "lymphocyte_large_granular": (LeftOut("a large granular lymphocyte, which LY does not mean elsewhere"), 1849),
        "lymphocyte_neoplastic": (LeftOut("a neoplastic lymphocyte is not one of the thirteen classes"), 180),
    }
)
MLL23 = Source(
    name="mll23",
    title="MLL23: crops of peripheral blood, Munich Leukemia Laboratory",
    reader=ClassFolders(LABELS, "mll23", ignored=(".csv", ".txt")),
    published="Zenodo, https://doi.org/10.5281/zenodo.14277609; code: https://github.com/marrlab/MLL23",
    licence="CC BY 4.0, according to others who cite the record; see it on Zenodo before use",
    citation="Shetab Boushehri S, Kazeminia S, Gruber A, et al. A large expert-annotated single-cell peripheral blood "
    "dataset for hematological disease diagnostics. Scientific Data 12 (2025) 1773.",
    layout="DIR/LABEL/[LABEL/]LABEL_number.TIF (288 x 288 px, 25 x 25 µm)",
    labels=LABELS,
    num_images=41621,
    notes=(
        "Patients are not given: folds are by image, and scores look better than on the next patient.",
        "The publishers' notebook listed 41,906 images at first and 41,621 later. Exact copies under two labels, if "
        "yours has such, are left out and listed.",
        "The laboratory sees patients with blood diseases: blasts, plasma cells and many others are malignant ones.",
        "Taken with an automated microscope (Metafer), not with a CellaVision analyser.",
        "Layout and counts were taken from the publishers' notebook; the archives on Zenodo have not been seen.",
    ),
    by_hand="Open https://doi.org/10.5281/zenodo.14277609, download the archives, one per label, and unpack them into "
    "one folder; then: nonet data build mll23:FOLDER",
)
