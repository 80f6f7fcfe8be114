"""AML-Cytomorphology_LMU: 18,365 cells of AML patients and controls, Munich University Hospital."""

from pathlib import Path

from nonet.data.sources.base import ERYTHROBLAST, SMUDGE_CELL, Source
from nonet.data.sources.class_folders import find_root, list_class_folders, require_rows
from nonet.data.sources.listing import LabelMap, LeftOut, Listing

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
        "PMB": LeftOut("a bilobed promyelocyte, an atypical form that is counted with blasts or with promyelocytes"),
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


def read_lmu_aml(path: Path, name: str | None = None) -> Listing:
    """List the cells of AML-Cytomorphology_LMU by folder; patients are unknown.

    Parameters
    ----------
    path : the folder of code folders NGS, NGB, …, or one or two levels above it.
    name : of the source; by default lmu-aml.

    Raises
    ------
    DataError where there is no such folder.
    """
    listing, source = Listing(find_root(path, "lmu-aml", *LABELS)), name or "lmu-aml"
    list_class_folders(listing, source, LABELS, beside=(".dat", ".txt", ".csv"))
    return require_rows(listing, path, "lmu-aml")


LMU_AML = Source(
    name="lmu-aml",
    title="AML-Cytomorphology_LMU: 100 AML patients and 100 controls, Munich",
    read=read_lmu_aml,
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
        "Patients are not given: folds are by image, and look better than the next patient will.",
        "Images are TIFF with an alpha channel, which is laid over white.",
        "MYB is myelocyte and MYO myeloblast, PMO promyelocyte: the codes are easily misread.",
        "Blasts come from patients, many other cells from controls: what tells their slides apart tells the class.",
    ),
    by_hand="Open https://doi.org/10.7937/tcia.2019.36f5o9ld and download the images (about 11 GB) with the archive's "
    "own program, IBM Aspera Connect; then: nonet data build lmu-aml:FOLDER",
)
