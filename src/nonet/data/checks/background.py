"""Can the patient or the source be told from the background alone? A property of the data, not of one class.

Shortcuts (`nonet.data.checks.shortcuts`) ask whether something beside the cell gives the label away, and count a stain
that belongs to a patient as chance. Here the question is whether there is such a stain: it makes images of one patient
on both sides of a split a leak, and scores worse in another laboratory. See docs/decisions/0009.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from nonet.cells import in_order_of_maturation
from nonet.data.checks.finding import Finding
from nonet.data.checks.intraclass import intraclass_correlation
from nonet.data.checks.shortcuts import ALL_SOURCES
from nonet.data.sources.splits import TEST

BACKGROUND = ["background_red", "background_green", "background_blue"]
PATIENT, SOURCE = "patient", "source"
#: More than half of the variance lies between groups, and not by chance.
_MIN_CORRELATION, _MAX_P_VALUE = 0.5, 0.001
#: A class belongs to a group that has this share of its images, and so much less of the other classes'.
_MIN_SHARE, _MIN_EXCESS = 0.9, 0.2
_MAX_NAMED = 8  # classes in a sentence
#: Why there is no correlation, in words, by group and the reason of `intraclass_correlation`.
_REASONS = {
    (PATIENT, "no group"): "patients unknown",
    (PATIENT, "one group"): "one patient",
    (PATIENT, "one value per group"): "one image per patient",
    (SOURCE, "one group"): "one source",
    (SOURCE, "one value per group"): "one image per source",
}


@dataclass(frozen=True)
class Background:
    """How far the background's colour tells patients, or sources, apart.

    Attributes
    ----------
    group : str
        "patient" or "source".
    scope : str
        The source whose patients are compared, or "all sources".
    num_images, num_groups : int
        Images with a known group, and groups.
    num_unknown : int
        Images of the scope without a patient, which are left out.
    standins : bool
        Whether any of the patients was guessed from the file order.
    correlation : float
        Share of the colour's variance that lies between groups (intraclass correlation); NaN where `reason` says why.
    low, high : float
        Its 95 % interval over groups; NaN where there are too few.
    found : bool
        Whether most of the variance lies between groups, and more than by chance.
    reason : str
        Why there is no correlation, such as "one patient"; otherwise empty.
    classes : dict
        Class code → the group that (almost) all of its images come from, while the other classes' do not.
    colours : dict
        Group → mean colour of its background: red, green and blue in 0–255. Empty where there is no correlation.
    """

    group: str
    scope: str
    num_images: int
    num_groups: int
    num_unknown: int
    standins: bool
    correlation: float
    low: float
    high: float
    found: bool
    reason: str
    classes: dict[str, str] = field(default_factory=dict)
    colours: dict[str, list[float]] = field(default_factory=dict)


def find_backgrounds(table: pd.DataFrame) -> list[Background]:
    """Compare the background's colour between the sources, and between the patients of each source.

    Parameters
    ----------
    table : DataFrame
        One row per image, labelled or not, with the columns source, patient, patient_is_standin, label, split,
        background_red, background_green and background_blue.

    Returns
    -------
    list of Background
        That of the sources first; empty where there are no images.
    """
    if table.empty:
        return []
    within = [_compare(rows, PATIENT, str(source)) for source, rows in table.groupby("source")]
    return [_compare(table, SOURCE, ALL_SOURCES), *within]


def _compare(rows: pd.DataFrame, group: str, scope: str) -> Background:
    known = rows[rows[group].notna()]
    result = intraclass_correlation(known[BACKGROUND].to_numpy(np.float64), known[group].to_numpy(str))
    found = result.value >= _MIN_CORRELATION and result.p_value < _MAX_P_VALUE
    means = known.groupby(group)[BACKGROUND].mean().round(1).astype(object)  # Python's floats, for JSON
    return Background(
        group=group,
        scope=scope,
        num_images=len(known),
        num_groups=result.num_groups,
        num_unknown=len(rows) - len(known),
        standins=group == PATIENT and bool(known["patient_is_standin"].any()),
        correlation=result.value,
        low=result.low,
        high=result.high,
        found=bool(found),
        reason=_REASONS.get((group, result.reason), "one colour in all images" if result.reason else ""),
        classes=_classes_of_one(known, group),
        colours={} if result.reason else dict(zip(means.index, means.to_numpy().tolist())),
    )


def _classes_of_one(rows: pd.DataFrame, group: str) -> dict[str, str]:
    """Return the classes that can be confused with a group, as almost all of their images come from it."""
    rows = rows[rows["label"].notna() & rows["split"].ne(TEST)]
    counts = pd.crosstab(rows["label"], rows[group].astype(str))
    if counts.shape[0] < 2 or counts.shape[1] < 2:
        return {}
    own = counts.div(counts.sum(axis=1), axis=0)
    rest = counts.sum() - counts
    others = rest.div(rest.sum(axis=1), axis=0)
    largest = own.to_numpy().argmax(axis=1)
    each = np.arange(len(counts))
    share, share_of_others = own.to_numpy()[each, largest], others.to_numpy()[each, largest]
    confounded = (share >= _MIN_SHARE) & (share - share_of_others >= _MIN_EXCESS)
    named = {str(counts.index[i]): str(counts.columns[largest[i]]) for i in np.flatnonzero(confounded).tolist()}
    return {code: named[code] for code in in_order_of_maturation(named)}


def background_notes(backgrounds: list[Background], manifest: pd.DataFrame) -> Iterator[Finding]:
    """Say in words what the backgrounds give away, and what to do.

    Parameters
    ----------
    backgrounds : list of Background
        As `find_backgrounds` returns them.
    manifest : DataFrame

    Yields
    ------
    Finding
    """
    sources = [each for each in backgrounds if each.group == SOURCE]
    patients = [each for each in backgrounds if each.group == PATIENT]
    for each in sources:
        if each.found:
            yield Finding("background: source", _source_text(each))
        if each.classes:
            yield Finding("classes of one source", _classes_text(each.classes, SOURCE))
    found = [each for each in patients if each.found]
    if found:
        yield Finding("background: patient", _patient_text(found))
    # Classes of a single patient are reported as "too few patients".
    num_patients = manifest.groupby("label")["patient"].nunique()
    classes = {code: group for each in found for code, group in each.classes.items() if num_patients[code] > 1}
    if classes:
        yield Finding("classes of one patient", _classes_text(classes, PATIENT))


def _source_text(each: Background) -> str:
    return (
        f"Background colour, between sources: {_share(each)}. A network can recognise the laboratory "
        "without looking at the cell: score each laboratory by itself, and expect lower scores in one that it has not "
        "seen."
    )


def _patient_text(found: list[Background]) -> str:
    where = "; ".join(
        f"within {each.scope}, {_share(each)}{', some patients guessed from the file order' if each.standins else ''}"
        for each in found
    )
    return (
        f"Background colour, between patients: {where}. A network can recognise the patient, or the batch (microscope, "
        "stain, day), without looking at the cell. So images of one patient on both sides of a split are a leak, and "
        "only scores by patient, as in nonet's folds, hold for the next one. Another laboratory will look different "
        "again: test on its images before you rely on a score."
    )


def _share(each: Background) -> str:
    interval = "" if np.isnan(each.low) else f", 95 % interval {each.low:.2f}–{each.high:.2f}"
    percent = min(99, round(100 * each.correlation)) if each.correlation < 1 else 100
    return (
        f"{percent} % of the variance (intraclass correlation {each.correlation:.2f}{interval}, "
        f"{each.num_groups:,} {each.group}s)"
    )


def _classes_text(classes: dict[str, str], group: str) -> str:
    by_group: dict[str, list[str]] = {}
    for code, name in list(classes.items())[:_MAX_NAMED]:
        by_group.setdefault(name, []).append(code)
    named = "; ".join(f"{', '.join(codes)} ({name})" for name, codes in by_group.items())
    if len(classes) > _MAX_NAMED:
        named += f" and {len(classes) - _MAX_NAMED} more"
    what = "laboratory" if group == SOURCE else "patient"
    return (
        f"Classes of which at least {100 * _MIN_SHARE:.0f} % of the images come from one {group}: {named}. A network "
        f"may learn the {what} instead of the class, and scores on these data cannot tell: add images of these classes "
        f"from other {group}s, or treat their scores with caution."
    )
