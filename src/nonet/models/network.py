"""A classifier: uint8 pixels in, logits out. Normalisation, backbone and head in one module."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from nonet.models.backbones import get_backbone, get_crop, load_pretrained, make_backbone, require_stages
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

    stage_widths : sequence of int
        Channels of the backbone's last stages, in their order, if the head gets the mean over the image of what each
        of them puts out; empty if it gets what the last layer puts out.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        stage_widths: Sequence[int] = (),
    ):
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.stage_widths = tuple(stage_widths)
        # Not in the state dict: facts of the architecture, not learned.
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * 255, persistent=False)

    @property
    def num_features(self) -> int:
        """Number of features per image, before the head."""
        return sum(self.stage_widths) if self.stage_widths else get_num_features(self.backbone)

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
        normalised = (images - self.mean) / self.std
        if not self.stage_widths:
            return self.backbone(normalised)
        options: dict[str, Any] = {"indices": len(self.stage_widths), "output_fmt": "NCHW", "intermediates_only": True}
        if hasattr(self.backbone, "stage_ends"):  # of timm's EfficientNets
            options["extra_blocks"] = True  # all stages, not only the last one of each size
        maps = self.backbone.forward_intermediates(normalised, **options)
        return torch.cat([one.mean(dim=(2, 3)) for one in maps], dim=1)

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
    if trained and models.refit_head:
        stage_widths = get_stage_widths(architecture, models)
        head = make_head(sum(stage_widths) or get_num_features(backbone), num_classes, widths=(), dropout=0)
        return Classifier(backbone, head, entry.mean, entry.std, stage_widths=stage_widths), origin
    head = make_head(get_num_features(backbone), num_classes, widths=models.head_widths, dropout=models.head_dropout)
    return Classifier(backbone, head, entry.mean, entry.std), origin


def get_stage_widths(architecture: str, models: Models) -> tuple[int, ...]:
    """Return the number of channels of each stage that the refitted head looks at.

    Parameters
    ----------
    architecture : str
        Key of BACKBONES.
    models : Models
        The recipe's section.

    Returns
    -------
    tuple of int
        Empty if it looks at the last layer.

    Raises
    ------
    RecipeError
        If the backbone is unknown or has fewer stages.
    """
    require_stages(architecture, models.head_stages)
    widths = get_backbone(architecture).stage_widths
    return widths[len(widths) - models.head_stages :]


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
