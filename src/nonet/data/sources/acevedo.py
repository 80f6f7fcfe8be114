"""Acevedo-20, also called PBC: 17,092 cells of healthy donors, Hospital Clínic de Barcelona."""

from pathlib import Path

from nonet.data.sources.base import ERYTHROBLAST, NEUTROPHIL, PLATELET, Download, Source
from nonet.data.sources.class_folders import find_root, list_images
from nonet.data.sources.listing import LabelMap, LeftOut, Listing

#: The prefix of a file's name is the fine label, the folder the broad one: ig has 2,895 files, neutrophil 3,329.
LABELS = LabelMap(
    {
        "BA": ("BA", 1218),
        "EO": ("EO", 3117),
        "LY": ("LY", 1214),
        "MO": ("MO", 1420),
        "SNE": ("SNE", 1646),
        "BNE": ("BNE", 1633),
        "MMY": ("MMY", 1015),
        "MY": ("MY", 1137),
        "PMY": ("PMY", 592),
        "NEUTROPHIL": (NEUTROPHIL, 50),
        "IG": (LeftOut("an immature granulocyte, not divided into PMY, MY and MMY", "IG"), 151),
        "ERB": (ERYTHROBLAST, 1551),
        "PLATELET": (PLATELET, 2348),
    }
)
FOLDERS = {
    "basophil": {"BA"},
    "eosinophil": {"EO"},
    "erythroblast": {"ERB"},
    "ig": {"MMY", "MY", "PMY", "IG"},
    "lymphocyte": {"LY"},
    "monocyte": {"MO"},
    "neutrophil": {"SNE", "BNE", "NEUTROPHIL"},
    "platelet": {"PLATELET"},
}


def _read(path: Path, source: str) -> Listing:
    """List the images of Acevedo-20 by the prefix of their names; patients are unknown."""
    listing = Listing(find_root(path, "acevedo", *FOLDERS))
    for file in list_images(listing, source):
        folder, prefix = file.parts[0].casefold(), file.name.split("_")[0].upper()
        if len(file.parts) == 1 or folder not in FOLDERS:
            listing.exclude(str(file), source, None, "in no class folder")
        elif prefix in LABELS and prefix not in FOLDERS[folder]:
            listing.exclude(
                str(file), source, prefix, f"folder and name disagree: the folder says {folder}, the name {prefix}"
            )
        else:
            listing.add_upstream(LABELS, prefix, path=str(file), source=source)
    return listing


ACEVEDO = Source(
    name="acevedo",
    title="Acevedo-20 (PBC): CellaVision crops of healthy donors, Barcelona",
    reader=_read,
    published="Mendeley Data, https://data.mendeley.com/datasets/snkd93bnjr/1 (doi:10.17632/snkd93bnjr.1)",
    licence="CC BY 4.0",
    citation="Acevedo A, Merino A, Alférez S, Molina Á, Boldú L, Rodellar J. A dataset of microscopic peripheral blood "
    "cell images for development of automatic recognition systems. Data in Brief 30 (2020) 105474.",
    layout="DIR/{basophil,eosinophil,erythroblast,ig,lymphocyte,monocyte,neutrophil,platelet}/PREFIX_number.jpg\n"
    "The folder is the broad class, the prefix the fine label: ig/ contains MMY, MY, PMY and IG, neutrophil/ SNE, BNE "
    "and NEUTROPHIL.",
    labels=LABELS,
    num_images=17092,
    paper=frozenset({"MO", "EO", "BNE", "PMY", "BA", "MY", "MMY"}),
    paper_words="MO 1,420, EO 3,117, BNE 1,633, PMY 592, BA 1,218, MY 1,137, MMY 1,015: 10,132 images. The paper's "
    "text says 10,312, a slip: its total of 13,045 added images fits 10,132. Copies are among them; the build leaves "
    "them out and lists them.",
    notes=(
        "17 groups of files are identical, one of them under two labels.",
        "All NEUTROPHIL files have 366 x 369 px and all IG files 360 x 360 px, with a different background, which "
        "gives these labels away. They are left out unless `classes` names them.",
        "Patients are not given: folds are by image, and scores look better than on the next patient.",
        "BloodMNIST is made from these images, and part of blood8 may be: use one of them.",
    ),
    downloads=(
        Download(
            "https://data.mendeley.com/public-files/datasets/snkd93bnjr/files/"
            "2fc38728-2ae7-4a62-a857-032af82334c3/file_downloaded",
            file="PBC_dataset_normal_DIB.zip",
            evidence="The page is the publishers'; the address of the file is used by public scripts of others and has "
            "not been tried. Mendeley Data shows a SHA-256 beside the file; it is not recorded here.",
        ),
    ),
    by_hand="Open https://data.mendeley.com/datasets/snkd93bnjr/1, download PBC_dataset_normal_DIB.zip and unpack it; "
    "then: nonet data build acevedo:FOLDER/PBC_dataset_normal_DIB",
)
