"""`predict`: new images in, predictions.csv out; a stream, so memory does not grow with the number of images.

Images go through in chunks. A finished chunk is a small file in `parts/`; a killed prediction starts again behind the
last one. When all are there they are joined and removed.
"""

import csv
import hashlib
import json
import logging
import shutil
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from os import cpu_count
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from nonet.data.prepare import prepare_sizes
from nonet.errors import DataError, RunError
from nonet.models.views import View, views_of
from nonet.predict.ensemble import Ensemble, load, parse_views, softmax
from nonet.predict.inputs import Input, find_inputs
from nonet.predict.submission import read_submission_ids, write_submission
from nonet.progress import progress
from nonet.recipe import Denoise
from nonet.runs import Run, now, write_json, written_whole

log = logging.getLogger("nonet")

CHUNK_SIZE = 64
WORKERS_PAY_FROM = 256  # images; a worker process takes two seconds to start


@dataclass(frozen=True)
class Predictions:
    """What `predict` leaves behind."""

    folder: Path
    num_images: int
    num_unreadable: int

    @property
    def csv(self) -> Path:
        return self.folder / "predictions.csv"

    def table(self) -> pd.DataFrame:
        """Read predictions.csv."""
        return pd.read_csv(self.csv, keep_default_na=False, na_values={"confidence": [""], "spread": [""]})

    def __str__(self) -> str:
        unreadable = f", {self.num_unreadable} of them unreadable (see column error)" if self.num_unreadable else ""
        return f"{self.num_images:,} images{unreadable}: {self.csv}"


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
    accelerator: str = "auto",
    num_workers: int | None = None,
) -> Predictions:
    """Predict images with a run's ensemble and write predictions.csv and logits.parquet.

    Parameters
    ----------
    run : a trained run, or an Ensemble from `load`.
    images : files, folders, globs, a CSV with a column `path`, or a dataset folder.
    out : folder of the results; made if it is not there. Begun with the same images, it goes on where it stopped.
    views : "none", "dihedral" (or 8), "random" or "random:N"; the recipe's where left out.
    split : of a dataset, only rows of this split.
    format : "csv", or "wbcbench" for submission.csv (ID,labels) as well.
    sample_submission : the challenge's CSV of IDs, needed for "wbcbench"; every ID must be predicted.
    unreadable_label : class that unreadable images are submitted as; without it they prevent a submission.
    accelerator : "auto", "cpu", "gpu".
    num_workers : processes that read and denoise; by default one a core where there are enough images.

    Returns
    -------
    Predictions: where they are, how many, how many unreadable. An unreadable image is a row with its error.
    """
    if format not in ("csv", "wbcbench"):
        raise DataError(f'There is no format "{format}".', hint="Choose csv or wbcbench.")
    if format == "wbcbench" and sample_submission is None:
        raise DataError(
            "--format wbcbench needs the challenge's table of IDs.", hint="Add --sample-submission phase2_test.csv."
        )
    wanted_ids = read_submission_ids(sample_submission) if sample_submission is not None else None
    inputs = find_inputs([images] if isinstance(images, (str, Path)) else images, split=split)
    if unreadable_label is not None and format != "wbcbench":
        raise DataError("--unreadable-label has no effect without --format wbcbench.")
    ensemble = run if isinstance(run, Ensemble) else load(run, accelerator=accelerator)
    settings = parse_views(views, ensemble.recipe.predict)
    folder = Path(out).expanduser()
    _begin(folder, ensemble, inputs, settings.model_dump())
    chosen = views_of(settings)
    done = _parts_done(folder, len(inputs))
    with _workers(len(inputs), num_workers) as pool:
        bar = progress(
            total=len(inputs), initial=min(done * CHUNK_SIZE, len(inputs)), description="predicting", unit="images"
        )
        for number, chunk, prepared in _prepared_chunks(inputs, done, ensemble, pool):
            _write_part(folder, number, _predict_chunk(ensemble, chunk, prepared, chosen))
            bar.update(len(chunk))
        bar.close()
    unreadable = _join(folder, len(inputs), ensemble.classes)
    if wanted_ids is not None:
        write_submission(
            folder / "submission.csv",
            wanted_ids,
            folder / "predictions.csv",
            ensemble.classes,
            unreadable_label=unreadable_label,
        )
    return Predictions(folder, len(inputs), unreadable)


