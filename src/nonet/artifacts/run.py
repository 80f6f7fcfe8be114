"""The run folder: its files, how they are written, and whether a run may be continued.

A file is written under another name, then renamed, so that an existing file is complete. A member's `DONE` comes last.
"""

import contextlib
import glob
import hashlib
import itertools
import json
import os
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from nonet.artifacts.storage import TEMPORARY, writing_to
from nonet.artifacts.urls import require_path
from nonet.errors import DamagedError, NonetError, RunError

FORMAT_VERSION = 1
MAKE_ONE = 'Make one with "nonet train RECIPE DATASET --out RUN".'


def repair_hint(run: object) -> str:
    """Return the hint for a file of a run that is missing or damaged."""
    return (
        f'Run the same "nonet train RECIPE DATASET --out {run}" again: it writes this file again and '
        "keeps the others. Or copy the run folder again."
    )


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Write a file atomically, as a context manager.

    Parameters
    ----------
    path : Path
        The file; its folder is created.

    Yields
    ------
    Path
        A temporary path in the same folder, renamed to `path` if the block ends without an exception, else removed.

    Raises
    ------
    StorageError
        If it cannot be written, for example because the disk is full. An earlier file stays as it was.
    """
    path = Path(path)
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{TEMPORARY}{path.name}.", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        try:
            try:
                yield temporary
            except (OSError, NonetError):
                raise
            except Exception:
                _raise_if_unwritable(temporary)
                raise
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)  # mkstemp makes files for the owner alone
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            with contextlib.suppress(OSError):  # a disconnected drive would hide the first error
                temporary.unlink(missing_ok=True)


def _raise_if_unwritable(temporary: Path) -> None:
    """Raise the operating system's error if nothing can be written: torch and safetensors hide it in their own."""
    with temporary.open("ab") as file:
        file.write(bytes(1 << 20))
        file.flush()
        os.fsync(file.fileno())


def set_aside(path: Path, word: str) -> Path:
    """Rename `name.suffix` to `name.WORD.suffix`, or `name.WORD-2.suffix` and so on; return the new path."""
    names = (f"{path.stem}.{word}{'' if i == 1 else f'-{i}'}{path.suffix}" for i in itertools.count(1))
    aside = next(place for place in map(path.with_name, names) if not os.path.lexists(place))
    with writing_to(path):
        return path.replace(aside)


def remove_leftovers(*files: Path) -> None:
    """Remove half-written versions of these files left by an interrupted call; nothing else has such names."""
    for file in files:
        for leftover in file.parent.glob(f"{TEMPORARY}{glob.escape(file.name)}.*"):
            leftover.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, data: object) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(data, indent=2, default=str) + "\n")


class InFolder:
    """An attribute that is the path of a file or folder in `self.folder`.

    Parameters
    ----------
    name : str
        Relative to the folder.
    """

    def __init__(self, name: str):
        self.name = name

    def __get__(self, owner: "Member | Run", owner_type: type | None = None) -> Path:
        return owner.folder / self.name


@dataclass(frozen=True)
class Member:
    """The folder of one network: an architecture trained on all folds but one.

    Attributes
    ----------
    folder : Path
    architecture : str
        Key of `BACKBONES`.
    fold : int
        The held-out fold.
    """

    folder: Path
    architecture: str
    fold: int

    @property
    def name(self) -> str:
        return f"{self.architecture}/fold-{self.fold}"

    weights = InFolder("weights.safetensors")
    history = InFolder("history.jsonl")
    state = InFolder("state.pt")
    previous_state = InFolder("state.previous.pt")
    """The state before the last one, in case that is damaged."""
    oof = InFolder("oof.parquet")
    features = InFolder("features.npz")
    ood = InFolder("ood.npz")
    unknown = InFolder("unknown.parquet")
    """Held-out images of unknown cell types and their scores; only where the dataset has such images."""
    done = InFolder("DONE")

    @property
    def run(self) -> "Run":
        """The run that the member belongs to."""
        return Run(self.folder.parents[2])

    @property
    def lock(self) -> Path:
        """Held by the process that trains the member; beside its folder, which only has what training leaves."""
        return self.folder.with_name(f".{self.folder.name}.lock")

    @property
    def results(self) -> tuple[Path, ...]:
        """The files that training leaves, besides DONE."""
        return self.weights, self.history, self.oof, self.features, self.ood, self.unknown

    @property
    def is_done(self) -> bool:
        return self.done.exists()

    def clear(self) -> None:
        """Remove what a finished training does not need: its state, and half-written files."""
        self.state.unlink(missing_ok=True)
        self.previous_state.unlink(missing_ok=True)
        remove_leftovers(*self.results, self.state, self.previous_state, self.done)


