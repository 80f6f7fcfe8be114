"""Which calibration and which prediction sets hold on the next patient? Many splits of a run's patients.

    python benchmarks/calibration.py RUN [--splits 200]

RUN is a trained run whose folds are by patient. Its out-of-fold logits are split by patient again and again: two thirds
of the patients fit the probabilities and the sets, the other third scores them. Nothing is trained. Also fits each fold
on the other folds, as `nonet evaluate` does, for the ensemble and for each architecture alone, with paired intervals
over patients; and draws what a perfectly calibrated ensemble would measure on as many patients that differ as much.
Writes benchmarks/calibration.md. About two minutes on two cores.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.special import expit, softmax

from nonet.artifacts.run import Run
from nonet.calibration.calibrator import Calibration
from nonet.calibration.conformal import fit_thresholds, own_thresholds, prediction_sets
from nonet.calibration.fitting import HeldOut, fit_sloped_temperature, fit_temperature, negative_log_likelihood
from nonet.evaluation.not_measured import NotMeasured
from nonet.evaluation.ood import rejected_out_of_fold
from nonet.evaluation.results import measure

HERE = Path(__file__).parent
NUM_BINS = 15
OF_NONET = " (nonet)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--out", type=Path, default=HERE / "calibration.md")
    arguments = parser.parse_args()
    results = measure(Run(arguments.run))
    oof, settings = results.data.oof, results.data.calibrate
    rejected = rejected_out_of_fold(oof, settings.false_alarm)
    if isinstance(rejected, NotMeasured):
        raise SystemExit(rejected.reason)
    held_out = replace(oof.held_out, rejected=rejected)
    calibrated, sets = compare(held_out, settings.coverage, arguments.splits)
    about = f"{len(oof.true):,} images of {oof.num_patients} patients, recipe `{results.data.recipe.name}`, "
    about += f"{results.data.num_networks} members"
    page = [*head(about, arguments), *tables(calibrated, sets, settings.coverage, rejected)]
    page += [*by_fold(results), *as_evaluated(results)]
    arguments.out.write_text("\n".join(page) + "\n", encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


# Probabilities: name → function of the fitting patients' cells that returns a Calibration


def one_temperature(h: HeldOut) -> Calibration:
    return Calibration(temperature=fit_temperature(h.logits, h.true))


def sloped(h: HeldOut, group: np.ndarray) -> Calibration:
    temperature, slope = fit_sloped_temperature(h.logits, h.true, group)
    return Calibration(temperature=temperature, entropy_slope=slope)


PROBABILITIES: dict[str, Callable[[HeldOut], Calibration]] = {
    "none": lambda h: Calibration(),
    "one temperature": one_temperature,
    "temperature that depends on entropy, each cell counts the same": lambda h: sloped(h, np.arange(len(h.true))),
    f"temperature that depends on entropy, each patient counts the same{OF_NONET}": lambda h: sloped(h, h.group),
}


# Sets: name → function of the fitting patients' cells, their probabilities and the coverage that returns thresholds


def of_all(h: HeldOut, proba: np.ndarray, coverage: float) -> np.ndarray:
    return fit_thresholds(proba, h.true, h.group, coverage=coverage)


def of_kept(h: HeldOut, proba: np.ndarray, coverage: float) -> np.ndarray:
    kept = ~h.rejected
    return fit_thresholds(proba[kept], h.true[kept], h.group[kept], coverage=coverage / kept.mean())


def by_patient(h: HeldOut, proba: np.ndarray, coverage: float, *, unseen: float) -> np.ndarray:
    """Fit a class's threshold on its kept cells, the patients counting the same; `unseen` patients cover nothing.

    With one unseen patient it is hierarchical conformal prediction (Lee, Barber & Willett, Distribution-free inference
    with hierarchical data, 2023), whose guarantee is for a random cell of the next patient.
    """
    kept = ~h.rejected
    true, group, of_true = h.true[kept], h.group[kept], proba[np.arange(len(h.true)), h.true][kept]
    own = own_thresholds(true, group, h.num_classes)

    def threshold(rows: np.ndarray) -> float:
        _, number, counts = np.unique(group[rows], return_inverse=True, return_counts=True)
        order = np.argsort(-of_true[rows])
        reached = np.cumsum((1 / counts[number])[order]) / (len(counts) + unseen)
        place = int(np.searchsorted(reached, coverage / kept.mean() - 1e-9))
        return 0.0 if place == len(order) else float(of_true[rows][order[place]])

    thresholds = np.full(h.num_classes, threshold(~np.isin(true, own)))
    for k in own:
        thresholds[k] = threshold(true == k)
    return thresholds


SETS: dict[str, Callable[[HeldOut, np.ndarray, float], np.ndarray]] = {
    "all cells": of_all,
    f"cells that are not rejected, for coverage / (1 − share rejected){OF_NONET}": of_kept,
    "the same, each patient counts the same": lambda *a: by_patient(*a, unseen=0),
    "the same, hierarchical conformal prediction": lambda *a: by_patient(*a, unseen=1),
}


def splits(held_out: HeldOut, number: int) -> Iterator[tuple[HeldOut, HeldOut]]:
    """Yield the cells of two thirds of the patients, and those of the others."""
    rng, patients = np.random.default_rng(0), np.unique(held_out.group)
    for _ in range(number):
        chosen = np.isin(held_out.group, rng.permutation(patients)[: 2 * len(patients) // 3])
        yield held_out.subset(chosen), held_out.subset(~chosen)


def compare(held_out: HeldOut, coverage: float, number: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the scores of each way to calibrate and of each way to make sets, (splits, scores)."""
    calibrated: dict[str, list] = {name: [] for name in PROBABILITIES}
    sets: dict[str, list] = {name: [] for name in SETS}
    for fitted_on, new in splits(held_out, number):
        for name, fit in PROBABILITIES.items():
            calibration = fit(fitted_on)
            calibrated[name].append(score_probabilities(calibration.apply(new.logits), new.true))
        proba = softmax(calibration.apply(fitted_on.logits), axis=-1)  # of the last one, nonet's
        of_new = softmax(calibration.apply(new.logits), axis=-1)
        for name, fit_sets in SETS.items():
            sets[name].append(score_sets(prediction_sets(of_new, fit_sets(fitted_on, proba, coverage)), new))
    return ({name: np.array(rows) for name, rows in table.items()} for table in (calibrated, sets))


