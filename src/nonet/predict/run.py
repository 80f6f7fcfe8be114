"""`predict`: new images in, predictions.csv out; a stream, so memory does not grow with the number of images.

Images go through in chunks. A finished chunk is a small file in `parts/`; a killed prediction starts again behind the
last one. When all are there they are joined and removed. `plan.json` says of what the prediction is, so that it is
neither mixed with another nor, once finished, made again.
"""

import hashlib
import json
import logging
import os
import shutil
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from nonet.calibrate.calibration import softmax
from nonet.calibrate.priors import MIN_IMAGES_TO_ADAPT, estimate_priors, log_ratio
from nonet.data.prepare import worker_pool
from nonet.errors import DataError, RunError
from nonet.models.views import View, views_of
from nonet.predict.ensemble import Ensemble, load, parse_views
from nonet.predict.inputs import Input, find_inputs, try_to_prepare
from nonet.predict.labels import UNREADABLE, label_images
from nonet.predict.submission import read_submission_ids, require_class, require_format, require_ids, write_submission
from nonet.progress import progress
from nonet.runs import Run, now, write_json, written_whole

log = logging.getLogger("nonet")

CHUNK_SIZE = 64
WORDS = ("image", "label", "best", "reason", "set", "priors", "error")  # columns of predictions.csv that hold no number
USES_IMAGES_TOGETHER = "a cell's label depends on the other images predicted with it"
WORKERS_PAY_FROM = 256  # images; a worker process takes two seconds to start


@dataclass(frozen=True)
class Predictions:
    """What `predict` leaves behind."""

    folder: Path
    num_images: int
    num_unreadable: int
    num_unidentified: int

    @property
    def csv(self) -> Path:
        return self.folder / "predictions.csv"

    def table(self) -> pd.DataFrame:
        """Read predictions.csv; numbers of unreadable images are NaN."""
        numbers = [name for name in pd.read_csv(self.csv, nrows=0) if name not in WORDS]
        return pd.read_csv(
            self.csv,
            dtype=dict.fromkeys(WORDS, str) | dict.fromkeys(numbers, float),
            keep_default_na=False,
            na_values={name: [""] for name in numbers},
        )

    def __str__(self) -> str:
        unreadable = f", {self.num_unreadable:,} of them unreadable (see column error)" if self.num_unreadable else ""
        doubtful = f", {self.num_unidentified:,} unidentified (see column reason)" if self.num_unidentified else ""
        return f"{self.num_images:,} images{unreadable}{doubtful}: {self.csv}"


def predict(
    run: str | Path | Run | Ensemble,
    images: str | Path | Iterable[str | Path],
    *,
    out: str | Path,
    views: str | int | None = None,
    split: str | None = None,
    format: str = "csv",
    sample_submission: str | Path | None = None,
    unreadable_label: str | None = None,
    adapt_priors: bool = False,
    accelerator: str = "auto",
    num_workers: int | None = None,
) -> Predictions:
    """Predict images with a run's ensemble and write predictions.csv and logits.parquet.

    Parameters
    ----------
    run : a trained run, or an Ensemble from `load`.
    images : files, folders, globs, a CSV with a column `path`, or a dataset folder.
    out : folder of the results; made if it is not there. Begun with the same images, it goes on where it stopped;
        finished with them, nothing is predicted again.
    views : "none", "dihedral" (or 8), "random" or "random:N"; the recipe's where left out.
    split : of a dataset, only rows of this split.
    format : "csv", or "wbcbench" for submission.csv (ID,labels) as well.
    sample_submission : the challenge's CSV of IDs, needed for "wbcbench"; every ID must be predicted.
    unreadable_label : class that unreadable images are submitted as; without it they prevent a submission.
    adapt_priors : estimate how common each class is among these images, all together, and lean towards that; see
        `nonet.calibrate.priors.estimate_priors`. A cell's label then depends on the other images, which plan.json and
        the column `priors` say. For samples of quite another mix that look the same; on the next patients of one
        hospital it made predictions worse (docs/log.md).
    accelerator : "auto", "cpu", "gpu".
    num_workers : processes that read and denoise; by default one a core where there are enough images.

    Returns
    -------
    Predictions: where they are, how many, how many unreadable. An unreadable image is a row with its error.
    """
    require_format(format, sample_submission=sample_submission, unreadable_label=unreadable_label)
    wanted_ids = read_submission_ids(sample_submission) if sample_submission is not None else None
    inputs = find_inputs([images] if isinstance(images, (str, Path)) else images, split=split)
    if wanted_ids is not None:
        require_ids(wanted_ids, [one.name for one in inputs])
    ensemble = run if isinstance(run, Ensemble) else load(run, accelerator=accelerator)
    if unreadable_label is not None:
        require_class(unreadable_label, ensemble.classes)
    settings = parse_views(views, ensemble.recipe.predict)
    folder = Path(out).expanduser()
    if not ensemble.rejection.is_fitted:
        log.warning(f"No image is rejected as no known class. {' '.join(ensemble.rejection.notes)}")
    if adapt_priors:
        _require_adaptable(ensemble, len(inputs))
    plan = _plan(ensemble, inputs, settings.model_dump()) | {"adapt_priors": adapt_priors}
    counts = _already_done(folder, plan)
    if counts is None:
        counts = _carry_out(folder, plan, inputs, ensemble, views_of(settings), num_workers)
    shutil.rmtree(folder / "parts", ignore_errors=True)
    if wanted_ids is not None:
        write_submission(
            folder / "submission.csv",
            wanted_ids,
            folder / "predictions.csv",
            ensemble.classes,
            unreadable_label=unreadable_label,
        )
    return Predictions(folder, len(inputs), **counts)


