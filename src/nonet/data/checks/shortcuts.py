"""Shortcuts: can the label be predicted without the cell, from the image's size, its border or the file order?

Chance is measured rather than assumed: the same classifier is evaluated after image statistics were exchanged between
patients, each patient receiving those of a single other one. So neither rare classes nor a stain that belongs to a
patient raises an alarm. See docs/decisions/0009.
"""

import warnings
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.tree import DecisionTreeClassifier

ALL_SOURCES = "all sources"
_NUM_SHUFFLES = 40
_NUM_PARTS = 3
_MAX_PER_CLASS = 400  # images of a class and scope; enough to decide, and bounds the time
_MIN_PER_CLASS = 6
#: A shortcut is reported where it is beyond chance by this many standard deviations and by this much accuracy or
#: agreement; a class, where the area under its curve is as large.
_DEVIATIONS, _MIN_ACCURACY, _MIN_AREA, _MIN_AGREEMENT = 4.5, 0.03, 0.8, 0.05
_DEVIATIONS_NAMED = 2.5  # for a class, once all classes together are beyond chance: rare classes vary a lot
STATISTICS = {"size": ["width", "height"], "border colour": ["border_red", "border_green", "border_blue"]}
ORDER = "file order"


@dataclass(frozen=True)
class Shortcut:
    """How well the label can be predicted from something other than the cell.

    Attributes
    ----------
    what : str
        "size", "border colour" or "file order".
    scope : str
        A source, or "all sources".
    score : float
        Cross-validated balanced accuracy of a small decision tree; for file order, the share of images that have the
        label of the one before. NaN where the statistic is the same for all images.
    chance, chance_sd : float
        Mean and standard deviation of the score over 40 shuffles.
    classes : dict
        Class code → area under the curve (file order: share of agreement), of the classes that are predictable, the
        most predictable first.
    found : bool
        Whether the score, or a class, is well beyond chance.
    num_images : int
        Number of images used.
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
    """Test each statistic over all sources and within each source.

    Parameters
    ----------
    table : DataFrame
        One row per labelled image that is not of the test split, in file order, with the columns label, source, path,
        patient, patient_is_standin, width, height, border_red, border_green and border_blue.
    seed : int
        Seed of the cross-validation and the shuffles.

    Returns
    -------
    list of Shortcut
        One for each statistic and each scope with at least two classes of six images.
    """
    sources = sorted(table["source"].unique())
    scopes = {ALL_SOURCES: table} if len(sources) > 1 else {}
    scopes |= {source: table[table["source"] == source] for source in sources}
    shortcuts = []
    for scope, rows in scopes.items():
        counts = rows["label"].value_counts()
        rows = rows[rows["label"].isin(counts.index[counts >= _MIN_PER_CLASS])]
        if rows["label"].nunique() < 2:
            continue
        shortcuts += [_by_statistic(what, scope, rows, columns, seed) for what, columns in STATISTICS.items()]
        if scope != ALL_SOURCES or len(scopes) == 1:
            shortcuts.append(_by_order(scope, rows, seed))
    return shortcuts


def _by_statistic(what: str, scope: str, rows: pd.DataFrame, columns: list[str], seed: int) -> Shortcut:
    rng = np.random.default_rng(seed)
    picked = [
        part if len(part) <= _MAX_PER_CLASS else part.iloc[np.sort(rng.permutation(len(part))[:_MAX_PER_CLASS])]
        for _, part in rows.groupby("label", sort=True)
    ]
    rows = pd.concat(picked)
    values, labels = rows[columns].to_numpy(np.float64), rows["label"].to_numpy(str)
    if (values == values[0]).all():
        return Shortcut(what, scope, np.nan, np.nan, np.nan, {}, False, len(rows))
    groups = _groups(rows)
    parts = _parts(labels, groups, seed)
    codes, score, areas = _cross_validate(values, labels, parts)
    shuffled = [_cross_validate(_exchange(values, groups, rng), labels, parts)[1:] for _ in range(_NUM_SHUFFLES)]
    chance = np.array([accuracy for accuracy, _ in shuffled])
    chance_areas = np.stack([area for _, area in shuffled])
    found = _is_beyond(score, chance, _MIN_ACCURACY)
    excess, spread = areas - chance_areas.mean(axis=0), chance_areas.std(axis=0)
    predictable = (areas > _MIN_AREA) & (areas > chance_areas.max(axis=0))
    predictable &= excess > (_DEVIATIONS_NAMED if found else _DEVIATIONS) * spread
    classes = {str(codes[k]): float(areas[k]) for k in np.argsort(-excess, kind="stable") if predictable[k]}
    return Shortcut(what, scope, score, chance.mean(), chance.std(), classes, found or bool(classes), len(rows))


def _is_beyond(score: float, chance: np.ndarray, least: float) -> bool:
    return bool(score - chance.mean() > max(_DEVIATIONS * chance.std(), least) and score > chance.max())


def _groups(rows: pd.DataFrame) -> np.ndarray:
    """Return groups, int64 (n,): the patient, or the image where it is unknown; images where patients are too few."""
    patient = rows["patient"].where(rows["patient"].notna(), "image " + rows["source"] + "/" + rows["path"])
    groups = pd.factorize(patient)[0]
    return groups if groups.max() + 1 >= 2 * _NUM_PARTS else np.arange(len(rows))


def _parts(labels: np.ndarray, groups: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    splitter = StratifiedGroupKFold(_NUM_PARTS, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        return [(fit, held) for fit, held in splitter.split(labels, labels, groups) if len(held)]


def _cross_validate(values: np.ndarray, labels: np.ndarray, parts: list) -> tuple[np.ndarray, float, np.ndarray]:
    """Return classes, balanced accuracy, and each class's area under the curve, all on held-out images."""
    codes, numbers = np.unique(labels, return_inverse=True)  # scikit-learn would sort the names again for each tree
    proba = np.zeros((len(labels), len(codes)))
    for fit, held in parts:
        tree = DecisionTreeClassifier(max_depth=6, min_samples_leaf=3, class_weight="balanced", random_state=0)
        tree.fit(values[fit], numbers[fit])
        proba[np.ix_(held, tree.classes_)] = tree.predict_proba(values[held])
    one_hot = numbers[:, None] == np.arange(len(codes))
    # Ties are shared, else the first class would win wherever nothing can be predicted.
    best = proba == proba.max(axis=1, keepdims=True)
    recall = (best / best.sum(axis=1, keepdims=True) * one_hot).sum(axis=0) / one_hot.sum(axis=0)
    num_inside, num_outside = one_hot.sum(axis=0), (~one_hot).sum(axis=0)
    ranks = rankdata(proba, axis=0)
    areas = ((ranks * one_hot).sum(axis=0) - num_inside * (num_inside + 1) / 2) / (num_inside * num_outside)
    return codes, float(recall.mean()), areas


