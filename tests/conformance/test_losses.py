"""One body for every entry of LOSSES."""

import pytest
import torch

from nonet.errors import RecipeError
from nonet.recipe import Loss
from nonet.training.losses import LOSSES, compute_loss, get_loss

GAMMAS = (0.0, 0.5, 1.0, 2.0, 5.0)


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(RecipeError, match="focal_softmaks") as caught:
        get_loss("focal_softmaks")
    assert 'Did you mean "focal_softmax"' in caught.value.hint
    assert all(name in caught.value.hint for name in LOSSES)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("gamma", GAMMAS)
class TestEveryLoss:
    def test_one_number_an_image(self, name, gamma):
        settings = Loss(name=name, gamma=gamma)
        logits, labels = torch.randn(5, 13), torch.eye(13)[:5]
        losses = compute_loss(settings, logits, labels)
        assert losses.shape == (5,)
        assert (losses >= 0).all()
        alone = compute_loss(settings, logits[2:3], labels[2:3])
        torch.testing.assert_close(alone, losses[2:3])

    def test_lower_for_right_than_for_wrong(self, name, gamma):
        right, wrong, label = torch.tensor([[4.0, -4.0, -4.0]]), torch.tensor([[-4.0, 4.0, -4.0]]), torch.eye(3)[:1]
        settings = Loss(name=name, gamma=gamma)
        assert compute_loss(settings, right, label) < compute_loss(settings, wrong, label)

    @pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 200.0, 3e4])
    def test_loss_and_gradients_are_finite(self, name, gamma, scale):
        directions = torch.tensor([[1.0, -1, -1], [-1, 1, 1], [1, 1, 1], [-1, -1, -1], [0, 0, 0]])
        logits = (directions * scale).requires_grad_()
        labels = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0.7, 0.3, 0], [0.2, 0.5, 0.3], [0, 0, 1]])
        losses = compute_loss(Loss(name=name, gamma=gamma), logits, labels)
        losses.sum().backward()
        assert losses.isfinite().all()
        assert logits.grad.isfinite().all()

    def test_a_step_against_the_gradient_helps(self, name, gamma):
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(6, 5, generator=generator, requires_grad=True)
        labels = torch.softmax(3 * torch.randn(6, 5, generator=generator), 1)
        settings = Loss(name=name, gamma=gamma)
        before = compute_loss(settings, logits, labels).sum()
        before.backward()
        assert compute_loss(settings, logits.detach() - 0.01 * logits.grad, labels).sum() < before

    def test_gradients_are_those_of_differences(self, name, gamma):
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
        labels = torch.softmax(torch.randn(3, 4, generator=generator, dtype=torch.float64), 1)
        torch.autograd.gradcheck(lambda x: LOSSES[name](x, labels, alpha=0.25, gamma=gamma), logits)

    def test_the_blend_of_two_labels_lies_between(self, name, gamma):
        logits = torch.tensor([[1.0, -0.5, 0.3]])
        one, other = (compute_loss(Loss(name=name, gamma=gamma), logits, torch.eye(3)[k : k + 1]) for k in (0, 1))
        blend = compute_loss(Loss(name=name, gamma=gamma), logits, torch.tensor([[0.3, 0.7, 0.0]]))
        torch.testing.assert_close(blend, 0.3 * one + 0.7 * other)
