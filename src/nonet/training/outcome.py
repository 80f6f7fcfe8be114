"""What a member's training leaves behind: its head, out-of-fold logits, features, weights and DONE.

All processes of a training work it out together; the first one writes it.
"""

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from lightning_fabric import Fabric
from sklearn.metrics import f1_score

from nonet.artifacts.integrity import write_done
from nonet.artifacts.logit_columns import logit_columns
from nonet.artifacts.run import Member, written_whole
from nonet.calibration.ood import fit_member_score
from nonet.data.folds import patient_or_image
from nonet.data.images.nucleus import shows_nucleus
from nonet.models.network import Classifier, make_head
from nonet.models.views import View, batches, logits_over_views, no_views, to_device, views_of
from nonet.recipe import Recipe
from nonet.training.features import features_of, write_features
from nonet.training.member_data import MemberData
from nonet.training.refit import fit_linear_head
from nonet.training.sharing import compute_together

logger = logging.getLogger("nonet")

#: Training images, drawn at random, that say where features lie: enough for any network's, and quick with any dataset.
MAX_IMAGES_OF_SPACE = 20_000


def macro_f1(truth: np.ndarray, logits: np.ndarray) -> float:
    """Return the mean F1 over the classes that are among the images held out."""
    present = np.unique(truth)
    return float(f1_score(truth, logits.argmax(axis=1), labels=present, average="macro", zero_division=0))


@dataclass(frozen=True)
class Viewer:
    """A network on its device, and the images that it looks at; every process of a training has the same."""

    network: Classifier
    member: Member
    data: MemberData
    recipe: Recipe
    fabric: Fabric

    def logits(self, views: list[View], description: str | None = None) -> np.ndarray:
        """Return the logits of the images held out, float32 (n, classes); a description gives it a bar."""
        device = self.fabric.device

        def compute(rows: np.ndarray) -> np.ndarray:
            with self.fabric.autocast():
                logits = logits_over_views(self.network, to_device(self.data.images[rows], device), views)
            return logits.cpu().numpy()

        return self._together(self.data.held_out, compute, len(self.data.classes), description)

    def features(self, rows: np.ndarray) -> np.ndarray:
        """Return features of images, float32 (n, f).

        In single precision whatever the training's: what is fitted to them must hold on machines of another one.
        """

        def compute(rows: np.ndarray) -> np.ndarray:
            return features_of(
                self.network, self.data.images, rows, device=self.fabric.device, batch_size=self.batch_size
            )

        width = self.network.backbone.head_hidden_size
        return self._together(rows, compute, width, f"{self.member.name}, features")

    def _together(self, rows: np.ndarray, compute, width: int, description: str | None) -> np.ndarray:
        options = {"width": width, "batch_size": self.batch_size, "description": description}
        return compute_together(self.fabric, rows, compute, **options)

    @property
    def batch_size(self) -> int:
        return 4 * self.recipe.train.batch_size  # without gradients, that fits


@dataclass(frozen=True)
class Outcome:
    """What a trained network makes of images: logits held out by view set, and features of images held out (n, f).

    `space` are features (m, f) of training images, which say where those of known cells lie.
    """

    logits: dict[str, np.ndarray]
    held_out: np.ndarray
    space: np.ndarray


def work_out(viewer: Viewer, external: np.ndarray, seed: int) -> Outcome:
    """Refit the head where the recipe asks for it, and see what the network makes of the images.

    Parameters
    ----------
    viewer : whose network gets the new head.
    external : bool, of each training image, whether it is of another source.
    seed : of the draw of training images whose features are kept in mind.
    """
    train, recipe = viewer.data.train, viewer.recipe
    drawn = np.arange(len(train))
    if len(train) > MAX_IMAGES_OF_SPACE:
        drawn = np.sort(np.random.default_rng(seed).choice(len(train), MAX_IMAGES_OF_SPACE, replace=False))
    if recipe.models.refit_head:
        features = viewer.features(train)  # of all, once
        _refit_head(viewer, features, external)
        space = features[drawn] if len(drawn) < len(features) else features
    else:
        space = viewer.features(train[drawn])
    sets = {"none": no_views()}
    if recipe.predict.views != "none":
        sets[recipe.predict.views] = views_of(recipe.predict)
    logits = {name: viewer.logits(views, f"{viewer.member.name}, views: {name}") for name, views in sets.items()}
    return Outcome(logits, viewer.features(viewer.data.held_out), space)


