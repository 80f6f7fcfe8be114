"""Losses on soft labels: logits (n, c) and labels (n, c) that sum to 1 → one number an image, (n,)."""

import torch
from torch.nn import functional as F

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
