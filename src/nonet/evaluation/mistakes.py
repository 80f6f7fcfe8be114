"""Where mistakes lie, by architecture: within the stages of granulopoiesis, within a lineage, between lineages.

A mistake between neighbouring stages is one that human readers make too; one between lineages is more serious.
NumPy and pandas only.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import softmax

from nonet.calibration.calibrator import UNCALIBRATED, Calibration
from nonet.cells import CELLS, GRANULOCYTE_STAGES, GRANULOPOIESIS, LYMPHOPOIESIS
from nonet.evaluation.label_issues import find_label_issues
from nonet.evaluation.metrics import confusion_matrix
from nonet.evaluation.oof import ENSEMBLE, OutOfFold
from nonet.evaluation.tables import confusion_table, row_name

#: Columns of the table of mistakes, and their descriptions; each mistake is counted in exactly one.
PLACES = {
    "stages": f"among the stages {GRANULOCYTE_STAGES[0]} to {GRANULOCYTE_STAGES[-1]}",
    "granulopoiesis": "within granulopoiesis with EO or BA",
    "lymphopoiesis": "within lymphopoiesis",
    "between": "between lineages",
}


@dataclass(frozen=True)
class Expanded:
    """Results on all images held out, external ones included: the paper's expanded set.

    Attributes
    ----------
    confusion : DataFrame
        Counts of the ensemble as trained; rows true, columns predicted, in order of maturation.
    mistakes : DataFrame
        As `mistakes_table` makes it.
    num_images, num_external : int
        Number of images held out, and of external ones among them.
    num_mistakes_external : int
        The ensemble's mistakes among the external images.
    num_issues, num_issues_external : int or None
        Label issues among all images, and among the external ones; None for a run with one class.
    """

    confusion: pd.DataFrame
    mistakes: pd.DataFrame
    num_images: int
    num_external: int
    num_mistakes_external: int
    num_issues: int | None
    num_issues_external: int | None


def get_place(true: str, predicted: str) -> str | None:
    """Return where a mistake lies.

    Parameters
    ----------
    true, predicted : str
        Class codes.

    Returns
    -------
    str or None
        A key of `PLACES`; None where both classes are the same.
    """
    if true == predicted:
        return None
    if true in GRANULOCYTE_STAGES and predicted in GRANULOCYTE_STAGES:
        return "stages"
    lineages = {CELLS[code].lineage if code in CELLS else None for code in (true, predicted)}
    for lineage in (GRANULOPOIESIS, LYMPHOPOIESIS):
        if lineages == {lineage}:
            return lineage
    return "between"


def mistakes_table(
    oof: OutOfFold, *, names: Mapping[str, str] | None = None, predicted: np.ndarray | None = None
) -> pd.DataFrame:
    """Count the mistakes of each architecture and of the ensemble, over the final views, by where they lie.

    Parameters
    ----------
    oof : OutOfFold
        The predictions.
    names : mapping of str to str, optional
        Display names of the architectures.
    predicted : ndarray of int, shape (num_images,), optional
        The ensemble's class numbers; by default the most probable classes of its logits.

    Returns
    -------
    DataFrame
        One row per architecture, the ensemble last. Columns: name, architecture, images (fewer where a member is dead),
        mistakes, the keys of `PLACES`, which add up to `mistakes`, and wrong_in_all: the images that every architecture
        that predicts them gets wrong.
    """
    num = len(oof.classes)
    place = np.array([[get_place(true, other) for other in oof.classes] for true in oof.classes], dtype=object)
    rows, wrong = [], []
    for architecture in (*oof.architectures, ENSEMBLE):
        classes = oof.predicted[oof.rows().index((oof.final_view_set, architecture))]
        if architecture == ENSEMBLE and predicted is not None:
            classes = predicted
        judged = classes >= 0  # not by an architecture's dead member
        counts = confusion_matrix(oof.true[judged], classes[judged], num)
        row = {"name": row_name(oof, architecture, names), "architecture": architecture, "images": int(judged.sum())}
        row["mistakes"] = int(counts.sum() - np.trace(counts))
        rows.append(row | {column: int(counts[place == column].sum()) for column in PLACES})
        if architecture != ENSEMBLE:
            wrong.append((classes != oof.true) | ~judged)
    return pd.DataFrame(rows).assign(wrong_in_all=int(np.logical_and.reduce(wrong).sum()))


def mistakes_in_words(table: pd.DataFrame) -> str:
    """Describe where the ensemble's mistakes lie, and how many images every architecture gets wrong.

    Parameters
    ----------
    table : DataFrame
        As `mistakes_table` returns it.

    Returns
    -------
    str
        One or two sentences.
    """
    ensemble, single = table.iloc[-1], table.iloc[:-1]
    listed = [f"{ensemble[column]:,} {words}" for column, words in PLACES.items() if ensemble[column]]
    text = f"The ensemble makes {ensemble['mistakes']:,} mistakes: {_listed(listed)}." if listed else ""
    if len(single) > 1 and ensemble["wrong_in_all"]:
        wrong, num = ensemble["wrong_in_all"], ensemble["images"]
        text += f" {wrong:,} of {num:,} images are wrong in every architecture: they are hard, or mislabelled."
    return text.strip() or "The ensemble makes no mistakes."


def expanded_in_words(expanded: Expanded) -> str:
    """Describe the mistakes and label issues among all images held out, and among the external ones.

    Parameters
    ----------
    expanded : Expanded
        As `measure_expanded` returns it.

    Returns
    -------
    str
        Two or three sentences.
    """
    mistakes = int(expanded.mistakes["mistakes"].iloc[-1])
    text = (
        f"{expanded.num_external:,} of {expanded.num_images:,} images held out are external. The ensemble gets "
        f"{mistakes:,} wrong, {expanded.num_mistakes_external:,} of them external"
    )
    if expanded.num_issues is None:
        return f"{text}."
    return (
        f"{text}. Over all of them, {expanded.num_issues:,} labels are issues, {expanded.num_issues_external:,} of "
        "them on external images."
    )


def _listed(parts: list[str]) -> str:
    """Return "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def measure_expanded(
    expanded: OutOfFold | None,
    evaluated: OutOfFold,
    *,
    names: Mapping[str, str] | None = None,
    calibration: Calibration = UNCALIBRATED,
) -> Expanded | None:
    """Measure the ensemble on all images held out.

    Parameters
    ----------
    expanded : OutOfFold or None
        Predictions for all images held out; None where none of them is external.
    evaluated : OutOfFold
        Predictions for the evaluated images alone.
    names : mapping of str to str, optional
        Display names of the architectures.
    calibration : Calibration
        The ensemble's, for the probabilities by which label issues are found; its prior correction is left out.

    Returns
    -------
    Expanded or None
        None where `expanded` is.
    """
    if expanded is None:
        return None
    external = ~np.isin(expanded.image_id, evaluated.image_id)
    predicted, num = expanded.final_logits.argmax(axis=1), len(expanded.classes)
    issues = None
    if num > 1:
        proba = softmax(calibration.scale(expanded.final_logits), axis=-1)
        issues = external[find_label_issues(expanded.true, proba)]
    return Expanded(
        confusion=confusion_table(confusion_matrix(expanded.true, predicted, num), expanded.classes),
        mistakes=mistakes_table(expanded, names=names),
        num_images=len(expanded.true),
        num_external=int(external.sum()),
        num_mistakes_external=int((predicted != expanded.true)[external].sum()),
        num_issues=None if issues is None else len(issues),
        num_issues_external=None if issues is None else int(issues.sum()),
    )
