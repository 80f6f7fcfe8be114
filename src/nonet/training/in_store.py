"""Members whose run is in an object store, trained by processes that share no file system with each other.

Such a process gets from the store what it needs of the run and the images as its network sees them, trains in a
temporary folder, and copies what it wrote to the store. No torch here.
"""

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np

from nonet.artifacts.mirror import Mirror, fetched, working_copy
from nonet.artifacts.run import Run
from nonet.artifacts.storage import writing_to
from nonet.artifacts.stores import Store
from nonet.data.preprocess.cache import PreparedImages
from nonet.data.preprocess.crop import Crop
from nonet.training.inputs import Job

#: Folder of the store for images as networks see them; removed when the run is complete.
PREPARED = "prepared"
#: What the machine that started the command does not copy of a run.
NOT_COPIED = (f"{PREPARED}/**", "jobs/**")
#: What a process that trains a member needs of the run besides the member's own folder.
_INPUTS = ("recipe.toml", "provenance.json", "manifest.parquet", "folds.csv")
#: What shows how far members are.
_PROGRESS = ("members/*/*/history.jsonl", "members/*/*/DONE")


@dataclass(frozen=True)
class StoredJob:
    """A job as a process on another machine gets it.

    Attributes
    ----------
    url : str
        Of the run.
    job : Job
        Without images.
    images : dict of Crop to tuple
        Address of their folder, name of the file with the pixels, and row of each image of the job's table.
    """

    url: str
    job: Job
    images: dict[Crop, tuple[str, str, np.ndarray]]


def store_job(mirror: Mirror, job: Job) -> StoredJob:
    """Copy everything that a job needs to the store.

    Parameters
    ----------
    mirror : Mirror
        Of the run.
    job : Job

    Returns
    -------
    StoredJob

    Raises
    ------
    StorageError
        If the store cannot be reached.
    """
    mirror.push()
    store = Store(mirror.url)
    addresses: dict[Crop, tuple[str, str, np.ndarray]] = {}
    for crop, images in job.images.items():
        # Named by content, so that what is there may stay and no process gets half of it.
        folder = f"{PREPARED}/{hashlib.sha256(images.files[1].read_bytes()).hexdigest()[:16]}"
        for file in images.files:
            name = f"{folder}/{file.name}"
            if (state := store.state(name)) is None or state[0] != file.stat().st_size:
                store.put(file, name)
        addresses[crop] = f"{mirror.url}/{folder}", images.file.name, images.rows
    return StoredJob(mirror.url, replace(job, images={}), addresses)


def train_stored_member(stored: StoredJob, name: str, accelerator: str, num_devices: int) -> None:
    """Train one member in this process, which an engine started.

    Parameters
    ----------
    stored : StoredJob
    name : str
        Of the member.
    accelerator : str
    num_devices : int
        How many devices share each batch.

    Raises
    ------
    StorageError
        If something cannot be read or written.
    """
    from nonet.training.all_members import train_here  # imports torch

    with ExitStack() as opened:
        images = {
            crop: PreparedImages(opened.enter_context(fetched(url)) / file_name, crop, rows)
            for crop, (url, file_name, rows) in stored.images.items()
        }
        folder = opened.enter_context(working_copy(stored.url, only=(*_INPUTS, f"members/{name}/*")))
        with writing_to(folder):
            job = replace(stored.job, run=Run(folder), images=images)
            if busy := train_here(job, [name], accelerator, num_devices):
                raise busy


def pull_progress(mirror: Mirror) -> None:
    """Bring up to date what shows how far members are."""
    mirror.pull(only=_PROGRESS)


def exchange_members(mirror: Mirror) -> None:
    """Bring all members up to date, here and in the store."""
    mirror.push()
    mirror.pull(only=("members/**",))


def remove_prepared(mirror: Mirror) -> None:
    """Remove the images of a run that is complete from the store."""
    store = Store(f"{mirror.url}/{PREPARED}")
    store.remove(store.files())
