"""Which score recognises unknown cell types, on real cells of patients that the networks never saw?

    python benchmarks/rejection.py MANIFEST.csv --run RUN --work FOLDER [--near PMO]

RUN was trained on the rows of MANIFEST.csv (path,label,source,patient,sha256) whose labels are its classes; all other
rows are unknown cell types. Each held-out image is scored by the members of its fold; an unknown cell by the fold that
holds out its patient, or by every fold if the patient is not known. Features are cached in --work. Writes
benchmarks/rejection.md.
"""

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import ood_candidates
import pandas as pd
import torch
from cache_key import digest
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

import nonet
from nonet.artifacts.run import Run, written_whole
from nonet.calibration import ood_scores
from nonet.calibration.fitting import fit_temperature
from nonet.data.images.decode import load_rgb
from nonet.data.preprocess.cache import prepare_images
from nonet.data.preprocess.crops import prepare_crops
from nonet.evaluation.bootstrap import DEFAULT_BOOTSTRAP
from nonet.models.tensors import to_device
from nonet.models.views import batches
from nonet.progress import progress

HERE = Path(__file__).parent
FALSE_ALARMS = (0.01, 0.02, 0.05)
PLAIN = {"white": (255, 255, 255), "black": (0, 0, 0), "grey": (128, 128, 128), "pink": (230, 190, 200)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for prepared images and features")
    parser.add_argument(
        "--near", nargs="*", default=[], help="unknown labels close to a known class: shown, but left out of the scores"
    )
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=HERE / "rejection.md")
    arguments = parser.parse_args()
    ensemble = nonet.load(arguments.run, accelerator="cpu", backend="torch")
    table = list_images(arguments.manifest, Run(arguments.run), ensemble.classes)
    extract(ensemble, table, arguments.manifest.parent, arguments.work)
    rows, scores, logits = score_rows(ensemble, table, arguments.work)
    members = f"{len(ensemble.members)} members of recipe `{ensemble.recipe.name}`"
    page = report(rows, scores, doubtful(rows, logits, ensemble), arguments, members)
    page += "\n" + "\n".join(predicted_classes(rows, logits, ensemble.classes))
    arguments.out.write_text(page, encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def list_images(manifest: Path, run: Run, classes: list[str]) -> pd.DataFrame:
    """Return path, label, patient, source, sha256, fold, known and `made` of every image, synthetic ones included."""
    columns = ["path", "label", "patient", "source", "sha256", "fold"]
    folds = pd.read_csv(run.folds)[["image_id", "fold"]]
    known = pd.read_parquet(run.manifest).merge(folds, on="image_id")[columns].assign(known=True, made="")
    every = pd.read_csv(manifest)
    others = every[~every["label"].isin(classes)].copy()
    others["patient"] = (others["source"] + "/" + others["patient"]).where(others["patient"].notna(), None)
    others["fold"] = others["patient"].map(known.dropna(subset="fold").groupby("patient")["fold"].first())
    others = others[others["fold"].notna() | others["patient"].isna()]
    others = others.assign(known=False, made="")[[*columns, "known", "made"]]
    # The corner of one held-out image per patient, and images that no microscope produces.
    fields = known.dropna(subset=["fold", "patient"]).groupby("patient").head(1).assign(known=False, made="field")
    fields["label"] = "no cell"
    plain = pd.DataFrame({"label": "plain colour", "made": [f"plain {name}" for name in PLAIN]})
    noise = pd.DataFrame({"label": "noise", "made": [f"noise {seed}" for seed in range(4)]})
    synthetic = pd.concat([plain, noise]).assign(known=False, source="synthetic")
    return pd.concat([known, others, fields, synthetic], ignore_index=True)


def made_image(row, folder: Path) -> np.ndarray:
    """Return the pixels of a synthetic image, uint8 (h, w, 3)."""
    kind, _, which = row.made.partition(" ")
    if kind == "plain":
        return np.full((360, 360, 3), PLAIN[which], dtype=np.uint8)
    if kind == "noise":
        return np.random.default_rng(int(which)).integers(0, 256, (360, 360, 3), dtype=np.uint8)
    pixels = load_rgb(folder / row.path)  # mirror a corner, a quarter of each side, over the whole field
    height, width = pixels.shape[:2]
    corner = pixels[: height // 4, : width // 4]
    return np.pad(corner, ((0, height - len(corner)), (0, width - corner.shape[1]), (0, 0)), mode="symmetric")


def features_of_members(ensemble, table: pd.DataFrame, work: Path) -> dict[str, Path]:
    """Return the cache file of each member's features."""
    images = table[["path", "sha256", "made"]].to_csv(index=False)
    return {
        member.name: work / f"{member.name.replace('/', '-')}-{digest(member.member.weights, images)}.npz"
        for member in ensemble.members
    }


def extract(ensemble, table: pd.DataFrame, folder: Path, work: Path) -> None:
    """Write features, float16 (n, f), and logits of the untouched images, one file per member."""
    files = features_of_members(ensemble, table, work)
    if all(file.exists() for file in files.values()):
        return
    photographs = table[table["made"] == ""]
    settings, images = ensemble.recipe.denoise, {}
    for crop in ensemble.crops:
        prepared = prepare_images(
            [folder / path for path in photographs["path"]],
            photographs["sha256"].tolist(),
            crops=[crop],
            denoise=settings,
            cache_dir=work / "cache",
            num_workers=1,
        )[crop]
        made = table[table["made"] != ""]
        made = [prepare_crops(made_image(row, folder), [crop], settings)[crop] for row in made.itertuples()]
        images[crop] = (prepared, np.stack(made))
    for member in progress(ensemble.members, description="features", unit="members"):
        parts = [np.concatenate(part) for part in zip(*_forward(member, images[member.crop]))]
        with written_whole(files[member.name]) as path:
            np.savez(path, features=parts[0].astype(np.float16), logits=parts[1])


def _forward(member, stores: tuple) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    with torch.inference_mode():
        for store in stores:
            for rows in batches(np.arange(len(store)), 64):
                features = member.network.module.features(to_device(store[rows], torch.device("cpu")))
                yield features.numpy(), member.network.module.head(features).numpy()


def candidates(features, logits, labels, train: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return each score of the images `rows`, fitted on the images `train`."""
    known, queries, size = features[train], features[rows], features.shape[1]
    gaussians = ood_candidates.fit_class_gaussians(known, labels[train])
    few = ood_candidates.fit_class_gaussians(known, labels[train], num_axes=64)
    scores = {
        "1 − max soft-max": ood_candidates.max_softmax_score(logits[rows]),
        "energy": ood_candidates.energy_score(logits[rows]),
        "−max logit": ood_candidates.max_logit_score(logits[rows]),
        "Mahalanobis, all axes": np.sqrt(gaussians.mahalanobis(queries)),
        "Mahalanobis, 64 axes": np.sqrt(few.mahalanobis(queries)),
        "relative Mahalanobis, 64 axes": few.relative_mahalanobis(queries),
        "50th neighbour": ood_candidates.neighbour_score(known, queries),
    }
    for share in (1 / 16, 1 / 4, 1 / 2):
        space = ood_scores.fit_principal_space(known, num_axes=round(share * size))
        scores[f"residual, f/{round(1 / share)} axes"] = space.residual(queries)
    for number in (16, ood_scores.NUM_PROTOTYPES, 64):
        prototypes = ood_scores.fit_prototypes(known, num_prototypes=number)
        scores[f"nearest of {number} prototypes"] = ood_scores.nearest_prototype(prototypes, queries)
    return scores


RESIDUAL = f"residual, f/{round(1 / ood_scores.PRINCIPAL_SHARE)} axes"
#: Pairs of standardised scores that are added.
SUMS = [
    (RESIDUAL, "energy"),
    (RESIDUAL, "50th neighbour"),
    *((RESIDUAL, f"nearest of {number} prototypes") for number in (16, ood_scores.NUM_PROTOTYPES, 64)),
]
IN_USE = f"{RESIDUAL} + nearest of {ood_scores.NUM_PROTOTYPES} prototypes"


def score_rows(ensemble, table: pd.DataFrame, work: Path) -> tuple[pd.DataFrame, dict[str, np.ndarray], np.ndarray]:
    """Return a row for each image and fold that scores it, each score (architectures, rows), and logits (rows, C).

    Scores are standardised by mean and standard deviation of the member's held-out known images.
    """
    number = {code: i for i, code in enumerate(ensemble.classes)}
    labels = table["label"].map(number).fillna(-1).to_numpy(dtype=int)
    known, fold = table["known"].to_numpy(), table["fold"].to_numpy(dtype=float)
    by_fold: dict[float, list] = {}
    files = features_of_members(ensemble, table, work)
    parts, means = [], []
    for k in np.unique(fold[~np.isnan(fold)]):
        evaluated = np.flatnonzero((fold == k) | (~known & np.isnan(fold)))
        parts.append(table.iloc[evaluated].assign(scored_by=k))
        of_fold = []
        for member in progress(ensemble.members, description=f"scores, fold {k:g}", unit="members"):
            if not member.name.endswith(f"fold-{k:g}"):
                continue
            with np.load(files[member.name]) as cached:
                features, logits = cached["features"].astype(np.float32), cached["logits"]
            of_fold.append(logits[evaluated])
            scores = candidates(features, logits, labels, np.flatnonzero(known & (fold != k)), evaluated)
            held_out = {name: score[known[evaluated]] for name, score in scores.items()}
            standard = {name: (score - held_out[name].mean()) / held_out[name].std() for name, score in scores.items()}
            standard |= {f"{one} + {other}": standard[one] + standard[other] for one, other in SUMS}
            by_fold.setdefault(k, []).extend(standard.items())
        means.append(np.mean(of_fold, axis=0))
    rows = pd.concat(parts, ignore_index=True)
    names = list(dict.fromkeys(name for name, _ in by_fold[0]))
    scores = {
        name: np.concatenate([np.stack([z for n, z in by_fold[k] if n == name]) for k in by_fold], axis=1)
        for name in names
    }
    rows["group"] = np.where(rows["patient"].notna(), rows["patient"], "image " + rows.index.astype(str))
    alone = rows["patient"].isna() & ~rows["known"]  # an image scored by every fold is still one image
    rows.loc[alone, "group"] = "image " + rows["path"].fillna(rows["made"])[alone]
    return rows, scores, np.concatenate(means)


def auroc(is_unknown: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> float:
    return float(roc_auc_score(is_unknown, score, sample_weight=weight))


def false_alarm_at_detection(is_unknown, score, weight=None, *, detection: float = 0.95) -> float:
    """Return the share of known images at or above the threshold that this share of the unknown ones reaches."""
    weight = np.ones(len(score)) if weight is None else weight
    order = np.argsort(-score, kind="stable")
    found = np.cumsum(weight[order] * is_unknown[order]) / (weight * is_unknown).sum()
    threshold = score[order][np.searchsorted(found, detection - 1e-12)]
    known = ~is_unknown
    return float((weight * known * (score >= threshold)).sum() / (weight * known).sum())


def interval(statistic, groups: np.ndarray, num_resamples: int) -> tuple[float, float]:
    """Return the 95 % percentile interval over patients of statistic(weight per row), without NaN results."""
    names, group = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(0)
    drawn = [np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names)) for _ in range(num_resamples)]
    low, high = DEFAULT_BOOTSTRAP.interval([statistic(counts[group].astype(float)) for counts in drawn])
    return float(low), float(high)


def crossfitted(rows: pd.DataFrame, score: np.ndarray, false_alarm: float) -> np.ndarray:
    """Return which rows are rejected, bool (rows,): a fold's threshold is a quantile of other folds' known cells."""
    rejected = np.zeros(len(rows), dtype=bool)
    known, fold = rows["known"].to_numpy(), rows["scored_by"].to_numpy()
    for k in np.unique(fold):
        rejected[fold == k] = score[fold == k] > np.quantile(score[known & (fold != k)], 1 - false_alarm)
    return rejected


def doubtful(rows: pd.DataFrame, logits: np.ndarray, ensemble) -> np.ndarray:
    """Return which rows are below the recipe's confidence, bool (rows,), with the temperature of the other folds."""
    number = {code: i for i, code in enumerate(ensemble.classes)}
    true, known = rows["label"].map(number).fillna(-1).to_numpy(dtype=int), rows["known"].to_numpy()
    fold, doubt = rows["scored_by"].to_numpy(), np.zeros(len(rows), dtype=bool)
    for k in np.unique(fold):
        others = known & (fold != k)
        confidence = softmax(logits[fold == k] / fit_temperature(logits[others], true[others]), axis=-1).max(1)
        doubt[fold == k] = confidence < ensemble.recipe.calibrate.min_confidence
    return doubt


def is_counted(rows: pd.DataFrame, near: list[str]) -> np.ndarray:
    """Unknown cells of known patients, photographed at the hospital of the known cells, and not close to a class."""
    return (~rows["known"] & rows["patient"].notna() & (rows["made"] == "") & ~rows["label"].isin(near)).to_numpy()


def nested(rows: pd.DataFrame, mean: dict[str, np.ndarray], counted: np.ndarray) -> list[str]:
    """Choose the score with the highest AUROC on all folds but one, and score it on that one: one line per fold."""
    fold, judged, lines = rows["scored_by"].to_numpy(), counted | rows["known"].to_numpy(), []
    for k in np.unique(fold):
        others, own = judged & (fold != k), judged & (fold == k)
        best = max(mean, key=lambda name: auroc(counted[others], mean[name][others]))
        lines.append(
            f"- fold {k:g}: {best}, {auroc(counted[others], mean[best][others]):.3f} on the others, "
            f"**{auroc(counted[own], mean[best][own]):.3f}** on this one ({counted[own].sum()} unknown cells); "
            f"{IN_USE} {auroc(counted[own], mean[IN_USE][own]):.3f} on this one."
        )
    return lines


def report(rows: pd.DataFrame, scores: dict[str, np.ndarray], doubt: np.ndarray, arguments, members: str) -> str:
    """Return the page."""
    known, group = rows["known"].to_numpy(), rows["group"].to_numpy()
    counted, mean = is_counted(rows, arguments.near), {name: score.mean(0) for name, score in scores.items()}
    judged = known | counted
    groups = {
        f"{label} ({source})": g.index.to_numpy() for (label, source), g in rows[~known].groupby(["label", "source"])
    }

    def with_interval(statistic) -> str:
        low, high = interval(statistic, group, arguments.resamples)
        return f"{statistic(np.ones(len(rows))):.3f} ({low:.3f}–{high:.3f})"

    def area(score: np.ndarray):
        return lambda weight: auroc(counted[judged], score[judged], weight[judged])

    table = [["score", "AUROC", "false alarms at 95 % detection", *groups]]
    for name, score in mean.items():
        alarms = with_interval(lambda w, s=score: false_alarm_at_detection(counted[judged], s[judged], w[judged]))
        of_groups = []
        for index in groups.values():
            pair = known | np.isin(np.arange(len(rows)), index)
            of_groups.append(f"{auroc(~known[pair], score[pair]):.3f}")
        table.append([name, with_interval(area(score)), alarms, *of_groups])
    in_use = mean[IN_USE]
    differences = {
        rival: with_interval(lambda w, rival=rival: area(in_use)(w) - area(mean[rival])(w))
        for rival in (RESIDUAL, "Mahalanobis, all axes")
    }
    images = {name: len(set(rows["path"].fillna(rows["made"]).iloc[index])) for name, index in groups.items()}
    lines = [
        "# Which score recognises unknown cell types",
        "",
        f"Made by `benchmarks/rejection.py`: {members}, {known.sum():,} "
        f"held-out known cells of {rows.loc[known, 'patient'].nunique()} patients, each scored by the members of its "
        "fold (mean of their standardised scores, without views). Unknown, not in training: "
        f"{', '.join(f'{name} {count}' for name, count in images.items())}. Images of a patient are scored by the fold "
        "that holds out the patient, others by every fold. *no cell*: the corner of one held-out image per patient, "
        "mirrored over the field. *AUROC*, *false alarms* (share of known cells rejected when 95 % of the unknown "
        "cells are) and shares refer to the unknown cells of known patients"
        f"{', without ' + ', '.join(arguments.near) if arguments.near else ''}; other columns: AUROC of one type "
        f"against all known cells. Intervals: 95 %, {arguments.resamples:,} bootstrap resamples over patients.",
        "",
        *_markdown(table),
        "",
        f"AUROC of {IN_USE} (what nonet uses) minus that of "
        f"{'; of '.join(f'{rival}: {difference}' for rival, difference in differences.items())}.",
        "",
        "## Chosen on two folds, scored on the third",
        "",
        *nested(rows, mean, counted),
        "",
        *_thresholds(rows, scores, doubt, counted, groups, arguments.resamples),
        *_classes(rows, in_use, counted),
    ]
    return "\n".join(lines)


def _thresholds(rows, scores, doubt, counted, groups, num_resamples) -> list[str]:
    known, group, score = rows["known"].to_numpy(), rows["group"].to_numpy(), scores[IN_USE].mean(0)
    table = [["unidentified", "known cells", "unknown cells", *groups]]
    variants = {f"rejected at {100 * target:g} %": crossfitted(rows, score, target) for target in FALSE_ALARMS}
    variants |= {"doubtful": doubt, "rejected at 2 % or doubtful": doubt | crossfitted(rows, score, 0.02)}
    for name, rejected in variants.items():
        cells = [name]
        for which in (known, counted):
            low, high = interval(partial(_weighted_share, rejected, which), group, num_resamples)
            cells.append(f"{100 * rejected[which].mean():.1f} % ({100 * low:.1f}–{100 * high:.1f})")
        table.append([*cells, *(f"{100 * rejected[index].mean():.0f} %" for index in groups.values())])
    single = [crossfitted(rows, one, 0.02) for one in scores[IN_USE]]
    alone = np.mean([auroc(counted[known | counted], one[known | counted]) for one in scores[IN_USE]])
    threshold = np.mean([np.quantile(one[known], 0.98) for one in scores[IN_USE]])
    return [
        "## Effect of the threshold",
        "",
        f"{IN_USE[0].upper()}{IN_USE[1:]}; the threshold of a fold is a quantile of the other folds' known cells, so "
        "it uses no unknown cell and no patient of the fold. *Doubtful*: the best class is less probable than the "
        "recipe's `calibrate.min_confidence`, with a temperature fitted on the other folds.",
        "",
        *_markdown(table),
        "",
        f"A single member: AUROC {alone:.3f} on average; at 2 % it finds "
        f"{100 * np.mean([one[counted].mean() for one in single]):.0f} % of the unknown cells. With the threshold of "
        f"single members, the mean of {len(single)} rejects {100 * (score[known] > threshold).mean():.1f} % of known "
        "cells instead of 2 %, because means vary less. A run has more members than a fold, so new known cells "
        "are rejected slightly less often than requested.",
        "",
    ]


def _weighted_share(flags: np.ndarray, which: np.ndarray, weight: np.ndarray) -> float:
    return float(np.average(flags[which], weights=weight[which]))


def _classes(rows, score, counted) -> list[str]:
    known, label = rows["known"].to_numpy(), rows["label"].to_numpy()
    rejected = {target: crossfitted(rows, score, target) for target in FALSE_ALARMS}
    table = [
        ["class", "images", "patients", "AUROC against unknown", *(f"rejected at {100 * a:g} %" for a in FALSE_ALARMS)]
    ]
    for code in sorted(set(label[known])):
        own = known & (label == code)
        pair = own | counted
        shares = [f"{100 * rejected[target][own].mean():.1f} %" for target in FALSE_ALARMS]
        patients = str(rows.loc[own, "patient"].nunique())
        table.append([code, str(own.sum()), patients, f"{auroc(counted[pair], score[pair]):.3f}", *shares])
    return ["## Known cells, class by class", "", *_markdown(table), ""]


def predicted_classes(rows: pd.DataFrame, logits: np.ndarray, classes: list[str]) -> list[str]:
    """Return the table of best classes of unknown cells, whether rejected or not."""
    best = np.array(classes)[logits.argmax(1)]
    table = [["unknown", *classes]]
    for (label, source), own in rows[~rows["known"]].groupby(["label", "source"]):
        shares = pd.Series(best[own.index]).value_counts(normalize=True).reindex(classes, fill_value=0)
        table.append([f"{label} ({source})", *(f"{100 * share:.0f} %" if share else "" for share in shares)])
    title = "## Predicted classes of unknown cells"
    return [title, "", "The best class, whether rejected or not.", "", *_markdown(table), ""]


def _markdown(table: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in [table[0], ["---"] * len(table[0]), *table[1:]]]


if __name__ == "__main__":
    main()
