"""Networks in int8: made with training images, and used only where decisions stay as they are in single precision.

Each image of the run is labelled by the members that never saw it, in single precision and in int8. agreement.json, in
the run, keeps the share of images with the same label, and which members run in int8.
"""

import importlib.util
import logging
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.special import softmax
from tqdm import tqdm

from nonet.artifacts.ensemble_file import EnsembleFile
from nonet.artifacts.integrity import read_done, read_sealed, write_sealed
from nonet.artifacts.run import Member, Run
from nonet.data.preprocess.cache import prepare_images
from nonet.data.run_images import open_dataset_of
from nonet.errors import DamagedError, RunError
from nonet.inference.backends.compiled import VERSIONS, Compiled
from nonet.models.backbones import get_crop
from nonet.models.views import batches, get_views
from nonet.progress import progress
from nonet.recipe import Recipe

if TYPE_CHECKING:
    from nonet.inference.ensemble import Ensemble

logger = logging.getLogger("nonet")

#: Smallest share of out-of-fold decisions that must stay the same, where int8 is chosen by itself and by name.
AUTO, BY_NAME = 0.995, 0.985
NUM_CALIBRATION_IMAGES = 300
MAX_COMPARED_IMAGES = 4000
_CHUNK = 64


@dataclass(frozen=True)
class Agreement:
    """How far the decisions of a run with int8 networks are those in single precision.

    Attributes
    ----------
    members : list of str
        ARCHITECTURE/fold-K of the networks that run in int8; the others would spoil too many decisions.
    same_decisions : float
        Share of out-of-fold images with the same label.
    num_images : int
        Out-of-fold images that were compared.
    """

    members: list[str]
    same_decisions: float
    num_images: int

    def __str__(self) -> str:
        return f"{self.same_decisions:.2%} of {self.num_images:,} out-of-fold decisions as in single precision"


def choose_int8_members(run: Run, recipe: Recipe, ensemble: EnsembleFile, *, make: bool) -> list[str]:
    """Return the members that are to run in int8: as many as keep enough decisions.

    Parameters
    ----------
    run : Run
    recipe : Recipe
        Of the run.
    ensemble : EnsembleFile
        Of the run.
    make : bool
        Whether int8 was asked for by name: then it is made if it is not there, and fewer decisions need to stay the
        same.

    Returns
    -------
    list of str
        ARCHITECTURE/fold-K of each; none if int8 was not made, or spoils too many decisions.

    Raises
    ------
    RunError
        If int8 was asked for and spoils too many decisions, or the images of the run are not found.
    StorageError
        If int8 was asked for, and what is made of it cannot be kept in the run.
    """
    members = [run.member(entry.architecture, entry.fold) for entry in ensemble.members if entry.weight > 0]
    choices = _read(run, recipe, ensemble, members)
    if choices is None:
        if not make:
            return []
        if importlib.util.find_spec("nncf") is None:
            raise RunError("int8 networks are made with the package nncf.", hint="pip install nonet[int8]")
        choices = _Preparation(run, recipe, ensemble, members).make()
        write_sealed(
            _file(run), {"choices": [asdict(choice) for choice in choices], "origin": _origin(ensemble, members)}
        )
    required = BY_NAME if make else AUTO
    for choice in choices:
        if choice.same_decisions >= required:
            logger.info(f"{len(choice.members)} of {len(members)} networks run in int8: {choice}.")
            return choice.members
    if make:
        raise RunError(
            f"int8 changes too many decisions of {run}: {choices[-1]}, and {BY_NAME:.1%} are required.",
            hint='Use `backend="openvino"`.',
        )
    return []


def _file(run: Run) -> Path:
    return run.compiled / "openvino-int8" / "agreement.json"


def _origin(ensemble: EnsembleFile, members: Sequence[Member]) -> dict:
    """Return what the choices depend on: the networks, and how logits become labels."""
    return {
        "versions": VERSIONS,
        "weights": {member.name: read_done(member)["files"][member.weights.name]["sha256"] for member in members},
        "ensemble": ensemble.model_dump(mode="json", include={"members", "temperature", "calibration", "rejection"}),
    }


def _read(run: Run, recipe: Recipe, ensemble: EnsembleFile, members: Sequence[Member]) -> list[Agreement] | None:
    """Return what was measured; None if nothing was, or anything is damaged or of another ensemble."""
    if not _file(run).exists():
        return None
    try:
        stored = read_sealed(_file(run), hint="It is measured again when int8 is asked for by name.")
        forms = [Compiled("openvino-int8", member, recipe.models, len(ensemble.classes)) for member in members]
        if stored.get("origin") != _origin(ensemble, members) or not all(form.is_whole() for form in forms):
            return None
        return [Agreement(**choice) for choice in stored["choices"]]
    except DamagedError as error:
        logger.warning(error)
        return None


