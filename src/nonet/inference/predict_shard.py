"""`predict_shard`: a shard in, one whole Parquet file out. A loop, a pool, a cluster or a job array calls it.

It reads the shard as a stream and holds a few chunks of it, so memory does not grow with the number of images.
"""

import hashlib
import json
import logging
from collections import Counter, deque
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from nonet.artifacts.predictions_csv import CHUNK_SIZE
from nonet.artifacts.run import Run, written_whole
from nonet.artifacts.shard_results import COUNTS, ResultWriter, read_record, write_record
from nonet.artifacts.stores import copied_out
from nonet.artifacts.urls import as_url
from nonet.cells import UNIDENTIFIED
from nonet.data.shards.folder import AGAIN
from nonet.data.shards.formats import read_shard
from nonet.data.shards.shard_image import ShardError, ShardImage
from nonet.data.sources.paths import valid_unicode
from nonet.errors import DamagedError, RunError, one_line
from nonet.inference.load import OpenedRun, open_run, parse_views, require_effort
from nonet.inference.predict import describe_run, predict_chunk
from nonet.inference.shards import Shard, open_shard
from nonet.models.accelerators import require_devices
from nonet.recipe import Predict

if TYPE_CHECKING:
    import pandas as pd

    from nonet.inference.ensemble import Ensemble

logger = logging.getLogger("nonet")


@dataclass(frozen=True)
class Model:
    """What predicts, as a task names it to a process that may be on another machine.

    Attributes
    ----------
    run : str
        Absolute path, or address in an object store.
    views : str or None
        As given to `predict_shard`.
    accelerator, backend, effort : str
        Likewise; `backend` is not "auto".
    num_workers : int or None
        Likewise.
    digest : str
        From `digest_model`, when the prediction began.
    """

    run: str
    views: str | None
    accelerator: str
    backend: str
    effort: str
    num_workers: int | None
    digest: str


#: The ensemble of this process, which stays between shards: at most one.
_loaded: "dict[Model, Ensemble]" = {}


def predict_shard(
    shard: str | Path,
    *,
    out: str | Path,
    run: str | Path | Run,
    views: str | int | None = None,
    accelerator: str = "auto",
    backend: str = "auto",
    effort: str = "full",
    num_workers: int | None = None,
) -> Path | str:
    """Predict the images of one shard, and write one Parquet file, whole or not at all.

    `nonet.predict_shards` calls it for each of many shards; call it yourself where another program deals out the work.
    The networks stay loaded between calls. An image that cannot be read is a row with its error.

    Parameters
    ----------
    shard : path
        A file of `nonet.shard_images`; a Parquet file with a column of images as data sets on the Hugging Face hub have
        it; or a WebDataset archive (.tar). Like `out`, also in an object store: "s3://bucket/shards/000012.parquet".
    out : path
        The Parquet file to write, with a row for each image in the order of the shard: the columns of predictions.csv,
        path, and a logit of each class. A small JSON file beside it says what it is of; if it is there, of this shard
        and this model, and whole, nothing is done.
    run : str, path or Run
        A trained run.
    views : str or int, optional
        Test-time augmentation: "none", "dihedral" (or 8), "random" or "random:N". Default: as in the recipe.
    accelerator : {"auto", "cpu", "gpu", "cuda", "mps"}
        What to compute on, as for `nonet.predict`.
    backend : {"auto", "torch", "openvino", "openvino-int8"}
        What runs the networks, as for `nonet.predict`.
    effort : {"full", "auto"}
        As for `nonet.predict`.
    num_workers : int, optional
        Number of processes that read and denoise images. Default: one per core.

    Returns
    -------
    Path or str
        `out`, absolute; of an object store, its address.

    Raises
    ------
    ShardError
        If the shard is missing or damaged; a DataError.
    RunError
        If the run is incomplete.
    StorageError
        If `out` cannot be written.
    """
    require_devices(accelerator)
    require_effort(effort)
    opened = open_run(run)
    settings = parse_views(views, opened.recipe.predict)
    backend, _ = opened.choose_backend(backend, accelerator)
    model = Model(
        opened.place,
        None if views is None else str(views),
        *(accelerator, backend, effort, num_workers),
        digest_model(opened, settings, backend, effort),
    )
    shard, out = (as_url(place) or Path(place).expanduser().absolute() for place in (shard, out))
    predict_task(open_shard(shard), str(out), model)
    return out


