"""The folder of a prediction: whether it may be written to, its plan, its parts, and which images are left.

Images are predicted in chunks. A finished chunk is a small file in `parts/`; an interrupted prediction resumes after
the last one. Once all are there, they are joined and removed; while some images could not be read for a transient
reason, the parts stay, and the same call predicts only those images. `plan.json` describes the prediction, so that it
is neither mixed with another nor, once finished, repeated.
"""

import contextlib
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nonet.artifacts.integrity import file_facts, read_checked_parquet, read_sealed, require_whole, write_sealed
from nonet.artifacts.predictions_csv import CHUNK_SIZE
from nonet.artifacts.run import now, remove_leftovers, set_aside, written_whole
from nonet.artifacts.storage import (
    TEMPORARY,
    FolderKind,
    exclusive_lock,
    prepare_folder,
    require_usable_folder,
    writing_to,
)
from nonet.data.images.files import FINAL
from nonet.errors import DamagedError, RunError, StorageError
from nonet.inference.inputs import Input

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger("nonet")

PREDICTION = FolderKind(
    "prediction",
    main="plan.json",
    keys={"weights", "images", "views"},
    hint="Give a new or an empty folder as `out`, or that of an earlier prediction.",
)
#: Settings that are applied when the parts are joined: parts made with another value can be used.
_APPLIED_AT_END = {"adapt_priors", "cases"}


@dataclass(frozen=True)
class Chunk:
    """Images that are predicted together and stored in one part.

    Attributes
    ----------
    number : int
        Of the part.
    rows : tuple of int
        Indices of the images among the inputs.
    is_retry : bool
        Whether they are the unreadable images of a finished part.
    """

    number: int
    rows: tuple[int, ...]
    is_retry: bool = False


