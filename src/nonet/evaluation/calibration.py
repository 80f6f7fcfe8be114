"""How far probabilities, prediction sets and "unidentified" can be trusted, measured on patients not fitted on.

Everything "after" is cross-fitted: what is applied to a fold was fitted on the other folds' out-of-fold logits, whose
patients are others. So the ensemble's own calibration, fitted on all folds, is never scored on what it was fitted on.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.special import softmax

from nonet.calibration.conformal import own_thresholds, prediction_sets
from nonet.calibration.fitting import HeldOut, fit_calibration, negative_log_likelihood
from nonet.calibration.priors import MIN_IMAGES_TO_ADAPT, estimate_priors, log_ratio
from nonet.cells import in_order_of_maturation
from nonet.evaluation.bootstrap import DEFAULT_BOOTSTRAP, Bootstrap, Score, confusions_by_group, sums_by_group
from nonet.evaluation.metrics import per_class_scores
from nonet.evaluation.not_measured import NotMeasured
from nonet.evaluation.oof import ALL_CLASSES, OutOfFold
from nonet.evaluation.tables import with_scores
from nonet.recipe import Calibrate

NUM_BINS = 15
#: The row of Table 1 with prior correction, and its architecture.
CALIBRATED = "ensemble, calibrated"


@dataclass(frozen=True)
class CrossFitted:
    """Each fold calibrated by what is fitted on the others.

    Attributes
    ----------
    logits : ndarray of float64, shape (num_images, C)
        Calibrated logits.
    inside : ndarray of bool, shape (num_images, C)
        The prediction sets.
    temperatures, slopes, strengths : list of float
        Temperature, its slope with entropy, and strength of the prior correction, one per fold.
    shifted : ndarray of int, shape (num_images,)
        The predicted class where the strength of the prior correction is chosen on the other folds.
    adapted : ndarray of int, shape (num_images,), or None
        The predicted class where each fold's priors are estimated by EM; None where a fold has too few images.
    """

    logits: np.ndarray
    inside: np.ndarray
    temperatures: list[float]
    slopes: list[float]
    strengths: list[float]
    shifted: np.ndarray
    adapted: np.ndarray | None

    @property
    def moves_priors(self) -> bool:
        """Whether class priors are moved, so that what is predicted changes."""
        return any(self.strengths)


@dataclass(frozen=True)
class MeasuredCalibration:
    """The results of `measure_calibration`. Rejected images have an empty set and are not identified.

    Attributes
    ----------
    settings : Calibrate
        The settings of the calibration.
    fitted : CrossFitted
        What the folds get from one another.
    measures : DataFrame
        A row for all images and one per class: images, share, mean_probability, ece, brier and nll, each `_before` and
        `_after` calibration and with intervals.
    coverage : DataFrame
        A row for all images and one per class: images, coverage and set_size with intervals, and the shares of sets
        that are `single` and `empty`.
    doubt : Series
        The shares rejected and identified; accuracy and macro-F1 of all images and of the identified ones.
    bins : DataFrame
        The points of the reliability diagrams before and after.
    differences : DataFrame
        Rows for the table of differences.
    row : DataFrame or None
        The row of Table 1 with prior correction; None without it.
    """

    settings: Calibrate
    fitted: CrossFitted
    measures: pd.DataFrame
    coverage: pd.DataFrame
    doubt: pd.Series
    bins: pd.DataFrame
    differences: pd.DataFrame
    row: pd.DataFrame | None


def measure_calibration(
    oof: OutOfFold,
    settings: Calibrate,
    trained_priors: np.ndarray,
    *,
    rejected: np.ndarray | None = None,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> MeasuredCalibration | NotMeasured:
    """Measure the calibration of a run's ensemble with views, before and after, cross-fitted over its folds.

    Parameters
    ----------
    oof : OutOfFold
        The predictions.
    settings : Calibrate
        The settings that ensemble.json was calibrated with.
    trained_priors : ndarray of float, shape (C,)
        The share of each class among the images that training drew.
    rejected : ndarray of bool, shape (num_images,), optional
        Images rejected as unknown cell types by thresholds of the other folds; by default none.
    bootstrap : Bootstrap
        For the intervals.

    Returns
    -------
    MeasuredCalibration or NotMeasured
        NotMeasured where the folds are too small.
    """
    logits = oof.final_logits
    rejected = np.zeros(len(oof.true), dtype=bool) if rejected is None else rejected
    fitted = cross_fit(oof.held_out, settings, trained_priors, oof.classes, rejected=rejected)
    if isinstance(fitted, NotMeasured):
        return fitted
    after = softmax(fitted.logits, axis=-1)
    measures, bins = _measure(oof, (softmax(logits, axis=-1), after), (logits, fitted.logits), bootstrap)
    row = None
    if fitted.moves_priors:
        row = pd.DataFrame({"name": [CALIBRATED], "architecture": [CALIBRATED], "views": [oof.final_view_set]})
        row = with_scores(row, oof, after.argmax(1)[None], bootstrap)
    return MeasuredCalibration(
        settings=settings,
        fitted=fitted,
        measures=measures,
        coverage=_coverage(oof, fitted.inside, rejected, bootstrap),
        doubt=_doubt(oof, after, settings.min_confidence, rejected, bootstrap),
        bins=bins,
        differences=_differences(oof, logits.argmax(1), fitted, bootstrap),
        row=row,
    )


def cross_fit(
    held_out: HeldOut,
    settings: Calibrate,
    trained_priors: np.ndarray,
    classes: list[str],
    *,
    rejected: np.ndarray | None = None,
) -> CrossFitted | NotMeasured:
    """Calibrate each fold by what is fitted on the others.

    Parameters
    ----------
    held_out : HeldOut
        Logits and labels of the images.
    settings : Calibrate
        The settings of the calibration.
    trained_priors : ndarray of float, shape (C,)
        The share of each class among the images that training drew.
    classes : list of str
        The C class codes.
    rejected : ndarray of bool, shape (num_images,), optional
        Images left unidentified whatever their probabilities: they have no prediction set, and priors are not
        estimated from them. By default none.

    Returns
    -------
    CrossFitted or NotMeasured
        NotMeasured where the folds are too small.
    """
    known = np.ones(len(held_out.true), dtype=bool) if rejected is None else ~rejected
    held_out = replace(held_out, rejected=rejected)
    logits, inside = np.empty_like(held_out.logits), np.zeros(held_out.logits.shape, dtype=bool)
    shifted, adapted = np.empty_like(held_out.true), np.empty_like(held_out.true)
    fits, folds = [], np.unique(held_out.fold)
    choosing = settings.model_copy(update={"prior_strength": "choose"})
    for fold in folds:
        rows = held_out.fold == fold
        others = held_out.subset(~rows)
        fitted = fit_calibration(others, settings, trained_priors, classes)
        if fitted.thresholds is None or fitted.class_priors is None:
            return NotMeasured.too_few(fitted.notes)
        fits.append(fitted)
        logits[rows] = fitted.apply(held_out.logits[rows])
        proba = softmax(logits[rows], axis=-1)
        inside[rows] = prediction_sets(proba, fitted.thresholds)
        is_chosen = settings.prior_strength == "choose"
        chosen = fitted if is_chosen else fit_calibration(others, choosing, trained_priors, classes)
        shifted[rows] = chosen.apply(held_out.logits[rows]).argmax(1)
        if known[rows].sum() >= MIN_IMAGES_TO_ADAPT:
            priors = estimate_priors(proba[known[rows]], fitted.class_priors)
            adapted[rows] = (logits[rows] + log_ratio(priors, fitted.class_priors)).argmax(1)
    enough = np.bincount(held_out.fold[known], minlength=folds.max() + 1)[folds].min() >= MIN_IMAGES_TO_ADAPT
    return CrossFitted(
        logits=logits,
        inside=inside,
        temperatures=[fit.temperature for fit in fits],
        slopes=[fit.entropy_slope for fit in fits],
        strengths=[fit.prior_strength for fit in fits],
        shifted=shifted,
        adapted=adapted if enough else None,
    )


def _places(num_classes: int) -> dict[str, slice]:
    """Return the place of each of an image's numbers; the scores need nothing but their sums over images.

    An expected calibration error is the sum over bins of |sum over a bin's images of probability minus truth|, divided
    by the number of images: so a bin needs one number.
    """
    widths = {"images": 1, "nll": 1, "brier": num_classes}
    widths |= dict.fromkeys(("counts", "confidences", "hits"), NUM_BINS) | {"gaps": num_classes * NUM_BINS}
    ends = np.cumsum(list(widths.values()))
    return {name: slice(end - width, end) for (name, width), end in zip(widths.items(), ends.tolist())}


def _numbers(proba: np.ndarray, logits: np.ndarray, true: np.ndarray) -> sparse.csr_array:
    """Return each image's numbers, (n, K), laid out as `_places` says."""
    n, num_classes = proba.shape
    truth = np.zeros_like(proba)
    truth[np.arange(n), true] = 1
    best, confidence = proba.argmax(1), proba.max(1)
    of_best = np.stack([np.ones(n), confidence, best == true], axis=1)
    columns = _bin(confidence)[:, None] + NUM_BINS * np.arange(3)
    of_classes = _bin(proba) + NUM_BINS * np.arange(num_classes)
    parts = [
        sparse.csr_array(np.concatenate([np.ones((n, 1)), negative_log_likelihood(logits, true)[:, None]], axis=1)),
        sparse.csr_array((proba - truth) ** 2),
        _rows_at(columns, of_best, 3 * NUM_BINS),
        _rows_at(of_classes, proba - truth, num_classes * NUM_BINS),
    ]
    return sparse.hstack(parts, format="csr")