def digest_model(opened: OpenedRun, settings: Predict, backend: str, effort: str) -> str:
    """Return a SHA-256 of what determines a prediction besides its images, wherever the run lies."""
    facts = describe_run(opened.run, opened.recipe, opened.ensemble, settings) | {"backend": backend, "effort": effort}
    facts.pop("run")
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def predict_task(shard: Shard, out: str, model: Model) -> None:
    """Predict a shard as `predict_shard` does, in a process that keeps the model for the next one.

    Raises
    ------
    RunError
        If the run is not what it was when the prediction began.
    """
    if find_record(out, shard, model):  # an earlier call of this task made it, and its process died later
        return
    with shard.opened() as path, copied_out(out) as result:
        ensemble = _load(model)
        if ensemble.effort is not None:
            ensemble.effort.begin()
        counts, labels = _write_result(result, path, shard.num_images, ensemble, model)
        if shard.num_images not in (None, counts["num_images"]):
            have = f"{shard.place} has {counts['num_images']:,} images, not {shard.num_images:,}."
            raise ShardError(have, hint=AGAIN)
        facts = {"shard": shard.identity, "model": model.digest, "backend": model.backend}
        write_record(result, facts | counts | {"labels": dict(labels)})


def _write_result(
    result: Path, path: Path, num_images: int | None, ensemble: "Ensemble", model: Model
) -> tuple[dict[str, int], Counter[str]]:
    """Predict a shard's file, write its rows, and return how many there are of each kind and label."""
    counts, labels = dict.fromkeys(COUNTS, 0), Counter[str]()
    with (
        closing(_predict(path, num_images, ensemble, model)) as results,
        written_whole(result) as temporary,
        ResultWriter(temporary) as writer,
    ):
        for rows in results:
            writer.add(rows)
            for key, num in zip(COUNTS, _count(rows), strict=True):
                counts[key] += num
            labels.update(rows["label"])
    return counts, labels


def _count(rows: "pd.DataFrame") -> tuple[int, ...]:
    """Return the numbers of images of the kinds in COUNTS."""
    from nonet.calibration.labels import NOT_NOW

    unreadable = rows["label"] == ""
    unidentified, to_retry = rows["label"] == UNIDENTIFIED, unreadable & (rows["reason"] == NOT_NOW)
    return len(rows), *(int(kind.sum()) for kind in (unreadable, unidentified, to_retry))


def find_record(out: str, shard: Shard, model: Model) -> dict | None:
    """Return the record of a result; None if there is none of this shard and model, or it is damaged."""
    try:
        record = read_record(out)
    except DamagedError:
        return None
    return record if (record["shard"], record["model"]) == (shard.identity, model.digest) else None


def _load(model: Model) -> "Ensemble":
    """Return the ensemble of this process, loaded if it is not that of the model."""
    if model in _loaded:
        return _loaded[model]
    _loaded.clear()
    opened = open_run(model.run)
    digest = digest_model(opened, parse_views(model.views, opened.recipe.predict), model.backend, model.effort)
    if digest != model.digest:
        raise RunError(
            f"{opened.run} was changed since this prediction began.",
            hint="Run the same command again, with another `out` if it says so.",
        )
    ensemble = opened.load(model.accelerator, model.backend, model.effort)
    if not ensemble.rejection.is_fitted:
        logger.warning(f"No image is rejected as an unknown cell type. {' '.join(ensemble.rejection.notes)}")
    _loaded[model] = ensemble
    return ensemble


def _predict(
    path: Path, num_images: int | None, ensemble: "Ensemble", model: Model
) -> "Generator[pd.DataFrame, None, None]":
    """Predict a shard chunk by chunk, each of the same images as `nonet.predict` takes together, and yield the rows."""
    from nonet.inference.reader import WORKERS_PAY_FROM, Reader
    from nonet.models.views import get_views

    views = get_views(parse_views(model.views, ensemble.recipe.predict))
    waiting, is_empty = deque[list[ShardImage]](), True

    def chunks() -> Iterator[list[ShardImage]]:
        images = read_shard(path)
        while chunk := list(islice(images, CHUNK_SIZE)):
            waiting.append(chunk)
            yield chunk

    num_images = WORKERS_PAY_FROM if num_images is None else num_images
    # Its processes end with the shard: a process that is to end waits for those that it has started.
    with Reader(ensemble.crops, ensemble.recipe.denoise, num_images, model.num_workers) as reader:
        for prepared in reader.read(chunks()):
            chunk = waiting.popleft()
            yield _make_result(ensemble, chunk, predict_chunk(ensemble, chunk, prepared, views))
            is_empty = False
    if is_empty:
        yield _make_result(ensemble, [], predict_chunk(ensemble, [], [], views))


def _make_result(ensemble: "Ensemble", chunk: list[ShardImage], part: "pd.DataFrame") -> "pd.DataFrame":
    """Return the rows of a result: those of predictions.csv, then path and logits."""
    import pandas as pd

    from nonet.artifacts.oof import logit_columns
    from nonet.inference.results import make_rows

    part["case"] = [one_line(one.case) for one in chunk]
    part["path"] = [one.path for one in chunk]
    part["error"] = part["error"].map(valid_unicode)
    return pd.concat([make_rows(part, ensemble), part[["path", *logit_columns(ensemble.classes)]]], axis=1)
