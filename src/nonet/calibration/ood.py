"""Rejection: whether an image is none of the classes, from its out-of-distribution (OOD) scores. NumPy in, NumPy out.

A member's score is the residual of `PrincipalSpace` plus the distance to the `nearest_prototype`, each standardised by
the images held out of its training; where the dataset has unknown cell types, the log-odds that `UnknownHead` has
learned from them are added. The ensemble's score is the mean over members. Held-out images themselves are scored with
the mean and spread of the *other* patients held out, as the next patient's images will be. People read the score as a
percentile of known cells, so that the threshold is the share of known cells that may be rejected, chosen beforehand: no
unknown cell is needed for it.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nonet.artifacts.ensemble_file import NUM_QUANTILES, EnsembleFile, RejectionSection
from nonet.artifacts.integrity import reading
from nonet.artifacts.run import written_whole
from nonet.calibration.fitting import MIN_GROUPS, MIN_IMAGES
from nonet.calibration.ood_scores import (
    PRINCIPAL_SHARE,
    PrincipalSpace,
    fit_principal_space,
    fit_prototypes,
    nearest_prototype,
)
from nonet.calibration.unknown_head import UnknownHead

#: Shares of known cells at which `Rejection` keeps the score: finer at the end where thresholds lie.
SHARES = np.concatenate([np.arange(100) / 100, 0.99 + np.arange(1, NUM_QUANTILES - 99) / 1000])
#: Smallest spread that a part of the score is divided by, as a share of the features' length. Where known cells vary by
#: less, kernels and devices differ as much as cells do, and dividing by their spread would blow that up.
SMALLEST_SPREAD = 0.01
#: Weight of the log-odds beside the two distances (benchmarks/unknown_class.md).
ODDS_WEIGHT = 3.0
#: Smallest spread of the log-odds.
SMALLEST_ODDS_SPREAD = 0.1
#: If the scores of known cells have a smaller standard deviation than this, they are as good as constant.
SMALLEST_VARIATION = 0.05


@dataclass(frozen=True)
class MemberScore:
    """A member's OOD score: how far features lie outside the axes of its training images, and from their directions.

    Where it has learned from unknown cells, also how much they look like those.

    Attributes
    ----------
    space : PrincipalSpace
        Of its training images.
    prototypes : ndarray of float, shape (k, f)
        Of its training images.
    mean, std : ndarray of float, shape (2,), or (3,) with a head
        Of the residuals, of the distances to the nearest prototype, and of the log-odds, of the images held out.
    smallest : ndarray of float, as `std`
        Lower bound of `std`.
    head : UnknownHead or None
        Fitted to unknown cells, if there were any.
    """

    space: PrincipalSpace
    prototypes: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    smallest: np.ndarray
    head: UnknownHead | None = None

    def score(self, features: np.ndarray) -> np.ndarray:
        """Return the weighted sum of the parts, standardised: 0 on average over known cells never seen.

        Parameters
        ----------
        features : ndarray of float, shape (n, f)
            Of any images.

        Returns
        -------
        ndarray of float64, shape (n,)
        """
        parts = self._parts(features)
        return _weigh((parts - self.mean[:, None]) / self.std[:, None])

    def score_held_out(self, features: np.ndarray, group: np.ndarray) -> np.ndarray:
        """Score the images held out, each standardised by those of the other patients held out.

        Standardised by their own patients' images as well, known cells would score lower than the next patient's.

        Parameters
        ----------
        features : ndarray of float, shape (n, f)
            Of the images held out that the score was fitted on.
        group : ndarray, shape (n,)
            Patient of each, or a name of its own if unknown.

        Returns
        -------
        ndarray of float64, shape (n,)
            NaN if there is no other patient.
        """
        parts = self._parts(features)
        mean, std = _of_other_groups(parts, group)
        return _weigh((parts - mean) / np.maximum(std, self.smallest[:, None]))

    def _parts(self, features: np.ndarray) -> np.ndarray:
        return _parts(self.space, self.prototypes, self.head, features)

    def write(self, path: Path) -> None:
        """Write it as one npz file, about 2 × f × (f / 4 + 32) bytes whatever the number of images."""
        head: dict[str, Any] = {}
        if self.head is not None:
            head = {"head_weight": self.head.weight, "head_bias": self.head.bias}
        with written_whole(path) as temporary:
            np.savez(
                temporary,
                centre=self.space.centre,
                axes=self.space.axes.astype(np.float16),
                prototypes=self.prototypes.astype(np.float16),
                mean=self.mean,
                std=self.std,
                smallest=self.smallest,
                **head,
            )

    @classmethod
    def read(cls, path: Path) -> "MemberScore":
        """Read a file that `write` wrote.

        Raises
        ------
        RunError
            If the file is missing or damaged.
        """
        hint = "Copy the whole run folder again, or train again."
        with reading(path, hint=hint), np.load(path, allow_pickle=False) as stored:
            space = PrincipalSpace(stored["centre"], stored["axes"].astype(np.float32))
            mean, std, smallest = (np.atleast_1d(stored[name]) for name in ("mean", "std", "smallest"))
            head = UnknownHead(stored["head_weight"], stored["head_bias"]) if "head_weight" in stored else None
            return cls(space, stored["prototypes"].astype(np.float32), mean, std, smallest, head)


def fit_member_score(training: np.ndarray, held_out: np.ndarray, head: UnknownHead | None = None) -> MemberScore:
    """Fit a member's score.

    Parameters
    ----------
    training : ndarray of float, shape (n, f)
        Features of its training images.
    held_out : ndarray of float, shape (m, f)
        Features of the images held out of its training.
    head : UnknownHead, optional
        Fitted to features of its training images and of unknown cells.

    Returns
    -------
    MemberScore
        Features that are not finite, of a member that diverged, give scores that are not finite either.
    """
    num_features = training.shape[1]
    if not np.isfinite(training).all():
        nowhere = PrincipalSpace(np.full(num_features, np.nan), np.zeros((num_features, 0)))
        return MemberScore(nowhere, np.zeros((0, num_features)), np.full(1, np.nan), np.ones(1), np.ones(1))
    fitted = fit_principal_space(training, num_axes=round(PRINCIPAL_SHARE * num_features))
    # Rounded as in the file, so that scores are the same before and after it is written.
    space = PrincipalSpace(fitted.centre.astype(np.float32), fitted.axes.astype(np.float16).astype(np.float32))
    prototypes = fit_prototypes(training).astype(np.float16).astype(np.float32)
    parts = _parts(space, prototypes, head, held_out)
    length = float(np.linalg.norm(training, axis=1).mean())  # of the prototypes it is 1
    smallest = np.maximum(SMALLEST_SPREAD * np.array([length, 1.0]), np.finfo(np.float32).tiny)
    smallest = np.append(smallest, SMALLEST_ODDS_SPREAD)[: len(parts)]
    return MemberScore(space, prototypes, parts.mean(1), np.maximum(parts.std(1), smallest), smallest, head)


def _parts(space: PrincipalSpace, prototypes: np.ndarray, head: UnknownHead | None, features: np.ndarray) -> np.ndarray:
    """Return the parts of a member's score, float64 (2, n); (3, n) with a head, (1, n) of a member that diverged."""
    parts = [space.residual(features)]
    if len(prototypes):
        parts.append(nearest_prototype(prototypes, features))
        if head is not None:
            parts.append(head.log_odds(features))
    return np.stack(parts)