def _carry_out(
    folder: Path, plan: dict, inputs: list[Input], ensemble: Ensemble, views: list[View], num_workers: int | None
) -> dict:
    """Predict from wherever an earlier call stopped, write what the plan asks for, and return what was counted."""
    _begin(folder, plan)
    _predict_chunks(folder, inputs, ensemble, views, num_workers)
    priors = _estimate_priors(folder, len(inputs), ensemble) if plan["adapt_priors"] else None
    counts = _join(folder, len(inputs), ensemble, priors)
    write_json(folder / "plan.json", plan | _about_priors(priors, ensemble) | {"finished": now()} | counts)
    return counts


def _plan(ensemble: Ensemble, inputs: list[Input], views: dict) -> dict:
    """Return what decides a prediction: the same plan gives the same predictions."""
    images, weights = hashlib.sha256(), hashlib.sha256()
    for one in inputs:
        images.update(f"{one.name}\0{_state_of(one.path)}\0".encode())
    for member in ensemble.members:
        weights.update(f"{member.name}\0{_state_of(member.file)}\0".encode())
    return {
        "run": str(ensemble.run.folder.resolve()),
        "weights": weights.hexdigest(),
        "recipe": hashlib.sha256(ensemble.recipe.to_toml().encode()).hexdigest(),
        "images": images.hexdigest(),
        "num_images": len(inputs),
        "views": views,
        "members": [f"{member.name}={member.weight}" for member in ensemble.members],
        "calibration": ensemble.calibration.describe(ensemble.classes),
        "rejection": ensemble.rejection.describe(),
    }


def _state_of(path: Path) -> str:
    """Place, size and time of a file, which change when it does; reading it whole would take too long."""
    place = os.fsencode(path.absolute()).hex()
    try:
        facts = path.stat()
    except OSError:
        return f"{place} missing"
    return f"{place} {facts.st_size} {facts.st_mtime_ns}"


def _kept_plan(folder: Path) -> dict:
    try:
        return json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _already_done(folder: Path, plan: dict) -> dict[str, int] | None:
    """Return how many images have no label, by why, where the folder holds this prediction whole, else None."""
    kept = _kept_plan(folder)
    whole = all((folder / name).exists() for name in ("predictions.csv", "logits.parquet"))
    same = all(kept.get(key) == value for key, value in plan.items())
    counts = {key: kept[key] for key in ("num_unreadable", "num_unidentified") if key in kept}
    return counts if whole and same and "finished" in kept else None


def _begin(folder: Path, plan: dict) -> None:
    """Note what is being predicted; refuse to mix it with another prediction half done."""
    kept = _kept_plan(folder)
    if kept and "finished" not in kept and (folder / "parts").exists():
        # The parts are the same with and without --adapt-priors, which acts on all of them at the end.
        differing = [key for key in plan if key != "adapt_priors" and kept.get(key) != plan[key]]
        if differing:
            raise RunError(
                f"{folder} holds a prediction half done, with other {' and '.join(differing)}.",
                hint="Give another --out, or delete that folder.",
            )
    else:
        shutil.rmtree(folder / "parts", ignore_errors=True)
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    write_json(folder / "plan.json", plan | {"begun": now()})
    (folder / "submission.csv").unlink(missing_ok=True)  # of a prediction before: not to be taken for this one's
    for name in ("plan.json", "predictions.csv", "logits.parquet", "submission.csv"):
        for leftover in folder.glob(f".{name}.*"):  # a kill left it half written
            leftover.unlink(missing_ok=True)


