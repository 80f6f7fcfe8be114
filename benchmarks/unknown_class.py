"""Is a class of unknown cells in a head on the features better than a distance from what is known?

    python benchmarks/unknown_class.py MANIFEST.csv --run RUN --work FOLDER [--near PMO] [--evaluated jhu]

RUN was trained on the rows of MANIFEST.csv (path,label,source,patient,sha256) whose labels are its classes, of which
those of the source --evaluated are scored; all other rows are unknown cell types. A head is fitted to each member's
features of its training images and of unknown cells that the member may know: those of other sources, those of patients
that it was trained on, and images without a cell that are made from them. What it says of an image is the log-odds of
unknown, averaged over the members of the fold that holds out its patient. Unknown cells of unknown patients are divided
into as many parts as there are folds, so that none is scored by a head that was fitted to it. Features are cached in
--work, as by rejection.py. Writes benchmarks/unknown_class.md.
"""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import rejection
from rejection import auroc, interval, is_counted

import nonet
from nonet.artifacts.run import Run
from nonet.calibration.ood import ODDS_WEIGHT, fit_member_score
from nonet.calibration.unknown_head import UnknownHead
from nonet.evaluation.bootstrap import DEFAULT_BOOTSTRAP, confusions_by_group
from nonet.evaluation.metrics import macro_f1_score
from nonet.progress import progress
from nonet.training.refit import fit_linear_head

HERE = Path(__file__).parent
FALSE_ALARM = 0.02
DISTANCE = "distance alone"
WEIGHTS = (1.0, 2.0, 3.0, 5.0, 8.0)
ELSEWHERE, OTHERS, DRAWN = "other hospitals", "other hospitals and patients", "the same, and images without a cell"


