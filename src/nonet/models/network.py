"""A classifier: uint8 pixels in, logits out. Normalisation, backbone and head in one module."""

from collections.abc import Sequence

import torch
from torch import nn

from nonet.models.backbones import crop_of, get_backbone, load_pretrained, make_backbone
from nonet.recipe import Models


class Classifier(nn.Module):
    """A backbone and a head: blocks of Linear-ReLU-Dropout and a linear layer, or that layer alone.

    `forward` takes images (n, 3, s, s) as float in 0–255 and returns logits (n, classes): normalisation is inside, so
    that weights and the numbers they expect never part.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.backbone = backbone
        self.head = head
        # Not in the state dict: facts of the architecture, not learned.
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * 255, persistent=False)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return (n, f) features of images (n, 3, s, s) in 0–255."""
        return self.backbone((images - self.mean) / self.std)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images))


def make_head(num_features: int, num_classes: int, *, widths: Sequence[int], dropout: float) -> nn.Sequential:
    """Linear-ReLU-Dropout blocks of these widths, then a linear layer: 768 → 512 → 256 → 128 → 13 in recipe `paper`."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(num_features, width), nn.ReLU(), nn.Dropout(dropout)]
        num_features = width
    return nn.Sequential(*layers, nn.Linear(num_features, num_classes))


def make_classifier(
    architecture: str, models: Models, num_classes: int, *, trained: bool = False
) -> tuple[Classifier, str | None]:
    """Build a member's network.

    Parameters
    ----------
    architecture : key of BACKBONES.
    models : the recipe's section.
    num_classes : length of the logits.
    trained : as it is when training is over, to be filled with a member's weights: no pretrained ones are loaded, and
        the head is the one that the recipe ends with.

    Returns
    -------
    The network, and where its pretrained weights came from with their licence (None without).
    """
    entry = get_backbone(architecture)
    backbone = make_backbone(architecture, crop_of(architecture, models).size_px)
    origin = None
    if models.weights == "pretrained" and not trained:
        origin = load_pretrained(backbone, architecture, models.weight_files.get(architecture))
    widths = () if trained and models.refit_head else models.head_widths
    head = make_head(backbone.head_hidden_size, num_classes, widths=widths, dropout=models.head_dropout)
    return Classifier(backbone, head, entry.mean, entry.std), origin


def count_parameters(network: nn.Module) -> int:
    """Return the number of learned numbers."""
    return sum(parameter.numel() for parameter in network.parameters())
