"""Where mistakes lie, by group of models: within the stages of granulopoiesis, within a lineage, between lineages.

A mistake between neighbouring stages is one that readers of smears make, too; one between lineages is another matter.
NumPy and pandas only.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import softmax

from nonet.cells import CELLS, GRANULOCYTE_STAGES, GRANULOPOIESIS, LYMPHOPOIESIS
from nonet.evaluation.label_issues import find_label_issues
from nonet.evaluation.metrics import confusion_matrix
from nonet.evaluation.oof import ENSEMBLE, OutOfFold
from nonet.evaluation.tables import confusion_table, row_name

#: Column of the table of mistakes → in words. Each mistake is in one of them.
PLACES = {
    "stages": f"among the stages {GRANULOCYTE_STAGES[0]} to {GRANULOCYTE_STAGES[-1]}",
    "granulopoiesis": "within granulopoiesis with EO or BA",
    "lymphopoiesis": "within lymphopoiesis",
    "between": "between lineages",
}


@dataclass(frozen=True)
class Expanded:
    """All images held out, those of other sources too, that no score counts: the paper's expanded set.

    confusion : the ensemble's counts, as trained; rows true, columns predicted, in order of maturation.
    mistakes : as `mistakes_table` makes it.
    num_images, num_external : how many are held out, and how many of these are external.
    num_mistakes_external : mistakes of the ensemble among the external ones.
    num_issues, num_issues_external : label issues found over all of them; None for a run of one class.
    """

    confusion: pd.DataFrame
    mistakes: pd.DataFrame
    num_images: int
    num_external: int
    num_mistakes_external: int
    num_issues: int | None
    num_issues_external: int | None


def place_of(true: str, predicted: str) -> str | None:
    """Return the column of `PLACES` that a cell of class `true`, called `predicted`, is counted in; None if right."""
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
    names : how to print an architecture's key.
    predicted : int (n,), what counts as the ensemble's classes; by default those of its logits.

    Returns
    -------
    One row a group of models, the ensemble last. Columns: name, architecture, images (fewer where a member is dead),
    mistakes, the columns of `PLACES`, which add up to `mistakes`, and wrong_in_all: images that every architecture that
    judges them calls wrongly.
    """
    num = len(oof.classes)
    place = np.array([[place_of(true, other) for other in oof.classes] for true in oof.classes], dtype=object)
    rows, wrong = [], []
    for architecture in (*oof.architectures, ENSEMBLE):
        classes = oof.predicted()[oof.rows().index((oof.final_view_set, architecture))]
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
    """Say where the ensemble's mistakes lie, and how many images every architecture calls wrongly."""
    ensemble, single = table.iloc[-1], table.iloc[:-1]
    listed = [f"{ensemble[column]:,} {words}" for column, words in PLACES.items() if ensemble[column]]
    text = f"The ensemble makes {ensemble['mistakes']:,} mistakes: {_listed(listed)}." if listed else ""
    if len(single) > 1 and ensemble["wrong_in_all"]:
        wrong, num = ensemble["wrong_in_all"], ensemble["images"]
        text += f" {wrong:,} of {num:,} images are wrong in every architecture: they are hard, or wrongly labelled."
    return text.strip() or "The ensemble makes no mistake."


def expanded_in_words(found: Expanded) -> str:
    """Say how many mistakes and label issues there are among all images held out, and among the external ones."""
    mistakes = int(found.mistakes["mistakes"].iloc[-1])
    text = (
        f"{found.num_external:,} of {found.num_images:,} images held out are external. The ensemble calls "
        f"{mistakes:,} wrongly, {found.num_mistakes_external:,} of them external"
    )
    if found.num_issues is None:
        return f"{text}."
    return (
        f"{text}. Over all of them, {found.num_issues:,} labels are issues, {found.num_issues_external:,} of them of "
        "external images."
    )


def _listed(parts: list[str]) -> str:
    """Return "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def measure_expanded(
    expanded: OutOfFold | None,
    evaluated: OutOfFold,
    *,
    names: Mapping[str, str] | None = None,
    temperature: float = 1.0,
) -> Expanded | None:
    """Measure what the ensemble makes of all images held out; None where none of them is external."""
    if expanded is None:
        return None
    external = ~np.isin(expanded.image_id, evaluated.image_id)
    predicted, num = expanded.final_logits.argmax(axis=1), len(expanded.classes)
    issues = None
    if num > 1:
        issues = external[find_label_issues(expanded.true, softmax(expanded.final_logits / temperature, axis=-1))]
    return Expanded(
        confusion=confusion_table(confusion_matrix(expanded.true, predicted, num), expanded.classes),
        mistakes=mistakes_table(expanded, names=names),
        num_images=len(expanded.true),
        num_external=int(external.sum()),
        num_mistakes_external=int((predicted != expanded.true)[external].sum()),
        num_issues=None if issues is None else len(issues),
        num_issues_external=None if issues is None else int(issues.sum()),
    )
