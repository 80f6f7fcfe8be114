"""Losses on soft labels. To add one: a function like those below and its entry in LOSSES.

A loss takes logits and labels, both Tensors of float, shape (n, classes); each row of labels sums to 1. It returns the
loss of each image, a Tensor of float, shape (n,). Functions import torch when they are called, so that an unknown name
is an error at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nonet.errors import RecipeError, choose_from
from nonet.recipe import Loss

if TYPE_CHECKING:
    import torch


def focal_sigmoid(logits: torch.Tensor, labels: torch.Tensor, *, alpha: float, gamma: float) -> torch.Tensor:
    """Alpha-balanced focal loss as published: one binary question per class, summed over classes.

    -alpha y (1 - p)^gamma log p - (1 - alpha) (1 - y) p^gamma log(1 - p), p = sigmoid(logit); a soft label weighs both
    sides. At gamma 0 and alpha 0.5 it is half the binary cross-entropy.

    Parameters
    ----------
    logits : Tensor of float, shape (n, classes)
    labels : Tensor of float, shape (n, classes)
        Rows sum to 1.
    alpha : float
        Weight of the positive side; 1 - alpha is that of the negative side.
    gamma : float
        Focusing.

    Returns
    -------
    Tensor of float, shape (n,)

    References
    ----------
    Lin et al., ICCV 2017, equation 5.
    """
    from torch.nn import functional as F

    p = logits.sigmoid()
    positive = alpha * labels * _power(1 - p, gamma) * -F.logsigmoid(logits)
    negative = (1 - alpha) * (1 - labels) * _power(p, gamma) * -F.logsigmoid(-logits)
    return (positive + negative).sum(1)


def focal_softmax(logits: torch.Tensor, labels: torch.Tensor, *, alpha: float, gamma: float) -> torch.Tensor:
    """Focal loss over softmax probabilities, -alpha sum_k y_k (1 - p_k)^gamma log p_k.

    At gamma 0 it is alpha times the cross-entropy.

    Parameters
    ----------
    logits : Tensor of float, shape (n, classes)
    labels : Tensor of float, shape (n, classes)
        Rows sum to 1.
    alpha : float
        Factor.
    gamma : float
        Focusing.

    Returns
    -------
    Tensor of float, shape (n,)
    """
    log_p = logits.log_softmax(1)
    return -alpha * (labels * _power(1 - log_p.exp(), gamma) * log_p).sum(1)


def _power(probability: torch.Tensor, gamma: float) -> torch.Tensor:
    """Return probability^gamma; its slope at 0 is finite even for gamma < 1, so no gradient becomes NaN."""
    import torch

    return probability.clamp_min(torch.finfo(probability.dtype).tiny) ** gamma


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor, *, alpha: float, gamma: float) -> torch.Tensor:
    """Softmax cross-entropy, without effect of alpha and gamma.

    Parameters
    ----------
    logits : Tensor of float, shape (n, classes)
    labels : Tensor of float, shape (n, classes)
        Rows sum to 1.
    alpha, gamma : float
        Not used.

    Returns
    -------
    Tensor of float, shape (n,)
    """
    from torch.nn import functional as F

    del alpha, gamma
    return F.cross_entropy(logits, labels, reduction="none")


#: Name in a recipe → loss. Docstrings' first lines are in the reference of settings.
LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "focal_sigmoid": focal_sigmoid,
    "focal_softmax": focal_softmax,
    "cross_entropy": cross_entropy,
}


def get_loss(name: str) -> Callable[..., torch.Tensor]:
    """Return an entry of LOSSES.

    Parameters
    ----------
    name : str
        Its key.

    Returns
    -------
    callable
        With arguments (logits, labels, *, alpha, gamma).

    Raises
    ------
    RecipeError
        If there is none of this name; lists the names.
    """
    if name not in LOSSES:
        raise RecipeError(f'Unknown loss.name "{name}".', hint=choose_from(name, LOSSES))
    return LOSSES[name]


def compute_loss(settings: Loss, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Compute the loss that a recipe names.

    Parameters
    ----------
    settings : Loss
        The recipe's section.
    logits : Tensor of float, shape (n, classes)
        Converted to float32.
    labels : Tensor of float32, shape (n, classes)
        Rows sum to 1.

    Returns
    -------
    Tensor of float32, shape (n,)
    """
    return get_loss(settings.name)(logits.float(), labels, alpha=settings.alpha, gamma=settings.gamma)