class Run:
    """A run folder. It only has the paths of the files; making one reads nothing.

    Parameters
    ----------
    folder : str, path or Run
    """

    lock = InFolder(".nonet.lock")
    """Held while the run as a whole is trained."""
    begin_lock = InFolder(".nonet.begin.lock")
    """Held for moments by each process that trains some of its members: when it begins, and when all are done."""
    recipe = InFolder("recipe.toml")
    provenance = InFolder("provenance.json")
    checksums = InFolder("checksums.json")
    """SHA-256 of the run's own files; see `nonet.artifacts.integrity`."""
    manifest = InFolder("manifest.parquet")
    folds = InFolder("folds.csv")
    dataset_record = InFolder("dataset_record.json")
    """What was known of the dataset when training started; see `nonet.data.dataset_record`."""
    samples = InFolder("samples.npz")
    oof = InFolder("oof.parquet")
    ensemble = InFolder("ensemble.json")
    confusions = InFolder("confusions.csv")
    """What the ensemble calls held-out images; see `nonet.artifacts.confusions`."""
    evaluation = InFolder("evaluation")
    issues = InFolder("evaluation/issues.csv")
    robustness = InFolder("evaluation/robustness.csv")
    robustness_differences = InFolder("evaluation/robustness_differences.csv")
    reviews = InFolder("review/reviews.sqlite")
    """What people decided on cells; see `nonet.review.store`."""
    uploads = InFolder("review/uploads")
    """Images that people uploaded; see `nonet.review.uploads`."""
    decisions = InFolder("review/decisions.csv")
    """What people decided on doubtful labels, for `build_dataset`; see `nonet.review.label_decisions`."""
    compiled = InFolder("compiled")
    """Networks in the form of a backend; see `nonet.inference.backends.compiled`."""
    users = InFolder("review/users.sqlite")
    """Who may use the page; see `nonet.review.accounts`."""

    def __init__(self, folder: "str | os.PathLike | Run"):
        self.folder: Path = Path(folder.folder if isinstance(folder, Run) else folder).expanduser()

    def __fspath__(self) -> str:
        return str(self.folder)

    def __str__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def require(self) -> None:
        """Check that the folder is a run.

        Raises
        ------
        RunError
            If there is no such folder, or it is not a run.
        DamagedError
            If it is a run without recipe.toml.
        """
        require_path(self.folder, "run")
        if not self.folder.exists():
            raise RunError(f"The run {self} does not exist.", hint=MAKE_ONE)
        if not self.folder.is_dir():
            raise RunError(f"{self} is a file, not the folder of a run.", hint=MAKE_ONE)
        if not self.recipe.exists():
            if self.provenance.is_file() or self.has_members:
                raise DamagedError(f"{self.recipe} is missing.", hint=repair_hint(self))
            raise RunError(f"{self} is not a nonet run: recipe.toml is missing.", hint=MAKE_ONE)

    @property
    def has_members(self) -> bool:
        """Whether any file of a member exists, fully trained or not."""
        return any((self.folder / "members").glob("*/fold-*/*"))

    def member(self, architecture: str, fold: int) -> Member:
        return Member(self.folder / "members" / architecture / f"fold-{fold}", architecture, fold)

    def members(self, architectures: tuple[str, ...], num_folds: int) -> list[Member]:
        """Return all members, fold by fold, so that an interrupted run has complete ensembles of the first folds."""
        return [self.member(arch, fold) for fold in range(num_folds) for arch in architectures]


def software_and_machine() -> dict:
    """Return what determines a run's numbers besides recipe and data: versions of packages, system, processors."""
    from importlib import metadata  # here, as every command imports this module

    from nonet.workers import num_processors

    versions = {}
    for package in ["nonet", "torch", "timm", "lightning-fabric", "numpy", "pandas", "scikit-learn", "numba", "pillow"]:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {
        "versions": versions,
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "processor_count": num_processors(),
    }


def now() -> str:
    """Return the time in UTC as ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_same(stored: dict, requested: dict, run: Run, details: str = "") -> None:
    """Refuse to continue a run whose recipe, manifest or folds changed.

    Parameters
    ----------
    stored, requested : dict of str to str
        Fingerprints by name.
    run : Run
    details : str
        Description of the difference.

    Raises
    ------
    RunError
        If they differ; names what does.
    """
    differing = [key for key in requested if stored.get(key) != requested[key]]
    if differing:
        raise RunError(
            f"{run} was started with another {' and '.join(differing)}{': ' + details if details else ''}.",
            hint="Give another `out`, or restore what changed. Nothing was overwritten.",
        )