class PredictionFolder:
    """The files of a prediction; nothing is written before `begin`.

    Parameters
    ----------
    path : path
        The folder.
    """

    #: Whether what is predicted are shards; such folders have other files.
    of_shards = False

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser()
        self.plan_file, self.csv, self.logits, self.confusions, self.submission = (
            self.path / name
            for name in ("plan.json", "predictions.csv", "logits.parquet", "confusions.csv", "submission.csv")
        )
        self.parts = self.path / "parts"

    def __str__(self) -> str:
        return str(self.path)

    def require_usable(self, *, submission: bool = False) -> None:
        """Check that the folder may be written to; nothing is changed.

        Parameters
        ----------
        submission : bool
            Whether submission.csv will be written.

        Raises
        ------
        StorageError
            If the folder is not nonet's, or something in it is in the way.
        """
        require_usable_folder(self.path, PREDICTION)
        if (stored := self.read_plan()) and ("num_shards" in stored) != self.of_shards:
            what = "images" if self.of_shards else "shards"
            raise StorageError(f"{self} contains a prediction of {what}.", hint="Give another `out`.")
        hint = "Move it away, or give another `out`."
        for file in (self.plan_file, self.csv, self.logits, self.confusions, self.submission):
            if file.is_dir():
                raise StorageError(f"{file} is a folder, but the prediction writes a file of that name.", hint=hint)
        if self.parts.is_symlink() or (self.parts.exists() and not self.parts.is_dir()):
            raise StorageError(
                f"{self.parts} is a file or a link, but the prediction makes a folder of that name.", hint=hint
            )
        if submission and self.submission.exists() and not self.read_plan().get("submission"):
            raise StorageError(f"{self.submission} was not written by nonet.", hint=hint)

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Return a context manager that locks the folder against other predictions, and marks it as nonet's."""
        prepare_folder(self.path, PREDICTION)
        return exclusive_lock(
            self.path / ".nonet.lock",
            f"Another process is predicting into {self}.",
            "Wait for it, or give another `out`.",
        )

    def read_plan(self) -> dict:
        """Return plan.json of an earlier call, {} if there is none or it is damaged.

        Raises
        ------
        RunError
            If the file cannot be read now: it must not be replaced then.
        """
        try:
            return read_sealed(self.plan_file, hint="")
        except DamagedError:
            return {}

    def finished_counts(self, plan: dict) -> dict[str, int] | None:
        """Return the counts of `Predictions` if the folder contains this prediction, finished and intact; else None."""
        stored = self.read_plan()
        if "finished" not in stored or stored["pending"] or differing_keys(stored, plan):
            return None
        if not all(_is_whole(file, stored) for file in (self.csv, self.logits)):
            return None
        return {key: stored[key] for key in ("num_unreadable", "num_unidentified", "num_to_retry")}

    def begin(self, plan: dict) -> None:
        """Write the plan and set aside or remove earlier results.

        Raises
        ------
        RunError
            If the folder contains an unfinished prediction of something else.
        """
        stored = self.read_plan()
        if not stored and self.plan_file.exists():
            logger.warning(f"{self.plan_file} is damaged. The images are predicted again.")
        differing = [key for key in differing_keys(stored, plan) if key not in _APPLIED_AT_END]
        if stored and "finished" not in stored and self.parts.exists() and differing:
            raise RunError(
                f"{self} contains an unfinished prediction with other {' and '.join(differing)}.",
                hint=f"Give another `out`, or delete {self.parts} to discard that prediction.",
            )
        if differing or (stored.get("finished") and not stored.get("pending")):
            self.remove_parts()
        with writing_to(self.parts):
            self.parts.mkdir(parents=True, exist_ok=True)
        for file in (self.csv, self.logits, self.confusions):
            self.set_aside_changed(file, stored)
        if stored.get("submission"):  # of an earlier prediction
            self.set_aside_changed(self.submission, stored)
            self.submission.unlink(missing_ok=True)
        self.write_plan(plan, begun=now(), files=stored.get("files", {}))  # they stay until replaced
        remove_leftovers(self.plan_file, self.csv, self.logits, self.confusions, self.submission)

    def set_aside_changed(self, file: Path, stored: dict) -> None:
        """Rename a result that was edited or damaged since it was written, before a new one replaces it.

        Parameters
        ----------
        file : Path
            The result.
        stored : dict
            The plan that it was written for.
        """
        # A call that was killed may have written the file, but not updated the plan.
        unknown = bool(stored) and file.name not in stored["files"]
        if unknown or not (file.is_file() or file.is_symlink()) or _is_whole(file, stored):
            return
        aside = set_aside(file, "changed")
        logger.warning(f"{file} was changed after nonet wrote it. It is kept as {aside.name}.")

    def copy_confusions(self, source: Path) -> None:
        """Copy a run's confusions.csv, so that `nonet.count` needs the folder alone; an intact copy stays."""
        stored, name = self.read_plan(), self.confusions.name
        intact = _is_whole(self.confusions, stored)
        if intact and source.is_file() and file_facts(source) == stored["files"][name]:
            return
        self.set_aside_changed(self.confusions, stored)
        if not source.is_file():
            self.confusions.unlink(missing_ok=True)
            return
        with written_whole(self.confusions) as temporary:
            shutil.copyfile(source, temporary)
        self.record_files(self.confusions)

    def write_plan(self, plan: dict, **facts: object) -> None:
        """Write plan.json, with further keys."""
        write_sealed(self.plan_file, plan | facts)

    def record_files(self, *files: Path) -> None:
        """Store checksums of results in plan.json, so that a later call can tell whether they were changed."""
        stored = self.read_plan()
        self.write_plan(stored, files=stored["files"] | {file.name: file_facts(file) for file in files})

    def part(self, number: int) -> Path:
        """Return the path of a chunk's table."""
        return self.parts / f"{number:06d}.parquet"

    def chunks_left(self, num_images: int) -> list[Chunk]:
        """Return what to predict: chunks without a part, and images of finished parts that are to be retried."""
        left = []
        for number, start in enumerate(range(0, num_images, CHUNK_SIZE)):
            rows = range(start, min(start + CHUNK_SIZE, num_images))
            retry = self._to_retry(number, len(rows))
            if retry is None:
                left.append(Chunk(number, tuple(rows)))
            elif retry:
                left.append(Chunk(number, tuple(start + row for row in retry), is_retry=True))
        return left

    def _to_retry(self, number: int, num_rows: int) -> list[int] | None:
        """Return the rows of a part to predict again; None if the part is missing or damaged."""
        try:
            table = self.read_part(number)
        except DamagedError:
            return None
        return table["retry"].to_numpy().nonzero()[0].tolist() if len(table) == num_rows else None

    def read_part(self, number: int) -> "pd.DataFrame":
        """Return a chunk's table.

        Raises
        ------
        DamagedError
            If it is missing or damaged.
        """
        return read_checked_parquet(self.part(number))

    def write_part(self, chunk: Chunk, table: "pd.DataFrame") -> None:
        """Write a chunk's table, or replace the rows of it that were predicted again."""
        import pandas as pd

        if chunk.is_retry:
            rows = [row - chunk.number * CHUNK_SIZE for row in chunk.rows]
            before = self.read_part(chunk.number).drop(index=rows)
            table = pd.concat([before, table.set_axis(rows)]).sort_index()
        with written_whole(self.part(chunk.number)) as path:
            table.to_parquet(path, index=False, write_page_checksum=True)

    def remove_parts(self) -> None:
        """Remove the parts, and nothing else."""
        if self.parts.is_symlink() or not self.parts.is_dir():
            return
        for file in sorted(self.parts.iterdir()):
            name = file.name.removeprefix(TEMPORARY)
            if re.match(r"\d{6,}\.parquet$" if name == file.name else r"\d{6,}\.parquet\.", name):
                file.unlink()
        with contextlib.suppress(OSError):  # it contains other files
            self.parts.rmdir()