def _refit_head(viewer: Viewer, features: np.ndarray, external: np.ndarray) -> None:
    """Replace the head by one fitted to the features of the training images, by the first process for all."""
    fabric, num_classes = viewer.fabric, len(viewer.data.classes)
    fitted = _fit_head(viewer, features, external) if fabric.is_global_zero else None
    weight, bias = fabric.broadcast(fitted) if fabric.world_size > 1 else fitted
    head = make_head(features.shape[1], num_classes, widths=(), dropout=0)
    head[0].load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
    viewer.network.head = head.to(fabric.device).eval().requires_grad_(False)


def _fit_head(viewer: Viewer, features: np.ndarray, external: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels = viewer.data.labels[viewer.data.train]
    counts = np.where(external, viewer.recipe.sampling.external_weight, 1.0)
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        logger.warning(
            f"{viewer.member.name}: features of {(~finite).sum():,} of {len(finite):,} training images are not "
            "finite. The head is refitted without these images."
        )
        features, labels, counts = features[finite], labels[finite], counts[finite]
    return fit_linear_head(features, labels, len(viewer.data.classes), weights=counts)


def write_outcome(viewer: Viewer, outcome: Outcome, facts: dict) -> None:
    """Write a member's files, DONE with these facts last.

    features.npz is what evaluate/neighbours.py compares images by; ood.npz gives the out-of-distribution score.
    """
    member, data = viewer.member, viewer.data
    write_features(member.features, data.table["image_id"].to_numpy()[data.held_out], outcome.held_out)
    ood_score = _write_score(viewer, outcome)
    with written_whole(member.oof) as path:
        _oof_table(viewer, outcome, ood_score).to_parquet(path, index=False)
    with written_whole(member.weights) as path:
        state = viewer.network.state_dict()
        safetensors.torch.save_file({k: v.cpu().contiguous() for k, v in state.items()}, path)
    write_done(member, facts)
    member.clear()


def _write_score(viewer: Viewer, outcome: Outcome) -> np.ndarray:
    """Write ood.npz; return the OOD scores of the images held out, (n,), each standardised by other patients."""
    table = viewer.data.table.iloc[viewer.data.held_out]
    evaluated, group = table["evaluate"].to_numpy(dtype=bool), patient_or_image(table).to_numpy(dtype=str)
    score = fit_member_score(outcome.space, outcome.held_out[evaluated])  # external images look otherwise
    score.write(viewer.member.ood)
    ood_score = score.score(outcome.held_out)
    ood_score[evaluated] = score.score_held_out(outcome.held_out[evaluated], group[evaluated])
    return ood_score


def _oof_table(viewer: Viewer, outcome: Outcome, ood_score: np.ndarray) -> pd.DataFrame:
    data, tables = viewer.data, []
    about = data.table.iloc[data.held_out][["image_id", "label", "patient", "source"]].reset_index(drop=True)
    about = about.assign(fold=viewer.member.fold, architecture=viewer.member.architecture)
    # Of the image as it is, whatever the views.
    seen = {"ood_score": ood_score.astype(np.float32), "nucleus": _shows_nucleus(viewer)}
    for view_set, logits in outcome.logits.items():
        columns = pd.DataFrame(logits.astype(np.float32), columns=logit_columns(data.classes))
        tables.append(pd.concat([about.assign(view_set=view_set, **seen), columns], axis=1))
    return pd.concat(tables)


def _shows_nucleus(viewer: Viewer) -> np.ndarray:
    """Say of the images held out whether anything that the network sees of them could be a nucleus, bool (n,)."""
    cut = batches(viewer.data.held_out, viewer.batch_size)
    return np.array([shows_nucleus(pixels) for batch in cut for pixels in viewer.data.images[batch]], dtype=bool)
