"""Shortcuts: can the label be told from what is no cell at all: the size of the picture, its border, its neighbour?

Chance is measured, not assumed: the same classifier on looks dealt anew among patients, each patient keeping one
look-book. So neither rare classes nor a stain that belongs to a patient raises an alarm. See docs/decisions/0009.
"""

import warnings
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.tree import DecisionTreeClassifier

ALL = "all sources"
_NUM_SHUFFLES = 40
_NUM_PARTS = 3
_MOST_PER_CLASS = 400  # images of a class and scope; enough to tell, and bounds the time
_LEAST_PER_CLASS = 6
#: What is reported: so many standard deviations beyond chance, and so much beyond it that it would matter; of a class,
#: so large an area under the curve.
_DEVIATIONS, _LEAST_ACCURACY, _LEAST_AREA, _LEAST_AGREEMENT = 4.5, 0.03, 0.8, 0.05
_DEVIATIONS_NAMED = 2.5  # of a class, once all together are beyond chance: rare classes vary much
LOOKS = {
    "size": ["width", "height"],
    "border colour": ["border_red", "border_green", "border_blue"],
}
ORDER = "file order"


@dataclass(frozen=True)
class Shortcut:
    """How well the label can be told from one thing that is no cell.

    Attributes
    ----------
    what : "size", "border colour" or "file order". scope : a source, or "all sources".
    score, chance, chance_sd : balanced accuracy of a small tree, cross-validated; for file order, the share of images
        that have the label of the one before. Chance: mean and standard deviation over 40 shuffles; NaN where the
        thing is the same for all, and nothing can be told.
    classes : those given away, the clearest first; {code: area under the curve} (file order: share of agreement).
    found : whether it is well beyond chance.
    num_images : that were looked at.
    """

    what: str
    scope: str
    score: float
    chance: float
    chance_sd: float
    classes: dict[str, float]
    found: bool
    num_images: int


def find_shortcuts(table: pd.DataFrame, *, seed: int = 0) -> list[Shortcut]:
    """Try each thing over all sources and within each.

    Parameters
    ----------
    table : a row an image that is labelled and not of the test: label, source, path, patient, patient_is_standin,
        width, height, border_red, border_green, border_blue; in the order of files.
    seed : of the parts and shuffles.

    Returns
    -------
    A Shortcut for each thing and scope with at least two classes of six images.
    """
    sources = sorted(table["source"].unique())
    scopes = {ALL: table} if len(sources) > 1 else {}
    scopes |= {source: table[table["source"] == source] for source in sources}
    found = []
    for scope, rows in scopes.items():
        counts = rows["label"].value_counts()
        rows = rows[rows["label"].isin(counts.index[counts >= _LEAST_PER_CLASS])]
        if rows["label"].nunique() < 2:
            continue
        found += [_by_look(what, scope, rows, columns, seed) for what, columns in LOOKS.items()]
        if scope != ALL or len(scopes) == 1:
            found.append(_by_order(scope, rows, seed))
    return found


def _by_look(what: str, scope: str, rows: pd.DataFrame, columns: list[str], seed: int) -> Shortcut:
    rng = np.random.default_rng(seed)
    picked = [
        part if len(part) <= _MOST_PER_CLASS else part.iloc[np.sort(rng.permutation(len(part))[:_MOST_PER_CLASS])]
        for _, part in rows.groupby("label", sort=True)
    ]
    rows = pd.concat(picked)
    looks, labels = rows[columns].to_numpy(np.float64), rows["label"].to_numpy(str)
    if (looks == looks[0]).all():
        return Shortcut(what, scope, np.nan, np.nan, np.nan, {}, False, len(rows))
    groups = _groups(rows)
    parts = _parts(labels, groups, seed)
    codes, score, areas = _told(looks, labels, parts)
    dealt = [_told(_deal(looks, groups, rng), labels, parts)[1:] for _ in range(_NUM_SHUFFLES)]
    chance = np.array([accuracy for accuracy, _ in dealt])
    chance_areas = np.stack([area for _, area in dealt])
    found = _is_beyond(score, chance, _LEAST_ACCURACY)
    excess, spread = areas - chance_areas.mean(axis=0), chance_areas.std(axis=0)
    given_away = (areas > _LEAST_AREA) & (areas > chance_areas.max(axis=0))
    given_away &= excess > (_DEVIATIONS_NAMED if found else _DEVIATIONS) * spread
    classes = {str(codes[k]): float(areas[k]) for k in np.argsort(-excess, kind="stable") if given_away[k]}
    return Shortcut(what, scope, score, chance.mean(), chance.std(), classes, found or bool(classes), len(rows))


