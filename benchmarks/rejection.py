"""Which score tells cells that are none of the classes, on real cells of patients that the networks never saw?

    python benchmarks/rejection.py MANIFEST.csv --run RUN --work FOLDER [--near PMO]

RUN was trained on the rows of MANIFEST.csv (path,label,source,patient,sha256) whose labels are its classes; all
other rows are foreign. Each held-out image is scored by the members of its fold; a foreign cell by those of the fold
that its patient is held out in, or by every fold's where the patient is unknown. Features are kept in --work. Writes
benchmarks/rejection.md.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score

import nonet
from nonet.calibrate import foreign
from nonet.data.images import load_rgb
from nonet.data.prepare import prepare_images, prepare_sizes
from nonet.evaluate.bootstrap import percentile_interval
from nonet.models.views import batches, to_device
from nonet.progress import progress
from nonet.runs import Run, written_whole

HERE = Path(__file__).parent
FALSE_ALARMS = (0.01, 0.02, 0.05)
PLAIN = {"white": (255, 255, 255), "black": (0, 0, 0), "grey": (128, 128, 128), "pink": (230, 190, 200)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for prepared images and features")
    parser.add_argument("--near", nargs="*", default=[], help="foreign labels close to a class: shown, not counted")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=HERE / "rejection.md")
    arguments = parser.parse_args()
    ensemble = nonet.load(arguments.run, accelerator="cpu")
    table = list_images(arguments.manifest, Run(arguments.run), ensemble.classes)
    extract(ensemble, table, arguments.manifest.parent, arguments.work)
    rows, scores = score_rows(ensemble, table, arguments.work)
    arguments.out.write_text(report(rows, scores, arguments, len(ensemble.members)), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def list_images(manifest: Path, run: Run, classes: list[str]) -> pd.DataFrame:
    """Return path, label, patient, source, sha256, fold, known and `made` of every image, foreign ones made up too."""
    columns = ["path", "label", "patient", "source", "sha256", "fold"]
    folds = pd.read_csv(run.folds)[["image_id", "fold"]]
    known = pd.read_parquet(run.manifest).merge(folds, on="image_id")[columns].assign(known=True, made="")
    every = pd.read_csv(manifest)
    others = every[~every["label"].isin(classes)].copy()
    others["patient"] = (others["source"] + "/" + others["patient"]).where(others["patient"].notna(), None)
    others["fold"] = others["patient"].map(known.dropna(subset="fold").groupby("patient")["fold"].first())
    others = others[others["fold"].notna() | others["patient"].isna()]
    others = others.assign(known=False, made="")[[*columns, "known", "made"]]
    # The corner of one held-out image a patient, and images that no microscope makes.
    fields = known.dropna(subset=["fold", "patient"]).groupby("patient").head(1).assign(known=False, made="field")
    fields["label"] = "no cell"
    plain = pd.DataFrame({"label": "plain colour", "made": [f"plain {name}" for name in PLAIN]})
    noise = pd.DataFrame({"label": "noise", "made": [f"noise {seed}" for seed in range(4)]})
    made_up = pd.concat([plain, noise]).assign(known=False, source="made up")
    return pd.concat([known, others, fields, made_up], ignore_index=True)


def made_image(row, folder: Path) -> np.ndarray:
    """Return the pixels of an image that is made up, uint8 (h, w, 3)."""
    kind, _, which = row.made.partition(" ")
    if kind == "plain":
        return np.full((360, 360, 3), PLAIN[which], dtype=np.uint8)
    if kind == "noise":
        return np.random.default_rng(int(which)).integers(0, 256, (360, 360, 3), dtype=np.uint8)
    pixels = load_rgb(folder / row.path)  # mirror a corner, a quarter of each side, over the whole field
    height, width = pixels.shape[:2]
    corner = pixels[: height // 4, : width // 4]
    return np.pad(corner, ((0, height - len(corner)), (0, width - corner.shape[1]), (0, 0)), mode="symmetric")


def extract(ensemble, table: pd.DataFrame, folder: Path, work: Path) -> None:
    """Write features, float16 (n, f), and logits of the untouched images, one file a member."""
    files = {member.name: work / f"{member.name.replace('/', '-')}.npz" for member in ensemble.members}
    if all(file.exists() for file in files.values()):
        return
    photographs = table[table["made"] == ""]
    settings, images = ensemble.recipe.denoise, {}
    for size in ensemble.sizes:
        prepared = prepare_images(
            [folder / path for path in photographs["path"]],
            photographs["sha256"].tolist(),
            size_px=size,
            denoise=settings,
            cache_dir=work / "cache",
            num_workers=1,
        )
        made = table[table["made"] != ""]
        made = [prepare_sizes(made_image(row, folder), [size], settings)[size] for row in made.itertuples()]
        images[size] = (prepared, np.stack(made))
    for member in progress(ensemble.members, description="features", unit="members"):
        parts = [np.concatenate(part) for part in zip(*_forward(member, images[member.size_px]))]
        with written_whole(files[member.name]) as path:
            np.savez(path, features=parts[0].astype(np.float16), logits=parts[1])


def _forward(member, stores: tuple) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    with torch.inference_mode():
        for store in stores:
            for rows in batches(np.arange(len(store)), 64):
                features = member.network.features(to_device(store[rows], torch.device("cpu")))
                yield features.numpy(), member.network.head(features).numpy()


def candidates(features, logits, labels, train: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return each score of the images `rows`, fitted on the images `train`."""
    known, asked, size = features[train], features[rows], features.shape[1]
    gaussians = foreign.fit_class_gaussians(known, labels[train])
    few = foreign.fit_class_gaussians(known, labels[train], num_axes=64)
    scores = {
        "1 − max soft-max": foreign.max_softmax_score(logits[rows]),
        "energy": foreign.energy_score(logits[rows]),
        "−max logit": foreign.max_logit_score(logits[rows]),
        "Mahalanobis, all axes": np.sqrt(gaussians.mahalanobis(asked)),
        "Mahalanobis, 64 axes": np.sqrt(few.mahalanobis(asked)),
        "relative Mahalanobis, 64 axes": few.relative_mahalanobis(asked),
        "50th neighbour": foreign.neighbour_score(known, asked),
    }
    for share in (1 / 16, 1 / 4, 1 / 2):
        space = foreign.fit_principal_space(known, num_axes=round(share * size))
        scores[f"residual, f/{round(1 / share)} axes"] = space.residual(asked)
    return scores


