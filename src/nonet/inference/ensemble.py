"""The trained ensemble: images in; logits, probabilities or class names out."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.special import softmax

from nonet.artifacts.ensemble_file import EnsembleFile
from nonet.artifacts.run import Run
from nonet.calibration.calibrator import Calibration
from nonet.calibration.labels import NO_NUCLEUS, UNKNOWN_CELL_TYPE, label_images, list_prediction_sets
from nonet.calibration.nucleus_rule import NucleusRule
from nonet.calibration.ood import Rejection
from nonet.data.images.nucleus import any_nucleus
from nonet.data.preprocess.crop import Crop
from nonet.data.preprocess.crops import PreparedCrops, prepare_crops
from nonet.errors import DataError, RunError
from nonet.inference.backends.choice import Network, choose_backend, make_backend
from nonet.inference.effort import Effort
from nonet.inference.int8 import Int8
from nonet.inference.load import parse_views
from nonet.inference.members import load_members
from nonet.models.views import View, batches, get_views
from nonet.recipe import Recipe

if TYPE_CHECKING:
    from nonet.inference.backends.pytorch import TorchNetwork

BATCH_SIZE = 64
#: One file, or several files or arrays of pixels.
Images = str | Path | Sequence[str | Path | np.ndarray]


@dataclass(frozen=True)
class Scores:
    """The output of an ensemble for n images, before labels are decided.

    Attributes
    ----------
    member_logits : ndarray of float32, shape (num_members, n, num_classes)
        Averaged over views. NaN for all members where one of them is not finite.
    logits : ndarray of float64, shape (n, num_classes)
        Weighted mean over members, calibrated.
    ood_percentile : ndarray of float64, shape (n,)
        Share of known cells with a lower out-of-distribution score.
    """

    member_logits: np.ndarray
    logits: np.ndarray
    ood_percentile: np.ndarray


class Ensemble:
    """A run's members, loaded by `nonet.load`; their logits are averaged over members and views.

    Attributes
    ----------
    classes : list of str
        Class codes, in the column order of every array returned.
    run : Run
        Where it was loaded from.
    recipe : Recipe
        The run's settings.
    calibration, rejection, nucleus : Calibration, Rejection, NucleusRule
        How logits become labels; see `nonet.calibration`.
    backend : str
        Key of `nonet.inference.backends.choice.BACKENDS`: what runs the networks.
    int8 : Int8 or None
        Which images are predicted again in single precision if the backend is "openvino-int8"; None predicts none.
    effort : Effort or None
        Which images need no further views; None uses all views for all images.
    members : list of LoadedMember
        Those with non-zero weight.
    turn : context manager
        Entered for each pass of a member, so that several threads can take turns on one device. By default nothing.
    """

    def __init__(
        self,
        run: Run,
        recipe: Recipe,
        ensemble: EnsembleFile,
        *,
        accelerator: str = "auto",
        backend: str = "auto",
        int8: Int8 | None = None,
        effort: Effort | None = None,
    ):
        self.run, self.recipe = run, recipe
        self.file, self.classes = ensemble, ensemble.classes
        self.calibration = Calibration.from_ensemble(ensemble)
        self.rejection = Rejection.from_ensemble(ensemble)
        self.nucleus = NucleusRule.from_ensemble(ensemble)
        self.accelerator, self.backend = accelerator, choose_backend(backend, accelerator)
        self.int8, self.effort = int8, effort
        self._engine = make_backend(self.backend, run, recipe, len(self.classes), accelerator)
        self.members = load_members(self._engine, run, recipe, ensemble, with_scores=self.rejection.is_fitted)
        self.crops = sorted({member.crop for member in self.members})
        self.turn: AbstractContextManager = nullcontext()

    @cached_property
    def torch_networks(self) -> "dict[str, TorchNetwork]":
        """Each member's network in PyTorch, for what needs gradients, by its name; loaded when first used."""
        if self.backend == "torch":
            return {member.name: member.network for member in self.members}  # type: ignore[misc]
        from nonet.inference.backends.pytorch import TorchBackend

        backend = TorchBackend(self.run, self.recipe, len(self.classes), self.accelerator)
        networks = backend.load([member.member for member in self.members])
        return {member.name: network for member, network in zip(self.members, networks, strict=True)}

    @cached_property
    def _in_single_precision(self) -> "Ensemble":
        """The same ensemble, for images that int8 does not decide; loaded when first used."""
        return Ensemble(self.run, self.recipe, self.file, accelerator=self.accelerator, backend="openvino")

    @property
    def member_weights(self) -> np.ndarray:
        """Weight of each member, float64 (num_members,), summing to 1."""
        weights = np.array([member.weight for member in self.members])
        return weights / weights.sum()

    def prepare(self, image: np.ndarray | str | Path) -> PreparedCrops:
        """Decode, denoise and crop an image for the members.

        Parameters
        ----------
        image : path, or ndarray of uint8, shape (height, width, 3)
            A file, or RGB pixels.

        Returns
        -------
        PreparedCrops
            Crop → uint8 (size, size, 3).

        Raises
        ------
        DataError
            If the file cannot be read, or the array is of another type or shape.
        """
        if isinstance(image, np.ndarray) and (image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3):
            raise DataError(
                f"An image is {image.dtype} of shape {image.shape}.",
                hint="Give uint8 arrays (height, width, 3), RGB, or paths.",
            )
        return prepare_crops(image, self.crops, self.recipe.denoise)

    def member_logits(self, prepared: Mapping[Crop, np.ndarray], views: Sequence[View]) -> np.ndarray:
        """Return the logits of each member, float32 (num_members, n, num_classes); see `member_outputs`."""
        return self.member_outputs(prepared, views)[0]

    def member_outputs(
        self, prepared: Mapping[Crop, np.ndarray], views: Sequence[View]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Run every member once.

        Parameters
        ----------
        prepared : mapping of Crop to ndarray of uint8, shape (n, size, size, 3)
            The images in every crop that a member needs.
        views : sequence of View
            Logits are averaged over them.

        Returns
        -------
        logits : ndarray of float32, shape (num_members, n, num_classes)
        scores : ndarray of float64, shape (num_members, n)
            Out-of-distribution scores, `MemberScore.score`; NaN if nothing is rejected.
        """
        parts = self._run(
            [
                (member.network, block, views)
                for member in self.members
                for block in batches(prepared[member.crop], self._engine.block_size)
            ]
        )
        logits = np.concatenate([part for part, _ in parts])
        logits = logits.reshape(len(self.members), -1, logits.shape[1])
        scores, num_blocks = np.full(logits.shape[:2], np.nan), len(parts) // len(self.members)
        for i, member in enumerate(self.members):
            if member.ood is not None:  # in this thread: NumPy has threads of its own, which would hinder the networks'
                features = [part for _, part in parts[i * num_blocks : (i + 1) * num_blocks]]
                scores[i] = member.ood.score(np.concatenate(features))
        return logits, scores

    def _run(self, tasks: list[tuple[Network, np.ndarray, Sequence[View]]]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Run networks on blocks of images, as many at once as the backend wants; others get their turn in between."""
        results = []
        for some in batches(tasks, self._engine.blocks_at_once):
            with self.turn:
                results += self._engine.map(lambda task: task[0].run(*task[1:]), some)
        return results

    def score_prepared(self, images: Sequence[PreparedCrops], views: Sequence[View]) -> Scores:
        """Score images that `prepare` prepared: the step that all predictions share.

        Parameters
        ----------
        images : sequence of PreparedCrops
            At least one.
        views : sequence of View
            Logits are averaged over them.

        Returns
        -------
        Scores
        """
        stacked = {crop: np.stack([image[crop] for image in images]) for crop in self.crops}
        if self.effort is None:
            member_logits, member_scores = self.member_outputs(stacked, views)
        else:
            member_logits, member_scores = self.effort.outputs(stacked, views, self.member_outputs, self.combine)
        if self.int8 is not None:
            rows = self.int8.rows_to_predict_again(self, member_logits, member_scores)
            if len(rows):
                exact = self._in_single_precision
                exact.turn = self.turn
                some = {crop: images[rows] for crop, images in stacked.items()}
                member_logits[:, rows], member_scores[:, rows] = exact.member_outputs(some, views)
                if self.effort is not None:
                    self.effort.passes += len(self.members) * len(rows) * len(views)
        finite = np.isfinite(member_logits).all(axis=(0, 2))  # half precision may overflow
        member_logits[:, ~finite] = np.nan
        return Scores(member_logits, self.combine(member_logits), self.ood_percentile(member_scores))

    def combine(self, member_logits: np.ndarray) -> np.ndarray:
        """Average logits over members and calibrate them.

        Parameters
        ----------
        member_logits : ndarray of float, shape (num_members, n, num_classes)

        Returns
        -------
        ndarray of float64, shape (n, num_classes)
        """
        return self.calibration.apply(np.tensordot(self.member_weights, member_logits.astype(np.float64), axes=1))

    def ood_percentile(self, member_scores: np.ndarray) -> np.ndarray:
        """Return the share of known cells with a lower out-of-distribution (OOD) score.

        Parameters
        ----------
        member_scores : ndarray of float64, shape (num_members, n)
            From `member_outputs`.

        Returns
        -------
        ndarray of float64, shape (n,)
        """
        return self.rejection.percentile(np.tensordot(self.member_weights, member_scores, axes=1))

    def predict_logits(self, images: Images, *, views: str | int | None = None) -> np.ndarray:
        """Return the calibrated logits of images.

        Parameters
        ----------
        images : path, or sequence of paths or of ndarray of uint8, shape (height, width, 3)
            Files, or RGB pixels.
        views : str or int, optional
            "none", "dihedral" (or 8), "random" or "random:N". Default: as in the recipe.

        Returns
        -------
        ndarray of float64, shape (n, num_classes)

        Raises
        ------
        DataError
            If an image cannot be read; names it. `nonet.predict` lists such images instead.
        """
        return self._predict(images, views)[0]

    def predict_proba(self, images: Images, *, views: str | int | None = None) -> np.ndarray:
        """Return the probability of each class, given that the cell is of one of them.

        Parameters
        ----------
        images, views : as for `predict_logits`
            Images, and views of each.

        Returns
        -------
        ndarray of float64, shape (n, num_classes)
            Soft-max of the logits.
        """
        return softmax(self.predict_logits(images, views=views), axis=1)

    def predict_ood(self, images: Images) -> np.ndarray:
        """Return how far out of distribution each image is.

        Parameters
        ----------
        images : as for `predict_logits`
            Files, or RGB pixels.

        Returns
        -------
        ndarray of float64, shape (n,)
            Share of known cells with a lower score, 0 to 1. Above 1 − `rejection.false_alarm` the image is called an
            unknown cell type. NaN if the run has no scores: see `rejection.notes`.
        """
        return self._predict(images, "none")[1]

    def predict(self, images: Images, *, views: str | int | None = None, best: bool = False) -> list[str]:
        """Return the class code of each image, or "unidentified".

        Unidentified are images without a nucleus, unknown cell types, and those whose most probable class has less
        than `calibration.min_confidence`.

        Parameters
        ----------
        images, views : as for `predict_logits`
            Images, and views of each.
        best : bool
            Return the most probable class of every image, however doubtful or unlike the training images.

        Returns
        -------
        list of str
        """
        logits, ood_percentile, nucleus = self._predict(images, views)
        return self.label(softmax(logits, axis=1), ood_percentile, nucleus)["best" if best else "label"].tolist()

    def predict_set(self, images: Images, *, views: str | int | None = None) -> list[list[str]]:
        """Return the prediction set of each image: the classes that it may be, most probable first.

        A set contains the true class in a share `calibration.coverage` of the cells, as far as the next patients
        resemble those it was fitted on. It is empty for unknown cell types and images without a nucleus.

        Parameters
        ----------
        images, views : as for `predict_logits`
            Images, and views of each.

        Returns
        -------
        list of list of str

        Raises
        ------
        RunError
            If the run has no thresholds.
        """
        if self.calibration.thresholds is None:
            raise RunError(
                f"{self.run} has no prediction sets: {' '.join(self.calibration.notes) or 'it was never calibrated.'}",
                hint=f'"nonet calibrate {self.run}" fits them if there are enough images and patients.',
            )
        logits, ood_percentile, nucleus = self._predict(images, views)
        proba = softmax(logits, axis=1)
        outside = self.label(proba, ood_percentile, nucleus)["reason"].isin([UNKNOWN_CELL_TYPE, NO_NUCLEUS])
        sets = list_prediction_sets(proba, self.classes, self.calibration)
        return [[] if is_outside else codes for codes, is_outside in zip(sets, outside, strict=True)]

    def label(self, proba: np.ndarray, ood_percentile: np.ndarray, nucleus: np.ndarray) -> pd.DataFrame:
        """Decide the labels of images, for `predict` as for files.

        Parameters
        ----------
        proba : ndarray of float, shape (n, num_classes)
            Calibrated probabilities; NaN for an image that could not be read.
        ood_percentile : ndarray of float, shape (n,)
            As the method `ood_percentile` returns it.
        nucleus : ndarray of bool, shape (n,)
            Whether anything that the members see could be a nucleus.

        Returns
        -------
        DataFrame
            As `nonet.calibration.labels.label_images` returns it.
        """
        rejected, without_nucleus = self.rejection.rejects(ood_percentile), self.nucleus.rejects(nucleus)
        return label_images(proba, self.classes, self.calibration, rejected, without_nucleus)

    def _predict(self, images: Images, views: str | int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return calibrated logits (n, num_classes), OOD percentiles (n,) and whether each shows a nucleus (n,)."""
        items = [images] if isinstance(images, (str, Path)) else images  # a path is not a sequence of letters
        logits, ood_percentile = [np.zeros((0, len(self.classes)))], [np.zeros(0)]
        nucleus: list[bool] = []
        chosen = get_views(parse_views(views, self.recipe.predict))
        for start in range(0, len(items), BATCH_SIZE):
            prepared = [self.prepare(image) for image in items[start : start + BATCH_SIZE]]
            scores = self.score_prepared(prepared, chosen)
            logits.append(scores.logits)
            ood_percentile.append(scores.ood_percentile)
            nucleus.extend(any_nucleus(crops.values()) for crops in prepared)
        return np.concatenate(logits), np.concatenate(ood_percentile), np.array(nucleus, dtype=bool)
