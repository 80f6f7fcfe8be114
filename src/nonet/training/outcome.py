"""The end of a member's training: refit its head, compute out-of-fold logits and features, and write its files.

All processes of a training compute together; the first one writes.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from lightning_fabric import Fabric
from sklearn.metrics import f1_score

from nonet.artifacts.features import Features
from nonet.artifacts.integrity import write_done
from nonet.artifacts.oof import logit_columns
from nonet.artifacts.run import Member, written_whole
from nonet.calibration.ood import MemberScore, fit_member_score
from nonet.calibration.unknown_head import UnknownHead
from nonet.data.folds import patient_or_image
from nonet.data.images.nucleus import shows_nucleus
from nonet.data.unknown_types import is_learned_from
from nonet.models.network import Classifier, get_stage_widths, make_head
from nonet.models.tensors import logits_over_views, to_device
from nonet.models.views import View, batches, get_views, no_views
from nonet.recipe import Recipe
from nonet.training.distributed import compute_distributed
from nonet.training.features import compute_features
from nonet.training.member_data import MemberData
from nonet.training.refit import C_OF_STAGES, C, fit_linear_head

logger = logging.getLogger("nonet")

#: Training images, drawn at random, to whose features the out-of-distribution score is fitted: enough and still quick.
MAX_IMAGES_OF_SCORE = 20_000
#: Fewer unknown cells than this teach nothing that holds for others.
MIN_UNKNOWN_IMAGES = 20


def macro_f1(truth: np.ndarray, logits: np.ndarray) -> float:
    """Return the mean F1 over the classes of the held-out images.

    Parameters
    ----------
    truth : ndarray of int, shape (n,)
        Class numbers.
    logits : ndarray of float, shape (n, classes)

    Returns
    -------
    float
    """
    present = np.unique(truth)
    return float(f1_score(truth, logits.argmax(axis=1), labels=present, average="macro", zero_division=0))


@dataclass(frozen=True)
class Evaluator:
    """Runs a network on a member's images; every process of a training has the same.

    Attributes
    ----------
    network : Classifier
        On the device of `fabric`, in evaluation mode.
    member : Member
        Named by progress bars.
    data : MemberData
        Its images.
    recipe : Recipe
        Of the run.
    fabric : Fabric
        Of this process.
    """

    network: Classifier
    member: Member
    data: MemberData
    recipe: Recipe
    fabric: Fabric

    def logits(self, views: list[View], description: str | None = None) -> np.ndarray:
        """Compute the logits of the held-out images.

        Parameters
        ----------
        views : list of View
            Averaged over.
        description : str, optional
            Of a progress bar; no bar without one.

        Returns
        -------
        ndarray of float32, shape (n, classes)
        """
        device = self.fabric.device

        def compute(rows: np.ndarray) -> np.ndarray:
            with self.fabric.autocast():
                logits = logits_over_views(self.network, to_device(self.data.images[rows], device), views)
            return logits.cpu().numpy()

        return self._distributed(self.data.held_out, compute, len(self.data.classes), description)

    def features(self, rows: np.ndarray) -> np.ndarray:
        """Compute features of images, in single precision whatever the precision of training.

        What is fitted to them must also hold on machines that use another precision.

        Parameters
        ----------
        rows : ndarray of int, shape (n,)
            Row numbers.

        Returns
        -------
        ndarray of float32, shape (n, num_features)
        """

        def compute(rows: np.ndarray) -> np.ndarray:
            return compute_features(
                self.network, self.data.images, rows, device=self.fabric.device, batch_size=self.batch_size
            )

        width = self.network.num_features
        return self._distributed(rows, compute, width, f"{self.member.name}, features")

    def _distributed(
        self, rows: np.ndarray, compute: Callable[[np.ndarray], np.ndarray], width: int, description: str | None
    ) -> np.ndarray:
        return compute_distributed(
            self.fabric, rows, compute, width=width, batch_size=self.batch_size, description=description
        )

    @property
    def batch_size(self) -> int:
        """Images at a time: four times the batch of training, which fits without gradients."""
        return 4 * self.recipe.train.batch_size


@dataclass(frozen=True)
class Outcome:
    """Logits and features that a trained network computes.

    Attributes
    ----------
    logits : dict of str to ndarray of float32, shape (n, classes)
        View set → logits of the held-out images.
    held_out : ndarray of float32, shape (n, num_features)
        Features of the held-out images.
    drawn : ndarray of int64, shape (m,)
        Row numbers of training images, at most MAX_IMAGES_OF_SCORE, to which the out-of-distribution score is fitted.
    training : ndarray of float32, shape (m, num_features)
        Their features.
    unknown : ndarray of float32, shape (u, num_features)
        Features of the images of unknown cell types, in the order of `MemberData.unknown`.
    """

    logits: dict[str, np.ndarray]
    held_out: np.ndarray
    drawn: np.ndarray
    training: np.ndarray
    unknown: np.ndarray


def compute_outcome(evaluator: Evaluator, external: np.ndarray, seed: int) -> Outcome:
    """Refit the head if the recipe says so, and compute logits and features.

    Parameters
    ----------
    evaluator : Evaluator
        Its network gets the new head.
    external : ndarray of bool, shape (num_training_images,)
        Training images that are not evaluated.
    seed : int
        Of the draw of training images for the out-of-distribution score.

    Returns
    -------
    Outcome
    """
    train, recipe = evaluator.data.train, evaluator.recipe
    drawn = np.arange(len(train))
    if len(train) > MAX_IMAGES_OF_SCORE:
        drawn = np.sort(np.random.default_rng(seed).choice(len(train), MAX_IMAGES_OF_SCORE, replace=False))
    if recipe.models.refit_head:
        evaluator.network.stage_widths = get_stage_widths(evaluator.member.architecture, recipe.models)
        features = evaluator.features(train)  # of all, computed once
        _refit_head(evaluator, features, external)
        training = features[drawn] if len(drawn) < len(features) else features
    else:
        training = evaluator.features(train[drawn])
    sets = {"none": no_views()}
    if recipe.predict.views != "none":
        sets[recipe.predict.views] = get_views(recipe.predict)
    logits = {name: evaluator.logits(views, f"{evaluator.member.name}, views: {name}") for name, views in sets.items()}
    data = evaluator.data
    return Outcome(
        logits, evaluator.features(data.held_out), train[drawn], training, evaluator.features(data.unknown_rows)
    )


def _refit_head(evaluator: Evaluator, features: np.ndarray, external: np.ndarray) -> None:
    """Replace the head by one fitted to the features of the training images; the first process fits it for all."""
    fabric, num_classes = evaluator.fabric, len(evaluator.data.classes)
    fitted = _fit_head(evaluator, features, external) if fabric.is_global_zero else None
    fitted = fabric.broadcast(fitted)
    assert fitted is not None  # the first process's
    weight, bias = fitted
    head = make_head(features.shape[1], num_classes, widths=(), dropout=0)
    head[0].load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
    evaluator.network.head = head.to(fabric.device).eval().requires_grad_(False)


def _fit_head(evaluator: Evaluator, features: np.ndarray, external: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels = evaluator.data.labels[evaluator.data.train]
    counts = np.where(external, evaluator.recipe.sampling.external_weight, 1.0)
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        logger.warning(
            f"{evaluator.member.name}: features of {(~finite).sum():,} of {len(finite):,} training images are not "
            "finite. The head is refitted without these images."
        )
        features, labels, counts = features[finite], labels[finite], counts[finite]
    c = C_OF_STAGES if evaluator.network.stage_widths else C
    return fit_linear_head(features, labels, len(evaluator.data.classes), weights=counts, c=c)


def write_outcome(evaluator: Evaluator, outcome: Outcome, facts: dict) -> None:
    """Write a member's files, DONE last.

    Parameters
    ----------
    evaluator : Evaluator
        Its network's weights are written.
    outcome : Outcome
        Written to oof.parquet, features.npz (by which `nonet.evaluation.neighbours` compares images), ood.npz (the
        out-of-distribution score) and unknown.parquet (unknown cells held out).
    facts : dict
        Further content of DONE.
    """
    member, data = evaluator.member, evaluator.data
    image_id = data.table["image_id"].to_numpy()[data.held_out]
    Features.fit(image_id, outcome.held_out).write(member.features)
    ood_score = _write_score(evaluator, outcome)
    with written_whole(member.oof) as path:
        _oof_table(evaluator, outcome, ood_score).to_parquet(path, index=False)
    with written_whole(member.weights) as path:
        state = evaluator.network.state_dict()
        safetensors.torch.save_file({k: v.cpu().contiguous() for k, v in state.items()}, path)
    write_done(member, facts)
    member.clear()


def _write_score(evaluator: Evaluator, outcome: Outcome) -> np.ndarray:
    """Write ood.npz; return the OOD scores of the held-out images, (n,), each standardised by other patients."""
    table = evaluator.data.table.iloc[evaluator.data.held_out]
    evaluated, group = table["evaluate"].to_numpy(dtype=bool), patient_or_image(table).to_numpy(dtype=str)
    # External images look different.
    score = fit_member_score(outcome.training, outcome.held_out[evaluated], _fit_unknown_head(evaluator, outcome))
    score.write(evaluator.member.ood)
    _write_unknown(evaluator, outcome, score)
    ood_score = score.score(outcome.held_out)
    ood_score[evaluated] = score.score_held_out(outcome.held_out[evaluated], group[evaluated])
    return ood_score


def _fit_unknown_head(evaluator: Evaluator, outcome: Outcome) -> UnknownHead | None:
    """Fit a head with one more class to unknown cells that the member may know.

    None if there are too few, for this member or another: scores with a head and without are not comparable.
    """
    data = evaluator.data
    folds = range(int(data.table["fold"].max()) + 1)
    if min(is_learned_from(data.unknown, fold).sum() for fold in folds) < MIN_UNKNOWN_IMAGES:
        return None
    features = outcome.unknown[is_learned_from(data.unknown, evaluator.member.fold)]
    features = features[np.isfinite(features).all(axis=1)]
    if len(features) == 0 or not np.isfinite(outcome.training).all():
        return None
    num_classes = len(data.classes)
    labels = np.concatenate([data.labels[outcome.drawn], np.full(len(features), num_classes)])
    external = ~data.table["evaluate"].to_numpy(dtype=bool)[outcome.drawn]
    weights = np.where(external, evaluator.recipe.sampling.external_weight, 1.0)
    weights = np.concatenate([weights, np.ones(len(features))])
    return UnknownHead(
        *fit_linear_head(np.concatenate([outcome.training, features]), labels, num_classes + 1, weights=weights)
    )


def _write_unknown(evaluator: Evaluator, outcome: Outcome, score: MemberScore) -> None:
    """Write the scores of the images of unknown types that are held out; no file without such images."""
    member, held_out = evaluator.member, ~is_learned_from(evaluator.data.unknown, evaluator.member.fold)
    if not held_out.any():
        member.unknown.unlink(missing_ok=True)
        return
    about = evaluator.data.unknown.loc[held_out, ["image_id", "unknown_type", "patient", "source", "fold"]]
    scores = score.score(outcome.unknown[held_out]).astype(np.float32)
    with written_whole(member.unknown) as path:
        about.assign(architecture=member.architecture, ood_score=scores).to_parquet(
            path, index=False, write_page_checksum=True
        )


def _oof_table(evaluator: Evaluator, outcome: Outcome, ood_score: np.ndarray) -> pd.DataFrame:
    data, tables = evaluator.data, []
    about = data.table.iloc[data.held_out][["image_id", "label", "patient", "source"]].reset_index(drop=True)
    about = about.assign(fold=evaluator.member.fold, architecture=evaluator.member.architecture)
    # Computed of the unchanged image, whatever the views.
    of_image = {"ood_score": ood_score.astype(np.float32), "nucleus": _shows_nucleus(evaluator)}
    for view_set, logits in outcome.logits.items():
        columns = pd.DataFrame(logits.astype(np.float32), columns=logit_columns(data.classes))
        tables.append(pd.concat([about.assign(view_set=view_set, **of_image), columns], axis=1))
    return pd.concat(tables)


def _shows_nucleus(evaluator: Evaluator) -> np.ndarray:
    """Return whether any part of each held-out image that the network sees could be a nucleus, bool (n,)."""
    row_batches = batches(evaluator.data.held_out, evaluator.batch_size)
    return np.array(
        [shows_nucleus(pixels) for batch in row_batches for pixels in evaluator.data.images[batch]], dtype=bool
    )