def _begin(folder: Path, ensemble: Ensemble, inputs: list[Input], views: dict) -> None:
    """Note what is being predicted; refuse to mix it with another prediction half done."""
    digest = hashlib.sha256()
    for one in inputs:
        digest.update(f"{one.name}\0".encode())
    weights = [f"{member.name}={member.weight}" for member in ensemble.members]
    plan = {
        "run": str(ensemble.run.folder.resolve()),
        "images": digest.hexdigest(),
        "views": views,
        "members": weights,
        "temperature": ensemble.temperature,
    }
    file = folder / "plan.json"
    if file.exists() and (folder / "parts").exists():
        kept = json.loads(file.read_text(encoding="utf-8"))
        differing = [key for key in plan if kept.get(key) != plan[key]]
        if differing:
            raise RunError(
                f"{folder} holds a prediction half done, with other {' and '.join(differing)}.",
                hint="Give another --out, or delete that folder.",
            )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "parts").mkdir(exist_ok=True)
    write_json(file, plan | {"num_images": len(inputs), "begun": now()})


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
    count = (cpu_count() or 1) if num_workers is None else num_workers
    if num_images < WORKERS_PAY_FROM or count <= 1:
        return _InProcess()
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"))


def _try_to_prepare(task: tuple[Path, list[int], Denoise]) -> dict[int, np.ndarray] | str:
    """One image for the members, or in words why it cannot be read. Runs in a worker."""
    path, sizes, denoise = task
    try:
        return prepare_sizes(path, sizes, denoise)
    except DataError as error:
        return error.message


def _prepared_chunks(
    inputs: list[Input], first: int, ensemble: Ensemble, pool: Executor
) -> Iterator[tuple[int, list[Input], list]]:
    """Yield (number, inputs, prepared images), a chunk ahead of the networks and no further."""

    def chunk(number: int) -> list[Input]:
        return inputs[number * CHUNK_SIZE : (number + 1) * CHUNK_SIZE]

    def submit(number: int):
        tasks = [(one.path, ensemble.sizes, ensemble.recipe.denoise) for one in chunk(number)]
        return number, pool.map(_try_to_prepare, tasks, chunksize=8)

    last = -(-len(inputs) // CHUNK_SIZE)
    waiting = deque(submit(number) for number in range(first, min(first + 2, last)))
    while waiting:
        number, results = waiting.popleft()
        prepared = list(results)
        if number + 2 < last:
            waiting.append(submit(number + 2))
        yield number, chunk(number), prepared


def _predict_chunk(ensemble: Ensemble, chunk: list[Input], prepared: list, views: list[View]) -> pd.DataFrame:
    """Return the chunk's rows: image, label, confidence, spread, agreement, error, p_…, logit_…."""
    classes, n = ensemble.classes, len(chunk)
    readable = [i for i, one in enumerate(prepared) if not isinstance(one, str)]
    logits = np.full((n, len(classes)), np.nan)
    spread, agreement = np.full(n, np.nan), np.full(n, np.nan)
    if readable:
        stacked = {size: np.stack([prepared[i][size] for i in readable]) for size in ensemble.sizes}
        of_members = ensemble.member_logits(stacked, views)
        logits[readable] = ensemble.combine(of_members)
        winner = logits[readable].argmax(1)
        of_winner = softmax(of_members / ensemble.temperature)[:, np.arange(len(winner)), winner]
        spread[readable] = of_winner.std(0)
        agreement[readable] = (of_members.argmax(2) == winner).mean(0)
    proba = np.full_like(logits, np.nan)
    proba[readable] = softmax(logits[readable])
    table = pd.DataFrame(
        {
            "image": [one.name for one in chunk],
            "label": ["" if isinstance(prepared[i], str) else classes[logits[i].argmax()] for i in range(n)],
            "confidence": [np.nan if isinstance(prepared[i], str) else proba[i].max() for i in range(n)],
            "spread": spread,
            "agreement": agreement,
            "error": [one if isinstance(one, str) else "" for one in prepared],
        }
    )
    columns = {f"p_{code}": proba[:, k] for k, code in enumerate(classes)}
    columns |= {f"logit_{code}": logits[:, k].astype(np.float32) for k, code in enumerate(classes)}
    return pd.concat([table, pd.DataFrame(columns)], axis=1)


def _join(folder: Path, num_images: int, classes: list[str]) -> int:
    """Join the parts into predictions.csv and logits.parquet, one part at a time; return how many were unreadable."""
    unreadable, writer = 0, None
    numbers = range(-(-num_images // CHUNK_SIZE))
    shown = ["image", "label", "confidence", "spread", "agreement", *[f"p_{code}" for code in classes], "error"]
    with written_whole(folder / "predictions.csv") as csv_path, written_whole(folder / "logits.parquet") as path:
        with csv_path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(shown)
            for number in numbers:
                part = pd.read_parquet(_part(folder, number))
                unreadable += int((part["error"] != "").sum())
                part[shown].to_csv(file, header=False, index=False, float_format="%.6f", lineterminator="\n")
                logits = pa.Table.from_pandas(
                    part[["image", *[f"logit_{code}" for code in classes]]], preserve_index=False
                ).replace_schema_metadata(None)
                writer = writer or pq.ParquetWriter(path, logits.schema)
                writer.write_table(logits)
        writer.close()
    shutil.rmtree(folder / "parts")
    return unreadable
