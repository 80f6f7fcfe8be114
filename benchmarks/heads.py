"""Other heads on the networks of a run: features of several depths, and experts for each lineage.

    python benchmarks/heads.py DATASET RUN --work FOLDER

RUN was trained on DATASET. Heads are fitted to the features of each member's training images, as `models.refit_head`
does, and scored on its held-out images, averaged over the views and over the members of a fold. No patient is scored by
what was fitted to it; the row "chosen on the other folds" also chooses features and penalty on other patients. Features
are cached in --work. Writes benchmarks/heads.md. About three minutes per member on two free cores.

Several depths: the mean over the image of what each of the last stages of the backbone puts out, in place of the
features of the last layer or beside them (`models.head_stages`). Experts, the paper's future work: one head says the
lineage, another head for each lineage says the class within it; a class's probability is the product. RUN is one of
EfficientNets with models.head_stages = 0.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from afterwards import extract, held_out_of
from cache_key import digest
from scipy.special import log_softmax
from sklearn.metrics import f1_score

import nonet
from nonet.cells import CELLS, in_order_of_maturation
from nonet.evaluation.bootstrap import DEFAULT_BOOTSTRAP, confusions_by_group
from nonet.evaluation.metrics import macro_f1_score, per_class_scores
from nonet.models.backbones import get_backbone
from nonet.progress import progress
from nonet.training.refit import C_OF_STAGES, C, fit_linear_head

HERE = Path(__file__).parent
#: How many of the backbone's last stages are kept; the last of them feeds the last layer.
NUM_STAGES = 6
#: Those that a head gets, counted from the last, with its penalties C.
TRIED = {2: (C_OF_STAGES,), 3: (C_OF_STAGES,), 4: (C, C_OF_STAGES, 1e-2), 5: (C_OF_STAGES,), 6: (C_OF_STAGES,)}
LAST_LAYER = f"last layer, C = {C:g} (`models.refit_head`)"
CHOSEN = "features and C chosen on the other folds"
#: A class is listed if its F1 moves by at least this.
SMALLEST_MOVE = 0.01

#: Features of training images (m, f), their classes (m,), features of held-out images (n, f), number of classes →
#: log-probabilities (n, classes).
Head = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]


class Depths(torch.nn.Module):
    """A network whose features are those of its last layer followed by the means of its last stages."""

    def __init__(self, network: torch.nn.Module):
        super().__init__()
        self.network, self.seen = network, []
        for stage in network.backbone.blocks[-NUM_STAGES:]:
            stage.register_forward_hook(lambda module, given, out: self.seen.append(out.mean(dim=(2, 3))))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.clear()
        last = self.network.features(images)
        return torch.cat([last, *self.seen], dim=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder for cached features")
    parser.add_argument("--out", type=Path, default=HERE / "heads.md")
    arguments = parser.parse_args()
    dataset = nonet.Dataset.open(arguments.dataset)
    ensemble = nonet.load(arguments.run, accelerator="cpu", backend="torch")
    models = ensemble.recipe.models
    if models.head_stages or not all("efficientnet" in name for name in models.architectures):
        parser.error(f"{arguments.run} is not a run of EfficientNets with models.head_stages = 0")
    folds = pd.read_csv(ensemble.run.folds, dtype={"image_id": str})
    table = folds.merge(pd.read_parquet(ensemble.run.manifest), on="image_id", validate="one_to_one")
    table = table[table["label"].isin(ensemble.classes)].reset_index(drop=True)
    weights = (member.member.weights for member in ensemble.members)
    work = arguments.work / f"depths-{digest(''.join(table['sha256']), *weights)}"
    extract(ensemble, dataset, table, work, lambda member: Depths(member.network.module))
    arguments.out.write_text(report(ensemble, table, work), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def flat(c: float) -> Head:
    """Return one head for all classes, as `models.refit_head` fits it, with this inverse penalty."""

    def fit(features: np.ndarray, labels: np.ndarray, queries: np.ndarray, num_classes: int) -> np.ndarray:
        weight, bias = fit_linear_head(features, labels, num_classes, c=c)
        return log_softmax(queries @ weight.T + bias, axis=-1)

    return fit


def experts_of(lineage: np.ndarray, c: float) -> Head:
    """Return a head for the lineages, and one for the classes of each; `lineage` (classes,) is the number of each."""

    def fit(features: np.ndarray, labels: np.ndarray, queries: np.ndarray, num_classes: int) -> np.ndarray:
        first = flat(c)(features, lineage[labels], queries, lineage.max() + 1)
        out = np.empty((len(queries), num_classes))
        for number in np.unique(lineage):
            classes, rows = np.flatnonzero(lineage == number), lineage[labels] == number
            within = flat(c)(features[rows], np.searchsorted(classes, labels[rows]), queries, len(classes))
            out[:, classes] = first[:, [number]] + within
        return out

    return fit


def fit_heads(ensemble, table: pd.DataFrame, work: Path, head: Head, *, stages: int, last_layer: bool) -> np.ndarray:
    """Return log-probabilities of the held-out images (n, classes), summed over members.

    The head gets the means of so many of the last stages, and the features of the last layer if `last_layer`.
    """
    labels = table["label"].map(ensemble.classes.index).to_numpy()
    total = np.zeros((len(table), len(ensemble.classes)))
    for member in ensemble.members:
        name, of_last = member.name.replace("/", "-"), np.arange(member.network.module.num_features)
        every = np.arange(np.load(work / f"{name}.npy", mmap_mode="r").shape[1])
        widths = get_backbone(member.member.architecture).stage_widths[-stages:] if stages else ()
        columns = np.concatenate([of_last if last_layer else [], every[len(every) - sum(widths) :]]).astype(int)
        held_out, features = held_out_of(member, table), np.load(work / f"{name}.npy")[:, columns]
        queries = np.load(work / f"{name}-views.npy")[:, columns]
        total[held_out] += head(features[~held_out], labels[~held_out], queries, total.shape[1])
    return total[table["fold"].notna().to_numpy()]


def report(ensemble, table: pd.DataFrame, work: Path) -> str:
    """Return the page."""
    lineages = np.unique([CELLS[code].lineage for code in ensemble.classes], return_inverse=True)[1]
    fit = partial(fit_heads, ensemble, table, work)
    methods = {
        LAST_LAYER: fit(flat(C), stages=0, last_layer=True),
        "last layer, C = 0.01": fit(flat(1e-2), stages=0, last_layer=True),
    }
    for stages, penalties in progress(TRIED.items(), description="heads", unit="sets of features"):
        for c in penalties:
            methods[f"last {stages} stages, C = {c:g}"] = fit(flat(c), stages=stages, last_layer=False)
    for c in (C, C_OF_STAGES):
        methods[f"last layer and last 4 stages, C = {c:g}"] = fit(flat(c), stages=4, last_layer=True)
    scored = table[table["fold"].notna()]
    true = scored["label"].map(ensemble.classes.index).to_numpy()
    groups = scored["patient"].where(scored["patient"].notna(), scored["image_id"]).to_numpy()
    fold = scored["fold"].to_numpy()
    methods[CHOSEN], chosen = choose(methods, true, fold)
    experts = {
        "experts on the last layer": fit(experts_of(lineages, C), stages=0, last_layer=True),
        "experts on the last 4 stages": fit(experts_of(lineages, C_OF_STAGES), stages=4, last_layer=False),
    }
    methods |= experts
    methods["mean of experts and one head, last layer"] = methods[LAST_LAYER] + experts["experts on the last layer"]
    predicted = np.stack([m.argmax(1) for m in methods.values()])
    confusions = confusions_by_group(true, predicted, groups, len(ensemble.classes))
    lines = [
        "# Other heads on trained networks",
        "",
        f"Made by `benchmarks/heads.py` on {os.cpu_count()} CPU cores: {len(ensemble.members)} members of recipe "
        f"`{ensemble.recipe.name}`, {len(true):,} held-out images of {len(np.unique(groups))} patients, eight views. "
        "In brackets, 95 % intervals by bootstrap over patients; differences from the first row are paired.",
        "",
        "| head | macro-F1 | difference | classes that gain | classes that lose |",
        "|---|---|---|---|---|",
        *rows(confusions, list(methods), ensemble.classes),
        "",
        f"Classes are listed if their F1 moves by {SMALLEST_MOVE:g} or more. Chosen, by fold: {'; '.join(chosen)}.",
        "",
    ]
    return "\n".join(lines)


def choose(methods: dict[str, np.ndarray], true: np.ndarray, fold: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return for each fold the outputs of the method that is best on the other folds, (n, classes), and its name."""
    out, names = np.empty_like(next(iter(methods.values()))), []
    for k in np.unique(fold):
        others = fold != k

        def score(name: str, rows: np.ndarray = others) -> float:
            predicted = methods[name][rows].argmax(1)
            return f1_score(true[rows], predicted, labels=np.unique(true[rows]), average="macro", zero_division=0)

        names.append(max(methods, key=score))
        out[~others] = methods[names[-1]][~others]
    return out, names