def _predict_chunks(
    folder: Path, inputs: list[Input], ensemble: Ensemble, views: list[View], num_workers: int | None
) -> None:
    """Write the parts that are not there yet."""
    done = _parts_done(folder, len(inputs))
    initial = min(done * CHUNK_SIZE, len(inputs))
    bar = progress(total=len(inputs), initial=initial, description="predicting", unit="images")
    try:
        with bar, _workers(len(inputs) - initial, num_workers) as pool:
            for number, chunk, prepared in _prepared_chunks(inputs, done, ensemble, pool):
                _write_part(folder, number, _predict_chunk(ensemble, chunk, prepared, views))
                bar.update(len(chunk))
    except BrokenProcessPool as error:
        raise DataError(
            "A process that reads images died.",
            hint='In a script, put the call under "if __name__ == "__main__":". Else, was memory short? '
            "What is done is kept; run it again.",
        ) from error


def _part(folder: Path, number: int) -> Path:
    return folder / "parts" / f"{number:06d}.parquet"


def _parts_done(folder: Path, num_images: int) -> int:
    """Return how many chunks, counted from the first, are finished."""
    done = 0
    while done * CHUNK_SIZE < num_images and _part(folder, done).exists():
        done += 1
    return done


def _write_part(folder: Path, number: int, table: pd.DataFrame) -> None:
    with written_whole(_part(folder, number)) as path:
        table.to_parquet(path, index=False)


class _InProcess(Executor):
    """Works when asked, here: for a few images the start of a worker process would take longer than they do."""

    def map(self, function, *iterables, timeout=None, chunksize=1, buffersize=None):
        return map(function, *iterables)


def _workers(num_images: int, num_workers: int | None) -> Executor:
    count = (os.cpu_count() or 1) if num_workers is None else num_workers
    if num_images < WORKERS_PAY_FROM or count <= 1:
        return _InProcess()
    return worker_pool(count)


