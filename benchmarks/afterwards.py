"""What can still be gained when training is over: other heads, other weights of the members, neighbours as a voice.

    python benchmarks/afterwards.py RUN DATASET --work FOLDER

RUN was trained on DATASET, with models.refit_head=false. Everything is scored on held-out images, by members that never
saw their patient; whatever is chosen (weights of members, of neighbours) is chosen on the images of the other folds.
Features of all images are kept in --work. Writes benchmarks/afterwards.md.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import f1_score

import nonet
from nonet.calibrate.calibration import softmax
from nonet.data.prepare import prepare_images
from nonet.evaluate.bootstrap import bootstrap_scores, confusions_by_unit, percentile_interval
from nonet.evaluate.metrics import balanced_accuracy_score, macro_f1_score
from nonet.evaluate.oof import ENSEMBLE
from nonet.progress import progress
from nonet.runs import written_whole
from nonet.train.features import features_of
from nonet.train.refit import C, fit_linear_head

HERE = Path(__file__).parent
VOICES = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
PENALTIES = (C, C / 10, 10 * C)
NUM_NEIGHBOURS = 5
NUM_BAGS, NUM_ROUNDS = 20, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder for features")
    parser.add_argument("--out", type=Path, default=HERE / "afterwards.md")
    arguments = parser.parse_args()
    run, dataset = nonet.Run(arguments.run), nonet.Dataset.open(arguments.dataset)
    ensemble = nonet.load(run, accelerator="cpu")
    if ensemble.recipe.models.refit_head:
        parser.error(f"the heads of {run} are refitted already: train with --set models.refit_head=false")
    folds = pd.read_csv(run.folds, dtype={"image_id": str})
    table = folds.merge(pd.read_parquet(run.manifest), on="image_id", validate="one_to_one")
    extract(ensemble, dataset, table, arguments.work)

    held_out = table[table["fold"].notna()].reset_index(drop=True)
    true = held_out["label"].map(ensemble.classes.index).to_numpy()
    fold = held_out["fold"].to_numpy()
    units = held_out["patient"].where(held_out["patient"].notna(), held_out["image_id"]).to_numpy()
    candidates = by_architecture_and_views(run, held_out, ensemble.classes)
    heads = {name: other_heads(ensemble, table, arguments.work, name) for name in HEADS}
    with_views = sum(value for (_, views), value in candidates.items() if views == "dihedral")
    plain = sum(value for (_, views), value in candidates.items() if views == "none")
    methods = {
        "mean of the members, eight views": with_views,
        "mean of the members, no views": plain,
        "greedy selection of networks and views": selected(candidates, true, fold, units),
        **{f"refitted heads (C = {c:g}) instead, no views": heads[f"refitted, {c:g}"] for c in PENALTIES},
        "refitted heads as a voice": with_voice(with_views, heads[f"refitted, {C:g}"], true, fold),
        f"{NUM_NEIGHBOURS} nearest neighbours a class instead, no views": heads["neighbours"],
        "neighbours as a voice": with_voice(with_views, heads["neighbours"], true, fold),
    }
    page = report(methods, true, units, len(ensemble.classes), ensemble)
    arguments.out.write_text(page, encoding="utf-8")
    print(page)


def extract(ensemble, dataset, table: pd.DataFrame, work: Path) -> None:
    """Write every member's features of all untouched images, float32 (n, f), one file a member."""
    work.mkdir(parents=True, exist_ok=True)
    left = [member for member in ensemble.members if not _file(work, member).exists()]
    images = prepare_images(
        [dataset.path_of(image_id) for image_id in table["image_id"]],
        table["sha256"].tolist(),
        crops=sorted({member.crop for member in left}),
        denoise=ensemble.recipe.denoise,
        cache_dir=dataset.folder / "cache",
    )
    for member in progress(left, description="features", unit="members"):
        rows = np.arange(len(table))
        features = features_of(member.network, images[member.crop], rows, device=torch.device("cpu"))
        with written_whole(_file(work, member)) as path:
            np.save(path, features)


def _file(work: Path, member) -> Path:
    return work / f"{member.name.replace('/', '-')}.npy"


def by_architecture_and_views(run, held_out: pd.DataFrame, classes: list[str]) -> dict[tuple[str, str], np.ndarray]:
    """Return the held-out logits (n, classes) of each network, with each set of views."""
    table = pd.read_parquet(run.oof)
    table = table[table["architecture"] != ENSEMBLE]
    columns = [f"logit_{code}" for code in classes]
    return {
        key: part.set_index("image_id").loc[held_out["image_id"], columns].to_numpy(dtype=np.float64)
        for key, part in table.groupby(["architecture", "view_set"])
    }


def refitted(bank: np.ndarray, labels: np.ndarray, asked: np.ndarray, num_classes: int, *, c: float) -> np.ndarray:
    """Logits of the heads that models.refit_head gives."""
    weight, bias = fit_linear_head(bank, labels, num_classes, c=c)
    return asked @ weight.T + bias


