"""DeepAPL: leukaemia patients of Johns Hopkins, with patients, from signed and unsigned slides."""

import re
from pathlib import Path

from nonet.cells import CLASSES
from nonet.data.sources.base import ERYTHROBLAST, GIANT_PLATELET, SMUDGE_CELL, Source
from nonet.data.sources.class_folders import find_root, label_folder, list_images
from nonet.data.sources.listing import LabelMap, LeftOut, Listing
from nonet.data.sources.walk import subfolders

_NO_CELL = "not a single white blood cell"

LABELS = LabelMap(
    {
        "Basophil": "BA",
        "Blast, no lineage spec": "BL",
        "Band neutrophils": "BNE",
        "Eosinophils": "EO",
        "Lymphocyte": "LY",
        "Metamyelocyte": "MMY",
        "Monocyte": "MO",
        "Myelocyte": "MY",
        "Plasma cells": "PC",
        "Prolymphocyte": "PLY",
        "Promyelocyte": "PMY",
        "Segmented neutrophils": "SNE",
        "Lymphocyte, variant": "VLY",
        "Promonocyte": LeftOut("a promonocyte is between BL and MO, and not one of the thirteen classes", "PMO"),
        "Erythroblast": ERYTHROBLAST,
        "Giant thrombocyte": GIANT_PLATELET,
        "Thrombocyte aggregation": LeftOut("platelets are not white blood cells", "PLT"),
        "Smudge cells": SMUDGE_CELL,
        "Artifact": LeftOut(_NO_CELL, "ART"),
        "Arifact": LeftOut(_NO_CELL + "; this is how the folder is spelled", "ART"),
        "Unidentified": LeftOut("its class is unknown"),
    }
)
#: Prefixes of file names that are one of nonet's codes, and PMO.
PREFIXES = {*CLASSES, "PMO"}


def _read(path: Path, source: str) -> Listing:
    """List the cells of DeepAPL with their patients; the split is signed or unsigned, where the folders say so."""
    listing = Listing(_root(path))
    for file in list_images(listing, source, ignored=(".csv", ".db")):
        patient = next((part for part in file.parts if re.fullmatch(r"Patient_\d+", part)), None)
        if patient is None:
            listing.exclude(str(file), source, None, "in no patient folder")
            continue
        folder = label_folder(file, LABELS)
        code, prefix = LABELS.meaning(folder), file.name.split("_")[0].upper()
        code = code.label if isinstance(code, LeftOut) else code
        if code is not None and prefix in PREFIXES and prefix != code:
            reason = f"folder and name disagree: the folder says {folder}, the name {prefix}"
            listing.exclude(str(file), source, folder, reason)
            continue
        signed = next((part.casefold() for part in file.parts if part.casefold().endswith("signed slides")), None)
        split = None if signed is None else "unsigned" if signed.startswith("un") else "signed"
        listing.add_upstream(LABELS, folder, path=str(file), source=source, patient=patient, split=split)
    unsigned = sum(row["split"] == "unsigned" for row in listing.rows)
    if unsigned:
        listing.notes.append(
            f"{source}: {unsigned:,} images are of unsigned slides: no technologist has signed off their labels. Their "
            'split is "unsigned".'
        )
    return listing


def _root(path: Path) -> Path:
    """Find the folder of patients, whose names end in arbitrary numbers, which `find_root` cannot match."""
    for folder in (path, path / "All", path / "Data" / "All"):
        if any(re.fullmatch(r"Patient_\d+", p.name) for p in subfolders(folder)):
            return folder
    return find_root(path, "deepapl", "Patient_00", "Patient_01")


DEEPAPL = Source(
    name="deepapl",
    title="DeepAPL: CellaVision crops of leukaemia patients, Johns Hopkins",
    reader=_read,
    published="figshare, https://doi.org/10.6084/m9.figshare.14294675",
    licence="unclear; see the page before use",
    citation="Sidhom JW, Siddarthan IJ, Lai BS, et al. Deep learning for diagnosis of acute promyelocytic leukemia via "
    "recognition of genomically imprinted morphologic features. npj Precision Oncology 5 (2021) 38.",
    layout="DIR/Data/All/Patient_NN/[Signed slides|Unsigned slides]/LABEL/CODE_number.jpg\n"
    "LABEL is a name (Band neutrophils), CODE an abbreviation (BNE).",
    labels=LABELS,
    patients="known",
    notes=(
        "106 patients with acute leukaemia (AML or APL): blasts and promyelocytes are malignant ones, not those of "
        "healthy people.",
        "Labels come from routine work and are noisy; images whose folder and file name disagree are left out and "
        "listed.",
    ),
    by_hand="Open https://doi.org/10.6084/m9.figshare.14294675, download the archive of images and unpack it so that "
    "FOLDER/Data/All/Patient_00 exists; then: nonet data build deepapl:FOLDER",
)