def rows(confusions, names: list[str], classes: list[str]) -> list[str]:
    """Return a line of the table for each method."""
    total = confusions.total()
    f1, of_class = macro_f1_score(total), per_class_scores(total)["f1"]
    low, high = DEFAULT_BOOTSTRAP.intervals(confusions, {"f1": macro_f1_score})["f1"]
    differences = DEFAULT_BOOTSTRAP.differences(confusions, [(k, 0) for k in range(1, len(names))])
    order, lines = [classes.index(code) for code in in_order_of_maturation(classes)], []
    for k, name in enumerate(names):
        cells = ["", "", ""]
        if k:
            difference, lower, upper = differences[k - 1]
            cells[0] = f"{difference:+.3f} ({lower:+.3f} to {upper:+.3f})"
            moves = {classes[c]: of_class[k, c] - of_class[0, c] for c in order}
            gained = [f"{code} {move:+.2f}" for code, move in moves.items() if move >= SMALLEST_MOVE]
            lost = [f"{code} {move:+.2f}".replace("-", "−") for code, move in moves.items() if move <= -SMALLEST_MOVE]
            cells[1:] = ", ".join(gained), ", ".join(lost)
        lines.append(f"| {name} | {f1[k]:.3f} ({low[k]:.3f}–{high[k]:.3f}) | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
