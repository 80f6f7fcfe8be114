"""The differential of one case: what was counted, in shares of its white cells, with intervals."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from nonet.artifacts.confusions import KnownConfusions
from nonet.calibration.labels import DOUBTFUL, UNREADABLE
from nonet.cells import UNIDENTIFIED, class_name, in_order_of_maturation
from nonet.differential.correction import CorrectedShares, correct_shares
from nonet.differential.groups import NOT_COUNTED, PER_100, get_groups, is_white, standard_code
from nonet.differential.intervals import clopper_pearson, rate_interval

#: (label, reason) → number of images.
Tally = Counter[tuple[str, str]]
RESEARCH_USE = "Research use only. Not for diagnostic use."
#: How many cells laboratories count.
USUAL_COUNTS = (100, 200, 400)


@dataclass(frozen=True)
class Share:
    """A class or group of classes in a case. Shares are between 0 and 1; per 100 white cells, a ratio.

    Attributes
    ----------
    key, name : str
        Class code or key of the group, and its name.
    count : int
        Cells.
    share, low, high : float
        Of the white cells counted, with the exact interval; NaN where none was counted.
    corrected, corrected_low, corrected_high : float
        The same, corrected for the ensemble's known confusions; NaN where they are not known.
    """

    key: str
    name: str
    count: int
    share: float
    low: float
    high: float
    corrected: float = np.nan
    corrected_low: float = np.nan
    corrected_high: float = np.nan


@dataclass(frozen=True)
class Differential:
    """The differential count of a case.

    Attributes
    ----------
    case : str
        Its name.
    num_images : int
        Images of the case.
    num_counted : int
        White cells with a class: what shares refer to.
    classes, groups : list of Share
        Classes in order of maturation, and groups of classes.
    per_100 : list of Share
        Erythroblasts and smudge cells per 100 white cells, where the run knows them.
    apart : dict of str to int
        Images that are not counted, by reason: unidentified, unknown cell type, no nucleated cell, unreadable, ….
    confidence : float
        Of the intervals.
    notes : list of str
        What to know about this count.
    """

    case: str
    num_images: int
    num_counted: int
    classes: list[Share]
    groups: list[Share]
    per_100: list[Share]
    apart: dict[str, int]
    confidence: float
    notes: list[str] = field(default_factory=list)

    @property
    def is_corrected(self) -> bool:
        """Whether shares are also corrected for known confusions."""
        return any(not np.isnan(share.corrected) for share in self.classes)

    def gain(self) -> list[tuple[int, float, float]]:
        """Return, for each usual number of cells, the interval that the largest share would have.

        Returns
        -------
        list of tuple of (int, float, float)
            Number of cells, low, high; empty where nothing was counted.
        """
        if not self.num_counted:
            return []
        largest = max(self.classes, key=lambda each: each.count).share
        bounds = [clopper_pearson(round(largest * num), num, self.confidence) for num in USUAL_COUNTS]
        return [(num, float(low), float(high)) for num, (low, high) in zip(USUAL_COUNTS, bounds)]


def count_case(
    case: str,
    tally: Tally,
    classes: Sequence[str],
    *,
    known: KnownConfusions | None = None,
    confidence: float = 0.95,
) -> Differential:
    """Count the cells of a case.

    Parameters
    ----------
    case : str
        Its name.
    tally : Counter
        (label, reason) → number of images. A label is a class, "unidentified", or "" for an image that could not be
        read; a reason says why a cell has no class, and is not looked at where it has one.
    classes : sequence of str
        The C classes of the run.
    known : KnownConfusions, optional
        The ensemble's confusions; without them nothing is corrected.
    confidence : float in (0, 1)
        Of the intervals.

    Returns
    -------
    Differential
    """
    counts: Counter[str] = Counter()
    without: Counter[str] = Counter()
    for (label, reason), num in tally.items():
        if label in ("", UNIDENTIFIED):
            without[reason or label or UNREADABLE] += num
        else:
            counts[label] += num
    white = [label for label in in_order_of_maturation(classes) if is_white(label)]
    others = {label: standard_code(label) for label in counts if not is_white(label)}
    total = sum(counts[code] for code in white)
    corrected = None if known is None or not total else _correct(counts, without[DOUBTFUL], white, known)
    rows = [*((code, class_name(code), (code,)) for code in white), *get_groups(white)]
    shares = [_share(*row, counts, total, white, corrected, confidence) for row in rows]
    apart = without + Counter({NOT_COUNTED[code]: counts[label] for label, code in others.items()})
    return Differential(
        case=case,
        num_images=tally.total(),
        num_counted=total,
        classes=shares[: len(white)],
        groups=shares[len(white) :],
        per_100=[
            _per_100(label, code, counts[label], total, confidence)
            for code in PER_100
            for label in classes
            if standard_code(label) == code
        ],
        apart=dict(apart.most_common()),
        confidence=confidence,
        notes=_notes(total),
    )


def _share(
    key: str,
    name: str,
    codes: Sequence[str],
    counts: Counter[str],
    total: int,
    white: Sequence[str],
    corrected: CorrectedShares | None,
    confidence: float,
) -> Share:
    count = sum(counts[code] for code in codes)
    if not total:
        return Share(key, name, count, np.nan, np.nan, np.nan)
    low, high = clopper_pearson(count, total, confidence)
    if corrected is None:
        return Share(key, name, count, count / total, float(low), float(high))
    bounds = corrected.sums([white.index(code) for code in codes], confidence)
    return Share(key, name, count, count / total, float(low), float(high), *bounds)


def _per_100(label: str, code: str, count: int, total: int, confidence: float) -> Share:
    if not total:
        return Share(label, NOT_COUNTED[code], count, np.nan, np.nan, np.nan)
    low, high = rate_interval(count, total, confidence)
    return Share(label, NOT_COUNTED[code], count, count / total, float(low), float(high))


def _correct(
    counts: Counter[str], num_doubtful: int, white: Sequence[str], known: KnownConfusions
) -> CorrectedShares | None:
    """Return the corrected shares of the white classes among white cells; None where too little is known."""
    outcomes = [k for k, name in enumerate(known.outcomes) if name in known.classes or name == UNIDENTIFIED]
    confusions = known.counts[:, :, outcomes]
    confusions = confusions[confusions.sum((1, 2)) > 0]  # without patients of whom every cell was rejected
    if len(confusions) < 2:
        return None
    observed = dict(counts) | {UNIDENTIFIED: num_doubtful}
    corrected = correct_shares(np.array([observed.get(known.outcomes[k], 0) for k in outcomes]), confusions)
    columns = [known.classes.index(code) for code in white]
    return CorrectedShares(*(_normalised(shares[..., columns]) for shares in corrected))


def _normalised(shares: np.ndarray) -> np.ndarray:
    return shares / np.maximum(shares.sum(-1, keepdims=True), 1e-9)


def _notes(total: int) -> list[str]:
    if not total:
        return ["No white cell has a class, so there are no shares."]
    if total < USUAL_COUNTS[0]:
        return [f"{total} cells are few: laboratories count 100 to 400."]
    return []
