"""Words that sentences about an evaluation share: numbers, counts, classes."""

import numpy as np
import pandas as pd

from nonet.cells import name_of
from nonet.evaluation.results import Results
from nonet.evaluation.tables import FEW_PATIENTS


def between(values: tuple[float, float, float], found: Results, *, places: int, factor: float = 1) -> str:
    _, low, high = values
    if np.isnan(low):
        return ""
    return f" ({found.percent} % interval {factor * low:.{places}f} to {factor * high:.{places}f})"


def words(kind: str) -> str:
    return kind.replace("_", " ")


def images(num: int) -> str:
    return "1 image" if num == 1 else f"{num:,} images"


def images_of(row: dict) -> str:
    """Return "5 images of 2 patients" of a class's row; "5 images" where each image counts by itself."""
    if not pd.isna(row["patients"]):
        return f"{images(row['images'])} of {patients(row['patients'])}"
    return images(row["images"]) + ("" if row["groups"] == row["images"] else ", not all of known patients")


def fewer(group: str) -> str:
    """Say what a class that cannot be judged has, in the groups of the bootstrap."""
    if group == "images":
        return f"fewer than {FEW_PATIENTS} images, patients unknown"
    one_each = "" if group == "patients" else ", an image of unknown patient counted as one"
    return f"images of fewer than {FEW_PATIENTS} patients{one_each}"


def patients(num: int) -> str:
    return "1 patient" if num == 1 else f"{num:,} patients"


def listed(classes: pd.DataFrame) -> str:
    return ", ".join(f"{code} ({name_of(code)})" if name_of(code) != code else code for code in classes["code"])
