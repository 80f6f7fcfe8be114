"""Do the intervals of `nonet count` cover the true shares of a case?

    python benchmarks/differential.py RUN --work FOLDER

RUN is trained on drawn cells, for example by `make demo`. First on simulated cases: studies and cases are drawn from
the run's own confusions and how much its patients differ in them, so that all assumptions hold. Then on drawn cells of
patients that the run has never seen: they are predicted once, and cases of known composition are put together from the
cells of one patient each. Writes benchmarks/differential.md. Some ten minutes on two cores; predictions are kept.
"""

import argparse
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from machine import machine_in_words

import nonet
from nonet.artifacts.confusions import REJECTED, KnownConfusions
from nonet.artifacts.run import Run
from nonet.calibration.labels import DOUBTFUL
from nonet.cells import CLASSES, UNIDENTIFIED
from nonet.differential import correction
from nonet.differential.intervals import clopper_pearson

HERE = Path(__file__).parent
#: Shares of the true classes by which coverage is reported.
BINS = {"below 0.5 %": (0.0, 0.005), "0.5 to 5 %": (0.005, 0.05), "above 5 %": (0.05, 1.01)}
#: How much the composition of cases varies: the precision of a Dirichlet distribution around that of training.
PRECISION = 8.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder for drawings and predictions")
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--cells", type=int, nargs="+", default=[100, 400], help="cells per case")
    parser.add_argument("--patients", type=int, default=40, help="drawn patients that the run has never seen")
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "differential.md")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    known = read_known(Run(arguments.run))
    rows = []
    for num_cells in arguments.cells:
        rng = np.random.default_rng(arguments.seed)
        rows += measure(simulated_cases(known, num_cells, arguments, rng), "simulated", num_cells, arguments, METHODS)
    cells = predict_new_cells(arguments)
    for num_cells in arguments.cells:
        rng = np.random.default_rng(arguments.seed)
        methods = {name: METHODS[name] for name in ("as counted", "corrected")}
        rows += measure(drawn_cases(cells, known, num_cells, arguments, rng), "drawn", num_cells, arguments, methods)
    arguments.out.write_text(report(pd.DataFrame(rows), known, arguments), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def read_known(run: Run) -> KnownConfusions:
    """Return the run's confusions without what is rejected, as a count is corrected by them."""
    classes = nonet.load(run).classes
    known = KnownConfusions.read(run.confusions, classes, [*classes, UNIDENTIFIED, REJECTED])
    return KnownConfusions(classes, known.outcomes[:-1], known.counts[:, :, :-1])


def simulated_cases(known: KnownConfusions, num_cells: int, arguments, rng: np.random.Generator):
    """Yield true shares, counts and the confusions of a study, both drawn anew for each case."""
    total = known.counts.sum(0)
    rates, precision = correction.confusion_rates(total), correction.concentration(known.counts)
    shares = total.sum(1) / total.sum()
    per_patient = int(known.counts.sum() / len(known.counts))
    for _ in range(arguments.cases):
        patients = correction.draw_case_rates(np.broadcast_to(rates, (len(known.counts), *rates.shape)), precision, rng)
        study = np.stack([draw_counts(rng.dirichlet(10 * shares), each, per_patient, rng) for each in patients])
        truth = rng.dirichlet(PRECISION * shares)
        own = correction.draw_case_rates(rates[None], precision, rng)[0]
        yield truth, draw_counts(truth, own, num_cells, rng).sum(0), study


def draw_counts(shares: np.ndarray, rates: np.ndarray, num_cells: int, rng: np.random.Generator) -> np.ndarray:
    """Return cells by class and outcome, (C, O)."""
    return np.stack([rng.multinomial(num, row) for num, row in zip(rng.multinomial(num_cells, shares), rates)])


def predict_new_cells(arguments) -> pd.DataFrame:
    """Return true class, patient and outcome of drawn cells of new patients, as nine networks call them."""
    drawn, out = arguments.work / "drawn", arguments.work / "predictions"
    num_images = dict.fromkeys(CLASSES, 10 * arguments.patients)
    if not (drawn / "truth.csv").exists():
        nonet.draw_dataset(drawn, num_images=num_images, num_patients=arguments.patients, seed=arguments.seed + 1000)
    table = nonet.predict(arguments.run, drawn / "images.csv", out=out, views="none").table()
    truth = pd.read_csv(drawn / "truth.csv").set_index("path").loc[table["image"]].reset_index()
    named = table["label"].where(table["reason"].isin(["", DOUBTFUL]))
    return pd.DataFrame({"true": truth["true_label"], "patient": truth["patient"], "outcome": named}).dropna()


def drawn_cases(cells: pd.DataFrame, known: KnownConfusions, num_cells: int, arguments, rng: np.random.Generator):
    """Yield true shares, counts and the run's confusions: a case is cells of one patient, drawn with replacement."""
    shares = known.counts.sum((0, 2)) / known.counts.sum()
    outcomes = pd.Index(known.outcomes)
    by_patient = [part for _, part in cells.groupby("patient")]
    for number in range(arguments.cases):
        part = by_patient[number % len(by_patient)]
        pools = {code: outcomes.get_indexer(pool["outcome"]) for code, pool in part.groupby("true")}
        has = np.array([code in pools for code in known.classes])
        truth = np.zeros(len(shares))
        truth[has] = rng.dirichlet(PRECISION * shares[has] / shares[has].sum())
        counts = np.zeros(len(outcomes), dtype=np.int64)
        for code, num in zip(known.classes, rng.multinomial(num_cells, truth)):
            if num:
                np.add.at(counts, rng.choice(pools[code], size=num), 1)
        yield truth, counts, known.counts


Interval = tuple[np.ndarray, np.ndarray, np.ndarray]


def as_counted(counts: np.ndarray, confusions: np.ndarray, num_resamples: int) -> Interval:
    """Return share, low and high of the cells with a class."""
    named = counts[: confusions.shape[1]]
    return named / max(named.sum(), 1), *clopper_pearson(named, named.sum())


def corrected(counts: np.ndarray, confusions: np.ndarray, num_resamples: int) -> Interval:
    """Return the shares as `nonet count` corrects them."""
    result = correction.correct_shares(counts, confusions, num_resamples=num_resamples)
    columns = [result.sums([k]) for k in range(len(result.shares))]
    share, low, high = np.array(columns).T
    return share, low, high


def pooled(counts: np.ndarray, confusions: np.ndarray, num_resamples: int) -> Interval:
    """Return what resampling patients and cells alone gives, as if each case were confused like the mean patient."""
    rng = np.random.default_rng(0)
    shares = correction.most_likely(counts[None], correction.confusion_rates(confusions.sum(0))[None])[0]
    drawn = rng.multinomial(counts.sum(), counts / counts.sum(), size=num_resamples)
    resamples = correction.most_likely(drawn, correction.resample_groups(confusions, num_resamples, rng))
    low, high = np.quantile(resamples, [0.025, 0.975], axis=0)
    return shares, low, high


METHODS: dict[str, Callable[[np.ndarray, np.ndarray, int], Interval]] = {
    "as counted": as_counted,
    "corrected, patients resampled only": pooled,
    "corrected": corrected,
}


def measure(cases, kind: str, num_cells: int, arguments, methods) -> list[dict]:
    """Return coverage, width and error of each method."""
    truths, results = [], {name: [] for name in methods}
    for truth, counts, confusions in cases:
        truths.append(truth)
        for name, method in methods.items():
            results[name].append(np.stack(method(counts, confusions, arguments.resamples)))
    truth = np.stack(truths)
    rows = []
    for name, values in results.items():
        share, low, high = np.moveaxis(np.stack(values), 1, 0)
        inside = (low <= truth) & (truth <= high)
        row = {"kind": kind, "cells": num_cells, "method": name, "all": inside.mean()}
        for words, (start, end) in BINS.items():
            row[words] = inside[(truth >= start) & (truth < end)].mean()
        large = truth >= BINS["above 5 %"][0]
        row |= {"width": (high - low)[large].mean(), "error": np.abs(share - truth).sum(1).mean() / 2}
        rows.append(row)
    return rows


def report(table: pd.DataFrame, known: KnownConfusions, arguments) -> str:
    """Return the page."""
    lines = [
        "# Do intervals of a count cover the truth?",
        "",
        f"Made by `benchmarks/differential.py` on {machine_in_words()}, with a run of {len(known.counts)} patients and "
        f"{known.counts.sum():,} held-out drawn cells of {len(known.classes)} classes; the precision of confusions "
        f"between its patients is {correction.concentration(known.counts):.1f} (the larger, the more alike). "
        f"{arguments.cases} cases per row. *Covered*: share of 95 % intervals that contain the true share, over all "
        "classes and by the size of the true share. *Width*: mean width of the intervals of shares above 5 %, in "
        "percentage points. *Misplaced*: cells in the wrong class of the differential, in per cent (half the sum of "
        "absolute differences).",
        "",
        "*Simulated*: studies and cases drawn from the run's confusions, so that all assumptions hold. *Drawn*: cells "
        f"of {arguments.patients} drawn patients that the run has never seen, as its nine networks call them without "
        "views; a case is cells of one patient.",
        "",
        f"| | cells | method | covered | {' | '.join(BINS)} | width | misplaced |",
        f"|---|---|---|---|{'---|' * len(BINS)}---|---|",
    ]
    for row in table.to_dict("records"):
        covered = " | ".join(f"{100 * row[name]:.1f} %" for name in ("all", *BINS))
        lines.append(
            f"| {row['kind']} | {row['cells']} | {row['method']} | {covered} | {100 * row['width']:.1f} | "
            f"{100 * row['error']:.1f} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
