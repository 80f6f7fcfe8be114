"""Fewer views where a cell is sure: `effort="auto"` of `nonet.predict`.

All members see the image as it is, which is also what the out-of-distribution score needs. The other views follow in
growing groups, and only for images whose best class is not yet more probable than a threshold. It is set on
out-of-fold logits, where those without views are compared with those with all of them.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import softmax

from nonet.artifacts.ensemble_file import EnsembleFile
from nonet.artifacts.integrity import require_unchanged
from nonet.artifacts.oof import first_rows, logit_columns, read_oof, values_by_architecture
from nonet.artifacts.run import Run
from nonet.calibration.calibrator import Calibration
from nonet.calibration.member_weights import folds_with_weight, mean_over_members, weights_by_image
from nonet.data.preprocess.crop import Crop
from nonet.models.views import View
from nonet.recipe import Recipe
from nonet.settings import NO_VIEWS

logger = logging.getLogger("nonet")

#: Share of out-of-fold decisions that may change.
MAX_CHANGED = 0.0005
#: From prepared images and views to logits (num_members, n, num_classes) and scores (num_members, n).
Outputs = Callable[[Mapping[Crop, np.ndarray], Sequence[View]], tuple[np.ndarray, np.ndarray]]


@dataclass
class Effort:
    """When an image needs no further views.

    Attributes
    ----------
    sure : float
        Probability of the best class from which on further views are left out.
    passes, passes_in_full : int
        Passes of an image through a network since `begin`: those made, and those that all views would have taken.
    """

    sure: float
    passes: int = 0
    passes_in_full: int = 0

    def begin(self) -> None:
        """Count passes from now on."""
        self.passes = self.passes_in_full = 0

    def __str__(self) -> str:
        return f"{self.passes:,} of {self.passes_in_full:,} passes through networks were needed."

    def outputs(
        self,
        prepared: Mapping[Crop, np.ndarray],
        views: Sequence[View],
        run_members: Outputs,
        combine: Callable[[np.ndarray], np.ndarray],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Run all members with as many views as each image needs.

        Parameters
        ----------
        prepared : mapping of Crop to ndarray of uint8, shape (n, size, size, 3)
        views : sequence of View
            The unchanged image comes first.
        run_members : callable
            As `Ensemble.member_outputs`.
        combine : callable
            As `Ensemble.combine`.

        Returns
        -------
        logits : ndarray of float32, shape (num_members, n, num_classes)
            Averaged over the views that were needed.
        scores : ndarray of float64, shape (num_members, n)
        """
        mean, scores = run_members(prepared, views[:1])
        num_members, num_images = scores.shape
        done, left = 1, np.arange(num_images)
        self.passes += num_members * num_images
        self.passes_in_full += num_members * num_images * len(views)
        while done < len(views):
            proba = softmax(combine(mean[:, left]), axis=1).max(axis=1)
            left = left[~(proba >= self.sure)]  # what is not a number is not sure
            if not len(left):
                break
            group = views[done : 2 * done]
            logits, _ = run_members({crop: images[left] for crop, images in prepared.items()}, group)
            mean[:, left] = (done * mean[:, left] + len(group) * logits) / (done + len(group))
            done += len(group)
            self.passes += num_members * len(left) * len(group)
        return mean, scores


def fit_effort(run: Run, recipe: Recipe, ensemble: EnsembleFile) -> Effort | None:
    """Set the threshold on a run's out-of-fold logits.

    Parameters
    ----------
    run : Run
    recipe : Recipe
        Of the run.
    ensemble : EnsembleFile
        Of the run.

    Returns
    -------
    Effort or None
        None if the run's recipe has no views, so that their effect is not known.
    """
    if recipe.predict.views == NO_VIEWS:
        logger.warning(f"{run} has no out-of-fold logits with views, so all views are used for every image.")
        return None
    require_unchanged(run, run.oof)
    table, calibration = read_oof(run.oof), Calibration.from_ensemble(ensemble)
    table = table[table["fold"].isin(folds_with_weight(ensemble.weights))]
    proba = [
        softmax(calibration.apply(_mean_logits(table[table["view_set"] == name], ensemble)), axis=1)
        for name in (NO_VIEWS, recipe.predict.views)
    ]
    return Effort(threshold(*proba, min_confidence=calibration.min_confidence))


def _mean_logits(table: pd.DataFrame, ensemble: EnsembleFile) -> np.ndarray:
    """Return the logits of each image, averaged over members by their weights: float64 (n, num_classes)."""
    first, architectures = first_rows(table), sorted(table["architecture"].unique())
    columns = logit_columns(ensemble.classes)
    values = values_by_architecture(table, columns, architectures, first["image_id"].to_numpy())
    return mean_over_members(values, weights_by_image(ensemble.weights, architectures, first["fold"].to_numpy()))


def threshold(
    without: np.ndarray, with_views: np.ndarray, *, min_confidence: float = 0.0, max_changed: float = MAX_CHANGED
) -> float:
    """Return the smallest probability from which on views change too few decisions to matter.

    Parameters
    ----------
    without, with_views : ndarray of float, shape (n, num_classes)
        Probabilities of the same images without views and with all of them.
    min_confidence : float
        A less probable best class is "unidentified", which is a decision too.
    max_changed : float
        Share of the images whose decision may change.

    Returns
    -------
    float
        Above `min_confidence`; infinite if there is none.
    """
    sure = without.max(axis=1)
    changed = (without.argmax(axis=1) != with_views.argmax(axis=1)) | (with_views.max(axis=1) < min_confidence)
    order = np.argsort(-sure, kind="stable")
    allowed = np.cumsum(changed[order]) <= max_changed * len(sure)
    allowed &= sure[order] > min_confidence
    if not allowed[0]:
        return float("inf")
    last = len(allowed) if allowed.all() else int(allowed.argmin())
    return float(sure[order][last - 1])