def _prepared_chunks(
    inputs: list[Input], first: int, ensemble: Ensemble, pool: Executor
) -> Iterator[tuple[int, list[Input], list]]:
    """Yield (number, inputs, prepared images), a chunk ahead of the networks and no further."""

    def chunk(number: int) -> list[Input]:
        return inputs[number * CHUNK_SIZE : (number + 1) * CHUNK_SIZE]

    def submit(number: int):
        tasks = [(one.path, ensemble.crops, ensemble.recipe.denoise) for one in chunk(number)]
        return number, pool.map(try_to_prepare, tasks, chunksize=8)

    last = -(-len(inputs) // CHUNK_SIZE)
    waiting = deque(submit(number) for number in range(first, min(first + 2, last)))
    while waiting:
        number, results = waiting.popleft()
        prepared = list(results)
        if number + 2 < last:
            waiting.append(submit(number + 2))
        yield number, chunk(number), prepared


def _predict_chunk(ensemble: Ensemble, chunk: list[Input], prepared: list, views: list[View]) -> pd.DataFrame:
    """Return what the networks say of a chunk: image, spread, agreement, foreign, error, logit_…; NaN if unreadable."""
    classes, n = ensemble.classes, len(chunk)
    readable = [i for i, one in enumerate(prepared) if not isinstance(one, str)]
    errors = [one if isinstance(one, str) else "" for one in prepared]
    logits = np.full((n, len(classes)), np.nan)
    spread, agreement, foreign = (np.full(n, np.nan) for _ in range(3))
    if readable:
        stacked = {crop: np.stack([prepared[i][crop] for i in readable]) for crop in ensemble.crops}
        of_members, scores = ensemble.member_outputs(stacked, views)
        finite = np.isfinite(of_members).all(axis=(0, 2))  # in half precision a network may overflow on an odd image
        of_members[:, ~finite] = np.nan
        for i in np.array(readable)[~finite]:
            errors[i] = "the networks' answer is not a finite number"
        foreign[readable] = ensemble.foreign(scores)
        logits[readable] = ensemble.combine(of_members)
        winner = logits[readable].argmax(1)
        of_members = ensemble.calibration.apply(of_members)
        of_winner = softmax(of_members)[:, np.arange(len(winner)), winner]
        spread[readable] = of_winner.std(0)
        agreement[readable] = np.where(finite, (of_members.argmax(2) == winner).mean(0), np.nan)
    table = pd.DataFrame(
        {
            "image": [one.name for one in chunk],
            "spread": spread,
            "agreement": agreement,
            "foreign": foreign,
            "error": errors,
        }
    )
    columns = {f"logit_{code}": logits[:, k].astype(np.float32) for k, code in enumerate(classes)}
    return pd.concat([table, pd.DataFrame(columns)], axis=1)


def _require_adaptable(ensemble: Ensemble, num_images: int) -> None:
    if ensemble.calibration.class_priors is None:
        raise RunError(
            f"{ensemble.run} is not calibrated, so the class priors of new images cannot be estimated.",
            hint=f'Run "nonet calibrate {ensemble.run}", or leave --adapt-priors out.',
        )
    if num_images < MIN_IMAGES_TO_ADAPT:
        raise DataError(
            f"--adapt-priors needs {MIN_IMAGES_TO_ADAPT} images or more; {num_images} were given.",
            hint="Predict more images of the sample together, or leave it out.",
        )


def _estimate_priors(folder: Path, num_images: int, ensemble: Ensemble) -> np.ndarray:
    """Estimate the priors of all known cells together; their logits are held at once, 4 bytes a class and image."""
    columns = [f"logit_{code}" for code in ensemble.classes] + ["foreign"]
    parts = [pd.read_parquet(_part(folder, i), columns=columns) for i in range(-(-num_images // CHUNK_SIZE))]
    table = pd.concat(parts, ignore_index=True)
    logits, rejected = table[columns[:-1]].to_numpy(), ensemble.rejection.rejects(table["foreign"].to_numpy())
    known = ~np.isnan(logits).any(axis=1) & ~rejected
    if known.sum() < MIN_IMAGES_TO_ADAPT:
        raise DataError(
            f"--adapt-priors needs {MIN_IMAGES_TO_ADAPT} images of known cells or more: of {len(known)}, "
            f"{np.isnan(logits).any(axis=1).sum()} are unreadable and {rejected.sum()} no known class.",
            hint="Predict more images of the sample together, or leave it out; what is predicted is kept.",
        )
    return estimate_priors(softmax(logits[known]), ensemble.calibration.class_priors)


def _about_priors(priors: np.ndarray | None, ensemble: Ensemble) -> dict:
    """Say in plan.json, and in the log, what the priors come from."""
    if priors is None:
        return {}
    shares = dict(zip(ensemble.classes, priors.round(4).tolist()))
    log.warning(f"Class priors were estimated from the images together: {USES_IMAGES_TOGETHER}. {shares}")
    return {"class_priors": shares, "note": USES_IMAGES_TOGETHER}


def _join(folder: Path, num_images: int, ensemble: Ensemble, priors: np.ndarray | None) -> dict[str, int]:
    """Join the parts into predictions.csv and logits.parquet, one part at a time; return how many have no label."""
    logit_columns = [f"logit_{code}" for code in ensemble.classes]
    reasons, writer = Counter(), None
    with written_whole(folder / "predictions.csv") as csv_path, written_whole(folder / "logits.parquet") as path:
        with csv_path.open("w", encoding="utf-8", newline="") as file:
            for number in range(-(-num_images // CHUNK_SIZE)):
                part = pd.read_parquet(_part(folder, number))
                if priors is not None:
                    part[logit_columns] += log_ratio(priors, ensemble.calibration.class_priors).astype(np.float32)
                    part["priors"] = "estimated from these images"
                rows = _rows(part, softmax(part[logit_columns].to_numpy()), ensemble)
                reasons.update(rows["reason"])
                rows.to_csv(file, header=number == 0, index=False, float_format="%.6f", lineterminator="\n")
                logits = pa.Table.from_pandas(part[["image", *logit_columns]], preserve_index=False)
                logits = logits.replace_schema_metadata(None)
                writer = writer or pq.ParquetWriter(path, logits.schema)
                writer.write_table(logits)
        writer.close()
    unreadable = reasons.pop(UNREADABLE, 0)
    reasons.pop("", None)
    return {"num_unreadable": unreadable, "num_unidentified": reasons.total()}


def _rows(part: pd.DataFrame, proba: np.ndarray, ensemble: Ensemble) -> pd.DataFrame:
    """Return the rows of predictions.csv: image, label, best, confidence, reason, set, spread, …, p_…, error."""
    rejected = ensemble.rejection.rejects(part["foreign"].to_numpy())
    labels = label_images(proba, ensemble.classes, ensemble.calibration, rejected)
    of_classes = pd.DataFrame(proba, columns=[f"p_{code}" for code in ensemble.classes])
    last = part[[name for name in ("priors", "error") if name in part]]
    return pd.concat([part[["image"]], labels, part[["spread", "agreement", "foreign"]], of_classes, last], axis=1)