def _is_beyond(score: float, chance: np.ndarray, least: float) -> bool:
    return bool(score - chance.mean() > max(_DEVIATIONS * chance.std(), least) and score > chance.max())


def _groups(rows: pd.DataFrame) -> np.ndarray:
    """Return int64 (n,): the patient, or the image itself where it is unknown; images where patients are too few."""
    patient = rows["patient"].where(rows["patient"].notna(), "image " + rows["source"] + "/" + rows["path"])
    groups = pd.factorize(patient)[0]
    return groups if groups.max() + 1 >= 2 * _NUM_PARTS else np.arange(len(rows))


def _parts(labels: np.ndarray, groups: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    splitter = StratifiedGroupKFold(_NUM_PARTS, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        return [(fit, held) for fit, held in splitter.split(labels, labels, groups) if len(held)]


def _told(looks: np.ndarray, labels: np.ndarray, parts: list) -> tuple[np.ndarray, float, np.ndarray]:
    """Return classes, balanced accuracy, and each class's area under the curve, all on images held out."""
    codes = np.unique(labels)
    proba = np.zeros((len(labels), len(codes)))
    for fit, held in parts:
        tree = DecisionTreeClassifier(max_depth=6, min_samples_leaf=3, class_weight="balanced", random_state=0)
        tree.fit(looks[fit], labels[fit])
        proba[np.ix_(held, np.searchsorted(codes, tree.classes_))] = tree.predict_proba(looks[held])
    one_hot = labels[:, None] == codes
    # Equal bests share the call, else the first class would win wherever nothing can be told.
    best = proba == proba.max(axis=1, keepdims=True)
    recall = (best / best.sum(axis=1, keepdims=True) * one_hot).sum(axis=0) / one_hot.sum(axis=0)
    num_of, num_others = one_hot.sum(axis=0), (~one_hot).sum(axis=0)
    ranks = rankdata(proba, axis=0)
    areas = ((ranks * one_hot).sum(axis=0) - num_of * (num_of + 1) / 2) / (num_of * num_others)
    return codes, float(recall.mean()), areas


def _deal(looks: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give each patient the looks of another, drawn with replacement: what ties looks to labels is gone."""
    order = np.argsort(groups, kind="stable")
    counts = np.bincount(groups)
    starts = np.cumsum(counts) - counts
    donor = rng.permutation(len(counts))[groups]
    return looks[order[starts[donor] + (rng.random(len(groups)) * counts[donor]).astype(np.int64)]]


def _by_order(scope: str, rows: pd.DataFrame, seed: int) -> Shortcut:
    """How often an image has the label of the one before it, against labels shuffled within patient and folder.

    A folder that holds one class, or a patient who has few, explains neighbours that agree; order within explains
    the rest. Stand-ins for patients are made from the order, so they explain nothing.
    """
    folder = [str(PurePosixPath(path).parent) for path in rows["path"]]
    patient = rows["patient"].where(rows["patient"].notna() & ~rows["patient_is_standin"], "")
    blocks = pd.factorize(pd.Series(folder, index=rows.index) + "\n" + patient)[0]
    labels, codes = pd.factorize(rows["label"], sort=True)
    rng = np.random.default_rng(seed)
    order = np.argsort(blocks, kind="stable")
    shuffled = []
    for _ in range(_NUM_SHUFFLES):
        dealt = np.empty_like(labels)
        dealt[order] = labels[np.lexsort((rng.random(len(labels)), blocks))]
        shuffled.append(_agreement(dealt, len(codes)))
    score, areas = _agreement(labels, len(codes))
    chance = np.array([agreement for agreement, _ in shuffled])
    found = _is_beyond(score, chance, _LEAST_AGREEMENT)
    excess = areas - np.mean([each for _, each in shuffled], axis=0)
    order = np.argsort(-excess, kind="stable")
    classes = {str(codes[k]): float(areas[k]) for k in order if excess[k] > _LEAST_AGREEMENT} if found else {}
    return Shortcut(ORDER, scope, score, chance.mean(), chance.std(), classes, found, len(rows))


def _agreement(labels: np.ndarray, num_classes: int) -> tuple[float, np.ndarray]:
    same = labels[1:] == labels[:-1]
    counts = np.bincount(labels[1:], minlength=num_classes)
    return float(same.mean()), np.bincount(labels[1:], same, num_classes) / np.maximum(counts, 1)