class _Preparation:
    """Makes the int8 form of a run's members and compares their decisions.

    Parameters
    ----------
    run : Run
    recipe : Recipe
    ensemble : EnsembleFile
    members : list of Member
        Those with non-zero weight.
    """

    def __init__(self, run: Run, recipe: Recipe, ensemble: EnsembleFile, members: list[Member]):
        self.run, self.recipe, self.ensemble, self.members = run, recipe, ensemble, members
        try:
            dataset = open_dataset_of(run)
        except RunError as error:
            raise RunError(
                f"{error.message} int8 networks are calibrated with the images that the run was trained on.",
                hint='Bring the dataset back, or use `backend="openvino"`.',
            ) from error
        folds = pd.read_csv(run.folds, dtype={"image_id": str})
        self.table = folds.merge(pd.read_parquet(run.manifest), on="image_id", validate="one_to_one")
        self.images = prepare_images(
            [dataset.image_path(image_id) for image_id in self.table["image_id"]],
            self.table["sha256"].tolist(),
            crops=sorted({get_crop(member.architecture, recipe.models) for member in members}),
            denoise=recipe.denoise,
            cache_dir=dataset.folder / "cache",
            description="reading images of the run",
        )

    def make(self) -> list[Agreement]:
        """Make the int8 forms; return what keeps how many decisions, from all members in int8 to one."""
        with progress(total=2 * len(self.members), description="preparing int8 networks, once", unit="steps") as bar:
            self._quantise(bar)
            compared = self._compare(bar)
        return choices_of(compared, [member.name for member in self.members])

    def _quantise(self, bar: tqdm) -> None:
        """Make the int8 form of each member that has none, calibrated with images that it was trained on."""
        from nonet.inference.backends.conversion import to_int8
        from nonet.inference.backends.openvino_cpu import OpenVinoBackend

        backend = OpenVinoBackend(self.run, self.recipe, len(self.ensemble.classes))
        models = backend.read_or_make(self.members)
        for member in self.members:
            form = backend.form("openvino-int8", member)
            if not form.is_whole():
                trained_on = np.flatnonzero((self.table["fold"] != member.fold).to_numpy())
                drawn = np.random.default_rng(0).permutation(trained_on)[:NUM_CALIBRATION_IMAGES]
                images = self.images[get_crop(member.architecture, self.recipe.models)][np.sort(drawn)]
                turned = np.stack([np.rot90(image, number) for number, image in enumerate(images)])
                form.write(to_int8(models[member.name], turned))
            bar.update()

    def _compare(self, bar: tqdm) -> "list[Compared]":
        """Run both forms of each fold's members on the images held out from them."""
        held_out = self.table["evaluate"].to_numpy(dtype=bool) & self.table["fold"].notna().to_numpy()
        drawn = np.random.default_rng(1).permutation(np.flatnonzero(held_out))[:MAX_COMPARED_IMAGES]
        results = []
        for fold in sorted({member.fold for member in self.members}):
            rows = np.sort(drawn[self.table["fold"].to_numpy()[drawn] == fold])
            if len(rows):
                results.append(self._compare_fold(fold, rows))
            bar.update(sum(member.fold == fold for member in self.members))
        return results

    def _compare_fold(self, fold: int, rows: np.ndarray) -> "Compared":
        from nonet.inference.ensemble import Ensemble

        views = get_views(self.recipe.predict)
        of_fold = self.ensemble.model_copy(
            update={"members": [entry for entry in self.ensemble.members if entry.fold == fold]}
        )
        outputs = []
        for int8_members in ([], [member.name for member in self.members]):
            ensemble = Ensemble(self.run, self.recipe, of_fold, backend="openvino", int8_members=int8_members)
            outputs.append(
                [
                    ensemble.member_outputs({crop: self.images[crop][batch] for crop in ensemble.crops}, views)
                    for batch in batches(rows, _CHUNK)
                ]
            )
        logits, scores = (
            np.stack([np.concatenate([part[i] for part in parts], axis=1) for parts in outputs]) for i in (0, 1)
        )
        return Compared(ensemble, logits, scores)


@dataclass(frozen=True)
class Compared:
    """A fold's images as its members see them, in single precision (0) and in int8 (1).

    Attributes
    ----------
    ensemble : Ensemble
        Of the members that never saw these images.
    logits : ndarray of float, shape (2, num_members, n, num_classes)
    scores : ndarray of float, shape (2, num_members, n)
        Out-of-distribution scores.
    """

    ensemble: "Ensemble"
    logits: np.ndarray
    scores: np.ndarray

    def labels(self, int8_members: Collection[str]) -> np.ndarray:
        """Return the labels that images get if these members run in int8: str (n,)."""
        form = np.array([int(member.name in int8_members) for member in self.ensemble.members])
        order = np.arange(len(form))
        proba = softmax(self.ensemble.combine(self.logits[form, order]), axis=1)
        ood_percentile = self.ensemble.ood_percentile(self.scores[form, order])
        nucleus = np.ones(len(proba), dtype=bool)  # whether there is one does not depend on networks
        return self.ensemble.label(proba, ood_percentile, nucleus)["label"].to_numpy(dtype=str)


def choices_of(compared: Sequence[Compared], names: Sequence[str]) -> list[Agreement]:
    """Return how many decisions stay the same with all members in int8, without the worst, without the two worst …

    Parameters
    ----------
    compared : sequence of Compared
        One per fold.
    names : sequence of str
        Of all members.

    Returns
    -------
    list of Agreement
        The last one has one member in int8.
    """
    single = np.concatenate([one.labels(()) for one in compared])

    def same(int8_members: Collection[str]) -> float:
        return float(np.mean(np.concatenate([one.labels(int8_members) for one in compared]) == single))

    best_first = sorted(names, key=lambda name: (-same([name]), name))
    subsets = [sorted(best_first[:count]) for count in range(len(names), 0, -1)]
    return [Agreement(subset, same(subset), len(single)) for subset in subsets]
