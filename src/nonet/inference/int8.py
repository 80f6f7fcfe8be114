"""Networks in int8, which decide alone only where the decision is clear.

In int8 a network takes half the time, and its logits are a little different. Where that could matter, because the image
is close to another decision, it is predicted again in single precision. How close is close is set on out-of-fold
images, which are labelled by the members that never saw them, in single precision and in int8.
"""

import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import softmax

from nonet.artifacts.ensemble_file import EnsembleFile
from nonet.artifacts.integrity import read_done, read_sealed, write_sealed
from nonet.artifacts.run import Member, Run
from nonet.errors import DamagedError, RunError
from nonet.inference.backends.compiled import VERSIONS, Compiled
from nonet.recipe import Recipe

if TYPE_CHECKING:
    from nonet.inference.ensemble import Ensemble

logger = logging.getLogger("nonet")

#: Share of out-of-fold decisions that may change: half of what is promised, as the next patients are others.
MAX_CHANGED = 0.0025
#: Share of images that may be predicted again; beyond it int8 hardly saves time.
MAX_AGAIN = 0.3


@dataclass(frozen=True)
class Int8:
    """When an image is predicted again in single precision, and what that keeps of a run's decisions.

    Attributes
    ----------
    margin : float
        Images closer than this to another decision are predicted again; see `distance_to_another_decision`.
    again : float
        Share of the out-of-fold images for which that is so.
    same_decisions : float
        Share of the out-of-fold images with the same label as in single precision, those predicted again included.
    num_images : int
        Out-of-fold images that were compared.
    """

    margin: float
    again: float
    same_decisions: float
    num_images: int

    def __str__(self) -> str:
        return (
            f"{self.same_decisions:.2%} of {self.num_images:,} out-of-fold decisions are as in single precision if "
            f"{self.again:.1%} of the images are predicted again without int8"
        )

    def rows_to_predict_again(self, ensemble: "Ensemble", logits: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Return the row numbers of images that int8 does not decide.

        Parameters
        ----------
        ensemble : Ensemble
        logits : ndarray of float, shape (num_members, n, num_classes)
            From `Ensemble.member_outputs`, in int8.
        scores : ndarray of float, shape (num_members, n)

        Returns
        -------
        ndarray of int
        """
        distance = distance_to_another_decision(ensemble, logits, scores)
        return np.flatnonzero(~(distance >= self.margin))  # what is not a number is not clear


def distance_to_another_decision(ensemble: "Ensemble", logits: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return how far each image is from another label.

    Parameters
    ----------
    ensemble : Ensemble
    logits : ndarray of float, shape (num_members, n, num_classes)
        From `Ensemble.member_outputs`.
    scores : ndarray of float, shape (num_members, n)

    Returns
    -------
    ndarray of float64, shape (n,)
        The smallest of: how much more probable the best class is than the second; how far its probability is from
        `calibration.min_confidence`; how far the percentile of the out-of-distribution score is from the one beyond
        which images are rejected. Only the last counts for images that are rejected.
    """
    proba = np.sort(softmax(ensemble.combine(logits), axis=1), axis=1)
    best, second = proba[:, -1], proba[:, -2] if proba.shape[1] > 1 else 0.0
    distance = np.minimum(best - second, np.abs(best - ensemble.calibration.min_confidence))
    if not ensemble.rejection.is_fitted:
        return distance
    percentile = ensemble.ood_percentile(scores)
    to_rejection = np.abs(percentile - (1 - ensemble.rejection.false_alarm))
    return np.where(ensemble.rejection.rejects(percentile), to_rejection, np.minimum(distance, to_rejection))


def fit_int8(distance: np.ndarray, changed: np.ndarray, *, max_changed: float = MAX_CHANGED) -> Int8:
    """Set the margin on out-of-fold images.

    Parameters
    ----------
    distance : ndarray of float, shape (n,)
        Of each image's decision in int8 to another one.
    changed : ndarray of bool, shape (n,)
        Whether that decision differs from the one in single precision.
    max_changed : float
        Share of the images whose decision may change.

    Returns
    -------
    Int8
        With the smallest margin that is enough.
    """
    furthest_first = np.argsort(-distance, kind="stable")
    num_enough = int(np.searchsorted(np.cumsum(changed[furthest_first]), max_changed * len(changed), side="right"))
    margin = float(distance[furthest_first[num_enough]]) if num_enough < len(distance) else -np.inf
    margin = max(0.0, float(np.nextafter(margin, np.inf)))  # the first that is too many is predicted again
    again = ~(distance >= margin)
    return Int8(margin, float(again.mean()), float(1 - (changed & ~again).mean()), len(distance))


def choose_int8(run: Run, recipe: Recipe, ensemble: EnsembleFile, *, make: bool) -> Int8 | None:
    """Return when images are predicted again, if the networks are to run in int8.

    Parameters
    ----------
    run : Run
    recipe : Recipe
        Of the run.
    ensemble : EnsembleFile
        Of the run.
    make : bool
        Whether int8 was asked for by name: then it is made if it is not there, and an error if it is not worthwhile.

    Returns
    -------
    Int8 or None
        None if int8 was not made, or does not pay.

    Raises
    ------
    RunError
        If int8 was asked for and does not pay, or the images of the run are not found.
    StorageError
        If int8 was asked for, and what is made of it cannot be kept in the run.
    """
    members = [run.member(entry.architecture, entry.fold) for entry in ensemble.members if entry.weight > 0]
    int8 = _read(run, recipe, ensemble, members)
    if int8 is None:
        if not make:
            return None
        if importlib.util.find_spec("nncf") is None:
            raise RunError("int8 networks are made with the package nncf.", hint="pip install nonet[int8]")
        from nonet.inference.int8_networks import make_int8

        int8 = make_int8(run, recipe, ensemble, members)
        write_sealed(_file(run), {"int8": asdict(int8), "origin": _origin(ensemble, members)})
    if int8.again <= MAX_AGAIN:
        logger.info(f"Networks run in int8: {int8}.")
        return int8
    if make:
        raise RunError(
            f"int8 does not pay for {run}: {int8}, and that should be at most {MAX_AGAIN:.0%}.",
            hint='Use `backend="openvino"`.',
        )
    return None


def _file(run: Run) -> Path:
    return run.compiled / "openvino-int8" / "agreement.json"


def _origin(ensemble: EnsembleFile, members: Sequence[Member]) -> dict:
    """Return what the margin depends on: the networks, and how logits become labels."""
    return {
        "versions": VERSIONS,
        "weights": {member.name: read_done(member)["files"][member.weights.name]["sha256"] for member in members},
        "ensemble": ensemble.model_dump(mode="json", include={"members", "temperature", "calibration", "rejection"}),
    }


def _read(run: Run, recipe: Recipe, ensemble: EnsembleFile, members: Sequence[Member]) -> Int8 | None:
    """Return what was measured; None if nothing was, or anything is damaged or of another ensemble."""
    if not _file(run).exists():
        return None
    try:
        stored = read_sealed(_file(run), hint="It is measured again when int8 is asked for by name.")
        forms = [Compiled("openvino-int8", member, recipe.models, len(ensemble.classes)) for member in members]
        if stored.get("origin") != _origin(ensemble, members) or not all(form.is_whole() for form in forms):
            return None
        return Int8(**stored["int8"])
    except DamagedError as error:
        logger.warning(error)
        return None
