"""The folder of a prediction: whose it is, what it is a prediction of, its parts, and what is left to do.

Images go through in chunks. A finished chunk is a small file in `parts/`; a killed prediction resumes behind the last
one. When all are there they are joined and removed; while some images could not be read for a reason that may pass,
the parts stay, and the same call predicts those images alone. `plan.json` says what the prediction is of, so that it is
neither mixed with another nor, once finished, made again.
"""

import contextlib
import hashlib
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nonet.artifacts.integrity import facts_of, read_checked_parquet, read_sealed, require_whole, write_sealed
from nonet.artifacts.run import now, remove_leftovers, set_aside, written_whole
from nonet.artifacts.storage import TEMPORARY, alone, claim, require_ours, writing_to
from nonet.data.images.files import FINAL
from nonet.errors import DamagedError, RunError, StorageError
from nonet.inference.inputs import Input

logger = logging.getLogger("nonet")

CHUNK_SIZE = 64
_OURS = {
    "kind": "prediction",
    "main": "plan.json",
    "keys": {"weights", "images", "views"},
    "hint": "Give a new or an empty folder as `out`, or that of an earlier prediction.",
}
#: Settings that act on all parts at the end, so that parts made with another value serve as well.
_OF_THE_END = {"adapt_priors"}


@dataclass(frozen=True)
class Chunk:
    """Images that are predicted together and kept in one part.

    Attributes
    ----------
    number : of the part.
    rows : the images' places among the inputs.
    is_retry : whether they are those rows of a part that is there which could not be read.
    """

    number: int
    rows: tuple[int, ...]
    is_retry: bool = False


class PredictionFolder:
    """Where a prediction lies; nothing is touched before `begin`."""

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser()
        self.plan_file, self.csv, self.logits, self.submission = (
            self.path / name for name in ("plan.json", "predictions.csv", "logits.parquet", "submission.csv")
        )
        self.parts = self.path / "parts"

    def __str__(self) -> str:
        return str(self.path)

    def require_ours(self, *, submission: bool = False) -> None:
        """Raise StorageError where the folder is another's, or something in it is in the way; touch nothing.

        Parameters
        ----------
        submission : whether submission.csv is to be written.
        """
        require_ours(self.path, **_OURS)
        hint = "Move it away, or give another `out`."
        for file in (self.plan_file, self.csv, self.logits, self.submission):
            if file.is_dir():
                raise StorageError(f"{file} is a folder, where a file of the prediction would be.", hint=hint)
        if self.parts.is_symlink() or (self.parts.exists() and not self.parts.is_dir()):
            raise StorageError(f"{self.parts} is not a folder of nonet.", hint=hint)
        if submission and self.submission.exists() and not self.kept_plan().get("submission"):
            raise StorageError(f"{self.submission} was not written by nonet.", hint=hint)

    def alone(self):
        """Hold the folder against other predictions, as a context manager; it becomes nonet's where it was empty."""
        claim(self.path, **_OURS)
        return alone(
            self.path / ".nonet.lock",
            f"Another process is predicting into {self}.",
            "Wait for it, or give another `out`.",
        )

    def kept_plan(self) -> dict:
        """Return what an earlier call left; {} where there is nothing, or it is damaged.

        Raises
        ------
        RunError where the file cannot be read now: what it says must not be replaced for that.
        """
        try:
            return read_sealed(self.plan_file, hint="")
        except DamagedError:
            return {}

    def done(self, plan: dict) -> dict[str, int] | None:
        """Return how many images have no label, by why, where the folder holds this prediction whole, else None."""
        kept = self.kept_plan()
        if "finished" not in kept or kept["pending"] or _differing(kept, plan):
            return None
        if not all(_is_whole(file, kept) for file in (self.csv, self.logits)):
            return None
        return {key: kept[key] for key in ("num_unreadable", "num_unidentified", "num_to_retry")}

    def begin(self, plan: dict) -> None:
        """Note what is being predicted; refuse to mix it with another prediction half done."""
        kept = self.kept_plan()
        if not kept and self.plan_file.exists():
            logger.warning(f"{self.plan_file} is damaged. The images are predicted anew.")
        differing = [key for key in _differing(kept, plan) if key not in _OF_THE_END]
        if kept and "finished" not in kept and self.parts.exists() and differing:
            raise RunError(
                f"{self} holds a prediction half done, with other {' and '.join(differing)}.",
                hint=f"Give another `out`, or delete {self.parts} to give that prediction up.",
            )
        if differing or (kept.get("finished") and not kept.get("pending")):
            self.remove_parts()
        with writing_to(self.parts):
            self.parts.mkdir(parents=True, exist_ok=True)
        for file in (self.csv, self.logits):
            self.keep_changed(file, kept)
        if kept.get("submission"):  # of a prediction before: it must not be mistaken for this one's
            self.keep_changed(self.submission, kept)
            self.submission.unlink(missing_ok=True)
        self.note(plan, begun=now(), files=kept.get("files", {}))  # which stay until the new ones replace them
        remove_leftovers(self.plan_file, self.csv, self.logits, self.submission)

    def keep_changed(self, file: Path, kept: dict) -> None:
        """Rename a result that was edited, or damaged, since it was written: a new one is about to replace it.

        Parameters
        ----------
        kept : the plan that it was written for.
        """
        unknown = bool(kept) and file.name not in kept["files"]  # written, and killed before the plan could say so
        if unknown or not (file.is_file() or file.is_symlink()) or _is_whole(file, kept):
            return
        aside = set_aside(file, "changed")
        logger.warning(f"{file} is not what {self.plan_file.name} says was written. It is kept as {aside.name}.")

    def note(self, plan: dict, **facts: object) -> None:
        """Write plan.json with what has become known."""
        write_sealed(self.plan_file, plan | facts)

    def note_files(self, *files: Path) -> None:
        """Keep in plan.json what these results are, so that a later call knows them."""
        kept = self.kept_plan()
        self.note(kept, files=kept["files"] | {file.name: facts_of(file) for file in files})

    def part(self, number: int) -> Path:
        """Return where a chunk's table lies."""
        return self.parts / f"{number:06d}.parquet"

    def chunks_left(self, num_images: int) -> list[Chunk]:
        """Return what is to be predicted: chunks that are not there, and images that could not be read at the time."""
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
        """Return the rows of a part to predict again; None where there is no such part, or it is damaged."""
        try:
            table = self.read_part(number)
        except DamagedError:
            return None
        return table["retry"].to_numpy().nonzero()[0].tolist() if len(table) == num_rows else None

    def read_part(self, number: int) -> pd.DataFrame:
        """Read a chunk's table. Raises DamagedError where it is missing or damaged."""
        return read_checked_parquet(self.part(number))

    def write_part(self, chunk: Chunk, table: pd.DataFrame) -> None:
        """Write a chunk's table, or replace those of its rows that were predicted again."""
        if chunk.is_retry:
            places = [row - chunk.number * CHUNK_SIZE for row in chunk.rows]
            before = self.read_part(chunk.number).drop(index=places)
            table = pd.concat([before, table.set_axis(places)]).sort_index()
        with written_whole(self.part(chunk.number)) as path:
            table.to_parquet(path, index=False, write_page_checksum=True)

    def remove_parts(self) -> None:
        """Remove the parts and nothing else."""
        if self.parts.is_symlink() or not self.parts.is_dir():
            return
        for file in sorted(self.parts.iterdir()):
            name = file.name.removeprefix(TEMPORARY)
            if re.match(r"\d{6,}\.parquet$" if name == file.name else r"\d{6,}\.parquet\.", name):
                file.unlink()
        with contextlib.suppress(OSError):  # something of the user's in it
            self.parts.rmdir()