def neighbours(bank: np.ndarray, labels: np.ndarray, asked: np.ndarray, num_classes: int) -> np.ndarray:
    """Mean cosine similarity to the nearest images of each class, so that rare classes speak as loud as common ones."""
    bank, asked = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (bank, asked))
    similarity = asked @ bank.T
    scores = np.full((len(asked), num_classes), -1.0)
    for code in np.unique(labels):
        of_class = np.sort(similarity[:, labels == code], axis=1)
        scores[:, code] = of_class[:, -NUM_NEIGHBOURS:].mean(axis=1)
    return 20 * scores  # in steps of a logit or so; how much they count is chosen


HEADS: dict[str, Callable] = {f"refitted, {c:g}": partial(refitted, c=c) for c in PENALTIES} | {
    "neighbours": neighbours
}


def other_heads(ensemble, table: pd.DataFrame, work: Path, name: str) -> np.ndarray:
    """Return a head's answers, summed over the networks, for the held-out images (n, classes)."""
    labels = table["label"].map(ensemble.classes.index).to_numpy()
    total = np.zeros((len(table), len(ensemble.classes)))
    for member in progress(ensemble.members, description=name, unit="members"):
        held_out = (table["fold"] == int(member.name.rpartition("-")[2])).to_numpy()
        features = np.load(_file(work, member))
        total[held_out] += HEADS[name](features[~held_out], labels[~held_out], features[held_out], total.shape[1])
    return total[table["fold"].notna().to_numpy()]


def with_voice(logits: np.ndarray, voice: np.ndarray, true: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Add a voice, as loud as was best on the other folds. (n, classes)."""
    mixed = np.empty_like(logits)
    first, second = (np.log(softmax(x)) for x in (logits, voice))
    for k in np.unique(fold):
        others = fold != k
        best = max(VOICES, key=lambda weight: _macro_f1(true[others], (first + weight * second)[others]))
        mixed[~others] = (first + best * second)[~others]
    return mixed


def selected(candidates: dict, true: np.ndarray, fold: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Return logits weighted by greedy selection with replacement (Caruana et al. 2004), bagged over patients."""
    stack = np.stack(list(candidates.values()))
    rng, mixed = np.random.default_rng(0), np.empty(stack.shape[1:])
    for k in np.unique(fold):
        others = np.flatnonzero(fold != k)
        patients = np.unique(units[others])
        counts = np.zeros(len(stack))
        for _ in range(NUM_BAGS):
            bag = rng.choice(patients, len(patients) // 2, replace=False)
            rows = others[np.isin(units[others], bag)]
            total = np.zeros((len(rows), stack.shape[2]))
            for _ in range(NUM_ROUNDS):
                best = int(np.argmax([_macro_f1(true[rows], total + one[rows]) for one in stack]))
                total += stack[best, rows]
                counts[best] += 1
        mixed[fold == k] = np.tensordot(counts / counts.sum(), stack[:, fold == k], axes=1)
    return mixed


def _macro_f1(true: np.ndarray, scores: np.ndarray) -> float:
    return f1_score(true, scores.argmax(1), labels=np.unique(true), average="macro", zero_division=0)


def report(methods: dict[str, np.ndarray], true: np.ndarray, units: np.ndarray, num_classes: int, ensemble) -> str:
    """Return the page: each way's scores, and its difference to the first."""
    confusions = confusions_by_unit(true, np.stack([m.argmax(1) for m in methods.values()]), units, num_classes)
    resampled = bootstrap_scores(confusions, {"f1": macro_f1_score})["f1"]
    f1, recall = macro_f1_score(confusions.total()), balanced_accuracy_score(confusions.total())
    lines = [
        "# After training",
        "",
        f"Made by `benchmarks/afterwards.py` on {os.cpu_count()} CPU cores: {len(ensemble.members)} members of recipe "
        f"`{ensemble.recipe.name}` with the heads that they were trained with, {len(true):,} held-out images of "
        f"{len(np.unique(units))} patients. What is chosen is chosen on other folds than it is scored on. In brackets, "
        "95 % intervals by bootstrap over patients; differences, to the first line, are paired.",
        "",
        "| | macro-F1 | difference | balanced accuracy |",
        "|---|---|---|---|",
    ]
    for k, name in enumerate(methods):
        low, high = percentile_interval(resampled[:, k])
        lower, upper = percentile_interval(resampled[:, k] - resampled[:, 0])
        difference = f"{f1[k] - f1[0]:+.3f} ({lower:+.3f} to {upper:+.3f})" if k else ""
        lines.append(f"| {name} | {f1[k]:.3f} ({low:.3f}–{high:.3f}) | {difference} | {recall[k]:.3f} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