def score_probabilities(logits: np.ndarray, true: np.ndarray) -> tuple[float, float, float]:
    """Return expected calibration error, Brier score and negative log-likelihood."""
    proba = softmax(logits, axis=-1)
    confidence, right = proba.max(1), proba.argmax(1) == true
    bins = np.clip(np.ceil(confidence * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)
    error = np.abs(np.bincount(bins, confidence - right, NUM_BINS)).sum() / len(true)
    brier = ((proba - np.eye(proba.shape[1])[true]) ** 2).sum(1).mean()
    return error, brier, negative_log_likelihood(logits, true).mean()


def score_sets(inside: np.ndarray, new: HeldOut) -> tuple[float, float, float, float]:
    """Return coverage of all cells, of those not rejected, mean of the patients' coverages, and classes per set."""
    covered = inside[np.arange(len(new.true)), new.true] & ~new.rejected
    _, number, counts = np.unique(new.group, return_inverse=True, return_counts=True)
    of_patients = np.bincount(number, covered) / counts
    return covered.mean(), covered[~new.rejected].mean(), of_patients.mean(), inside[~new.rejected].sum(1).mean()


def head(about: str, arguments: argparse.Namespace) -> list[str]:
    return [
        "# Calibration and prediction sets on the next patient",
        "",
        f"Made by `benchmarks/calibration.py`: {about}. {arguments.splits} splits: two thirds of the patients to fit, "
        "the others to score. Means over splits, and in brackets the standard deviation between them; the splits share "
        "patients, so it is how much one split varies, not how certain the mean is.",
        "",
    ]


def tables(calibrated: dict, sets: dict, coverage: float, rejected: np.ndarray) -> list[str]:
    def row(name: str, scores: np.ndarray, digits: int) -> str:
        cells = [f"{m:.{digits}f} ({s:.{digits}f})" for m, s in zip(scores.mean(0), scores.std(0))]
        return f"| {name} | {' | '.join(cells)} |"

    return [
        "## Probabilities",
        "",
        "| fitted | expected calibration error | Brier score | negative log-likelihood |",
        "|---|---|---|---|",
        *(row(name, scores, 4) for name, scores in calibrated.items()),
        "",
        "## Prediction sets",
        "",
        f"A coverage of {coverage:g} is asked for. {rejected.mean():.1%} of these known cells are rejected as an "
        "unknown cell type; they have no set and count as not covered.",
        "",
        "| thresholds fitted on | coverage | of cells not rejected | mean of patients | classes per set |",
        "|---|---|---|---|---|",
        *(row(name, scores, 3) for name, scores in sets.items()),
        "",
    ]


def by_fold(results) -> list[str]:
    """Return the section on folds calibrated by the other folds, for the ensemble and for each architecture."""
    oof, h = results.data.oof, results.data.oof.held_out
    final = oof.logits[oof.view_sets.index(oof.final_view_set)]
    networks = {f"{results.data.num_networks} members": h.logits}
    networks |= {results.data.titles.get(name, name): logits for name, logits in zip(oof.architectures, final)}
    lines = [
        "## Each fold by the others",
        "",
        "Differences from one temperature, in brackets their 95 % intervals over patients, paired.",
        "",
        "| networks | fitted | expected calibration error | difference | negative log-likelihood | difference |",
        "|---|---|---|---|---|---|",
    ]
    for title, logits in networks.items():
        part, found = replace(h, logits=logits), {}
        for name, fit in PROBABILITIES.items():
            found[name] = np.empty_like(logits)
            for fold in np.unique(h.fold):
                rows = h.fold == fold
                found[name][rows] = fit(part.subset(~rows)).apply(logits[rows])
        lines += differences(title, found, h)
    return [*lines, ""]


def differences(title: str, found: dict[str, np.ndarray], h: HeldOut) -> Iterator[str]:
    """Yield a line of the table for each way to calibrate."""
    rng, patients = np.random.default_rng(0), [np.flatnonzero(h.group == name) for name in np.unique(h.group)]
    drawn = [
        np.concatenate([patients[k] for k in rng.integers(len(patients), size=len(patients))]) for _ in range(1000)
    ]
    of_drawn = {
        name: np.array([score_probabilities(logits[rows], h.true[rows])[::2] for rows in drawn])
        for name, logits in found.items()
    }
    for name, logits in found.items():
        score, base = (score_probabilities(x, h.true)[::2] for x in (logits, found["one temperature"]))
        limits = np.quantile(of_drawn[name] - of_drawn["one temperature"], (0.025, 0.975), axis=0)
        cells = []
        for k in range(2):
            difference = f"{score[k] - base[k]:+.3f} ({limits[0, k]:+.3f} to {limits[1, k]:+.3f})"
            cells += [f"{score[k]:.3f}", "" if name == "one temperature" else difference]
        yield f"| {title} | {name} | {' | '.join(cells)} |"


def perfect(logits: np.ndarray, h: HeldOut) -> tuple[float, np.ndarray, float]:
    """Return what a perfectly calibrated ensemble whose patients differ as these do would have as calibration error.

    Returns
    -------
    mean : float
        Of the expected calibration error over 200 drawings.
    limits : ndarray of float, shape (2,)
        The central 90 % of them.
    inflation : float
        Variance between patients of (right − confidence), in units of that of independent cells.
    """
    confidence = softmax(logits, axis=-1).max(1).clip(0.01, 0.995)
    right, number = logits.argmax(1) == h.true, np.unique(h.group, return_inverse=True)[1]
    bins = np.clip(np.ceil(confidence * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)
    rng = np.random.default_rng(0)

    def inflation(outcome: np.ndarray) -> float:
        sums = np.bincount(number, outcome - confidence)
        return float((sums**2).sum() / (confidence * (1 - confidence)).sum())

    def draw(spread: float) -> tuple[float, float]:
        """Draw outcomes with a normal effect of each patient on the log-odds; their mean stays the confidence."""
        grid, nodes = np.linspace(-12, 12, 600), np.random.default_rng(1).normal(size=400)
        centre = np.interp(confidence, expit(grid[:, None] + spread * nodes).mean(1), grid)
        effect = spread * rng.normal(size=number.max() + 1)[number]
        outcome = rng.random(len(confidence)) < expit(centre + effect)
        return np.abs(np.bincount(bins, outcome - confidence, NUM_BINS)).sum() / len(outcome), inflation(outcome)

    measured = inflation(right)
    spreads = np.linspace(0, 1.5, 16)
    inflations = [np.mean([draw(spread)[1] for _ in range(60)]) for spread in spreads]
    spread = spreads[int(np.argmin(np.abs(np.array(inflations) - measured)))]
    errors = [draw(spread)[0] for _ in range(200)]
    return float(np.mean(errors)), np.quantile(errors, (0.05, 0.95)), measured


def as_evaluated(results) -> list[str]:
    """Return the figures of `nonet evaluate`."""
    measured, cover = results.calibration.measures.iloc[0], results.calibration.coverage.iloc[0]
    fitted = results.calibration.fitted

    def text(row, name: str) -> str:
        return f"{row[name]:.3f} ({row[name + '_low']:.3f}–{row[name + '_high']:.3f})"

    mean, (low, high), inflation = perfect(fitted.logits, results.data.oof.held_out)
    folds = ", ".join(f"{t:.2f} and {s:.2f}" for t, s in zip(fitted.temperatures, fitted.slopes))
    return [
        "## As evaluated",
        "",
        "Each fold calibrated by the other folds; in brackets 95 % intervals over patients.",
        "",
        "| | before | after |",
        "|---|---|---|",
        *(
            f"| {title} | {text(measured, key + '_before')} | {text(measured, key + '_after')} |"
            for title, key in (("expected calibration error", "ece"), ("Brier score", "brier"))
        ),
        f"| coverage | | {text(cover, 'coverage')} |",
        f"| classes per set | | {text(cover, 'set_size')} |",
        "",
        f"Temperature and its slope with entropy, by fold: {folds}.",
        "",
        f"The variance between patients of how often the best class is right, beyond what its probability says, is "
        f"{inflation:.1f} times that of independent cells. A perfectly calibrated ensemble with as many patients that "
        f"differ as much would have an expected calibration error of {mean:.3f} (90 % of drawings between {low:.3f} "
        f"and {high:.3f}).",
    ]


if __name__ == "__main__":
    main()