def _bin(values: np.ndarray) -> np.ndarray:
    """Return the number of the bin: `NUM_BINS` of equal width, each with its upper end, as in Guo et al. 2017."""
    return np.clip(np.ceil(values * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)


def _rows_at(columns: np.ndarray, values: np.ndarray, width: int) -> sparse.csr_array:
    """Return a sparse matrix (n, width) with `values` (n, k) of each row at `columns` (n, k)."""
    n, k = columns.shape
    return sparse.csr_array((values.ravel(), columns.ravel(), np.arange(0, n * k + 1, k)), shape=(n, width))


def _scores(num_classes: int) -> dict[str, Score]:
    """Return {score: function of sums (…, K)}: of all images (…), with a name that ends in "_by_class" (…, C)."""
    at = _places(num_classes)

    def mean(sums: np.ndarray, values: np.ndarray) -> np.ndarray:
        return values / sums[..., at["images"]]

    def ece(sums: np.ndarray) -> np.ndarray:
        gaps = np.abs(sums[..., at["confidences"]] - sums[..., at["hits"]])
        return mean(sums, gaps.sum(-1, keepdims=True))[..., 0]

    def ece_by_class(sums: np.ndarray) -> np.ndarray:
        gaps = sums[..., at["gaps"]].reshape(*sums.shape[:-1], num_classes, NUM_BINS)
        return mean(sums, np.abs(gaps).sum(-1))

    return {
        "ece": ece,
        "brier": lambda sums: mean(sums, sums[..., at["brier"]]).sum(-1),
        "nll": lambda sums: mean(sums, sums[..., at["nll"]])[..., 0],
        "ece_by_class": ece_by_class,
        "brier_by_class": lambda sums: mean(sums, sums[..., at["brier"]]),
    }


def _measure(
    oof: OutOfFold, proba: tuple[np.ndarray, np.ndarray], logits: tuple[np.ndarray, np.ndarray], bootstrap: Bootstrap
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables `measures` and `bins`; `proba` and `logits` are (before, after), resampled together."""
    num_classes, at = len(oof.classes), _places(len(oof.classes))
    numbers = sparse.hstack([_numbers(p, z, oof.true) for p, z in zip(proba, logits)], format="csr")
    sums = sums_by_group(numbers, oof.group, (2, at["gaps"].stop))
    scores = _scores(num_classes)
    total = sums.total()
    values = {name: function(total) for name, function in scores.items()}
    limits = bootstrap.intervals(sums, scores | {"accuracies": _accuracies(at)})
    order = [oof.classes.index(code) for code in in_order_of_maturation(oof.classes)]
    share = np.bincount(oof.true, minlength=num_classes) / len(oof.true)
    rows: list[dict[str, Any]] = [{"class": ALL_CLASSES, "images": len(oof.true), "share": 1.0}]
    rows += [{"class": oof.classes[k], "images": int((oof.true == k).sum()), "share": share[k]} for k in order]
    for number, when in enumerate(("before", "after")):
        for score in ("ece", "brier", "nll"):
            _set(rows[0], f"{score}_{when}", values[score][number], *(end[number] for end in limits[score]))
        for row, k in zip(rows[1:], order):
            row[f"mean_probability_{when}"] = proba[number][:, k].mean()
            for score in ("ece", "brier"):
                name = f"{score}_by_class"
                _set(row, f"{score}_{when}", values[name][number, k], *(end[number, k] for end in limits[name]))
    return pd.DataFrame(rows), _bins(total, at, limits["accuracies"])


def _accuracies(at: dict[str, slice]) -> Score:
    """Return a function of sums: the share of each bin's images whose best class is right; NaN for an empty bin."""

    def of(sums: np.ndarray) -> np.ndarray:
        counts, hits = sums[..., at["counts"]], sums[..., at["hits"]]
        return np.divide(hits, counts, out=np.full(hits.shape, np.nan), where=counts > 0)

    return of


def _bins(total: np.ndarray, at: dict[str, slice], limits: tuple[np.ndarray, np.ndarray]) -> pd.DataFrame:
    """Return the reliability diagram's points: when, images, confidence (mean), accuracy, accuracy_low, _high."""
    tables = []
    for number, when in enumerate(("before", "after")):
        counts = total[number, at["counts"]]
        table = pd.DataFrame({"when": when, "images": counts.round().astype(int)})
        with np.errstate(invalid="ignore"):
            table["confidence"] = total[number, at["confidences"]] / counts
        table["accuracy"] = _accuracies(at)(total[number])
        table["accuracy_low"], table["accuracy_high"] = limits[0][number], limits[1][number]
        tables.append(table[counts > 0])
    return pd.concat(tables, ignore_index=True)


def _coverage(oof: OutOfFold, inside: np.ndarray, rejected: np.ndarray, bootstrap: Bootstrap) -> pd.DataFrame:
    """Return how often the sets hold the true class and how large they are, for all images and by true class."""
    num_classes, n = len(oof.classes), len(oof.true)
    inside = inside & ~rejected[:, None]
    covered, size = inside[np.arange(n), oof.true].astype(float), inside.sum(1).astype(float)
    columns = oof.true[:, None] + num_classes * np.arange(3)
    numbers = _rows_at(columns, np.stack([np.ones(n), covered, size], axis=1), 3 * num_classes)
    sums = sums_by_group(numbers, oof.group, (3, num_classes))

    def ratio(place: int) -> Score:
        def of(sums: np.ndarray) -> np.ndarray:
            with_all = np.concatenate([sums.sum(-1, keepdims=True), sums], axis=-1)
            images, values = with_all[..., 0, :], with_all[..., place, :]
            return np.divide(values, images, out=np.full(images.shape, np.nan), where=images > 0)

        return of

    scores = {"coverage": ratio(1), "set_size": ratio(2)}
    limits = bootstrap.intervals(sums, scores)
    own = own_thresholds(oof.true[~rejected], oof.group[~rejected], num_classes)
    rows = []
    for k in [-1, *(oof.classes.index(code) for code in in_order_of_maturation(oof.classes))]:
        of_class = oof.true == k if k >= 0 else np.ones(n, dtype=bool)
        row: dict[str, Any] = {"class": oof.classes[k] if k >= 0 else ALL_CLASSES, "images": int(of_class.sum())}
        row |= {"groups": len(set(oof.group[of_class])), "own_threshold": k in own}
        for name, score in scores.items():
            _set(row, name, score(sums.total())[k + 1], *(end[k + 1] for end in limits[name]))
        for name, num in (("single", 1), ("empty", 0)):
            row[name] = (size[of_class] == num).mean() if of_class.any() else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def _doubt(
    oof: OutOfFold, proba: np.ndarray, min_confidence: float, rejected: np.ndarray, bootstrap: Bootstrap
) -> pd.Series:
    """Return the share identified, and accuracy and macro-F1 of all images and of the identified ones.

    Both macro-F1 are means over the same classes, those with an image: a class of which none is identified counts 0.
    If it dropped out of the mean of the identified, giving up on a hard class would look like an improvement.
    """
    num_classes, best = len(oof.classes), proba.argmax(1)
    label = np.where(rejected | (proba.max(1) < min_confidence), num_classes, best)  # one class more: unidentified
    confusions = confusions_by_group(oof.true, np.stack([best, label]), oof.group, num_classes + 1)

    def share(counts: np.ndarray) -> np.ndarray:
        return 1 - counts[..., num_classes].sum(-1) / counts.sum((-2, -1))

    def accuracy(counts: np.ndarray) -> np.ndarray:
        named = counts[..., :num_classes].sum((-2, -1))
        hits = np.trace(counts[..., :num_classes, :num_classes], axis1=-2, axis2=-1)
        return np.divide(hits, named, out=np.full(np.shape(named), np.nan), where=named > 0)

    def macro_f1(counts: np.ndarray) -> np.ndarray:
        f1 = per_class_scores(counts[..., :num_classes, :num_classes])["f1"]
        has_images = counts[..., :num_classes, :].sum(-1) > 0  # identified or not
        return (f1 * has_images).sum(-1) / has_images.sum(-1)

    scores = {"share_identified": share, "accuracy": accuracy, "macro_f1": macro_f1}
    row: dict[str, Any] = {"min_confidence": min_confidence, "images": len(oof.true)}
    row["share_rejected"] = float(rejected.mean())
    for name, (low, high) in bootstrap.intervals(confusions, scores).items():
        both, identified = scores[name](confusions.total()), name == "share_identified"
        for place, what in ((1, name),) if identified else ((0, f"{name}_all"), (1, f"{name}_identified")):
            _set(row, what, both[place], low[place], high[place])
    return pd.Series(row)


def _differences(oof: OutOfFold, raw: np.ndarray, fitted: CrossFitted, bootstrap: Bootstrap) -> pd.DataFrame:
    """Return what prior correction changes in macro-F1; columns as those of `difference_table`."""
    ways = {"ensemble with class priors chosen on other folds − as trained": fitted.shifted}
    if fitted.adapted is not None:
        ways["ensemble with class priors estimated (EM) − calibrated"] = fitted.adapted
    calibrated = fitted.logits.argmax(1)
    confusions = confusions_by_group(oof.true, np.stack([raw, calibrated, *ways.values()]), oof.group, len(oof.classes))
    differences = bootstrap.differences(confusions, [(2, 0), (3, 1)][: len(ways)])
    table = pd.DataFrame(differences, columns=["difference", "difference_low", "difference_high"])
    table.insert(0, "comparison", list(ways))
    return table


def _set(row: dict, name: str, value: float, low: float, high: float) -> None:
    row[name], row[f"{name}_low"], row[f"{name}_high"] = float(value), float(low), float(high)