def _is_whole(file: Path, stored: dict) -> bool:
    """Whether a result is as nonet wrote it, by the plan's checksum."""
    try:
        require_whole(file, stored.get("files", {}).get(file.name), hint="")
    except DamagedError:
        return False
    return True


def differing_keys(stored: dict, plan: dict) -> list[str]:
    """Return the keys that differ, with "images" for all keys about images."""
    differing = {key for key, value in plan.items() if stored.get(key) != value and key != "pending"}
    return sorted({"images" if key in ("names", "num_images") else key for key in differing})


def file_state(path: Path) -> str | None:
    """Return size and modification time of a file, or why there is none; None if it is not accessible now.

    They change when the file does; checksums of whole files would take too long.
    """
    try:
        facts = path.stat()
    except ValueError as error:
        return str(error)
    except OSError as error:
        return error.strerror if error.errno in FINAL else None
    return f"{facts.st_size} {facts.st_mtime_ns}"


def plan_images(folder: PredictionFolder, inputs: Sequence[Input], states: Sequence[str | None]) -> dict:
    """Return the keys of a plan that describe its images: names, images, num_images and pending.

    Pending are the indices of images that could not be read when the plan was made; their states are not compared, as
    they are read again.

    Parameters
    ----------
    folder : PredictionFolder
    inputs : sequence of Input
    states : sequence of str or None
        Of each image, from `file_state`.

    Returns
    -------
    dict

    Raises
    ------
    RunError
        If images of the folder's earlier prediction are not accessible now: whether they changed is unknown, and their
        results must not be replaced by errors.
    """
    names = hashlib.sha256()
    for one in inputs:
        names.update(f"{one.name}\0{os.fsencode(one.path.absolute()).hex()}\0".encode())
    stored = folder.read_plan()
    unknown = [row for row, state in enumerate(states) if state is None]
    pending = unknown
    if stored.get("names") == names.hexdigest():
        pending = stored["pending"]
        lost = sorted(set(unknown) - set(pending))
        if lost:
            raise RunError(
                f"{folder} contains a prediction of these images, of which {len(lost):,} cannot be read now, first "
                f"{inputs[lost[0]].path}.",
                hint="Run the same command again when they can; to predict without them, give another `out`.",
            )
    return {"names": names.hexdigest(), "num_images": len(inputs), **state_digest(states, pending)}


def state_digest(states: Sequence[str | None], pending: Sequence[int]) -> dict:
    """Return "images", a SHA-256 of the states except those of pending images, and "pending"."""
    images, left_out = hashlib.sha256(), set(pending)
    for row, state in enumerate(states):
        images.update(f"{'' if row in left_out else state}\0".encode())
    return {"images": images.hexdigest(), "pending": sorted(left_out)}