def _weigh(parts: np.ndarray) -> np.ndarray:
    """Return the weighted sum (n,) of standardised parts (p, n)."""
    return np.array([1.0, 1.0, ODDS_WEIGHT])[: len(parts)] @ parts


def _of_other_groups(parts: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (p, n) of parts (p, n) over the images of all groups but an image's own."""
    _, number = np.unique(group, return_inverse=True)
    centred = parts - parts.mean(1, keepdims=True)  # so that squares do not cancel
    counts = len(number) - np.bincount(number)

    def of_others(values: np.ndarray) -> np.ndarray:
        sums = np.stack([np.bincount(number, weights=row) for row in values])
        with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 without another group
            return ((values.sum(1, keepdims=True) - sums) / counts)[:, number]

    mean = of_others(centred)
    std = np.sqrt(np.maximum(of_others(centred**2) - mean**2, 0))
    return mean + parts.mean(1, keepdims=True), std


@dataclass(frozen=True)
class Rejection:
    """The score above which an image is rejected as an unknown cell type. By default nothing is rejected.

    Attributes
    ----------
    false_alarm : float
        Share of known cells to be rejected.
    quantiles : ndarray of float64, shape (NUM_QUANTILES,), or None
        Score at each of `SHARES` of the known cells held out; None if nothing was fitted.
    notes : list of str
        Sentences on what was fitted and what was not.
    """

    false_alarm: float = 0.0
    quantiles: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def is_fitted(self) -> bool:
        return self.quantiles is not None

    def percentile(self, score: np.ndarray) -> np.ndarray:
        """Return the share of known cells held out with a lower score.

        Parameters
        ----------
        score : ndarray of float, shape (n,)
            Mean over members.

        Returns
        -------
        ndarray of float64, shape (n,)
            In 0 to 1; NaN if nothing was fitted or the score is NaN.
        """
        score = np.asarray(score, dtype=np.float64)
        if self.quantiles is None:
            return np.full(len(score), np.nan)
        return np.interp(score, self.quantiles, SHARES)

    def rejects(self, percentile: np.ndarray) -> np.ndarray:
        """Return which images are rejected.

        Parameters
        ----------
        percentile : ndarray of float, shape (n,)
            As `percentile` returns it.

        Returns
        -------
        ndarray of bool, shape (n,)
        """
        return np.asarray(percentile) > 1 - self.false_alarm

    @classmethod
    def from_ensemble(cls, ensemble: EnsembleFile) -> "Rejection":
        """Return the rejection that ensemble.json holds."""
        section = ensemble.rejection
        quantiles = None if section.quantiles is None else np.array(section.quantiles, dtype=np.float64)
        return cls(float(section.false_alarm), quantiles, list(section.notes))

    def to_section(self) -> RejectionSection:
        """Return the section of ensemble.json that holds it."""
        quantiles = None if self.quantiles is None else [float(q) for q in self.quantiles]
        return RejectionSection(false_alarm=self.false_alarm, quantiles=quantiles, notes=self.notes)


def fit_rejection(score: np.ndarray, group: np.ndarray, fold: np.ndarray, *, false_alarm: float) -> Rejection:
    """Fit the threshold on known cells, each scored by members that never saw it.

    Parameters
    ----------
    score : ndarray of float, shape (n,)
        As `MemberScore.score_held_out` returns it, or a mean of several.
    group : ndarray, shape (n,)
        Patient of each image, or a name of its own if unknown.
    fold : ndarray of int, shape (n,)
        Fold that each image is held out in.
    false_alarm : float in [0, 1)
        Share of known cells to be rejected; 0 rejects nothing.

    Returns
    -------
    Rejection
        One that rejects nothing, with a note, if there are too few images or patients for this share.
    """
    num_images, num_groups = len(score), len(np.unique(group))
    needed = max(MIN_IMAGES, int(np.ceil(1 / false_alarm))) if false_alarm else MIN_IMAGES
    alone = [k for k in np.unique(fold) if len(np.unique(group[fold == k])) == 1]
    if alone:
        which = f"fold {alone[0]}" if len(alone) == 1 else f"each of {len(alone)} folds"
        why = f"the cells held out in {which} come from a single patient, so there are no others to standardise them by"
    elif not np.isfinite(score).all():
        why = "some members diverged"
    elif num_images < needed or num_groups < MIN_GROUPS:
        why = f"{num_images:,} images of {num_groups:,} patients are too few; {needed} of {MIN_GROUPS} are needed"
    elif np.std(score) < SMALLEST_VARIATION:
        why = "all known cells have the same out-of-distribution score"
    else:
        return Rejection(
            false_alarm,
            np.quantile(score, SHARES),
            [f"Rejection fitted out of fold on {num_images:,} images of {num_groups:,} patients."],
        )
    return Rejection(false_alarm, None, [f"No rejection: {why}. Every image is given one of the classes."])
