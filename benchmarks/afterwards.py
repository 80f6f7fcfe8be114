"""What can be gained after training: other heads, other member weights, nearest neighbours as a second vote.

    python benchmarks/afterwards.py DATASET RUN [RUN ...] --work FOLDER

Each RUN was trained on DATASET with models.refit_head=false. Everything is scored on held-out images, by members that
never saw their patient; weights of members and of neighbours are chosen on the other folds. Features are cached in
--work, in one folder per run. Writes benchmarks/afterwards.md. About two minutes per member on two cores, nearly all
of it for features.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from cache_key import digest
from scipy.special import softmax
from sklearn.metrics import f1_score

import nonet
from nonet.artifacts.oof import read_oof
from nonet.artifacts.run import written_whole
from nonet.data.preprocess.cache import prepare_images
from nonet.evaluation.bootstrap import DEFAULT_BOOTSTRAP, confusions_by_group
from nonet.evaluation.metrics import balanced_accuracy_score, macro_f1_score
from nonet.evaluation.oof import ENSEMBLE
from nonet.models.tensors import see, to_device
from nonet.models.views import batches, get_views, no_views
from nonet.progress import progress
from nonet.training.refit import C, fit_linear_head

HERE = Path(__file__).parent
VOTE_WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
PENALTIES = (C, C / 10, 10 * C)
NUM_NEIGHBOURS = 5
NUM_BAGS, NUM_ROUNDS = 20, 10
HEADER = """# After training