PRODUCT = f"residual, f/{round(1 / foreign.PRINCIPAL_SHARE)} axes"


def score_rows(ensemble, table: pd.DataFrame, work: Path) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Return a row for each image and fold that scores it, and each score: (architectures, rows), standardised.

    Standardised by mean and standard deviation of the member's held-out known images, as the product does.
    """
    number = {code: i for i, code in enumerate(ensemble.classes)}
    labels = table["label"].map(number).fillna(-1).to_numpy(dtype=int)
    known, fold = table["known"].to_numpy(), table["fold"].to_numpy(dtype=float)
    by_fold: dict[float, list] = {}
    parts = []
    for k in np.unique(fold[~np.isnan(fold)]):
        evaluated = np.flatnonzero((fold == k) | (~known & np.isnan(fold)))
        parts.append(table.iloc[evaluated].assign(scored_by=k))
        for member in progress(ensemble.members, description=f"scores, fold {k:g}", unit="members"):
            if not member.name.endswith(f"fold-{k:g}"):
                continue
            with np.load(work / f"{member.name.replace('/', '-')}.npz") as kept:
                features, logits = kept["features"].astype(np.float32), kept["logits"]
            scores = candidates(features, logits, labels, np.flatnonzero(known & (fold != k)), evaluated)
            for name, score in scores.items():
                held_out = score[known[evaluated]]
                by_fold.setdefault(k, []).append((name, (score - held_out.mean()) / held_out.std()))
    rows = pd.concat(parts, ignore_index=True)
    names = list(dict.fromkeys(name for name, _ in by_fold[0]))
    scores = {
        name: np.concatenate([np.stack([z for n, z in by_fold[k] if n == name]) for k in by_fold], axis=1)
        for name in names
    }
    rows["unit"] = np.where(rows["patient"].notna(), rows["patient"], "image " + rows.index.astype(str))
    alone = rows["patient"].isna() & ~rows["known"]  # one image, scored by each fold, is still one image
    rows.loc[alone, "unit"] = "image " + rows["path"].fillna(rows["made"])[alone]
    return rows, scores


def auroc(foreign_one: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> float:
    return float(roc_auc_score(foreign_one, score, sample_weight=weight))


def false_alarm_at_detection(is_foreign, score, weight=None, *, detection: float = 0.95) -> float:
    """Return the share of known images at or above the threshold that this share of the foreign ones reaches."""
    weight = np.ones(len(score)) if weight is None else weight
    order = np.argsort(-score, kind="stable")
    found = np.cumsum(weight[order] * is_foreign[order]) / (weight * is_foreign).sum()
    threshold = score[order][np.searchsorted(found, detection - 1e-12)]
    known = ~is_foreign
    return float((weight * known * (score >= threshold)).sum() / (weight * known).sum())


def interval(statistic, units: np.ndarray, num_resamples: int) -> tuple[float, float]:
    """95 % percentile interval over patients of statistic(weight of each row), NaN results left out."""
    names, unit = np.unique(units, return_inverse=True)
    rng = np.random.default_rng(0)
    drawn = [np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names)) for _ in range(num_resamples)]
    low, high = percentile_interval([statistic(counts[unit].astype(float)) for counts in drawn])
    return float(low), float(high)


def crossfitted(rows: pd.DataFrame, score: np.ndarray, false_alarm: float) -> np.ndarray:
    """Return which rows are rejected, bool (rows,): a fold's threshold is the quantile of the other folds' known."""
    rejected = np.zeros(len(rows), dtype=bool)
    known, fold = rows["known"].to_numpy(), rows["scored_by"].to_numpy()
    for k in np.unique(fold):
        rejected[fold == k] = score[fold == k] > np.quantile(score[known & (fold != k)], 1 - false_alarm)
    return rejected