def _is_whole(file: Path, kept: dict) -> bool:
    """Whether a result is what the plan says was written."""
    try:
        require_whole(file, kept.get("files", {}).get(file.name), hint="")
    except DamagedError:
        return False
    return True


def _differing(kept: dict, plan: dict) -> list[str]:
    """Return the keys that differ; `images` stands for all that a plan says of them."""
    differing = {key for key, value in plan.items() if kept.get(key) != value and key != "pending"}
    return sorted({"images" if key in ("names", "num_images") else key for key in differing})


def states_of(inputs: Sequence[Input]) -> list[str | None]:
    """Return size and time of each image's file, which change when it does; None where it cannot be read now.

    Reading the files whole would take too long.
    """
    return [_state_of(one.path) for one in inputs]


def _state_of(path: Path) -> str | None:
    try:
        facts = path.stat()
    except ValueError as error:
        return str(error)
    except OSError as error:
        return error.strerror if error.errno in FINAL else None
    return f"{facts.st_size} {facts.st_mtime_ns}"


def about_images(folder: PredictionFolder, inputs: Sequence[Input], states: Sequence[str | None]) -> dict:
    """Return what a plan says of its images: `names`, `images`, `num_images` and `pending`.

    Pending are those that could not be read when the plan was made, by their places; what they are counts for nothing,
    as they are read again.

    Raises
    ------
    RunError where images that the folder's prediction is of cannot be looked at now: whether they changed is unknown,
    and what is there must not be replaced by their errors.
    """
    names = hashlib.sha256()
    for one in inputs:
        names.update(f"{one.name}\0{os.fsencode(one.path.absolute()).hex()}\0".encode())
    kept = folder.kept_plan()
    unknown = [place for place, state in enumerate(states) if state is None]
    pending = unknown
    if kept.get("names") == names.hexdigest():
        pending = kept["pending"]
        lost = sorted(set(unknown) - set(pending))
        if lost:
            raise RunError(
                f"{folder} holds a prediction of these images, of which {len(lost):,} cannot be read now, first "
                f"{inputs[lost[0]].path}.",
                hint="Run the same command again when they can; to predict without them, give another `out`.",
            )
    return {"names": names.hexdigest(), "num_images": len(inputs), **state_digest(states, pending)}


def state_digest(states: Sequence[str | None], pending: Sequence[int]) -> dict:
    """Return `images`, a SHA-256 of the states but those of pending images, and `pending`."""
    images, left_out = hashlib.sha256(), set(pending)
    for place, state in enumerate(states):
        images.update(f"{'' if place in left_out else state}\0".encode())
    return {"images": images.hexdigest(), "pending": sorted(left_out)}
