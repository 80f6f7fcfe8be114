"""A classifier: uint8 pixels in, logits out. Normalisation, backbone and head in one module."""

from collections.abc import Sequence

import torch
from torch import nn

from nonet.models.backbones import get_backbone, get_crop, load_pretrained, make_backbone
from nonet.recipe import Models


class Classifier(nn.Module):
    """A backbone and a head. Normalisation is inside, so weights and the numbers that they expect stay together.

    Parameters
    ----------
    backbone : nn.Module
        Normalised images (n, 3, s, s) → features (n, num_features); has timm's attribute `head_hidden_size`.
    head : nn.Module
        Features → logits.
    mean, std : sequence of float, length 3
        Of the pixels that the backbone was trained on, by channel, in 0–1.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, backbone: nn.Module, head: nn.Module, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.backbone = backbone
        self.head = head
        # Not in the state dict: facts of the architecture, not learned.
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * 255, persistent=False)

    @property
    def num_features(self) -> int:
        """Number of features per image, before the head."""
        return get_num_features(self.backbone)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return what the head gets.

        Parameters
        ----------
        images : Tensor of float, shape (n, 3, s, s)
            In 0–255.

        Returns
        -------
        Tensor of float, shape (n, num_features)
        """
        return self.backbone((images - self.mean) / self.std)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Classify images.

        Parameters
        ----------
        images : Tensor of float, shape (n, 3, s, s)
            In 0–255.

        Returns
        -------
        Tensor of float, shape (n, classes)
            Logits.
        """
        return self.head(self.features(images))


def get_num_features(backbone: nn.Module) -> int:
    """Return the number of features of a timm backbone.

    Parameters
    ----------
    backbone : nn.Module
        From `make_backbone`.

    Returns
    -------
    int
    """
    num_features = backbone.head_hidden_size  # timm's `num_features` is that before a last layer which some have
    assert isinstance(num_features, int)  # to type checkers any attribute of a module may be a tensor or a module
    return num_features


def make_head(num_features: int, num_classes: int, *, widths: Sequence[int], dropout: float) -> nn.Sequential:
    """Build Linear-ReLU-Dropout blocks and a linear layer: 768 → 512 → 256 → 128 → 13 in recipe `paper`.

    Parameters
    ----------
    num_features : int
        Of the backbone.
    num_classes : int
        Length of the logits.
    widths : sequence of int
        Outputs of each block; empty for the linear layer alone.
    dropout : float in [0, 1)
        At the end of each block.

    Returns
    -------
    nn.Sequential
    """
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
    architecture : str
        Key of BACKBONES.
    models : Models
        The recipe's section.
    num_classes : int
        Length of the logits.
    trained : bool, default False
        Build it as it is at the end of training, to be filled with a member's weights: no pretrained weights are
        loaded, and the head is the refitted one if the recipe refits it.

    Returns
    -------
    network : Classifier
    origin : str or None
        Where its pretrained weights came from, with their licence; None without pretrained weights.

    Raises
    ------
    RecipeError
        If the backbone is unknown, or does not take images of the recipe's size.
    WeightsError
        If its pretrained weights are missing or do not fit.
    """
    entry = get_backbone(architecture)
    backbone = make_backbone(architecture, get_crop(architecture, models).size_px)
    origin = None
    if models.weights == "pretrained" and not trained:
        origin = load_pretrained(backbone, architecture, models.weight_files.get(architecture))
    widths = () if trained and models.refit_head else models.head_widths
    head = make_head(get_num_features(backbone), num_classes, widths=widths, dropout=models.head_dropout)
    return Classifier(backbone, head, entry.mean, entry.std), origin


def count_parameters(network: nn.Module) -> int:
    """Return the number of learned parameters.

    Parameters
    ----------
    network : nn.Module

    Returns
    -------
    int
    """
    return sum(parameter.numel() for parameter in network.parameters())