Made by `benchmarks/afterwards.py` on {} CPU cores. Weights are chosen on other folds than those scored. C is the
inverse penalty of the refitted heads; the first of its three rows uses the value of `models.refit_head`. In brackets,
95 % intervals by bootstrap over patients; differences are paired and relative to the first row.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--work", type=Path, required=True, help="folder for cached features")
    parser.add_argument("--out", type=Path, default=HERE / "afterwards.md")
    arguments = parser.parse_args()
    dataset = nonet.Dataset.open(arguments.dataset)
    ensembles = [nonet.load(folder, accelerator="cpu", backend="torch") for folder in arguments.runs]
    for ensemble in ensembles:
        if ensemble.recipe.models.refit_head:
            parser.error(f"the heads of {ensemble.run} are refitted: train with --set models.refit_head=false")
    parts = []
    for ensemble in ensembles:
        parts.append(measured(ensemble, dataset, arguments.work))
        arguments.out.write_text("\n".join([HEADER.format(os.cpu_count()), *parts]), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def measured(ensemble, dataset, work: Path) -> str:
    """Return the section of the page on one run."""
    run = ensemble.run
    folds = pd.read_csv(run.folds, dtype={"image_id": str})
    table = folds.merge(pd.read_parquet(run.manifest), on="image_id", validate="one_to_one")
    images = "".join(table["sha256"])
    work = work / f"{run.folder.name}-{digest(images, *(member.member.weights for member in ensemble.members))}"
    extract(ensemble, dataset, table, work)
    held_out = table[table["fold"].notna()].reset_index(drop=True)
    true = held_out["label"].map(ensemble.classes.index).to_numpy()
    fold = held_out["fold"].to_numpy()
    groups = held_out["patient"].where(held_out["patient"].notna(), held_out["image_id"]).to_numpy()
    candidates = by_architecture_and_views(run, held_out, ensemble.classes)
    with_views = sum(value for (_, views), value in candidates.items() if views == "dihedral")
    refit = {c: other_heads(ensemble, table, work, partial(refitted, c=c)) for c in PENALTIES}
    nearest = other_heads(ensemble, table, work, neighbours, views=False)
    methods = {
        "mean of the members, eight views": with_views,
        "mean of the members, no views": sum(value for (_, views), value in candidates.items() if views == "none"),
        "greedy selection of networks and views": selected(candidates, true, fold, groups),
        **{f"heads refitted, eight views, C = {c:g}": refit[c] for c in PENALTIES},
        "heads refitted, no views": other_heads(ensemble, table, work, partial(refitted, c=C), views=False),
        "refitted heads as a second vote": with_second_vote(with_views, refit[C], true, fold),
        f"{NUM_NEIGHBOURS} nearest neighbours per class instead of heads, no views": nearest,
        "neighbours as a second vote": with_second_vote(with_views, nearest, true, fold),
    }
    return section(methods, true, groups, len(ensemble.classes), ensemble)


def network_of_member(member) -> torch.nn.Module:
    return member.network.module


def extract(ensemble, dataset, table: pd.DataFrame, work: Path, network_of: Callable = network_of_member) -> None:
    """Write each member's features: of all images without views, and of its held-out images averaged over the views."""
    work.mkdir(parents=True, exist_ok=True)
    missing = [
        member for member in ensemble.members if not (_file(work, member).exists() and _views(work, member).exists())
    ]
    images = prepare_images(
        [dataset.image_path(image_id) for image_id in table["image_id"]],
        table["sha256"].tolist(),
        crops=sorted({member.crop for member in missing}),
        denoise=ensemble.recipe.denoise,
        cache_dir=dataset.folder / "cache",
    )
    views = get_views(ensemble.recipe.predict)
    for member in progress(missing, description="features", unit="members"):
        files = {
            _file(work, member): (np.arange(len(table)), no_views()),
            _views(work, member): (np.flatnonzero(held_out_of(member, table)), views),
        }
        for file, (rows, of_image) in files.items():
            if not file.exists():
                features = features_over_views(network_of(member), images[member.crop], rows, of_image)
                with written_whole(file) as path:
                    np.save(path, features)


@torch.inference_mode()
def features_over_views(network, images, rows: np.ndarray, views: list) -> np.ndarray:
    """Return features (n, f), averaged over views. A linear head maps them to its logits averaged over views."""
    parts = []
    for batch in batches(rows, 128):
        shown = to_device(images[batch], torch.device("cpu"))
        parts.append((sum(network.features(see(shown, view)).float() for view in views) / len(views)).numpy())
    return np.concatenate(parts)


def held_out_of(member, table: pd.DataFrame) -> np.ndarray:
    return (table["fold"] == int(member.name.rpartition("-")[2])).to_numpy()


def _file(work: Path, member) -> Path:
    return work / f"{member.name.replace('/', '-')}.npy"


def _views(work: Path, member) -> Path:
    return work / f"{member.name.replace('/', '-')}-views.npy"


def by_architecture_and_views(run, held_out: pd.DataFrame, classes: list[str]) -> dict[tuple[str, str], np.ndarray]:
    """Return the held-out logits (n, classes) of each architecture and set of views."""
    table = read_oof(run.oof)
    table = table[table["architecture"] != ENSEMBLE]
    columns = [f"logit_{code}" for code in classes]
    return {
        key: part.set_index("image_id").loc[held_out["image_id"], columns].to_numpy(dtype=np.float64)
        for key, part in table.groupby(["architecture", "view_set"])
    }


def refitted(bank: np.ndarray, labels: np.ndarray, queries: np.ndarray, num_classes: int, *, c: float) -> np.ndarray:
    """Return logits (n, classes) of the heads that models.refit_head fits."""
    weight, bias = fit_linear_head(bank, labels, num_classes, c=c)
    return queries @ weight.T + bias


def neighbours(bank: np.ndarray, labels: np.ndarray, queries: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the mean cosine similarity (n, classes) to the nearest images of each class, however rare."""
    bank, queries = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (bank, queries))
    similarity = queries @ bank.T
    scores = np.full((len(queries), num_classes), -1.0)
    for code in np.unique(labels):
        of_class = np.sort(similarity[:, labels == code], axis=1)
        scores[:, code] = of_class[:, -NUM_NEIGHBOURS:].mean(axis=1)
    return 20 * scores  # roughly on the scale of logits; the weight is chosen


def other_heads(ensemble, table: pd.DataFrame, work: Path, head: Callable, *, views: bool = True) -> np.ndarray:
    """Return a head's outputs for the held-out images (n, classes), summed over the networks."""
    labels = table["label"].map(ensemble.classes.index).to_numpy()
    total = np.zeros((len(table), len(ensemble.classes)))
    for member in ensemble.members:
        held_out, features = held_out_of(member, table), np.load(_file(work, member))
        queries = np.load(_views(work, member)) if views else features[held_out]
        total[held_out] += head(features[~held_out], labels[~held_out], queries, total.shape[1])
    return total[table["fold"].notna().to_numpy()]


def with_second_vote(logits: np.ndarray, vote: np.ndarray, true: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Add a second vote (n, classes) with the weight that is best on the other folds."""
    mixed = np.empty_like(logits)
    first, second = (np.log(softmax(x, axis=-1)) for x in (logits, vote))
    for k in np.unique(fold):
        others = fold != k
        best = max(VOTE_WEIGHTS, key=lambda weight: _macro_f1(true[others], (first + weight * second)[others]))
        mixed[~others] = (first + best * second)[~others]
    return mixed


def selected(candidates: dict, true: np.ndarray, fold: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return logits weighted by greedy selection with replacement (Caruana et al. 2004), bagged over patients."""
    stack = np.stack(list(candidates.values()))
    rng, mixed = np.random.default_rng(0), np.empty(stack.shape[1:])
    for k in np.unique(fold):
        others = np.flatnonzero(fold != k)
        patients = np.unique(groups[others])
        counts = np.zeros(len(stack))
        for _ in range(NUM_BAGS):
            bag = rng.choice(patients, len(patients) // 2, replace=False)
            rows = others[np.isin(groups[others], bag)]
            total = np.zeros((len(rows), stack.shape[2]))
            for _ in range(NUM_ROUNDS):
                best = int(np.argmax([_macro_f1(true[rows], total + one[rows]) for one in stack]))
                total += stack[best, rows]
                counts[best] += 1
        mixed[fold == k] = np.tensordot(counts / counts.sum(), stack[:, fold == k], axes=1)
    return mixed


def _macro_f1(true: np.ndarray, scores: np.ndarray) -> float:
    return f1_score(true, scores.argmax(1), labels=np.unique(true), average="macro", zero_division=0)


def section(methods: dict[str, np.ndarray], true: np.ndarray, groups: np.ndarray, num_classes: int, ensemble) -> str:
    """Return a run's section of the page: the scores of each method, and its difference from the first."""
    confusions = confusions_by_group(true, np.stack([m.argmax(1) for m in methods.values()]), groups, num_classes)
    resampled = DEFAULT_BOOTSTRAP.scores(confusions, {"f1": macro_f1_score})["f1"]
    f1, recall = macro_f1_score(confusions.total()), balanced_accuracy_score(confusions.total())
    lines = [
        f"## {len(ensemble.members)} members of recipe `{ensemble.recipe.name}` with their trained heads",
        "",
        f"{len(true):,} held-out images of {len(np.unique(groups))} patients. sampling.sampler = "
        f'"{ensemble.recipe.sampling.sampler}", loss.name = "{ensemble.recipe.loss.name}".',
        "",
        "| | macro-F1 | difference | balanced accuracy |",
        "|---|---|---|---|",
    ]
    for k, name in enumerate(methods):
        low, high = DEFAULT_BOOTSTRAP.interval(resampled[:, k])
        lower, upper = DEFAULT_BOOTSTRAP.interval(resampled[:, k] - resampled[:, 0])
        difference = f"{f1[k] - f1[0]:+.3f} ({lower:+.3f} to {upper:+.3f})" if k else ""
        lines.append(f"| {name} | {f1[k]:.3f} ({low:.3f}–{high:.3f}) | {difference} | {recall[k]:.3f} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
