"""The trained ensemble: images in, logits, probabilities or class names out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import safetensors
import safetensors.torch
import torch
from scipy.special import softmax

from nonet.artifacts.ensemble_file import EnsembleFile, MemberEntry
from nonet.artifacts.integrity import read_done, require_whole
from nonet.artifacts.run import Run, heal_hint
from nonet.calibration.calibrator import Calibration
from nonet.calibration.nucleus_rule import NucleusRule
from nonet.calibration.ood import MemberScore, Rejection
from nonet.data.images.nucleus import any_nucleus
from nonet.data.preprocess.cache import Crop, prepare_crops
from nonet.errors import DamagedError, DataError, RunError
from nonet.inference.labels import NO_NUCLEUS, UNKNOWN_CELL_TYPE, label_images, sets_of
from nonet.inference.load import parse_views
from nonet.models.backbones import crop_of
from nonet.models.device import keep_freed_memory, make_fabric
from nonet.models.network import make_classifier
from nonet.models.views import View, batches, logits_and_features, logits_over_views, to_device, views_of
from nonet.recipe import Recipe

BATCH_SIZE = 64


@dataclass(frozen=True)
class LoadedMember:
    """A member ready to predict."""

    name: str
    file: Path
    network: torch.nn.Module
    crop: Crop
    weight: float
    ood: MemberScore | None = None


class Ensemble:
    """A run's members, loaded; their logits are averaged over members and views.

    Made by `nonet.load`. `classes` is the column order of every array returned.
    """

    def __init__(self, run: Run, recipe: Recipe, ensemble: EnsembleFile, *, accelerator: str = "auto"):
        self.run, self.recipe = run, recipe
        self.file, self.classes = ensemble, ensemble.classes
        self.calibration = Calibration.from_ensemble(ensemble)
        self.rejection = Rejection.from_ensemble(ensemble)
        self.nucleus = NucleusRule.from_ensemble(ensemble)
        self.fabric = make_fabric(accelerator=accelerator, precision=recipe.train.precision)
        keep_freed_memory()
        self.members = [self._load(entry) for entry in ensemble.members if entry.weight > 0]
        self.crops = sorted({member.crop for member in self.members})

    def _load(self, entry: MemberEntry) -> LoadedMember:
        member = self.run.member(entry.architecture, entry.fold)
        done, hint = read_done(member), heal_hint(self.run)
        require_whole(member.weights, done["files"].get(member.weights.name), hint=hint)
        models = self.recipe.models
        network, _ = make_classifier(member.architecture, models, len(self.classes), trained=True)
        try:
            network.load_state_dict(safetensors.torch.load_file(member.weights))
        except (RuntimeError, safetensors.SafetensorError) as error:
            raise DamagedError(
                f"{member.weights} does not hold the weights of {member.name}: {str(error).splitlines()[0]}", hint=hint
            ) from error
        network = network.to(self.fabric.device, memory_format=torch.channels_last).eval().requires_grad_(False)
        ood = None
        if self.rejection.is_fitted:
            require_whole(member.ood, done["files"].get(member.ood.name), hint=hint)
            ood = MemberScore.read(member.ood)
        crop = crop_of(member.architecture, models)
        return LoadedMember(member.name, member.weights, network, crop, entry.weight, ood)

    @property
    def member_weights(self) -> np.ndarray:
        """How much each member counts, (members,), summing to 1."""
        weights = np.array([member.weight for member in self.members])
        return weights / weights.sum()

    def prepare(self, image: np.ndarray | str | Path) -> dict[Crop, np.ndarray]:
        """Return an image as the members see it: crop → uint8 (size, size, 3). A path or uint8 (h, w, 3)."""
        if isinstance(image, np.ndarray) and (image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3):
            raise DataError(
                f"An image is {image.dtype} of shape {image.shape}.",
                hint="Give uint8 arrays (height, width, 3), RGB, or paths.",
            )
        return prepare_crops(image, self.crops, self.recipe.denoise)

    def member_logits(self, prepared: dict[Crop, np.ndarray], views: Sequence[View]) -> np.ndarray:
        """Logits of each member: crop → uint8 (n, size, size, 3) gives float32 (members, n, classes)."""
        return self.member_outputs(prepared, views)[0]

    def member_outputs(self, prepared: dict[Crop, np.ndarray], views: Sequence[View]) -> tuple[np.ndarray, np.ndarray]:
        """Return what one pass through each member gives: its logits, and its out-of-distribution score of each image.

        Parameters
        ----------
        prepared : crop → uint8 (n, size, size, 3).

        Returns
        -------
        float32 (members, n, classes), and float64 (members, n): `MemberScore.score`, NaN where nothing is rejected.
        """
        logits, scores = [], []
        for member in self.members:
            parts = [self._outputs(member, batch, views) for batch in batches(prepared[member.crop], BATCH_SIZE)]
            logits.append(np.concatenate([part for part, _ in parts]))
            scores.append(np.concatenate([part for _, part in parts]))
        return np.stack(logits), np.stack(scores)

    def _outputs(
        self, member: LoadedMember, images: np.ndarray, views: Sequence[View]
    ) -> tuple[np.ndarray, np.ndarray]:
        pixels = to_device(images, self.fabric.device)
        with self.fabric.autocast():
            if member.ood is None:
                return logits_over_views(member.network, pixels, views).cpu().numpy(), np.full(len(images), np.nan)
            logits, features = logits_and_features(member.network, pixels, views)
        return logits.cpu().numpy(), member.ood.score(features.cpu().numpy())

    def combine(self, member_logits: np.ndarray) -> np.ndarray:
        """Weighted mean over members (members, n, classes), calibrated: float64 (n, classes)."""
        return self.calibration.apply(np.tensordot(self.member_weights, member_logits.astype(np.float64), axes=1))

    def ood_percentile(self, member_scores: np.ndarray) -> np.ndarray:
        """Return the share of known cells with a lower OOD score, (n,), from `member_outputs`' scores (members, n)."""
        return self.rejection.percentile(np.tensordot(self.member_weights, member_scores, axes=1))

    def predict_logits(self, images: Sequence | str | Path, *, views: str | int | None = None) -> np.ndarray:
        """Calibrated logits (n, classes) of images: paths, or uint8 arrays (h, w, 3).

        Raises
        ------
        DataError, naming the image, where one cannot be read. `nonet.predict` lists such images instead.
        """
        return self._predict(images, views)[0]

    def predict_proba(self, images: Sequence, *, views: str | int | None = None) -> np.ndarray:
        """Probabilities (n, classes), soft-max of the logits: of the classes, for a cell that is one of them."""
        return softmax(self.predict_logits(images, views=views), axis=-1)

    def predict_ood(self, images: Sequence) -> np.ndarray:
        """Return how far out of distribution each image is, (n,): the share of known cells with a lower score, 0 … 1.

        Above 1 − `rejection.false_alarm` it is an unknown cell type. NaN where the run has no scores: see
        `rejection.notes`.
        """
        return self._predict(images, "none")[1]

    def predict(self, images: Sequence, *, views: str | int | None = None, best: bool = False) -> list[str]:
        """Class codes, one an image; "unidentified" where it shows no nucleus, is of an unknown cell type, or the most
        probable one is too doubtful.

        `best` gives the most probable class of every image, however doubtful or unlike the training images.
        """
        logits, ood_percentile, nucleus = self._predict(images, views)
        return self.label(softmax(logits, axis=-1), ood_percentile, nucleus)["best" if best else "label"].tolist()

    def predict_set(self, images: Sequence, *, views: str | int | None = None) -> list[list[str]]:
        """Classes that each image may be, most probable first: they hold the true one in a share of
        `calibration.coverage`, as far as the next patients resemble those it was fitted on.
        Empty for unknown cell types, and where there is no nucleus.

        Raises
        ------
        RunError where the run has no thresholds.
        """
        if self.calibration.thresholds is None:
            raise RunError(
                f"{self.run} has no prediction sets: {' '.join(self.calibration.notes) or 'it was never calibrated.'}",
                hint=f'"nonet calibrate {self.run}" fits them where there are enough images and patients.',
            )
        logits, ood_percentile, nucleus = self._predict(images, views)
        proba = softmax(logits, axis=-1)
        outside = self.label(proba, ood_percentile, nucleus)["reason"].isin([UNKNOWN_CELL_TYPE, NO_NUCLEUS])
        sets = sets_of(proba, self.classes, self.calibration)
        return [[] if out else one for one, out in zip(sets, outside, strict=True)]

    def label(self, proba: np.ndarray, ood_percentile: np.ndarray, nucleus: np.ndarray) -> pd.DataFrame:
        """Say what images are, as `label_images` does: every label of this run, in a file or not, is decided here.

        Parameters
        ----------
        proba : (n, classes), calibrated; NaN for an image that could not be read.
        ood_percentile : (n,), of `ood_percentile`.
        nucleus : bool (n,), whether anything that the members see could be a nucleus.
        """
        without = self.nucleus.rejects(nucleus)
        return label_images(proba, self.classes, self.calibration, self.rejection.rejects(ood_percentile), without)

    def _predict(
        self, images: Sequence | str | Path, views: str | int | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return calibrated logits (n, classes), OOD percentiles (n,) and whether each image shows a nucleus (n,)."""
        if isinstance(images, (str, Path)):
            images = [images]  # and not its letters
        logits, ood_percentile, nucleus = [np.zeros((0, len(self.classes)))], [np.zeros(0)], []
        chosen = views_of(parse_views(views, self.recipe.predict))
        for start in range(0, len(images), BATCH_SIZE):
            prepared = [self.prepare(image) for image in images[start : start + BATCH_SIZE]]
            stacked = {crop: np.stack([one[crop] for one in prepared]) for crop in self.crops}
            of_members, scores = self.member_outputs(stacked, chosen)
            logits.append(self.combine(of_members))
            ood_percentile.append(self.ood_percentile(scores))
            nucleus.extend(any_nucleus(one.values()) for one in prepared)
        return np.concatenate(logits), np.concatenate(ood_percentile), np.array(nucleus, dtype=bool)
