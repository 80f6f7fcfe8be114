"""The losses against torch's own, and against the published formula in plain Python."""

import math

import pytest
import torch
from torch.nn import functional as F

from nonet.recipe import Loss
from nonet.training.losses import compute_loss, focal_sigmoid, focal_softmax


def logits_and_labels(n=64, classes=13, spread=4.0):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(n, classes, generator=generator) * spread
    labels = torch.softmax(torch.randn(n, classes, generator=generator), 1)
    labels[: n // 2] = torch.eye(classes)[torch.arange(n // 2) % classes]
    return logits, labels


def test_focal_softmax_without_focus_is_cross_entropy():
    logits, labels = logits_and_labels()
    for alpha in (1.0, 0.25):
        expected = alpha * F.cross_entropy(logits, labels, reduction="none")
        torch.testing.assert_close(focal_softmax(logits, labels, alpha=alpha, gamma=0.0), expected)


def test_focal_sigmoid_without_focus_is_half_of_binary_cross_entropy():
    logits, labels = logits_and_labels()
    expected = F.binary_cross_entropy_with_logits(logits, labels, reduction="none").sum(1) / 2
    torch.testing.assert_close(focal_sigmoid(logits, labels, alpha=0.5, gamma=0.0), expected)


def test_focal_sigmoid_without_focus_weighs_the_sides_by_alpha():
    logits, labels = logits_and_labels()
    sides = F.binary_cross_entropy_with_logits(
        logits, labels, weight=labels * 0.25 + (1 - labels) * 0.75, reduction="none"
    )
    hard = labels.max(1).values == 1  # a soft label has both sides, which one weight cannot say
    loss = focal_sigmoid(logits, labels, alpha=0.25, gamma=0.0)
    torch.testing.assert_close(loss[hard], sides.sum(1)[hard])


def test_cross_entropy_is_torchs():
    logits, labels = logits_and_labels()
    expected = F.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(compute_loss(Loss(name="cross_entropy", alpha=0.1, gamma=5), logits, labels), expected)


def test_focal_sigmoid_is_the_published_formula():
    logits, alpha, gamma = [2.0, -1.0, 0.5], 0.25, 2.0
    total = 0.0
    for k, x in enumerate(logits):
        p = 1 / (1 + math.exp(-x))
        p_t, alpha_t = (p, alpha) if k == 1 else (1 - p, 1 - alpha)
        total += -alpha_t * (1 - p_t) ** gamma * math.log(p_t)  # Lin et al., equation 5
    loss = focal_sigmoid(torch.tensor([logits]), torch.tensor([[0.0, 1.0, 0.0]]), alpha=alpha, gamma=gamma)
    assert loss.item() == pytest.approx(total, rel=1e-5)


def test_focal_softmax_is_the_published_formula():
    logits, alpha, gamma = [2.0, -1.0, 0.5], 0.25, 2.0
    p = math.exp(-1.0) / sum(math.exp(x) for x in logits)
    loss = focal_softmax(torch.tensor([logits]), torch.tensor([[0.0, 1.0, 0.0]]), alpha=alpha, gamma=gamma)
    assert loss.item() == pytest.approx(-alpha * (1 - p) ** gamma * math.log(p), rel=1e-5)


@pytest.mark.parametrize("name", ["focal_sigmoid", "focal_softmax"])
def test_focus_takes_weight_from_what_is_right_already(name):
    sure, unsure = torch.tensor([[5.0, -5.0]]), torch.tensor([[0.2, -0.2]])
    label = torch.tensor([[1.0, 0.0]])

    def share_left(logits):
        focused = compute_loss(Loss(name=name, gamma=2.0), logits, label)
        return (focused / compute_loss(Loss(name=name, gamma=0.0), logits, label)).item()

    assert share_left(sure) < 0.01 < share_left(unsure) < 1


def test_the_loss_is_computed_in_float32():
    logits, labels = logits_and_labels()
    for name in ("focal_sigmoid", "focal_softmax", "cross_entropy"):
        low = compute_loss(Loss(name=name), logits.bfloat16(), labels)
        assert low.dtype == torch.float32
        torch.testing.assert_close(low, compute_loss(Loss(name=name), logits.bfloat16().float(), labels))
