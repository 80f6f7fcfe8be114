"""The folder of a prediction of shards: results/000012.parquet of each, plan.json, and the index, which comes last."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from nonet.artifacts import shard_results
from nonet.artifacts.csv_files import write_csv
from nonet.artifacts.integrity import write_sealed
from nonet.artifacts.run import now, remove_leftovers
from nonet.artifacts.storage import TEMPORARY, writing_to
from nonet.errors import RunError, StorageError
from nonet.inference.folder import PredictionFolder, differing_keys
from nonet.inference.shards import Shard

#: What the machine that deals out shards does not copy of a folder in an object store.
NOT_COPIED = (f"{shard_results.FOLDER}/**", "logs/**")


class ShardPredictionFolder(PredictionFolder):
    """The files of a prediction of shards; nothing is written before `begin`.

    Parameters
    ----------
    path : path
        The folder; of an object store, the copy on this machine of all but the results.
    url : str, optional
        Its address in an object store.
    """

    of_shards = True

    def __init__(self, path: str | Path, url: str | None = None):
        super().__init__(path)
        self.url = url
        self.index, self.set_aside_csv = self.path / shard_results.INDEX, self.path / "set_aside.csv"
        self.results, self.logs = self.path / shard_results.FOLDER, self.path / "logs"

    def __str__(self) -> str:
        return self.url or str(self.path)

    def require_usable(self, *, submission: bool = False) -> None:
        """Raise StorageError if the folder is not nonet's, or something in it is in the way; nothing is changed."""
        super().require_usable(submission=submission)
        for folder in (self.results, self.logs):
            if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
                raise StorageError(
                    f"{folder} is a file or a link, but the prediction makes a folder of that name.",
                    hint="Move it away, or give another `out`.",
                )

    def begin(self, plan: dict) -> None:
        """Write the plan.

        Raises
        ------
        RunError
            If the folder contains a prediction of something else, finished or not: it may have taken days.
        """
        stored = self.read_plan()
        if stored and (differing := differing_keys(stored, plan)):
            raise RunError(
                f"{self} contains a prediction with other {' and '.join(differing)}.",
                hint="Give another `out`, or delete that folder to discard the prediction.",
            )
        with writing_to(self.results):
            self.results.mkdir(parents=True, exist_ok=True)
        if not stored:
            self.write_plan(plan, begun=now(), files={})

    def result(self, number: int) -> str:
        """Return the absolute path, or the address, of a shard's result."""
        results = f"{self.url}/{shard_results.FOLDER}" if self.url else self.results.absolute()
        return f"{results}/{number:06d}.parquet"

    def open_again(self) -> None:
        """Remove the index, so that nobody takes the folder for finished while shards are predicted."""
        with writing_to(self.index):
            self.index.unlink(missing_ok=True)

    def finish(self, index: Mapping[str, object], aside: Mapping[str, str]) -> None:
        """Write the shards that were set aside, each with its error, and the index."""
        import pandas as pd

        for leftover in self.results.glob(f"{TEMPORARY}[0-9]*"):  # of processes that died
            leftover.unlink(missing_ok=True)
        remove_leftovers(self.index, self.set_aside_csv, self.plan_file, self.confusions)
        if aside:
            write_csv(self.set_aside_csv, pd.DataFrame({"shard": aside.keys(), "error": aside.values()}))
        else:
            self.set_aside_csv.unlink(missing_ok=True)
        write_sealed(self.index, {"finished": now(), **index, "set_aside": list(aside)})


def plan_shards(shards: Sequence[Shard]) -> dict:
    """Return the keys of a plan that describe its shards; whether their content changed is asked of each result."""
    paths = hashlib.sha256("\0".join(shard.place for shard in shards).encode("utf-8", "surrogateescape"))
    return {"images": paths.hexdigest(), "num_shards": len(shards)}
