"""Losses on soft labels: logits (n, c) and labels (n, c) that sum to 1 → one number an image, (n,)."""

import numpy as np
import torch
from torch.nn import functional as F

from nonet.cells import CELLS, GRANULOCYTE_STAGES
from nonet.recipe import Loss


def focal_sigmoid(logits: torch.Tensor, labels: torch.Tensor, *, alpha: float, gamma: float) -> torch.Tensor:
    """alpha-balanced focal loss as published: each class is a yes-or-no question, summed over classes.

    -alpha y (1 - p)^gamma log p - (1 - alpha) (1 - y) p^gamma log(1 - p), p = sigmoid(logit); a soft label weighs both
    sides. Lin et al., ICCV 2017, equation 5. At gamma 0 and alpha 0.5: half the binary cross-entropy.
    """
    p = torch.sigmoid(logits)
    positive = alpha * labels * _power(1 - p, gamma) * -F.logsigmoid(logits)
    negative = (1 - alpha) * (1 - labels) * _power(p, gamma) * -F.logsigmoid(-logits)
    return (positive + negative).sum(1)


def focal_softmax(logits: torch.Tensor, labels: torch.Tensor, *, alpha: float, gamma: float) -> torch.Tensor:
    """Focal loss over soft-max probabilities, -alpha sum_k y_k (1 - p_k)^gamma log p_k.

    At gamma 0: alpha x cross-entropy.
    """
    log_p = F.log_softmax(logits, 1)
    return -alpha * (labels * _power(1 - log_p.exp(), gamma) * log_p).sum(1)


def _power(probability: torch.Tensor, gamma: float) -> torch.Tensor:
    """probability^gamma with a finite slope at 0, where that of gamma < 1 is infinite and would make gradients nan."""
    return probability.clamp_min(torch.finfo(probability.dtype).tiny) ** gamma


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor, *, alpha: float, gamma: float) -> torch.Tensor:
    """Soft-max cross-entropy; alpha and gamma have no part in it."""
    del alpha, gamma
    return F.cross_entropy(logits, labels, reduction="none")


LOSSES = {"focal_sigmoid": focal_sigmoid, "focal_softmax": focal_softmax, "cross_entropy": cross_entropy}


def loss_of(settings: Loss, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the loss that the recipe names, one number an image, in float32."""
    return LOSSES[settings.name](logits.float(), labels, alpha=settings.alpha, gamma=settings.gamma)


class TrainingLoss:
    """The recipe's loss with what is added to it in training: adjusted logits, softened stages, lineages.

    Parameters
    ----------
    settings : the recipe's [loss] section.
    classes : codes, in the order of the logits.
    prior : each class's share of the draws, (classes,); classes that are never drawn have 0.
    """

    def __init__(self, settings: Loss, classes: list[str], prior: np.ndarray, device: torch.device):
        self.settings = settings
        # A class that is never drawn has no finite logarithm, and no image whose loss could suffer from it.
        shift = settings.logit_adjustment * np.log(np.maximum(prior, 1e-9))
        self.shift = torch.tensor(shift, dtype=torch.float32, device=device)
        self.soften = torch.tensor(_neighbouring_stages(classes, settings.stage_smoothing), device=device)
        self.lineages = torch.tensor(_lineages(classes), device=device)

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Logits (n, c) and labels (n, c) that sum to 1 → one number an image, (n,)."""
        logits, settings = logits.float() + self.shift, self.settings
        loss = loss_of(settings, logits, labels @ self.soften if settings.stage_smoothing else labels)
        if settings.lineage_weight:
            of_lineages = torch.log(F.softmax(logits, 1) @ self.lineages + torch.finfo(logits.dtype).tiny)
            loss = loss - settings.lineage_weight * ((labels @ self.lineages) * of_lineages).sum(1)
        return loss


def _neighbouring_stages(classes: list[str], share: float) -> np.ndarray:
    """Row k: what class k's label becomes, float32 (c, c). Stages that the classes lack are stepped over."""
    soften = np.eye(len(classes), dtype=np.float32)
    stages = [classes.index(code) for code in GRANULOCYTE_STAGES if code in classes]
    for place, stage in enumerate(stages):
        beside = [*stages[max(place - 1, 0) : place], *stages[place + 1 : place + 2]]
        if beside:
            soften[stage, stage] = 1 - share
            soften[stage, beside] = share / len(beside)
    return soften


def _lineages(classes: list[str]) -> np.ndarray:
    """Which lineage each class belongs to, float32 (c, lineages); a label of one's own is a lineage by itself."""
    lineage = [CELLS[code].lineage if code in CELLS else code for code in classes]
    names = list(dict.fromkeys(lineage))
    return np.eye(len(names), dtype=np.float32)[[names.index(name) for name in lineage]]