@dataclass(frozen=True)
class Cells:
    """All images, and each member's features of them.

    Attributes
    ----------
    table : DataFrame
        From `rejection.list_images`.
    fold : ndarray of float, shape (n,)
        In which an image is held out, or, of unknown cells, not learned from; NaN of images only trained on.
    files : dict of str to Path
        Member → its features, from `rejection.extract`.
    classes : list of str
    """

    table: pd.DataFrame
    fold: np.ndarray
    files: dict[str, Path]
    classes: list[str]

    @property
    def known(self) -> np.ndarray:
        return self.table["known"].to_numpy()

    @property
    def scored(self) -> np.ndarray:
        """Known images that are held out in some fold."""
        return self.known & ~np.isnan(self.fold)

    @property
    def number(self) -> np.ndarray:
        """Class numbers, int (n,); -1 of unknown cells."""
        return self.table["label"].map({code: k for k, code in enumerate(self.classes)}).fillna(-1).to_numpy(dtype=int)

    @property
    def folds(self) -> np.ndarray:
        return np.unique(self.fold[self.scored])

    def members(self, k: float) -> list[np.ndarray]:
        """Return the features, float32 (n, f), of each member of a fold."""
        found = []
        for name, file in self.files.items():
            if name.endswith(f"/fold-{k:g}"):
                with np.load(file) as cached:
                    found.append(cached["features"].astype(np.float32))
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for prepared images and features")
    parser.add_argument("--evaluated", default="jhu", help="source whose cells are scored")
    parser.add_argument("--near", nargs="*", default=[], help="unknown labels close to a known class: left out")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=HERE / "unknown_class.md")
    arguments = parser.parse_args()
    ensemble = nonet.load(arguments.run, accelerator="cpu", backend="torch")
    table = rejection.list_images(arguments.manifest, Run(arguments.run), ensemble.classes)
    rejection.extract(ensemble, table, arguments.manifest.parent, arguments.work)
    files = rejection.features_of_members(ensemble, table, arguments.work)
    cells = Cells(table, divide(table), files, ensemble.classes)
    title = f"{len(ensemble.members)} members of recipe `{ensemble.recipe.name}`"
    arguments.out.write_text(report(cells, title, arguments), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def divide(table: pd.DataFrame) -> np.ndarray:
    """Return each image's fold, float (n,); unknown cells of unknown patients are divided at random."""
    fold = table["fold"].to_numpy(dtype=float, copy=True)
    alone = ~table["known"].to_numpy() & np.isnan(fold)
    folds = np.unique(fold[~np.isnan(fold)])
    fold[alone] = np.random.default_rng(0).choice(folds, size=alone.sum())
    return fold


def distances(cells: Cells) -> np.ndarray:
    """Return the score without a class, float (n,), of all images with a fold: the mean of the members' scores."""
    score = np.full(len(cells.table), np.nan)
    for k in cells.folds:
        rows, train, held_out = cells.fold == k, cells.known & (cells.fold != k), cells.known & (cells.fold == k)
        members = cells.members(k)
        score[rows] = np.mean([fit_member_score(x[train], x[held_out]).score(x[rows]) for x in members], axis=0)
    return score


def log_odds(cells: Cells, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit heads with one more class, of the unknown cells `seen`, bool (n,).

    Returns
    -------
    score : ndarray of float, shape (n,)
        Log-odds of unknown against all classes, standardised by each member's held-out known cells.
    logits : ndarray of float, shape (n, classes)
        Of the classes.
    """
    number, num_classes = cells.number, len(cells.classes)
    score, logits = np.full(len(number), np.nan), np.full((len(number), num_classes), np.nan)
    labels = np.where(cells.known, number, num_classes)
    for k in cells.folds:
        rows, train = cells.fold == k, (cells.known | seen) & (cells.fold != k)
        held_out, odds, found = cells.scored[rows], [], []
        for features in cells.members(k):
            head = UnknownHead(*fit_linear_head(features[train], labels[train], num_classes + 1))
            odds.append(head.log_odds(features[rows]))
            found.append(features[rows] @ head.weight.T + head.bias)
        score[rows] = np.mean([(one - one[held_out].mean()) / one[held_out].std() for one in odds], axis=0)
        logits[rows] = np.mean(found, axis=0)[:, :-1]
    return score, logits


def with_chosen_weight(cells: Cells, odds: np.ndarray, distance: np.ndarray, counted: np.ndarray):
    """Add log-odds and distance with the weight that is best on the other folds; return the weights as well."""
    out, chosen, judged = np.full(len(odds), np.nan), [], cells.scored | counted
    for k in cells.folds:
        others = judged & (cells.fold != k)
        best = max(WEIGHTS, key=lambda weight: auroc(counted[others], (distance + weight * odds)[others]))
        score = distance + best * odds
        # Scores of all folds are compared with each other, so another weight must not give them another scale.
        out[cells.fold == k] = score[cells.fold == k] / score[cells.scored & (cells.fold != k)].std()
        chosen.append(best)
    return out, chosen


def rejected(cells: Cells, score: np.ndarray) -> np.ndarray:
    """Return what is rejected, bool (n,), at a threshold from the known cells of the other folds."""
    out = np.zeros(len(score), dtype=bool)
    for k in cells.folds:
        own = cells.fold == k
        out[own] = score[own] > np.quantile(score[cells.scored & ~own], 1 - FALSE_ALARM)
    return out


def seen_cells(cells: Cells, evaluated: str) -> dict[str, np.ndarray]:
    """Return which unknown cells a head is fitted to, by the name of the way."""
    table, unknown = cells.table, ~cells.known
    photograph, elsewhere = (table["made"] == "").to_numpy(), (table["source"] != evaluated).to_numpy()
    return {ELSEWHERE: unknown & photograph & elsewhere, OTHERS: unknown & photograph, DRAWN: unknown}


def report(cells: Cells, title: str, arguments) -> str:
    """Return the page."""
    counted, known = is_counted(cells.table, arguments.near), cells.scored
    distance = distances(cells)
    scores, logits = {DISTANCE: distance}, {}
    for name, seen in progress(seen_cells(cells, arguments.evaluated).items(), description="heads", unit="ways"):
        odds, logits[name] = log_odds(cells, seen)
        scores[f"class alone: {name}"] = odds
        scores[f"distance and class: {name}"] = distance + ODDS_WEIGHT * odds
    chosen_score, chosen = with_chosen_weight(cells, odds, distance, counted)
    scores["the last, with the weight that is best on the other folds"] = chosen_score
    areas = ", ".join(
        f"{auroc(counted[known | counted], (distance + weight * odds)[known | counted]):.3f} at {weight:g}"
        for weight in WEIGHTS
    )
    lines = [
        "# A class of unknown cells",
        "",
        f"Made by `benchmarks/unknown_class.py` on {os.cpu_count()} CPU cores: {title}, {known.sum():,} held-out known "
        f"cells of {cells.table.loc[known, 'patient'].nunique()} patients, scored by members, and by heads on their "
        f"features, that never saw their patient; without views. AUROC and shares found are of the "
        f"{counted.sum()} unknown cells of known patients of {arguments.evaluated}"
        f"{', without ' + ', '.join(arguments.near) if arguments.near else ''}. *found*: rejected, at a threshold for "
        f"{FALSE_ALARM:.0%} false alarms from the known cells of the other folds. In brackets, 95 % intervals by "
        f"{arguments.resamples:,} bootstrap resamples over patients; differences are paired.",
        "",
        *_scores(cells, scores, counted, arguments.resamples),
        "",
        f"*class*: log-odds by a head with one more class, fitted to unknown cells of {ELSEWHERE}; also of patients of "
        "the same hospital that the member was trained on; also to corners of fields, plain colours and noise. "
        f"*distance and class*: log-odds with a weight of {ODDS_WEIGHT:g} beside the two parts of the distance, all "
        f"standardised by known cells held out; fitted to other hospitals and patients, it is what nonet uses where a "
        f"dataset has unknown types. The weight hardly matters: AUROC of the last way is {areas}; chosen on the other "
        "folds it is "
        f"{', '.join(f'{weight:g}' for weight in chosen)}.",
        "",
        "## By type",
        "",
        "AUROC against all known cells, and the share found. Unknown cells of the other hospital may be of the same "
        "people as those that heads were fitted to, so their figures are optimistic.",
        "",
        *_by_type(cells, scores),
        "",
        "## Known cells that are rejected",
        "",
        *_by_class(cells, scores),
        "",
        "## A type that no head was fitted to",
        "",
        f"One type at a time is left out of what heads are fitted to ({DRAWN}): AUROC, and the share found.",
        "",
        *_left_out(cells, distance, arguments),
        "",
        "## Known cells' classes",
        "",
        "By the logits that such heads give the classes. nonet does not use these: the head that names classes is "
        "fitted to known cells alone, so that unknown cells change no name.",
        "",
        *_classes(cells, logits),
        "",
    ]
    return "\n".join(lines)


def groups(cells: Cells) -> np.ndarray:
    """Return what the bootstrap draws: patients, or images whose patient is unknown."""
    names = cells.table["patient"].to_numpy(dtype=object)
    return np.array([f"image {i}" if pd.isna(name) else name for i, name in enumerate(names)], dtype=str)


def _scores(cells: Cells, scores, counted, num_resamples) -> list[str]:
    known, group = cells.scored, groups(cells)
    judged, before = known | counted, rejected(cells, scores[DISTANCE])

    def area(score):
        return lambda weight: auroc(counted[judged], score[judged], weight[judged])

    def share(flags, which):
        return lambda weight: float(np.average(flags[which], weights=weight[which]))

    def minus(one, other):
        return lambda weight: one(weight) - other(weight)

    def with_interval(statistic, form: str) -> str:
        low, high = interval(statistic, group, num_resamples)
        return f"{statistic(np.ones(len(group))):{form}} ({low:{form}} to {high:{form}})"

    table = [["", "AUROC", "minus the first row's", "found", "minus the first row's", "known cells rejected"]]
    for name, score in scores.items():
        own, gains = rejected(cells, score), ["", ""]
        if name != DISTANCE:
            gains = [
                with_interval(minus(area(score), area(scores[DISTANCE])), "+.3f"),
                with_interval(minus(share(own, counted), share(before, counted)), "+.2f"),
            ]
        found, alarms = with_interval(share(own, counted), ".2f"), with_interval(share(own, known), ".3f")
        table.append([name, with_interval(area(score), ".3f"), gains[0], found, gains[1], alarms])
    return rejection._markdown(table)


def _types(cells: Cells) -> dict[str, np.ndarray]:
    unknown = cells.table[~cells.known]
    return {
        f"{label} ({source})": part.index.to_numpy() for (label, source), part in unknown.groupby(["label", "source"])
    }


def _area_and_share(cells: Cells, score: np.ndarray, rows: np.ndarray) -> str:
    both = np.concatenate([np.flatnonzero(cells.scored), rows])
    area = auroc(~cells.known[both], score[both])
    return f"{area:.3f}, {rejected(cells, score)[rows].mean():.0%}"


def _by_type(cells: Cells, scores) -> list[str]:
    types = _types(cells)
    table = [["", *(f"{name}, {len(rows)}" for name, rows in types.items())]]
    for name, score in scores.items():
        table.append([name, *(_area_and_share(cells, score, rows) for rows in types.values())])
    return rejection._markdown(table)


def _by_class(cells: Cells, scores) -> list[str]:
    label = cells.table["label"].to_numpy()
    table = [["", *(f"{code}, {(cells.scored & (label == code)).sum()}" for code in cells.classes)]]
    for name, score in scores.items():
        own = rejected(cells, score)
        table.append([name, *(f"{own[cells.scored & (label == code)].mean():.1%}" for code in cells.classes)])
    return rejection._markdown(table)


def _left_out(cells: Cells, distance: np.ndarray, arguments) -> list[str]:
    label = cells.table["label"].to_numpy()
    table = [["type", DISTANCE, "class alone", "distance and class"]]
    for kind in progress(sorted(set(label[~cells.known])), description="types left out", unit="types"):
        own = ~cells.known & (label == kind)
        odds, _ = log_odds(cells, seen_cells(cells, arguments.evaluated)[DRAWN] & ~own)
        ways = (distance, odds, distance + ODDS_WEIGHT * odds)
        table.append([kind, *(_area_and_share(cells, one, np.flatnonzero(own)) for one in ways)])
    return rejection._markdown(table)


def _classes(cells: Cells, logits: dict[str, np.ndarray]) -> list[str]:
    """Return macro-F1 of the known cells by the heads with one more class, and by one without, paired."""
    known, none = cells.scored, np.zeros(len(cells.table), dtype=bool)
    ways = {"head without it": _without(cells, none)} | {f"head with it: {name}": one for name, one in logits.items()}
    predicted = np.stack([one[known].argmax(1) for one in ways.values()])
    confusions = confusions_by_group(cells.number[known], predicted, groups(cells)[known], len(cells.classes))
    f1, resampled = (
        macro_f1_score(confusions.total()),
        DEFAULT_BOOTSTRAP.scores(confusions, {"f1": macro_f1_score})["f1"],
    )
    table = [["", "macro-F1", "difference"]]
    for k, name in enumerate(ways):
        low, high = DEFAULT_BOOTSTRAP.interval(resampled[:, k] - resampled[:, 0])
        table.append([name, f"{f1[k]:.3f}", f"{f1[k] - f1[0]:+.3f} ({low:+.3f} to {high:+.3f})" if k else ""])
    return rejection._markdown(table)


def _without(cells: Cells, none: np.ndarray) -> np.ndarray:
    """Return the logits, float (n, classes), of heads fitted to known cells alone."""
    logits = np.full((len(none), len(cells.classes)), np.nan)
    for k in cells.folds:
        rows, train = cells.fold == k, cells.known & (cells.fold != k)
        heads = [(x, *fit_linear_head(x[train], cells.number[train], logits.shape[1])) for x in cells.members(k)]
        logits[rows] = np.mean([x[rows] @ weight.T + bias for x, weight, bias in heads], axis=0)
    return logits


if __name__ == "__main__":
    main()