def _exchange(values: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give each patient values of another one, drawn with replacement, which breaks their link to the labels."""
    order = np.argsort(groups, kind="stable")
    counts = np.bincount(groups)
    starts = np.cumsum(counts) - counts
    donor = rng.permutation(len(counts))[groups]
    return values[order[starts[donor] + (rng.random(len(groups)) * counts[donor]).astype(np.int64)]]


def _by_order(scope: str, rows: pd.DataFrame, seed: int) -> Shortcut:
    """Compare how often neighbouring images share a label with labels shuffled within patient and folder.

    Folders of one class, and patients with few classes, explain agreement of neighbours; anything beyond that is due
    to the order. Stand-in patients are derived from the order, so they explain nothing.
    """
    folder = [str(PurePosixPath(path).parent) for path in rows["path"]]
    patient = rows["patient"].where(rows["patient"].notna() & ~rows["patient_is_standin"], "")
    blocks = pd.factorize(pd.Series(folder, index=rows.index) + "\n" + patient)[0]
    labels, codes = pd.factorize(rows["label"], sort=True)
    rng = np.random.default_rng(seed)
    order = np.argsort(blocks, kind="stable")
    shuffled = []
    for _ in range(_NUM_SHUFFLES):
        permuted = np.empty_like(labels)
        permuted[order] = labels[np.lexsort((rng.random(len(labels)), blocks))]
        shuffled.append(_agreement(permuted, len(codes)))
    score, areas = _agreement(labels, len(codes))
    chance = np.array([agreement for agreement, _ in shuffled])
    found = _is_beyond(score, chance, _MIN_AGREEMENT)
    excess = areas - np.mean([each for _, each in shuffled], axis=0)
    order = np.argsort(-excess, kind="stable")
    classes = {str(codes[k]): float(areas[k]) for k in order if excess[k] > _MIN_AGREEMENT} if found else {}
    return Shortcut(ORDER, scope, score, chance.mean(), chance.std(), classes, found, len(rows))


def _agreement(labels: np.ndarray, num_classes: int) -> tuple[float, np.ndarray]:
    """Return the share of images with the label of the one before: overall, and per class."""
    same = labels[1:] == labels[:-1]
    counts = np.bincount(labels[1:], minlength=num_classes)
    return float(same.mean()), np.bincount(labels[1:], same, num_classes) / np.maximum(counts, 1)
